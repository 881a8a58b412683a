//! A place in a directory at which something is mounted or is to be: the directory held open and one name in it.
//!
//! The name is never followed when it is a symlink. What is removed is one empty directory or one empty file, never a tree.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags, StatxAttributes, StatxFlags,
    fstatvfs, mkdirat, open, openat, openat2, readlink, statx, unlinkat,
};
use rustix::mount::{UnmountFlags, unmount};

use super::{Attribute, Attributes};
use crate::host::mountinfo::{Mount, MountTable};
use crate::host::{DeviceNumber, Errno, Error, Result};

/// How often a mount that is busy is tried again: a program that is begun meanwhile, `mkfs` say, has every descriptor of
/// this process, those on the mount too, from fork(2) until it is executed.
const BUSY_TRIES: u32 = 10;
/// How long after.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// A name in an open directory.
#[derive(Debug)]
pub struct Spot {
    parent: OwnedFd,
    name: OsString,
    path: PathBuf,
}

/// A file or directory, told from every other while its file system is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// `st_dev`.
    pub device: DeviceNumber,
    /// `st_ino`.
    pub inode: u64,
}

/// What kind of file something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file and its size in bytes.
    File(u64),
    /// A block device and its number.
    BlockDevice(DeviceNumber),
    /// A symlink.
    Symlink,
    /// Anything else.
    Other,
}

/// What stands at a place, held open with `O_PATH`, which keeps the mount that it is on busy.
#[derive(Debug)]
pub struct Seen {
    descriptor: OwnedFd,
    /// Which file.
    pub id: FileId,
    /// What kind of file.
    pub kind: Kind,
    /// Whether it is the root of a mount, so that the place is a mount point.
    pub is_mount: bool,
    /// The id of the mount that it lies on, as the mount table has it.
    pub mount_id: u64,
    /// Attributes of that mount; of the three about access times the one in force.
    pub attributes: Attributes,
}

impl Spot {
    /// Opens the directory of `path`; with `root`, an absolute directory that `path` begins with, no symlink may lead
    /// outside of it. `path` is absolute, without `..`, and has a last component; else `EINVAL`.
    pub fn open(path: &Path, root: Option<&Path>) -> Result<Self> {
        let failed = |errno| Error { call: "open", path: path.to_owned(), errno };
        let plain = path.is_absolute() && !path.components().any(|c| c == Component::ParentDir);
        let (true, Some(directory), Some(name)) = (plain, path.parent(), path.file_name()) else {
            return Err(failed(Errno::INVAL));
        };
        let parent = open_directory(directory, root).map_err(failed)?;
        let path = canonical(parent.as_fd()).map_err(failed)?.join(name);
        Ok(Self { parent, name: name.to_owned(), path })
    }

    /// The place as the mount table spells it: without symlinks.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that it is in.
    pub fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    /// The topmost mount there. The file system that is mounted is asked for nothing: its disk may be dead.
    pub fn mount(&self) -> Result<Option<Mount>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let there = match openat(&self.parent, &self.name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NAMETOOLONG) => return Ok(None),
            there => there.map_err(self.failed("openat"))?,
        };
        if is_mount(there.as_fd(), c"") == Ok(false) {
            return Ok(None);
        }
        match Mount::of(there.as_fd(), &self.path) {
            Ok(mount) => Ok(Some(mount)),
            // It may be for its owner only (fuse(4)).
            Err(_) => Ok(MountTable::read()?.at(&self.path).cloned()),
        }
    }

    /// What is there, not following a symlink; `None` for nothing, as for a name that no file can have.
    pub fn look(&self) -> Result<Option<Seen>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.parent, &self.name, flags, Mode::empty()) {
            Ok(descriptor) => Seen::new(descriptor, &self.path).map(Some),
            Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
            Err(errno) => Err(self.failed("openat")(errno)),
        }
    }

    /// Makes a directory there, mode 0750.
    pub fn make_directory(&self) -> Result<()> {
        mkdirat(&self.parent, &self.name, Mode::from_raw_mode(0o750))
            .map_err(self.failed("mkdirat"))
    }

    /// Makes an empty file there, mode 0600, for a device node to be mounted on.
    pub fn make_file(&self) -> Result<()> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.parent, &self.name, flags, Mode::from_raw_mode(0o600));
        file.map(drop).map_err(self.failed("openat"))
    }

    /// Removes the empty directory there (rmdir(2)).
    pub fn remove_directory(&self) -> Result<()> {
        unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR).map_err(self.failed("rmdir"))
    }

    /// Removes the file there (unlink(2)).
    pub fn remove_file(&self) -> Result<()> {
        unlinkat(&self.parent, &self.name, AtFlags::empty()).map_err(self.failed("unlink"))
    }

    /// Takes the topmost mount there away (umount2(2)). It is never lazy: `EBUSY` says that it is in use. Blocks for 100 ms
    /// before it says so.
    #[expect(clippy::disallowed_methods, reason = "nobody tells when a mount is busy no more")]
    pub fn unmount(&self) -> Result<()> {
        // The kernel unmounts by path only. Through the descriptor it starts at the directory that was opened, whatever
        // became of the path since.
        let mut path = PathBuf::from(format!("/proc/self/fd/{}", self.parent.as_raw_fd()));
        path.push(&self.name);
        let mut tries = 0;
        loop {
            match unmount(&path, UnmountFlags::NOFOLLOW) {
                Err(Errno::BUSY) if tries < BUSY_TRIES => tries += 1,
                result => return result.map_err(self.failed("umount2")),
            }
            std::thread::sleep(BUSY_PAUSE);
        }
    }

    fn failed(&self, call: &'static str) -> impl FnOnce(Errno) -> Error {
        Error::of(call, &self.path)
    }
}

impl Seen {
    /// What is at `path`, following symlinks: for reading only.
    pub fn at(path: &Path) -> Result<Self> {
        let opened = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        Self::new(opened.map_err(Error::of("open", path))?, path)
    }

    /// What `file` is, an open descriptor (`O_PATH` will do).
    pub fn of(file: BorrowedFd<'_>, path: &Path) -> Result<Self> {
        let own = file.try_clone_to_owned();
        let own = own.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        Self::new(own.map_err(Error::of("dup", path))?, path)
    }

    fn new(descriptor: OwnedFd, path: &Path) -> Result<Self> {
        let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::SIZE | StatxFlags::MNT_ID;
        let stat =
            statx(&descriptor, c"", AtFlags::EMPTY_PATH, mask).map_err(Error::of("statx", path))?;
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File(stat.stx_size),
            FileType::BlockDevice => {
                Kind::BlockDevice(number(stat.stx_rdev_major, stat.stx_rdev_minor))
            }
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Other,
        };
        let attributes = attributes(descriptor.as_fd()).map_err(Error::of("fstatfs", path))?;
        let id =
            FileId { device: number(stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino };
        let is_mount = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        Ok(Self { descriptor, id, kind, is_mount, mount_id: stat.stx_mnt_id, attributes })
    }
}

impl AsFd for Seen {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Whether `path`, at whose end no symlink is followed, is a mount point. The file system that is mounted there is asked for
/// nothing.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    match is_mount(rustix::fs::CWD, path) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(_) => Ok(MountTable::read()?.at(path).is_some()),
        Ok(is_mount) => Ok(is_mount),
    }
}

fn is_mount(
    directory: impl AsFd,
    path: impl rustix::path::Arg,
) -> std::result::Result<bool, Errno> {
    let flags = AtFlags::EMPTY_PATH
        | AtFlags::SYMLINK_NOFOLLOW
        | AtFlags::NO_AUTOMOUNT
        | AtFlags::STATX_DONT_SYNC;
    let stat = statx(directory, path, flags, StatxFlags::empty())?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// How full a file system is: all, free, and free for processes without privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fullness {
    /// Bytes.
    pub bytes: (u64, u64, u64),
    /// Inodes; all zero where the file system has no fixed number of them.
    pub inodes: (u64, u64, u64),
}

/// How full the file system is that `file` lies on. `path` is for messages.
pub fn usage(file: &Seen, path: &Path) -> Result<Fullness> {
    let stat = fstatvfs(file).map_err(Error::of("fstatfs", path))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Fullness {
        bytes: (bytes(stat.f_blocks), bytes(stat.f_bfree), bytes(stat.f_bavail)),
        inodes: (stat.f_files, stat.f_ffree, stat.f_favail),
    })
}

/// The path of an open file without symlinks, seen from the root directory of the process.
pub fn canonical(file: BorrowedFd<'_>) -> std::result::Result<PathBuf, Errno> {
    let link = readlink(format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new())?;
    Ok(PathBuf::from(OsStr::new(&os_string(link.into_bytes()))))
}

fn os_string(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

fn open_directory(path: &Path, root: Option<&Path>) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Some(root) = root else { return open(path, flags, Mode::empty()) };
    let beneath = path.strip_prefix(root).map_err(|_| Errno::INVAL)?;
    let root = open(root, flags, Mode::empty())?;
    if beneath.as_os_str().is_empty() {
        return Ok(root);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(&root, beneath, flags, Mode::empty(), resolve)
}

fn number(major: u32, minor: u32) -> DeviceNumber {
    DeviceNumber { major, minor }
}

fn attributes(file: BorrowedFd<'_>) -> std::result::Result<Attributes, Errno> {
    const FLAGS: [(StatVfsMountFlags, Attribute); 7] = [
        (StatVfsMountFlags::RDONLY, Attribute::ReadOnly),
        (StatVfsMountFlags::NOSUID, Attribute::NoSuid),
        (StatVfsMountFlags::NODEV, Attribute::NoDev),
        (StatVfsMountFlags::NOEXEC, Attribute::NoExec),
        (StatVfsMountFlags::NODIRATIME, Attribute::NoDirAtime),
        (StatVfsMountFlags::NOATIME, Attribute::NoAtime),
        (StatVfsMountFlags::RELATIME, Attribute::RelAtime),
    ];
    let flags = fstatvfs(file)?.f_flag;
    let set = FLAGS.into_iter().filter(|(flag, _)| flags.contains(*flag));
    let attributes: Attributes = set.map(|(_, attribute)| attribute).collect();
    let strict = !attributes.has(Attribute::NoAtime) && !attributes.has(Attribute::RelAtime);
    Ok(if strict { attributes.with(Attribute::StrictAtime) } else { attributes })
}
