//! The mount table as it is read.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

thread_local! {
    static READS: Cell<usize> = const { Cell::new(0) };
}

/// How many mount tables this thread has read.
pub(crate) fn reads() -> usize {
    READS.get()
}

/// Whether this kernel can be asked for one mount.
pub(crate) fn is_asked() -> bool {
    let root = crate::host::identify::open(Path::new("/")).unwrap();
    asked::mount_of(std::os::fd::AsFd::as_fd(&root)).is_some()
}

pub(super) fn count_read() {
    READS.set(READS.get() + 1);
}

fn escape(path: &[u8]) -> Vec<u8> {
    path.iter()
        .flat_map(|byte| match byte {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
            other => vec![*other],
        })
        .collect()
}

#[test]
fn a_line_is_read_with_its_optional_fields() {
    let line = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime shared:7 master:1 - ext3 /dev/root rw,errors=continue\n";

    let table = MountTable::parse(line).unwrap();

    let mount = table.at(Path::new("/mnt 2")).unwrap();
    assert_eq!((mount.id, mount.parent), (36, 35));
    assert_eq!(mount.device, DeviceNumber { major: 98, minor: 0 });
    assert_eq!(mount.root, Path::new("/mnt1"));
    assert_eq!(mount.propagation, "shared:7 master:1");
    assert_eq!(mount.fs_type, "ext3");
    assert!(!mount.is_read_only());
}

#[test]
fn of_two_mounts_at_one_place_the_later_is_on_top() {
    let table = MountTable::parse(b"1 0 0:1 / /a rw - t s rw\n2 1 0:2 / /a ro - t s rw\n").unwrap();

    assert_eq!(table.at(Path::new("/a")).unwrap().id, 2);
    assert!(table.at(Path::new("/a")).unwrap().is_read_only());
}

#[test]
fn a_mount_without_a_source_name_is_read() {
    assert!(MountTable::parse(b"1 0 0:1 / /a rw - tmpfs  rw\n").is_ok());
}

#[test]
fn a_malformed_line_is_an_error_and_not_a_gap() {
    for line in ["x", "1 0 0:1 / /a rw", "1 0 0 / /a rw - t s rw", "1 0 0:1 / /a\\04 rw - t s rw"] {
        assert_eq!(MountTable::parse(line.as_bytes()), Err(MalformedLine), "{line}");
    }
}

#[test]
fn a_directory_beside_another_with_the_same_beginning_is_not_beneath_it() {
    let table = MountTable::parse(b"1 0 8:1 /data/v12 /a rw - ext4 s rw\n").unwrap();
    let device = DeviceNumber { major: 8, minor: 1 };

    assert_eq!(table.showing(device, Path::new("/data/v1")).count(), 0);
    assert_eq!(table.showing(device, Path::new("/data")).count(), 1);
}

#[test]
fn what_a_directory_lies_on_is_the_nearest_mount_around_it() {
    let table = MountTable::parse(
        b"1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /mnt/a rw - ext4 b rw\n3 1 8:2 /x /b rw - ext4 b rw\n",
    )
    .unwrap();
    let around = |path: &str| table.around(Path::new(path)).unwrap().id;

    assert_eq!(["/mnt/ab", "/mnt/a", "/mnt/a/x/y", "/b/c"].map(around), [1, 2, 2, 3]);
    let on = |minor| table.on(DeviceNumber { major: 8, minor }).map(|mount| mount.id);
    assert_eq!(on(2).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn where_a_mount_point_lies_is_told_by_what_is_beneath_it_and_not_by_its_path() {
    // The host, with a mount upon another and one of a directory upon itself; a container that sees a part of it.
    let host = MountTable::parse(
        b"1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /mnt/v1 rw - ext4 b rw\n3 2 8:2 / /mnt/v1 rw - ext4 b rw\n\
          4 1 8:1 /mnt/v2 /mnt/v2 rw - ext4 a rw\n",
    )
    .unwrap();
    let container = MountTable::parse(
        b"5 9 0:30 / / rw - overlay o rw\n6 5 8:1 /mnt /host rw - ext4 a rw\n7 6 8:2 / /host/v1 rw - ext4 b rw\n\
          8 5 8:2 / /mnt/v1 rw - ext4 b rw\n",
    )
    .unwrap();
    let ground = |table: &MountTable, id| table.ground_of(table.by_id(id).unwrap());
    let on_root = |path: &str| Some((DeviceNumber { major: 8, minor: 1 }, path.into()));

    assert_eq!([2, 3].map(|id| ground(&host, id)), [on_root("/mnt/v1"), on_root("/mnt/v1")]);
    assert_eq!(ground(&host, 4), on_root("/mnt/v2"));
    for path in ["/mnt/v1", "/mnt/v2"] {
        assert_eq!(host.ground(Path::new(path)), on_root(path));
    }
    assert_eq!(ground(&container, 7), on_root("/mnt/v1"));
    assert_eq!(container.ground(Path::new("/host/v1")), on_root("/mnt/v1"));
    assert_ne!(ground(&container, 8), on_root("/mnt/v1"));
    assert_eq!((ground(&host, 1), ground(&container, 5)), (None, None));
}

#[test]
fn the_table_of_this_process_is_read() {
    assert!(MountTable::read().unwrap().at(Path::new("/proc")).is_some());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = MountTable::parse(&text);
    }

    #[test]
    fn any_mount_point_is_read_back(path in proptest::collection::vec(1_u8.., 1..100)) {
        let mut line = b"1 0 8:1 / ".to_vec();
        line.extend(escape(&path));
        line.extend(b" rw - ext4 /dev/sda rw\n");

        let table = MountTable::parse(&line).unwrap();

        prop_assert_eq!(table.iter().next().unwrap().mount_point.as_os_str().as_bytes(), &path[..]);
    }
}
