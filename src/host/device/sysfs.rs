//! What sysfs says of a block device, found by its number: nothing here opens the device, so nothing here can hang on it.
//!
//! Sources: Documentation/ABI/{stable,testing}/sysfs-block*, sysfs(5), and the drivers' own attribute lists.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::{DeviceNumber, Errno, Error, Result};

/// A block device as sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// The kernel's name, for example `sdb1`; the node is `/dev/NAME` where `/dev` is the kernel's.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Whether the kernel refuses writes to it.
    pub read_only: bool,
    /// Whether it is a removable medium.
    pub removable: bool,
    /// Its number in the partition table, where it is a partition.
    pub partition: Option<u32>,
    /// Its UUID in the partition table, where it is a partition and the kernel says (since Linux 6.10).
    pub partition_uuid: Option<String>,
    /// The number of the whole disk, where it is a partition.
    pub disk: Option<DeviceNumber>,
    /// The World Wide Name of the disk, or the NVMe namespace's EUI-64, NGUID or UUID, or a memory card's CID.
    pub wwn: Option<String>,
    /// The disk's model.
    pub model: Option<String>,
    /// The disk's serial number.
    pub serial: Option<String>,
    /// The UUID of a device-mapper device or MD array.
    pub mapper: Option<String>,
    /// Whether it is a loop device with a file.
    pub is_loop: bool,
    /// The number that no other disk since this boot had, where the kernel counts (since Linux 5.15).
    pub sequence: Option<u64>,
}

/// Describes the block device with this number; `ENODEV` where there is none.
pub fn describe(number: DeviceNumber) -> Result<Description> {
    describe_in(Path::new("/sys"), number)
}

/// As [`describe`], from the sysfs mounted at `root`.
pub fn describe_in(root: &Path, number: DeviceNumber) -> Result<Description> {
    let link = root.join("dev/block").join(number.to_string());
    let directory = fs::canonicalize(&link)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Errno::NODEV,
            _ => Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })
        .map_err(Error::of("realpath", &link))?;
    let own = Attributes(directory);
    let partition = own.number("partition");
    let disk = match (&partition, own.0.parent()) {
        (Some(_), Some(parent)) => Attributes(parent.to_owned()),
        _ => Attributes(own.0.clone()),
    };
    Ok(Description {
        name: own.0.file_name().map(lossy).unwrap_or_default(),
        // Sysfs counts in sectors of 512 bytes whatever the device's own are.
        size: own.number::<u64>("size").unwrap_or_default().saturating_mul(512),
        read_only: own.flag("ro"),
        removable: disk.flag("removable"),
        partition_uuid: partition.and_then(|_| own.uevent("PARTUUID")),
        disk: partition.and_then(|_| disk.text("dev")).as_deref().and_then(parse_number),
        wwn: disk.first(&["wwid", "device/wwid", "device/cid"]).filter(|id| is_telling(id)),
        model: disk.first(&["device/model", "device/name"]),
        serial: disk.serial().filter(|id| is_telling(id)),
        mapper: disk.first(&["dm/uuid", "md/uuid"]).filter(|id| is_telling(id)),
        is_loop: disk.0.join("loop/backing_file").exists(),
        sequence: disk.number("diskseq"),
        partition,
    })
}

/// The partitions that the kernel has of a disk, by their numbers in its table.
pub fn partitions(disk: DeviceNumber) -> Vec<(u32, DeviceNumber)> {
    let directory = Path::new("/sys/dev/block").join(disk.to_string());
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let parts = entries.filter_map(|entry| {
        let part = Attributes(entry.path());
        Some((part.number("partition")?, part.text("dev").as_deref().and_then(parse_number)?))
    });
    parts.collect()
}

/// A directory of sysfs, one attribute a file. An attribute that is missing or cannot be read says nothing.
#[derive(Debug)]
pub(super) struct Attributes(pub(super) PathBuf);

impl Attributes {
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let bytes = fs::read(self.0.join(name)).ok()?;
        tidy(&bytes)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    fn flag(&self, name: &str) -> bool {
        self.number::<u8>(name).is_some_and(|value| value != 0)
    }

    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    fn uevent(&self, key: &str) -> Option<String> {
        value_of(&self.text("uevent")?, key)
    }

    /// The serial number: an attribute with virtio, NVMe and memory cards, the unit serial number page (SPC-4, 7.8.15)
    /// with SCSI, whose first four bytes are its header.
    fn serial(&self) -> Option<String> {
        self.first(&["serial", "device/serial"]).or_else(|| {
            let page = fs::read(self.0.join("device/vpd_pg80")).ok()?;
            tidy(page.get(4..)?)
        })
    }
}

/// The text of an attribute without the padding around it; absent where nothing is left. Line breaks within stay.
fn tidy(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// The value of `key` in lines of `KEY=VALUE`, in lower case.
fn value_of(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.map(str::to_ascii_lowercase)
}

/// Whether an id tells one device from another. Some firmware answers with zeros, which every unit of it shares.
fn is_telling(id: &str) -> bool {
    let id = id.rsplit_once('.').map_or(id, |(_, id)| id);
    id.chars().any(|c| c.is_alphanumeric() && c != '0')
}

fn parse_number(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

fn lossy(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

/// Checks of attributes; see [`crate::hostile`].
#[cfg(any(test, fuzzing))]
pub(crate) fn hostile(data: &[u8]) {
    let Some(text) = tidy(data) else { return };
    assert_eq!(tidy(text.as_bytes()).as_ref(), Some(&text), "it is tidied twice");
    assert!(!text.starts_with('\0') && !text.ends_with('\0') && text.len() <= data.len() * 3);
    if let Some(number) = parse_number(&text) {
        assert_eq!(parse_number(&number.to_string()), Some(number));
    }
    if let Some(uuid) = value_of(&text, "PARTUUID") {
        assert!(!uuid.contains('\n') && text.to_ascii_lowercase().contains(&uuid));
    }
    assert!(!is_telling(&text) || text.chars().any(char::is_alphanumeric));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    /// A sysfs of our own with the files of one disk `sdb` and its first partition.
    fn sysfs(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let disk = root.path().join("devices/sdb");
        fs::create_dir_all(root.path().join("dev/block")).unwrap();
        symlink(&disk, root.path().join("dev/block/8:16")).unwrap();
        symlink(disk.join("sdb1"), root.path().join("dev/block/8:17")).unwrap();
        for (name, content) in files {
            let path = disk.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    const DISK: DeviceNumber = DeviceNumber { major: 8, minor: 16 };
    const PARTITION: DeviceNumber = DeviceNumber { major: 8, minor: 17 };

    #[test]
    fn a_partition_is_told_by_its_disk_and_its_number() {
        let root = sysfs(&[
            ("dev", b"8:16\n"),
            ("device/wwid", b"naa.5000c500a1b2c3d4\n"),
            ("device/model", b"Fast Disk       \n"),
            ("sdb1/partition", b"1\n"),
            ("sdb1/size", b"2048\n"),
            ("sdb1/ro", b"1\n"),
            ("sdb1/uevent", b"MAJOR=8\nPARTN=1\nPARTUUID=AB12-01\n"),
        ]);

        let seen = describe_in(root.path(), PARTITION).unwrap();

        assert_eq!((seen.partition, seen.disk), (Some(1), Some(DISK)));
        assert_eq!(seen.wwn.as_deref(), Some("naa.5000c500a1b2c3d4"));
        assert_eq!(seen.model.as_deref(), Some("Fast Disk"));
        assert_eq!(seen.partition_uuid.as_deref(), Some("ab12-01"));
        assert_eq!((seen.size, seen.read_only), (1 << 20, true));
    }

    #[test]
    fn a_scsi_serial_number_is_read_from_its_page() {
        let root = sysfs(&[("dev", b"8:16"), ("device/vpd_pg80", b"\0\x80\0\x08 ZA1B2C3\0")]);

        let seen = describe_in(root.path(), DISK).unwrap();

        assert_eq!(seen.serial.as_deref(), Some("ZA1B2C3"));
        assert_eq!(seen.partition, None);
    }

    #[test]
    fn an_id_of_zeros_or_blanks_tells_nothing() {
        let root = sysfs(&[
            ("dev", b"8:16"),
            ("wwid", b"eui.0000000000000000\n"),
            ("serial", b"                    \n"),
        ]);

        let seen = describe_in(root.path(), DISK).unwrap();

        assert_eq!((seen.wwn, seen.serial), (None, None));
    }

    #[test]
    fn a_number_that_no_device_has_is_an_error() {
        let root = sysfs(&[]);

        let error = describe_in(root.path(), DeviceNumber { major: 9, minor: 9 }).unwrap_err();

        assert_eq!(error.errno, Errno::NODEV);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_content_of_sysfs_is_read_or_left_out(
            number in prop_oneof![any::<Vec<u8>>(), "-?[0-9]{1,25}(:[0-9]{0,12})?\n".prop_map(String::into_bytes)],
            uevent in prop_oneof![
                any::<Vec<u8>>(),
                "(PARTUUID=?[A-F0-9=-]{0,40}\n?|[A-Z]{0,9}=?[^\n]{0,9}\n){0,4}".prop_map(String::into_bytes),
            ],
            page in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let root = sysfs(&[
                ("dev", &number),
                ("device/wwid", &page),
                ("device/vpd_pg80", &page),
                ("diskseq", &number),
                ("sdb1/partition", &number),
                ("sdb1/size", &number),
                ("sdb1/ro", &number),
                ("sdb1/uevent", &uevent),
            ]);

            let seen = describe_in(root.path(), PARTITION).unwrap();

            // What is told is text without padding, and of the page's header nothing.
            for text in [&seen.wwn, &seen.serial, &seen.partition_uuid].into_iter().flatten() {
                prop_assert!(!text.is_empty() && text.trim() == text, "{text:?}");
            }
            prop_assert!(page.len() > 4 || seen.serial.is_none());
            prop_assert!(seen.partition.is_some() || seen.partition_uuid.is_none());
        }

        #[test]
        fn a_number_is_read_as_it_is_written(major: u32, minor: u32, text in "\\PC{0,12}") {
            let number = DeviceNumber { major, minor };

            prop_assert_eq!(parse_number(&number.to_string()), Some(number));
            let _ = parse_number(&text);
        }
    }
}
