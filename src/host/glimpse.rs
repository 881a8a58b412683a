//! What one statx(2) says of a file: enough to tell, without opening it, that nothing about it has changed.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags};

use super::mountinfo::UNIQUE_ID;
use super::{DeviceNumber, Error, Result};

/// The coarsest clock by which a file system writes down changes is that of FAT.
const TICK: Duration = Duration::from_secs(2);

/// Equal for two looks exactly when they saw the same file through the same mount, and, as far as its file system's clock
/// tells, with the same attributes and, for a directory, the same names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glimpse {
    mount: u64,
    device: DeviceNumber,
    inode: u64,
    mode: u16,
    owner: (u32, u32),
    links: u32,
    size: u64,
    born: Time,
    modified: Time,
    changed: Time,
    attributes: u64,
}

/// Seconds since the epoch, and nanoseconds.
type Time = (i64, u32);

impl Glimpse {
    /// Of what is at `path`, following symlinks. Absent where the kernel does not tell one mount from every other that
    /// ever was.
    pub fn at(path: &Path) -> Result<Option<Self>> {
        let flags = AtFlags::NO_AUTOMOUNT;
        let stat =
            rustix::fs::statx(CWD, path, flags, wanted()).map_err(Error::of("statx", path))?;
        Ok(Self::new(&stat))
    }

    /// The same of an open file; `name` is for messages only.
    pub fn of(file: BorrowedFd<'_>, name: &Path) -> Result<Option<Self>> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statx(file.as_fd(), c"", flags, wanted())
            .map_err(Error::of("statx", name))?;
        Ok(Self::new(&stat))
    }

    fn new(stat: &Statx) -> Option<Self> {
        let told = StatxFlags::from_bits_retain(stat.stx_mask);
        let time = |time: rustix::fs::StatxTimestamp| (time.tv_sec, time.tv_nsec);
        told.contains(UNIQUE_ID).then(|| Self {
            mount: stat.stx_mnt_id,
            device: DeviceNumber { major: stat.stx_dev_major, minor: stat.stx_dev_minor },
            inode: stat.stx_ino,
            mode: stat.stx_mode,
            owner: (stat.stx_uid, stat.stx_gid),
            links: stat.stx_nlink,
            size: stat.stx_size,
            born: time(stat.stx_btime),
            modified: time(stat.stx_mtime),
            changed: time(stat.stx_ctime),
            attributes: stat.stx_attributes.bits(),
        })
    }

    /// Whether a change from now on shows in the next look: the last one was not within the same tick of the file system's
    /// clock, nor is it said to come.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let at = |(seconds, nanoseconds): Time| {
            UNIX_EPOCH.checked_add(Duration::new(u64::try_from(seconds).ok()?, nanoseconds))
        };
        [self.modified, self.changed].into_iter().all(|time| {
            at(time).and_then(|at| at.checked_add(TICK)).is_some_and(|settled| settled <= now)
        })
    }
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME | UNIQUE_ID
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::identify;
    use super::super::mount::fixture::{scratch, tmpfs, unmount};
    use super::super::namespace::isolated;
    use super::*;

    fn glimpse(path: &Path) -> Glimpse {
        Glimpse::at(path).unwrap().unwrap()
    }

    #[test]
    fn a_directory_looks_the_same_by_its_path_and_open_until_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let (path, first) = (directory.path(), glimpse(directory.path()));
        let open = identify::open(path).unwrap();

        assert_eq!(Glimpse::of(open.as_fd(), path).unwrap().unwrap(), first);
        let later = glimpse(path);
        assert_eq!(later, first);
        fs::create_dir(path.join("v1")).unwrap();
        assert_ne!(glimpse(path), first);
        let second = glimpse(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap();
        assert_ne!(glimpse(path), second);
    }

    #[test]
    fn of_two_mounts_one_after_the_other_each_looks_like_itself_alone() {
        isolated(|| {
            let (_guard, base) = scratch();
            let path = base.join("v1");
            tmpfs(&path);
            let first = glimpse(&path);

            unmount(&path);
            tmpfs(&path);

            assert_ne!(glimpse(&path).mount, first.mount);
        });
    }

    #[test]
    fn what_has_just_changed_may_change_again_unseen() {
        let directory = tempfile::tempdir().unwrap();
        let glimpse = glimpse(directory.path());
        let now = SystemTime::now();

        assert!(!glimpse.is_settled(now));
        assert!(!glimpse.is_settled(now - Duration::from_hours(1)), "a clock that was set back");
        assert!(glimpse.is_settled(now + TICK));
    }
}
