use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

/// A device in memory: zeros, but for what was written.
struct Image {
    size: u64,
    written: Vec<(u64, Vec<u8>)>,
    reads: Cell<u32>,
}

impl Image {
    fn blank(size: u64) -> Self {
        Self { size, written: Vec::new(), reads: Cell::default() }
    }

    fn with(size: u64, offset: u64, bytes: &[u8]) -> Self {
        Self { written: vec![(offset, bytes.to_owned())], ..Self::blank(size) }
    }

    fn found(&self) -> Vec<Signature> {
        find_in(&Window::load(self, self.size).unwrap())
    }

    fn contents(&self) -> Contents {
        contents_of(self, self.size).unwrap()
    }
}

impl FileExt for Image {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.reads.set(self.reads.get() + 1);
        let length = (buffer.len() as u64).min(self.size.saturating_sub(offset));
        let length = usize::try_from(length).unwrap();
        buffer[..length].fill(0);
        for (start, bytes) in &self.written {
            let from = (*start).max(offset);
            let to = (start + bytes.len() as u64).min(offset + length as u64);
            if from < to {
                let index = |at: u64, base: u64| usize::try_from(at - base).unwrap();
                buffer[index(from, offset)..index(to, offset)]
                    .copy_from_slice(&bytes[index(from, *start)..index(to, *start)]);
            }
        }
        Ok(length)
    }

    fn write_at(&self, _: &[u8], _: u64) -> std::io::Result<usize> {
        unreachable!("signatures are read only")
    }
}

/// A file on which `program` made what it makes.
fn made_by(program: &str, arguments: &[&str], size: u64) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    let file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    let output = Command::new(program).args(arguments).arg(&path).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    (directory, path)
}

fn found_on(path: &Path) -> Vec<Signature> {
    let file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    find_in(&Window::load(&file, size).unwrap())
}

#[test]
fn file_systems_are_found_as_their_own_programs_make_them_with_their_uuid() {
    const UUID: &str = "6f2c1d3e-0a1b-4c2d-8e3f-112233445566";
    let xfs = format!("uuid={UUID}");
    for (program, arguments, size, name) in [
        ("mkfs.ext4", vec!["-q", "-F", "-U", UUID], 16 * MIB, "ext4"),
        ("mkfs.ext4", vec!["-q", "-F", "-U", UUID, "-t", "ext2"], 16 * MIB, "ext2"),
        ("mkfs.ext4", vec!["-q", "-F", "-U", UUID, "-t", "ext3"], 16 * MIB, "ext3"),
        ("mkfs.xfs", vec!["-q", "-m", &xfs], 320 * MIB, "xfs"),
    ] {
        let (_directory, path) = made_by(program, &arguments, size);

        let found = found_on(&path);

        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!((found[0].name, found[0].kind), (name, Kind::Filesystem));
        assert_eq!(found[0].uuid.as_deref(), Some(UUID));
    }
}

#[test]
fn swap_is_found_as_mkswap_makes_it() {
    let (_directory, path) = made_by("mkswap", &["-q"], 4 * MIB);

    assert!(found_on(&path).iter().any(|found| found.name == "swap"));
}

#[test]
fn partition_tables_are_found_as_sfdisk_makes_them() {
    for (label, name, places) in [("gpt", "gpt", 2), ("dos", "dos", 1)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        File::create(&path).unwrap().set_len(8 * MIB).unwrap();
        let command = format!("printf 'label: {label}\\n,4M\\n' | sfdisk -q {}", path.display());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());

        let found = found_on(&path);

        assert_eq!(found.iter().filter(|found| found.name == name).count(), places, "{found:?}");
    }
}

#[test]
fn every_row_of_the_table_is_found_at_its_place_and_keeps_the_device_from_being_blank() {
    for size in [8 * MIB, (1 << 40) + 512 * 7] {
        for magic in MAGICS {
            let Some(offset) = magic.at.offset(size) else { continue };
            let image = Image::with(size, offset, magic.bytes);

            let found = image.found();

            assert!(
                found.iter().any(|found| found.name == magic.name && found.offset == offset),
                "{} at {offset:#x} of {size:#x}: {found:?}",
                magic.name
            );
            assert!(matches!(image.contents(), Contents::Signatures(_)), "{}", magic.name);
        }
    }
}

#[test]
fn every_label_of_zfs_is_found_in_either_byte_order() {
    let size = 64 * MIB + 4096;
    let magic = 0x00BA_B10C_u64;
    for label in [0, 256 << 10, (64 << 20) - (512 << 10), (64 << 20) - (256 << 10)] {
        for bytes in [magic.to_le_bytes(), magic.to_be_bytes()] {
            let image = Image::with(size, label + (128 << 10) + 5 * 1024, &bytes);
            assert_eq!(image.found()[0].name, "zfs_member", "label at {label:#x}");
        }
    }
}

#[test]
fn a_device_is_blank_only_without_a_single_byte_at_its_edges() {
    let size = 64 * MIB;
    assert_eq!(Image::blank(size).contents(), Contents::Blank);

    for offset in [0, MIB - 1, size - MIB, size - 1] {
        let contents = Image::with(size, offset, &[1]).contents();
        assert_eq!(contents, Contents::Data { offset });
    }
}

#[test]
fn data_in_the_middle_is_found_by_samples() {
    let size = 64 * MIB;
    let image = Image::with(size, 10 * MIB, &vec![7; 8 << 20]);

    assert!(matches!(image.contents(), Contents::Data { .. }));
}

#[test]
fn a_device_smaller_than_its_edges_is_read_whole() {
    for size in [512, 4096, MIB, MIB + 512] {
        assert_eq!(Image::blank(size).contents(), Contents::Blank, "{size}");
        let image = Image::with(size, size - 1, &[1]);
        assert_eq!(image.contents(), Contents::Data { offset: size - 1 }, "{size}");
    }
}

#[test]
fn a_device_wiped_by_its_owner_keeps_what_others_left_at_its_end() {
    let image = Image::with(64 * MIB, 64 * MIB - 1024, b"Intel Raid ISM Cfg Sig. 1.0.00");

    assert_eq!(image.found()[0].name, "isw_raid_member");
    assert_eq!(image.contents().to_string(), "signatures of isw_raid_member");
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..5000), offset in 0_u64..3 * MIB) {
        let image = Image::with(3 * MIB, offset, &bytes);

        for found in image.found() {
            prop_assert!(found.offset < image.size);
        }
        let somewhere = bytes.iter().any(|byte| *byte != 0);
        prop_assert!(somewhere || image.contents() == Contents::Blank);
    }

    #[test]
    fn a_device_of_any_size_is_read(size in 1_u64..4 * MIB) {
        prop_assert_eq!(Image::blank(size).contents(), Contents::Blank);
    }
}

#[test]
fn an_erased_device_is_told_by_its_mark_and_whatever_else_is_on_it_counts() {
    let erased = || Image::with(64 * MIB, 0, ERASED);
    let with = |offset, bytes: &[u8]| {
        let mut image = erased();
        image.written.push((offset, bytes.to_owned()));
        image.contents()
    };

    assert_eq!(erased().contents(), Contents::Erased);
    // The old blocks are what the mark is about.
    assert_eq!(with(32 * MIB, &[0xA5; 8192]), Contents::Erased);
    assert!(matches!(with(0x438, b"\x53\xef"), Contents::Signatures(_)));
    assert!(matches!(with(4096, b"data"), Contents::Data { .. }));
    assert!(matches!(with(64 * MIB - 4, b"data"), Contents::Data { .. }));
    assert!(matches!(with(0, b"data"), Contents::Data { .. }));
}

const GIB: u64 = 1 << 30;

/// An image whose first `lost` bytes were overwritten with zeros.
fn beheaded(path: &Path, lost: u64) -> File {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let zeros = vec![0; 1 << 20];
    for offset in (0..lost).step_by(zeros.len()) {
        file.write_all_at(&zeros, offset).unwrap();
    }
    file
}

#[test]
fn an_ext_file_system_whose_beginning_was_overwritten_is_found_by_its_backups() {
    for (arguments, size, lost) in [
        (&["-q", "-F"][..], 20 * GIB, 20 * MIB),
        (&["-q", "-F", "-b", "1024"], GIB, 7 * MIB),
        (&["-q", "-F", "-b", "2048"], 3 * GIB, 20 * MIB),
        (&["-q", "-F", "-O", "sparse_super2"], 3 * GIB, 20 * MIB),
    ] {
        let (_directory, path) = made_by("mkfs.ext4", arguments, size);
        let file = beheaded(&path, lost);

        let contents = contents_of(&file, size).unwrap();

        assert_eq!(contents.to_string(), "signatures of ext4", "{arguments:?}: {contents:?}");
    }
}

#[test]
fn an_xfs_whose_beginning_was_overwritten_is_found_by_its_allocation_groups() {
    for (arguments, size) in [
        (&["-q"][..], 20 * GIB),
        (&["-q", "-d", "agcount=7"], 20 * GIB),
        (&["-q", "-d", "agcount=16"], 20 * GIB),
    ] {
        let (_directory, path) = made_by("mkfs.xfs", arguments, size);
        let file = beheaded(&path, 4 * MIB);

        let contents = contents_of(&file, size).unwrap();

        assert_eq!(contents.to_string(), "signatures of xfs", "{arguments:?}: {contents:?}");
    }
}

#[test]
fn what_an_earlier_file_system_left_means_nothing_beneath_one_that_is_whole() {
    let (_directory, path) = made_by("mkfs.ext4", &["-q", "-F"], GIB);
    let made = Command::new("mkfs.xfs").args(["-q", "-f"]).arg(&path).status().unwrap();
    assert!(made.success());
    let file = File::open(&path).unwrap();

    let Contents::Signatures(found) = contents_of(&file, GIB).unwrap() else { panic!() };

    assert!(found.iter().all(|signature| signature.name == "xfs"), "{found:?}");
}

#[test]
fn a_device_that_can_be_read_in_time_is_blank_only_if_every_byte_is() {
    let hour = Duration::from_hours(1);
    let size = 40 * MIB + 512;
    assert_eq!(search_of(&Image::blank(size), size, hour).unwrap(), Contents::Blank);

    for offset in [5 * MIB + 1, 20 * MIB + 77_777, 39 * MIB - 1, size - MIB - 1] {
        let image = Image::with(size, offset, &[1]);
        assert_eq!(search_of(&image, size, hour).unwrap(), Contents::Data { offset });
    }
}

#[test]
fn a_device_too_large_to_be_read_in_time_is_read_at_hundreds_of_places() {
    let size = 1 << 44;
    let image = Image::blank(size);

    assert_eq!(search_of(&image, size, Duration::ZERO).unwrap(), Contents::Blank);

    assert!((256..2000).contains(&image.reads.get()), "{:?}", image.reads);
}
