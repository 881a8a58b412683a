//! Facts of an open descriptor, put together from what the kernel says in several places.

use std::borrow::Cow;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use super::{Error, Facts};
use crate::host::device::sysfs::{self, Description};
use crate::host::device::{self, Access};
use crate::host::identify::{self, Filesystem, Node};
use crate::host::mountinfo::{Mount, MountTable};
use crate::host::{self, Errno, signature};
use crate::volume::{Bytes, DeviceIdentity, FilesystemIdentity, Fingerprint};

/// File systems without a block device of their own whose UUID lasts nevertheless. For the others of that kind (tmpfs,
/// overlay) the kernel invents one that may end with the mount.
const LASTING: [&str; 3] = ["btrfs", "bcachefs", "ubifs"];

/// The facts of the directory `descriptor`.
pub(super) fn of_directory(
    descriptor: BorrowedFd<'_>,
    path: &Path,
    node: &Node,
    mounts: &MountTable,
) -> Result<Facts, Error> {
    let (mount, root) = place(descriptor, path, node, mounts)?;
    let filesystem = identify::filesystem(descriptor, path)?;
    let uuid = identify::filesystem_uuid(descriptor, &mount, path)?;
    let identity = identity_of(&mount, &filesystem, uuid);
    let is_whole = node.is_mount_root && root == Path::new("/");
    // The root of a file system with a UUID is told by that alone, also after a new file system of the same UUID was
    // made; one without is told from its successor by its birth, if at all.
    let born = if is_whole && identity.uuid.is_some() { None } else { node.born };
    Ok(Facts {
        device: mount.device,
        root,
        disk: None,
        is_mount: node.is_mount_root,
        size: Bytes(filesystem.size),
        fs_type: Some(identity.fs_type.clone()),
        fingerprint: Fingerprint::Directory { filesystem: identity, inode: node.inode, born },
    })
}

/// The mount through which the directory was reached, and where on its file system it is.
fn place<'a>(
    descriptor: BorrowedFd<'_>,
    path: &Path,
    node: &Node,
    mounts: &'a MountTable,
) -> Result<(Cow<'a, Mount>, PathBuf), Error> {
    if let Some((mount, root)) = place_in(descriptor, path, node, mounts)? {
        return Ok((Cow::Borrowed(mount), root));
    }
    let now = MountTable::read()?;
    match place_in(descriptor, path, node, &now)? {
        Some((mount, root)) => Ok((Cow::Owned(mount.clone()), root)),
        // Unmounted lazily or from another namespace: there is no telling what lies where.
        None => Err(host::Error::of("find the mount", path)(Errno::STALE).into()),
    }
}

fn place_in<'a>(
    descriptor: BorrowedFd<'_>,
    path: &Path,
    node: &Node,
    mounts: &'a MountTable,
) -> Result<Option<(&'a Mount, PathBuf)>, Error> {
    let Some(mount) = node.mount.and_then(|id| mounts.by_id(id)) else { return Ok(None) };
    if node.is_mount_root {
        return Ok(Some((mount, mount.root.clone())));
    }
    let resolved = identify::path_of(descriptor, path)?;
    Ok(mount.path_in_filesystem(&resolved).map(|root| (mount, root)))
}

fn identity_of(mount: &Mount, filesystem: &Filesystem, uuid: Option<String>) -> FilesystemIdentity {
    let fs_type = mount.fs_type.to_string_lossy().into_owned();
    let number = mount.device.to_string();
    let lasts = mount.device.major != 0 || LASTING.contains(&fs_type.as_str());
    let (uuid, device_number) = match uuid {
        Some(uuid) if !lasts => (None, Some(format!("{number} {uuid}"))),
        Some(uuid) if fs_type == "btrfs" => (Some(format!("{uuid}/{:016x}", filesystem.id)), None),
        Some(uuid) => (Some(uuid), None),
        None => (None, Some(number)),
    };
    FilesystemIdentity { fs_type, uuid, device_number }
}

/// The facts of the block device `descriptor`.
pub(super) fn of_device(
    descriptor: BorrowedFd<'_>,
    path: &Path,
    node: &Node,
) -> Result<Facts, Error> {
    let open = || {
        device::reopen(descriptor, path, Access::Read).map_err(|error| match error.errno {
            Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM => {
                Error::Missing { path: path.to_owned() }
            }
            _ => error.into(),
        })
    };
    let device = open()?;
    let described = match sysfs::describe(node.number) {
        Err(host::Error { errno: Errno::NODEV, .. }) => Description::default(),
        described => described?,
    };
    let size = device::size(&device, path)?;
    if size == 0 {
        // A drive without a medium, or a loop device without a file.
        return Err(Error::Missing { path: path.to_owned() });
    }
    let loop_file = match device::loop_file(&device, path) {
        Ok(file) if described.is_loop => Some(file),
        _ => None,
    };
    let identity = device_identity(&described, loop_file, node.number);
    Ok(Facts {
        fingerprint: Fingerprint::Device { device: identity, size: Bytes(size) },
        device: node.number,
        root: PathBuf::from("/"),
        disk: described.disk,
        is_mount: false,
        size: Bytes(size),
        fs_type: signature::filesystem(&device, path)?.map(|found| found.name.to_owned()),
    })
}

/// The strongest fact that tells this device from every other.
fn device_identity(
    described: &Description,
    loop_file: Option<device::LoopFile>,
    number: host::DeviceNumber,
) -> DeviceIdentity {
    let part = described.partition.map(|number| format!("-part{number}")).unwrap_or_default();
    let serial = described.serial.as_ref().map(|serial| {
        let model = described.model.as_deref().unwrap_or("-");
        DeviceIdentity::Serial(format!("{model} {serial}{part}"))
    });
    let wwn = described.wwn.as_ref().map(|wwn| DeviceIdentity::Wwn(format!("{wwn}{part}")));
    let partition = described.partition_uuid.clone().map(DeviceIdentity::PartitionUuid);
    let mapper =
        described.mapper.as_ref().map(|uuid| DeviceIdentity::Mapper(format!("{uuid}{part}")));
    let file = loop_file.map(|file| {
        let offset = if file.offset == 0 { String::new() } else { format!("+{}", file.offset) };
        DeviceIdentity::LoopFile(format!("{}:{}{offset}{part}", file.device, file.inode))
    });
    let strong = wwn.or(serial).or(partition).or(mapper).or(file);
    strong.unwrap_or_else(|| {
        // The kernel's count of disks tells one that was unplugged from the next one at its number.
        let sequence = described.sequence.map(|count| format!(" #{count}")).unwrap_or_default();
        DeviceIdentity::DeviceNumber(format!("{number}{sequence}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: host::DeviceNumber = host::DeviceNumber { major: 8, minor: 17 };

    fn partition() -> Description {
        Description {
            partition: Some(2),
            partition_uuid: Some("ab12-02".into()),
            ..Description::default()
        }
    }

    #[test]
    fn a_device_is_told_by_the_strongest_fact_there_is() {
        let wwn =
            Description { wwn: Some("naa.5".into()), serial: Some("S".into()), ..partition() };
        let serial =
            Description { serial: Some("S".into()), model: Some("M".into()), ..partition() };
        let file = device::LoopFile { device: NUMBER, inode: 9, offset: 0 };
        let numbered = Description { sequence: Some(7), ..Description::default() };

        for (described, file, expected) in [
            (wwn, None, DeviceIdentity::Wwn("naa.5-part2".into())),
            (serial, None, DeviceIdentity::Serial("M S-part2".into())),
            (partition(), Some(file), DeviceIdentity::PartitionUuid("ab12-02".into())),
            (Description::default(), Some(file), DeviceIdentity::LoopFile("8:17:9".into())),
            (numbered, None, DeviceIdentity::DeviceNumber("8:17 #7".into())),
        ] {
            assert_eq!(device_identity(&described, file, NUMBER), expected);
        }
    }
}
