//! Inode flags (chattr(1)) and the project of an open file, and what else keeps entries of a directory where they are.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::super::{Errno, Error, Result};

mod ioctl {
    nix::ioctl_read!(get_extended, b'X', 31, super::Extended);
    nix::ioctl_write_ptr!(set_extended, b'X', 32, super::Extended);
    nix::ioctl_read!(get_subvolume_flags, 0x94, 25, u64);
    nix::ioctl_write_ptr!(set_subvolume_flags, 0x94, 26, u64);
}

/// What chattr(1) and quotas say of a file, as far as its file system knows of it (`ioctl_iflags(2)`, `ioctl_xfs_fsgetxattr(2)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// `FS_*_FL`: those that somebody may set and take off, and whether it is encrypted.
    pub inode: u32,
    /// `FS_XFLAG_*`.
    pub extended: u32,
    /// The project that its blocks count for.
    pub project: u32,
    /// How many bytes are allocated at a time.
    pub extent: u32,
    /// The same where blocks are shared.
    pub shared_extent: u32,
}

/// The flags of an inode that can be changed; what the others say is how the file system keeps the file.
const CHANGEABLE: u32 = 0x0000_0001 // SECRM
    | 0x0000_0002 // UNRM
    | 0x0000_0004 // COMPR
    | 0x0000_0008 // SYNC
    | 0x0000_0010 // IMMUTABLE
    | 0x0000_0020 // APPEND
    | 0x0000_0040 // NODUMP
    | 0x0000_0080 // NOATIME
    | 0x0000_0400 // NOCOMP
    | 0x0000_4000 // JOURNAL_DATA
    | 0x0000_8000 // NOTAIL
    | 0x0001_0000 // DIRSYNC
    | 0x0002_0000 // TOPDIR
    | 0x0080_0000 // NOCOW
    | 0x0200_0000 // DAX
    | 0x2000_0000 // PROJINHERIT
    | 0x4000_0000; // CASEFOLD
/// `FS_ENCRYPT_FL`: once set it stays, and who has no key makes nothing in such a directory.
const ENCRYPT: u32 = 0x0000_0800;
/// `FS_XFLAG_PREALLOC` and `FS_XFLAG_HASATTR`, which only the file system sets.
const OF_FILESYSTEM: u32 = 0x0000_0002 | 0x8000_0000;
/// `FS_XFLAG_PROJINHERIT`: what is moved into the directory must be of its project (`EXDEV`).
const INHERITS_PROJECT: u32 = 0x0000_0200;
/// `BTRFS_SUBVOL_RDONLY`.
const READ_ONLY: u64 = 1 << 1;

/// `struct fsxattr` (linux/fs.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Extended {
    flags: u32,
    extent: u32,
    extents: u32,
    project: u32,
    shared_extent: u32,
    padding: [u8; 8],
}

impl Flags {
    /// Those of an open file (not `O_PATH`); absent where its file system has none.
    pub(super) fn of(file: BorrowedFd<'_>, name: &Path) -> Result<Option<Self>> {
        let (Some(inode), Some(extended)) = (inode_flags(file, name)?, extended(file, name)?)
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            inode: inode & (CHANGEABLE | ENCRYPT),
            extended: extended.flags & !OF_FILESYSTEM,
            project: extended.project,
            extent: extended.extent,
            shared_extent: extended.shared_extent,
        }))
    }

    /// Gives an open file these, as far as they can be changed.
    pub(super) fn restore(self, file: BorrowedFd<'_>, name: &Path) -> Result<()> {
        match Self::of(file, name)? {
            None => return Ok(()),
            Some(now) if now == self => return Ok(()),
            Some(_) => {}
        }
        if let Some(now) = extended(file, name)? {
            let wanted = Extended {
                flags: self.extended,
                extent: self.extent,
                project: self.project,
                shared_extent: self.shared_extent,
                ..now
            };
            set_extended(file, name, &wanted)?;
        }
        let now = inode_flags(file, name)?.unwrap_or_default();
        let wanted = (now & !CHANGEABLE) | (self.inode & CHANGEABLE);
        if wanted == now {
            return Ok(());
        }
        ioctl_setflags(file, IFlags::from_bits_retain(wanted))
            .map_err(Error::of::<Errno>("ioctl(FS_IOC_SETFLAGS)", name))
    }
}

fn inode_flags(file: BorrowedFd<'_>, name: &Path) -> Result<Option<u32>> {
    match ioctl_getflags(file) {
        Ok(flags) => Ok(Some(flags.bits())),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        Err(errno) => Err(Error::of("ioctl(FS_IOC_GETFLAGS)", name)(errno)),
    }
}

fn extended(file: BorrowedFd<'_>, name: &Path) -> Result<Option<Extended>> {
    let mut found = Extended::default();
    // SAFETY: the descriptor is open and `found` has the layout of `struct fsxattr`, which the request fills.
    match unsafe { ioctl::get_extended(file.as_raw_fd(), &raw mut found) } {
        Ok(_) => Ok(Some(found)),
        Err(nix::Error::ENOTTY | nix::Error::EOPNOTSUPP | nix::Error::ENOSYS) => Ok(None),
        Err(errno) => Err(Error::of_nix("ioctl(FS_IOC_FSGETXATTR)", name)(errno)),
    }
}

fn set_extended(file: BorrowedFd<'_>, name: &Path, wanted: &Extended) -> Result<()> {
    // SAFETY: the descriptor is open and the request reads a `struct fsxattr`, whose layout `wanted` has.
    let set = unsafe { ioctl::set_extended(file.as_raw_fd(), std::ptr::from_ref(wanted)) };
    set.map(drop).map_err(Error::of_nix("ioctl(FS_IOC_FSSETXATTR)", name))
}

/// Does `act`, which moves something into an open directory, without the directory's rule that what is moved there has to
/// be of its project.
pub fn allow_moves_into<T>(
    directory: impl AsFd,
    name: &Path,
    act: impl FnOnce() -> std::result::Result<T, Errno>,
) -> Result<std::result::Result<T, Errno>> {
    let directory = directory.as_fd();
    let before = extended(directory, name)?.filter(|found| found.flags & INHERITS_PROJECT != 0);
    let Some(before) = before else { return Ok(act()) };
    let open = Extended { flags: before.flags & !INHERITS_PROJECT, ..before };
    set_extended(directory, name, &open)?;
    let done = act();
    set_extended(directory, name, &before)?;
    Ok(done)
}

/// Makes a read-only subvolume of btrfs writable, if `directory` is the root of one. Whoever owns it may set that.
pub fn make_writable(directory: impl AsFd, name: &Path) -> Result<()> {
    let directory = directory.as_fd();
    let mut flags = 0;
    // SAFETY: the descriptor is open and `flags` is the 64-bit integer that the request fills.
    let known = unsafe { ioctl::get_subvolume_flags(directory.as_raw_fd(), &raw mut flags) };
    if known.is_err() || flags & READ_ONLY == 0 {
        return Ok(());
    }
    let writable = flags & !READ_ONLY;
    // SAFETY: the descriptor is open and the request reads a 64-bit integer.
    let set = unsafe { ioctl::set_subvolume_flags(directory.as_raw_fd(), &raw const writable) };
    set.map(drop).map_err(Error::of_nix("ioctl(BTRFS_IOC_SUBVOL_SETFLAGS)", name))
}
