//! What makes a volume the same volume: facts from the kernel that survive a reboot and a renamed device, and that
//! another disk at the same path does not share.
//!
//! Pure data; `source` fills it from an open descriptor.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Text;
use super::capacity::Bytes;

/// What was found behind a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Fingerprint {
    /// A directory: the root of a mounted file system, of a bind mount, or a plain one.
    Directory {
        /// The file system that it lies on.
        filesystem: FilesystemIdentity,
        /// Its inode number.
        #[serde(with = "inode")]
        inode: u64,
        /// When it was made, in nanoseconds since the epoch: tells it from a later directory that was given the same
        /// inode number. Absent for the root of a file system with a UUID (which lives and dies with it) and where the
        /// file system does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        born: Option<i64>,
    },
    /// A block device.
    Device {
        /// What the device says it is.
        device: DeviceIdentity,
        /// Its size. It may grow; a smaller one is not the same device.
        size: Bytes,
    },
}

/// A file system, told from every other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesystemIdentity {
    /// The kernel's name of its type, for example `ext4`.
    pub fs_type: Text,
    /// Its UUID and, on btrfs, the subvolume. Strong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Box<str>>,
    /// `BOOT MAJOR:MINOR`, only where there is no UUID that lasts (tmpfs, overlay, network file systems), and the UUID
    /// that the kernel invented for the mount, where it does. Weak: it survives neither a remount nor a reboot, so the
    /// volume is then another one, which errs on the safe side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_number: Option<Box<str>>,
}

/// A block device, told from every other, by the strongest fact that the kernel has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", content = "id", rename_all = "camelCase")]
pub enum DeviceIdentity {
    /// The World Wide Name, or the NVMe namespace's EUI-64, NGUID or UUID. Of a partition also its UUID in the partition
    /// table, or its number there where the kernel does not tell the UUID.
    Wwn(String),
    /// Model and serial number; of a partition the same beside them.
    Serial(String),
    /// The partition's UUID in a GPT or MBR table, on a disk without a name of its own.
    PartitionUuid(String),
    /// The device-mapper UUID (LVM, crypt, multipath), or the MD array's; of a partition the same beside it.
    Mapper(String),
    /// `FILESYSTEM:INODE` of the file behind a loop device: the UUID of the file system that it lies on, else the
    /// identity of the disk beneath that.
    LoopFile(String),
    /// `BOOT MAJOR:MINOR` and nothing better but, where the kernel has it, the count of disks since boot, which tells one
    /// that was unplugged from the next at its number; `BOOT file DEVICE:INODE` for a loop device whose file lies on
    /// something without a lasting name. Weak: it ends with the boot that it names.
    DeviceNumber(String),
}

impl Fingerprint {
    /// Whether `seen` is the same source as this, the recorded one.
    ///
    /// Everything must be equal but the size of a device, which may have grown.
    pub fn is_same_source(&self, seen: &Self) -> bool {
        match (self, seen) {
            (Self::Device { device: recorded, size: was }, Self::Device { device, size: is }) => {
                recorded == device && is >= was
            }
            (Self::Directory { .. }, Self::Directory { .. }) => self == seen,
            _ => false,
        }
    }

    /// Bytes that are equal exactly when two fingerprints name one source: the key under which a source is one volume,
    /// by whichever path it was reached, and the input of the hash in the volume's name. Sizes are left out.
    pub fn identity(&self) -> Vec<u8> {
        self.to_identity_text().into_bytes()
    }

    /// Whether the fingerprint survives a reboot.
    pub fn is_strong(&self) -> bool {
        match self {
            Self::Directory { filesystem, .. } => filesystem.uuid.is_some(),
            Self::Device { device, .. } => !matches!(device, DeviceIdentity::DeviceNumber(_)),
        }
    }

    /// Every scan asks for it of every volume and of every source, several times over: one allocation.
    fn to_identity_text(&self) -> String {
        let mut text = String::with_capacity(128);
        match self {
            Self::Directory { filesystem, inode, born } => {
                text.push_str("directory\0");
                filesystem.put_identity(&mut text);
                text.push('\0');
                put_number(&mut text, inode);
                text.push('\0');
                match born {
                    Some(born) => put_number(&mut text, born),
                    None => text.push('-'),
                }
            }
            Self::Device { device, .. } => {
                let (by, id) = device.parts();
                text.extend(["device\0", by, "\0", id]);
            }
        }
        text
    }
}

fn put_number(text: &mut String, number: &impl fmt::Display) {
    use fmt::Write as _;
    // Writing to a String does not fail.
    let _ = write!(text, "{number}");
}

impl FilesystemIdentity {
    /// The identity of the whole file system: subvolumes of one btrfs share it.
    #[must_use]
    pub fn whole(&self) -> Self {
        let whole = |uuid: &str| uuid.split('/').next().unwrap_or_default().into();
        Self { uuid: self.uuid.as_deref().map(whole), ..self.clone() }
    }

    /// Text that is equal exactly when two file systems are one.
    pub fn to_identity_text(&self) -> String {
        let mut text = String::with_capacity(96);
        self.put_identity(&mut text);
        text
    }

    fn put_identity(&self, text: &mut String) {
        text.push_str(&self.fs_type);
        match (&self.uuid, &self.device_number) {
            (Some(uuid), _) => text.extend(["\0uuid\0", uuid]),
            (None, number) => {
                text.extend(["\0number\0", number.as_deref().unwrap_or_default()]);
            }
        }
    }
}

impl DeviceIdentity {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Wwn(id) => ("wwn", id),
            Self::Serial(id) => ("serial", id),
            Self::PartitionUuid(id) => ("partition-uuid", id),
            Self::Mapper(id) => ("mapper", id),
            Self::LoopFile(id) => ("loop-file", id),
            Self::DeviceNumber(id) => ("device-number", id),
        }
    }
}

impl fmt::Display for FilesystemIdentity {
    /// The file system as a place names it: by its UUID alone, which the device beneath shares, where it has one.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.uuid, &self.device_number) {
            (Some(uuid), _) => write!(formatter, "filesystem {uuid}"),
            (None, number) => {
                let number = number.as_deref().unwrap_or_default();
                write!(formatter, "filesystem {} {number}", self.fs_type)
            }
        }
    }
}

impl fmt::Display for DeviceIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, id) = self.parts();
        write!(formatter, "{by} {id}")
    }
}

impl fmt::Display for Fingerprint {
    /// One line for people: `ext4 5f3c…, inode 2` or `wwn 0x5000…, 10Gi`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { filesystem, inode, .. } => {
                let id = filesystem.uuid.as_ref().or(filesystem.device_number.as_ref());
                let id = id.map_or("?", AsRef::as_ref);
                write!(formatter, "{} {id}, inode {inode}", filesystem.fs_type)
            }
            Self::Device { device, size } => write!(formatter, "{device}, {size}"),
        }
    }
}

/// An inode number in JSON is text: it may need all 64 bits, and readers of JSON, the Kubernetes API server among them,
/// keep whole numbers exactly to 63 bits at most. A rounded number would make another volume of the same directory.
mod inode {
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes every field so")]
    pub(super) fn serialize<S: Serializer>(inode: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(inode)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), &"an inode"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(uuid: &str, inode: u64, born: Option<i64>) -> Fingerprint {
        let filesystem = FilesystemIdentity {
            fs_type: "ext4".into(),
            uuid: Some(uuid.into()),
            device_number: None,
        };
        Fingerprint::Directory { filesystem, inode, born }
    }

    fn device(serial: &str, size: u64) -> Fingerprint {
        Fingerprint::Device { device: DeviceIdentity::Serial(serial.into()), size: Bytes(size) }
    }

    #[test]
    fn another_file_system_another_inode_or_a_later_directory_is_not_the_same_source() {
        let recorded = directory("u1", 2, Some(1));

        assert!(recorded.is_same_source(&recorded.clone()));
        for other in
            [directory("u2", 2, Some(1)), directory("u1", 3, Some(1)), directory("u1", 2, Some(2))]
        {
            assert!(!recorded.is_same_source(&other));
            assert_ne!(recorded.identity(), other.identity());
        }
    }

    #[test]
    fn a_device_may_grow_and_not_shrink() {
        assert!(device("s", 10).is_same_source(&device("s", 20)));
        assert!(!device("s", 20).is_same_source(&device("s", 10)));
        assert!(!device("s", 10).is_same_source(&device("t", 10)));
        assert_eq!(device("s", 10).identity(), device("s", 20).identity());
    }

    #[test]
    fn a_device_and_a_directory_are_never_the_same() {
        assert!(!device("s", 10).is_same_source(&directory("s", 10, None)));
    }

    #[test]
    fn a_fingerprint_survives_being_written_down() {
        for print in [directory("u", 2, None), directory("u", u64::MAX, Some(-1)), device("s", 10)]
        {
            let text = serde_json::to_string(&print).unwrap();
            assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), print);
        }
    }
}
