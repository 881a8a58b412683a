//! What the kernel says of an open descriptor: what it is, which mount and file system it lies on, how large that is.
//!
//! Facts only, each from the descriptor and none from a path, so that what is told is what is held open. `source` makes
//! a fingerprint of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxAttributes, StatxFlags};

use super::mountinfo::Mount;
use super::{DeviceNumber, Errno, Error, Result, attributes, device, signature};

mod ioctl {
    nix::ioctl_read!(get_filesystem_uuid, 0x15, 0, super::FilesystemUuid);
}

/// What a descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// Anything else.
    Other,
}

/// What statx(2) says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Its inode number.
    pub inode: u64,
    /// When it was made, in nanoseconds since the epoch, where the file system says.
    pub born: Option<i64>,
    /// The number of the device of the file system that it lies on.
    pub device: DeviceNumber,
    /// For a block device its own number.
    pub number: DeviceNumber,
    /// The id of the mount that it was reached through, as in the mount table (since Linux 5.8).
    pub mount: Option<u64>,
    /// Whether it is the root of that mount.
    pub is_mount_root: bool,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Permission bits with set-user-id, set-group-id and sticky: 12 bits.
    pub permissions: u32,
    /// Whether it has no name any more.
    pub is_deleted: bool,
}

/// The id of this boot of the kernel (random(4)). Numbers that the kernel gives out mean something else in another.
pub fn boot() -> Result<&'static str> {
    static BOOT: OnceLock<String> = OnceLock::new();
    if let Some(boot) = BOOT.get() {
        return Ok(boot);
    }
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let boot = std::fs::read_to_string(path).map_err(Error::of_io("read", path))?;
    Ok(BOOT.get_or_init(|| boot.trim().to_owned()))
}

/// Opens what is at `path`, following symlinks, only to ask about it (`O_PATH`): nothing is read or woken, and a device
/// that does not answer is not waited for.
pub fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::of("open", path))
}

/// Describes what `descriptor` stands for; `name` is for messages only.
pub fn node(descriptor: BorrowedFd<'_>, name: &Path) -> Result<Node> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let stat =
        rustix::fs::statx(descriptor, c"", flags, wanted).map_err(Error::of("statx", name))?;
    let has = |flag: StatxFlags| StatxFlags::from_bits_retain(stat.stx_mask).contains(flag);
    let born =
        i128::from(stat.stx_btime.tv_sec) * 1_000_000_000 + i128::from(stat.stx_btime.tv_nsec);
    Ok(Node {
        kind: match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Directory => Kind::Directory,
            FileType::BlockDevice => Kind::BlockDevice,
            _ => Kind::Other,
        },
        inode: stat.stx_ino,
        born: if has(StatxFlags::BTIME) { i64::try_from(born).ok() } else { None },
        device: DeviceNumber { major: stat.stx_dev_major, minor: stat.stx_dev_minor },
        number: DeviceNumber { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor },
        mount: has(StatxFlags::MNT_ID).then_some(stat.stx_mnt_id),
        is_mount_root: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        permissions: u32::from(stat.stx_mode) & 0o7777,
        is_deleted: stat.stx_nlink == 0,
    })
}

/// Where `descriptor` is now, seen from the root directory of this process, with every symlink resolved.
pub fn path_of(descriptor: BorrowedFd<'_>, name: &Path) -> Result<PathBuf> {
    let link = device::magic_link(descriptor);
    let path = rustix::fs::readlink(link, Vec::new()).map_err(Error::of("readlink", name))?;
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

/// What statfs(2) says of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filesystem {
    /// Its size in bytes.
    pub size: u64,
    /// Bytes that are free for anyone.
    pub available: u64,
    /// `f_fsid`; on btrfs each subvolume has its own.
    pub id: u64,
    /// Whether it, or the mount that it was reached through, is read-only.
    pub read_only: bool,
}

/// Describes the file system that `descriptor` lies on.
pub fn filesystem(descriptor: BorrowedFd<'_>, name: &Path) -> Result<Filesystem> {
    let stat = rustix::fs::fstatvfs(descriptor).map_err(Error::of("fstatfs", name))?;
    Ok(Filesystem {
        size: stat.f_blocks.saturating_mul(stat.f_frsize),
        available: stat.f_bavail.saturating_mul(stat.f_frsize),
        id: stat.f_fsid,
        read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

/// The UUID of the file system that the directory `descriptor` lies on, which `mount` shows: from the kernel
/// (`FS_IOC_GETFSUUID`, since Linux 6.9), else from the superblock of its device. Absent where it has none.
pub fn filesystem_uuid(
    descriptor: BorrowedFd<'_>,
    mount: &Mount,
    name: &Path,
) -> Result<Option<String>> {
    match kernel_uuid(descriptor, name)? {
        Answer::Uuid(uuid) => Ok(Some(uuid)),
        Answer::None => Ok(None),
        Answer::CannotSay => superblock_uuid(mount),
    }
}

/// `struct fsuuid2` (linux/fs.h).
#[repr(C)]
#[derive(Default)]
struct FilesystemUuid {
    length: u8,
    uuid: [u8; 16],
}

/// What the kernel answers when it is asked for a UUID.
enum Answer {
    Uuid(String),
    None,
    CannotSay,
}

fn kernel_uuid(directory: BorrowedFd<'_>, name: &Path) -> Result<Answer> {
    // The request needs a descriptor that was opened for use.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::openat(directory, c".", flags, Mode::empty())
        .map_err(Error::of("open", name))?;
    let mut answer = FilesystemUuid::default();
    // SAFETY: the descriptor is open and `answer` has the layout of `struct fsuuid2`, which the request fills.
    match unsafe { ioctl::get_filesystem_uuid(open.as_fd().as_raw_fd(), &raw mut answer) } {
        Ok(_) => {
            let bytes = answer.uuid.get(..answer.length.into()).unwrap_or_default();
            Ok(uuid_text(bytes).map_or(Answer::None, Answer::Uuid))
        }
        Err(
            nix::Error::ENOTTY | nix::Error::EOPNOTSUPP | nix::Error::EINVAL | nix::Error::ENOSYS,
        ) => Ok(Answer::CannotSay),
        Err(errno) => {
            let errno = Errno::from_raw_os_error(errno as i32);
            Err(Error::of("ioctl(FS_IOC_GETFSUUID)", name)(errno))
        }
    }
}

/// Bytes as a UUID is written; as plain hexadecimal digits where they are not 16. Absent where all are zero.
pub(super) fn uuid_text(bytes: &[u8]) -> Option<String> {
    if bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    let digits = bytes.iter().enumerate().map(|(index, byte)| match index {
        4 | 6 | 8 | 10 if bytes.len() == 16 => format!("-{byte:02x}"),
        _ => format!("{byte:02x}"),
    });
    Some(digits.collect())
}

/// The UUID in the superblock of the device that `mount` shows, for kernels that cannot be asked. The device node is the
/// one that the mount table names, if it really has the number of the mounted device; btrfs, whose mounts have numbers
/// of their own, is believed by its name.
fn superblock_uuid(mount: &Mount) -> Result<Option<String>> {
    let path = Path::new(&mount.source);
    let on_btrfs = mount.fs_type == "btrfs";
    if !path.is_absolute() || (mount.device.major == 0 && !on_btrfs) {
        return Ok(None);
    }
    let device = match device::open(path, device::Access::Read) {
        // Without the right to read the disk, the file system is told by its weaker facts.
        Err(Error {
            errno: Errno::NOENT | Errno::NOTBLK | Errno::PERM | Errno::ACCESS, ..
        }) => {
            return Ok(None);
        }
        opened => opened?,
    };
    if !on_btrfs && device::number(&device, path)? != mount.device {
        return Ok(None);
    }
    Ok(signature::filesystem(&device, path)?.and_then(|found| found.uuid))
}

/// The extended attributes (xattr(7)) of what `descriptor` stands for, ACLs among them, as far as they are its own
/// ([`attributes::is_own`]) and this process may read them. Empty where the file system has none.
pub fn extended_attributes(
    descriptor: BorrowedFd<'_>,
    name: &Path,
) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let path = device::magic_link(descriptor);
    let names = match grown(|buffer| rustix::fs::listxattr(&path, buffer)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(BTreeMap::new()),
        names => names.map_err(Error::of("listxattr", name))?,
    };
    let mut attributes = BTreeMap::new();
    let names = names.split(|byte| *byte == 0).filter(|attribute| !attribute.is_empty());
    for attribute in names.filter(|attribute| attributes::is_own(attribute)) {
        match grown(|buffer| rustix::fs::getxattr(&path, attribute, buffer)) {
            Ok(value) => {
                attributes.insert(OsString::from_vec(attribute.to_vec()), value);
            }
            // Gone since the list was read, or one that lists itself and cannot be read.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(Error::of("getxattr", name)(errno)),
        }
    }
    Ok(attributes)
}

/// What `read` gives, in a buffer that grows until it is large enough.
fn grown(
    read: impl Fn(&mut [u8]) -> std::result::Result<usize, Errno>,
) -> std::result::Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 1024];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => buffer.resize(buffer.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mountinfo::MountTable;
    use super::*;

    #[test]
    fn a_directory_is_described_with_its_mount_and_birth() {
        let directory = tempfile::tempdir().unwrap();
        let open = open(directory.path()).unwrap();

        let node = node(open.as_fd(), directory.path()).unwrap();

        assert_eq!(
            (node.kind, node.is_mount_root, node.is_deleted),
            (Kind::Directory, false, false)
        );
        assert!(node.born.is_some_and(|born| born > 0));
        assert!(MountTable::read().unwrap().by_id(node.mount.unwrap()).is_some());
        assert_eq!(path_of(open.as_fd(), directory.path()).unwrap(), directory.path());
    }

    #[test]
    fn a_removed_directory_and_the_root_of_a_mount_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let gone = open(directory.path()).unwrap();
        directory.close().unwrap();
        let proc = open(Path::new("/proc")).unwrap();

        assert!(node(gone.as_fd(), Path::new("gone")).unwrap().is_deleted);
        assert!(node(proc.as_fd(), Path::new("/proc")).unwrap().is_mount_root);
    }

    #[test]
    fn extended_attributes_are_read_whatever_their_length() {
        let directory = tempfile::tempdir().unwrap();
        let long = vec![7; 3000];
        let none = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(directory.path(), c"user.long", &long, none).unwrap();
        rustix::fs::setxattr(directory.path(), c"user.short", b"x", none).unwrap();
        let open = open(directory.path()).unwrap();

        let attributes = extended_attributes(open.as_fd(), directory.path()).unwrap();

        assert_eq!(attributes[std::ffi::OsStr::new("user.long")], long);
        assert_eq!(attributes[std::ffi::OsStr::new("user.short")], b"x");
    }

    #[test]
    fn a_uuid_is_written_as_people_write_it() {
        let bytes: Vec<u8> = (0..16).collect();

        assert_eq!(uuid_text(&bytes).unwrap(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(uuid_text(&[0xAB, 1]).unwrap(), "ab01");
        assert_eq!(uuid_text(&[0; 16]), None);
    }
}
