//! Facts of an open descriptor, put together from what the kernel says in several places.

use std::borrow::Cow;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use super::name::{self, Named};
use super::{Error, Facts, Location, Mounts};
use crate::host::device::{self, Access};
use crate::host::identify::{self, Filesystem, Node};
use crate::host::mountinfo::Mount;
use crate::host::{self, Errno, signature};
use crate::volume::{Bytes, FilesystemIdentity, Fingerprint, Place};

/// File systems without a block device of their own whose UUID lasts nevertheless. For the others of that kind (tmpfs,
/// overlay) the kernel invents one that may end with the mount.
const LASTING: [&str; 3] = ["btrfs", "bcachefs", "ubifs"];

/// The facts of the directory `descriptor`, and the mount that it lies on.
pub(super) fn of_directory(
    descriptor: BorrowedFd<'_>,
    path: &Path,
    node: &Node,
    mounts: Mounts<'_>,
) -> Result<(Facts, Mount), Error> {
    let (mount, root) = place(descriptor, path, node, mounts)?;
    let filesystem = identify::filesystem(descriptor, path)?;
    let identity = identity(descriptor, path, &mount, &filesystem)?;
    let is_whole = node.is_mount_root && root == Path::new("/");
    // The root of a file system with a UUID is told by that alone, also after a new file system of the same UUID was
    // made; one without is told from its successor by its birth, if at all.
    let born = if is_whole && identity.uuid.is_some() { None } else { node.born };
    // A number that stands for no device is given out again while the host runs: the file system's own name has to do.
    let beneath =
        if mount.device.major == 0 { Named::default() } else { name::device(mount.device)? };
    let mut on = beneath.names;
    on.insert(identity.whole().to_string());
    let place = Place {
        on: on.into(),
        root: root.to_string_lossy().into_owned().into(),
        disk: beneath.disk.into(),
        attached: node.is_mount_root,
    };
    let facts = Facts {
        device: mount.device,
        root,
        place,
        is_mount: node.is_mount_root,
        size: Bytes(filesystem.size),
        fs_type: Some(identity.fs_type.to_string()),
        fingerprint: Fingerprint::Directory { filesystem: identity, inode: node.inode, born },
    };
    Ok((facts, mount.into_owned()))
}

/// Where the directory `descriptor` lies.
pub(super) fn location(descriptor: BorrowedFd<'_>, path: &Path) -> host::Result<Location> {
    let node = identify::node(descriptor, path)?;
    let (mount, root) = place(descriptor, path, &node, Mounts::Asked)?;
    let filesystem = identify::filesystem(descriptor, path)?;
    let identity = identity(descriptor, path, &mount, &filesystem)?;
    Ok(Location {
        device: mount.device,
        root,
        filesystem: identity.whole().to_string(),
        mount_point: mount.mount_point.clone(),
    })
}

/// The mount through which the directory was reached, and where on its file system it is.
fn place<'a>(
    descriptor: BorrowedFd<'_>,
    path: &Path,
    node: &Node,
    mounts: Mounts<'a>,
) -> host::Result<(Cow<'a, Mount>, PathBuf)> {
    // Ids are given out again. As long as the descriptor is open nothing else gets this mount's: what was read before that
    // is good if nothing has changed since, and what is asked from now on in any case.
    let read = match mounts {
        Mounts::Read(table) if table.is_current() => node.mount.and_then(|id| table.by_id(id)),
        _ => None,
    };
    let mount = match read {
        Some(mount) => Cow::Borrowed(mount),
        None => Cow::Owned(Mount::of(descriptor, path)?),
    };
    if node.is_mount_root {
        let root = mount.root.clone();
        return Ok((mount, root));
    }
    let resolved = identify::path_of(descriptor, path)?;
    let root = mount.path_in_filesystem(&resolved);
    // Unmounted lazily or from another namespace: there is no telling what lies where.
    let root = root.ok_or_else(|| host::Error::of("find the mount", path)(Errno::STALE))?;
    Ok((mount, root))
}

fn identity(
    descriptor: BorrowedFd<'_>,
    path: &Path,
    mount: &Mount,
    filesystem: &Filesystem,
) -> host::Result<FilesystemIdentity> {
    let uuid = identify::filesystem_uuid(descriptor, mount, path)?;
    identity_of(mount, filesystem, uuid)
}

/// The file system that `mount` shows. Without a UUID that lasts it is told by its device's number, which means
/// something else after the next boot, so that the boot belongs to it.
pub(super) fn identity_of(
    mount: &Mount,
    filesystem: &Filesystem,
    uuid: Option<String>,
) -> host::Result<FilesystemIdentity> {
    let fs_type = mount.fs_type.to_string_lossy().into_owned();
    let number = || Ok(format!("{} {}", identify::boot()?, mount.device));
    let lasts = mount.device.major != 0 || LASTING.contains(&fs_type.as_str());
    let (uuid, device_number) = match uuid {
        Some(uuid) if !lasts => (None, Some(format!("{} {uuid}", number()?))),
        Some(uuid) if fs_type == "btrfs" => (Some(format!("{uuid}/{:016x}", filesystem.id)), None),
        Some(uuid) => (Some(uuid), None),
        None => (None, Some(number()?)),
    };
    let (uuid, device_number) = (uuid.map(Into::into), device_number.map(Into::into));
    Ok(FilesystemIdentity { fs_type: fs_type.into(), uuid, device_number })
}

/// The facts of the block device `descriptor`.
pub(super) fn of_device(
    descriptor: BorrowedFd<'_>,
    path: &Path,
    node: &Node,
    mounts: Mounts<'_>,
) -> Result<Facts, Error> {
    let device =
        device::reopen(descriptor, path, Access::Read).map_err(|error| match error.errno {
            Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM => {
                Error::Missing { path: path.to_owned() }
            }
            _ => error.into(),
        })?;
    let size = device::size(&device, path)?;
    if size == 0 {
        // A drive without a medium, or a loop device without a file.
        return Err(Error::Missing { path: path.to_owned() });
    }
    let filesystem = signature::filesystem(&device, path)?;
    let Named { identity, names: mut on, disk } =
        name::open_device(&device, path, node.number, mounts)?;
    // The file system that is on it, under the name that its mount has.
    let uuid = filesystem.as_ref().and_then(|found| found.uuid.as_ref());
    on.extend(uuid.map(|uuid| format!("filesystem {uuid}")));
    Ok(Facts {
        fingerprint: Fingerprint::Device { device: identity, size: Bytes(size) },
        device: node.number,
        root: PathBuf::from("/"),
        place: Place { on: on.into(), root: "/".into(), disk: disk.into(), attached: true },
        is_mount: false,
        size: Bytes(size),
        fs_type: filesystem.map(|found| found.name.to_owned()),
    })
}
