//! Reach what lies beneath an open directory, and never anything else.
//!
//! Names are looked up one at a time, relative to a directory that is open already, with `openat2` and
//! `RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS` (openat2(2)): a symlink, a mount or
//! `..` that another process puts in the way is an error and is not followed. Removing works on names, which the
//! kernel never follows (unlinkat(2)). Files are never opened but to take a flag off a regular one, by the very
//! descriptor by which it was seen to be one, so that no FIFO blocks and no device wakes, and never written, so that a
//! hard link to them elsewhere keeps its contents.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, SeekFrom, StatxFlags,
    fstat, openat, openat2, renameat_with, seek, statat, statx, syncfs, unlinkat,
};

use super::device::magic_link;
use super::mount::FileId;
use super::{DeviceNumber, Errno, Error, Result, attributes};

/// Where a name may lead: nowhere but to what lies right here.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    descriptor: OwnedFd,
    path: PathBuf,
    id: FileId,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name; any bytes but `/` and NUL.
    pub name: CString,
    /// Whether it is a directory, as far as the directory says.
    pub is_directory: bool,
    /// The number of its inode, as far as the directory says.
    pub inode: u64,
}

/// What stays at the root of an ext2, ext3 or ext4 file system, empty: fsck(8) wants it there.
pub const LOST_AND_FOUND: &CStr = c"lost+found";

/// A batch of entries of a directory, as many as one system call gives, and no more.
const BATCH: usize = 1 << 16;
/// The inode number of the root of a subvolume of btrfs, and with luck of something else elsewhere.
const SUBVOLUME: u64 = 256;

impl Directory {
    /// Opens the directory that `descriptor` (`O_PATH` will do) stands for; `path` is for messages.
    pub fn open(descriptor: BorrowedFd<'_>, path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor =
            openat(descriptor, c".", flags, Mode::empty())
                .map_err(Error::of::<Errno>("openat", path))?;
        Self::of(descriptor, path.to_owned())
    }

    fn of(descriptor: OwnedFd, path: PathBuf) -> Result<Self> {
        let facts = fstat(&descriptor).map_err(Error::of::<Errno>("fstat", &path))?;
        let id = FileId { device: DeviceNumber::from_raw(facts.st_dev), inode: facts.st_ino };
        Ok(Self { descriptor, path, id })
    }

    /// Opens a directory that lies right here, on the same mount, and is no symlink. One without permissions is given
    /// some first. `EXDEV` says that something is mounted there.
    pub fn enter(&self, name: &CStr) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match openat2(&self.descriptor, name, flags, Mode::empty(), BENEATH) {
            Err(Errno::ACCESS) => {
                self.permit(name)?;
                openat2(&self.descriptor, name, flags, Mode::empty(), BENEATH)
            }
            opened => opened,
        };
        let path = self.at(name);
        let entered = Self::of(opened.map_err(Error::of::<Errno>("openat2", &path))?, path)?;
        if entered.id.inode == SUBVOLUME {
            attributes::make_writable(&entered, &entered.path)?;
        }
        Ok(entered)
    }

    /// Whether it still lies right in `around`, where it was entered: somebody may have moved it out of there.
    pub fn lies_in(&self, around: &Self) -> Result<bool> {
        let found = statat(&self.descriptor, c"..", AtFlags::empty())
            .map_err(Error::of::<Errno>("fstatat", &self.path))?;
        let id = FileId { device: DeviceNumber::from_raw(found.st_dev), inode: found.st_ino };
        Ok(id == around.id)
    }

    /// Whether `beneath`, a path from here, leads to `other` now, without a symlink or a mount on the way. Where it does not,
    /// or cannot be followed, `other` may be here all the same, by another path.
    pub fn leads_to(&self, beneath: &Path, other: &Self) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat2(&self.descriptor, beneath, flags, Mode::empty(), BENEATH);
        let found = opened.ok().and_then(|open| fstat(open).ok());
        found.is_some_and(|found| {
            let device = DeviceNumber::from_raw(found.st_dev);
            other.id == FileId { device, inode: found.st_ino }
        })
    }

    /// When what is right here under a name was made; absent where the file system does not say, or nothing is here.
    pub fn born(&self, name: &CStr) -> Option<SystemTime> {
        let how = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let facts = statx(&self.descriptor, name, how, StatxFlags::BTIME).ok()?;
        let known = StatxFlags::from_bits_retain(facts.stx_mask).contains(StatxFlags::BTIME);
        let seconds = u64::try_from(facts.stx_btime.tv_sec).ok().filter(|_| known)?;
        UNIX_EPOCH.checked_add(Duration::new(seconds, facts.stx_btime.tv_nsec))
    }

    /// Which directory it is.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Gives the owner of a directory right here every permission. Only who is not root needs it.
    fn permit(&self, name: &CStr) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.at(name);
        let descriptor = openat2(&self.descriptor, name, flags, Mode::empty(), BENEATH)
            .map_err(Error::of::<Errno>("openat2", &path))?;
        // fchmod does not take O_PATH; the link in /proc leads to the very same directory.
        rustix::fs::chmod(magic_link(descriptor.as_fd()), Mode::RWXU)
            .map_err(Error::of::<Errno>("chmod", &path))
    }

    /// Begins to list what the directory holds. One list at a time: the place in it is the descriptor's.
    pub fn list(&self) -> Result<Listing<'_>> {
        let listing = Listing { directory: self, buffer: Vec::with_capacity(BATCH) };
        listing.rewind().map(|()| listing)
    }

    /// Something that the directory holds, by its path; absent where it is empty. With `lost_and_found` an empty
    /// directory [`LOST_AND_FOUND`] is nothing.
    pub fn held(&self, lost_and_found: bool) -> Result<Option<PathBuf>> {
        let mut listing = self.list()?;
        loop {
            let batch = listing.next_batch()?;
            if batch.is_empty() {
                return Ok(None);
            }
            for entry in batch {
                let is_kept = lost_and_found && entry.is_directory;
                let held = if is_kept && entry.name.as_c_str() == LOST_AND_FOUND {
                    self.enter(LOST_AND_FOUND)?.held(false)?
                } else {
                    Some(self.at(&entry.name))
                };
                if held.is_some() {
                    return Ok(held);
                }
            }
        }
    }

    fn is_directory(&self, name: &CStr) -> bool {
        statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode).is_dir())
    }

    /// Removes what is no directory; its flags are taken off if they forbid it. What is gone already is removed.
    pub fn remove_file(&self, name: &CStr) -> Result<()> {
        self.remove(name, AtFlags::empty())
    }

    /// Removes a directory, `ENOTEMPTY` while it is not empty. What is gone already is removed.
    pub fn remove_directory(&self, name: &CStr) -> Result<()> {
        self.remove(name, AtFlags::REMOVEDIR)
    }

    fn remove(&self, name: &CStr, how: AtFlags) -> Result<()> {
        let remove = || match unlinkat(&self.descriptor, name, how) {
            Err(Errno::NOENT) => Ok(()),
            result => result,
        };
        match remove() {
            // Root is not refused for permissions: the entry, or this directory, is immutable or append-only.
            Err(Errno::PERM | Errno::ACCESS) => {
                attributes::allow_changes(&self.descriptor, &self.path)?;
                self.allow_changes(name)?;
                remove()
            }
            result => result,
        }
        .map_err(Error::of::<Errno>("unlinkat", &self.at(name)))
    }

    /// Takes the flags that forbid changes off a regular file or a directory right here.
    fn allow_changes(&self, name: &CStr) -> Result<()> {
        let path = self.at(name);
        let failed = |errno: Errno| Error::of("openat2", &path)(errno);
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let seen = match openat2(&self.descriptor, name, look, Mode::empty(), BENEATH) {
            Ok(seen) => seen,
            // A symlink has no flags, and what is gone needs nothing taken off.
            Err(Errno::LOOP | Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        };
        let facts = fstat(&seen).map_err(Error::of::<Errno>("fstat", &path))?;
        let kind = FileType::from_raw_mode(facts.st_mode);
        if !kind.is_file() && !kind.is_dir() {
            return Ok(());
        }
        // By its name it may be a device by now, which to open may do anything.
        let read = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            rustix::fs::open(magic_link(seen.as_fd()), read, Mode::empty()).map_err(failed)?;
        attributes::allow_changes(file, &path).map(drop)
    }

    /// Moves a directory from right here to right beneath `other`, under a name that is free there. `EXDEV` where it is
    /// another subvolume's.
    pub fn move_to(&self, name: &CStr, other: &Self, new: &CStr) -> Result<()> {
        let moved = || {
            renameat_with(&self.descriptor, name, &other.descriptor, new, RenameFlags::NOREPLACE)
        };
        match moved() {
            Err(Errno::PERM | Errno::ACCESS) => {
                attributes::allow_changes(&self.descriptor, &self.path)?;
                attributes::allow_changes(&other.descriptor, &other.path)?;
                self.allow_changes(name)?;
                moved()
            }
            Err(Errno::XDEV) => attributes::allow_moves_into(other, &other.path, moved)?,
            result => result,
        }
        .map_err(Error::of::<Errno>("renameat2", &self.at(name)))
    }

    /// Makes everything that was changed on its file system durable (syncfs(2)).
    pub fn sync(&self) -> Result<()> {
        syncfs(&self.descriptor).map_err(Error::of::<Errno>("syncfs", &self.path))
    }

    /// Its path, for messages only.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn at(&self, name: &CStr) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.to_bytes()))
    }
}

/// A list of a directory that is read batch by batch, in the memory of one whatever the size of the directory.
///
/// What is added or removed meanwhile may or may not be in it; what is there from one [`Listing::rewind`] to the end is.
#[derive(Debug)]
pub struct Listing<'a> {
    directory: &'a Directory,
    /// Never filled as a vector: only its room is used.
    buffer: Vec<u8>,
}

impl Listing<'_> {
    /// The next entries, `.` and `..` aside; none at the end.
    pub fn next_batch(&mut self) -> Result<Vec<Entry>> {
        // The place in the list is the descriptor's; the kernel fills the buffer anew each time that it was read up.
        let directory = self.directory;
        let mut raw = RawDir::new(&directory.descriptor, self.buffer.spare_capacity_mut());
        let mut entries = Vec::new();
        while let Some(entry) = raw.next() {
            let entry = entry.map_err(Error::of::<Errno>("getdents", &directory.path))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                let is_directory = match entry.file_type() {
                    FileType::Unknown => directory.is_directory(entry.file_name()),
                    kind => kind.is_dir(),
                };
                let (name, inode) = (entry.file_name().to_owned(), entry.ino());
                entries.push(Entry { name, is_directory, inode });
            }
            if !entries.is_empty() && raw.is_buffer_empty() {
                break;
            }
        }
        Ok(entries)
    }

    /// Begins again from the start.
    pub fn rewind(&self) -> Result<()> {
        let Directory { descriptor, path, .. } = self.directory;
        seek(descriptor, SeekFrom::Start(0)).map(drop).map_err(Error::of::<Errno>("lseek", path))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests;
