//! What tells that the mounts, the directories or the devices of a host have changed: descriptors to wait on.
//!
//! None of them says what has changed in a way that could be trusted (queues overflow, names are reused); they say that
//! it is time to look again.

mod devices;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Errno, Error, Result};
pub use devices::{Announcement, DeviceChanges};

/// A source of events that a runtime can wait for. Only what is defined in this module can be one.
pub trait Changes: owner::Owner {
    /// What it is ready for when something has changed.
    const INTEREST: Interest;
}

mod owner {
    /// Who owns one open descriptor, and gives that one and no other for as long as it lives.
    pub trait Owner: std::os::fd::AsRawFd {}
}

/// Registers `source` with the runtime that this is called in.
pub fn register<T: Changes>(source: T) -> Result<AsyncFd<T>> {
    // SAFETY: only types of this module are an `Owner`. Each keeps its descriptor in a private field of a type that closes
    // it when it is dropped, and nothing here replaces it.
    let registered = unsafe { AsyncFd::register_with_interest(source, T::INTEREST) };
    registered
        .map_err(|error| Errno::from_io_error(&error.into()).unwrap_or(Errno::IO))
        .map_err(Error::of("epoll_ctl", Path::new("/")))
}

/// The mount table of a namespace, ready with priority (`POLLPRI`) whenever it has changed
/// (proc_pid_mountinfo(5)). There is nothing to read from it then.
#[derive(Debug)]
pub struct MountChanges(File);

impl MountChanges {
    /// Begins to wait for changes in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        Self::open_at(Path::new("/proc/thread-self/mountinfo"))
    }

    /// Begins to wait for changes of the table at `path`: `/proc/PID/mountinfo`.
    pub(super) fn open_at(path: &Path) -> Result<Self> {
        let file = File::open(path)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .map_err(Error::of("open", path))?;
        Ok(Self(file))
    }
}

impl AsRawFd for MountChanges {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl owner::Owner for MountChanges {}

impl Changes for MountChanges {
    const INTEREST: Interest = Interest::PRIORITY;
}

/// Changes of the directories that [`DirectoryWatches`] watches, readable when there are some (inotify(7)).
#[derive(Debug)]
pub struct DirectoryChanges(OwnedFd);

impl DirectoryChanges {
    /// Begins with no directory.
    pub fn open() -> Result<(Self, DirectoryWatches)> {
        let name = Path::new("inotify");
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        let queue = inotify::init(flags).map_err(Error::of("inotify_init", name))?;
        let own = rustix::io::fcntl_dupfd_cloexec(&queue, 0).map_err(Error::of("fcntl", name))?;
        Ok((Self(own), DirectoryWatches { queue, watching: Mutex::default() }))
    }

    /// Empties the queue, so that it becomes readable again with the next change.
    pub fn drain(&self) {
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.0, &mut buffer).is_ok_and(|read| read > 0) {}
    }
}

/// Which directories are watched for entries that come and go. Setting a watch looks a path up, which may block; nothing
/// is locked meanwhile, so that others can be set.
#[derive(Debug)]
pub struct DirectoryWatches {
    queue: OwnedFd,
    watching: Mutex<Watching>,
}

/// Watches by the kernel's numbers of them.
#[derive(Debug, Default)]
struct Watching {
    /// By the directory that each was set for.
    directories: BTreeMap<PathBuf, i32>,
    /// Those in whose place another was set.
    replaced: Vec<i32>,
}

impl DirectoryWatches {
    /// Watches a directory. In place of one that is not there its nearest ancestor is watched, so that its coming is
    /// told. Setting a watch again follows a directory that was replaced, or mounted over.
    pub fn set(&self, directory: &Path) -> Result<()> {
        let watch = self.watch_one(directory)?;
        let mut watching = self.lock();
        let before = watching.directories.insert(directory.to_owned(), watch);
        watching.replaced.extend(before);
        Ok(())
    }

    /// Watches no other directories than these from now on, once their watches are set. One of these of which the watch
    /// could not be set anew keeps the one that it has.
    pub fn keep<'a>(&self, directories: impl IntoIterator<Item = &'a Path>) {
        let kept: BTreeSet<_> = directories.into_iter().collect();
        let mut watching = self.lock();
        let Watching { directories, replaced } = &mut *watching;
        directories.retain(|directory, watch| {
            let keep = kept.contains(directory.as_path());
            if !keep {
                replaced.push(*watch);
            }
            keep
        });
        for watch in replaced.drain(..) {
            // The kernel has one watch a directory, which may be the nearest ancestor of several of ours.
            if !directories.values().any(|kept| *kept == watch) {
                // The kernel has dropped it already if the directory is gone.
                let _ = inotify::remove_watch(&self.queue, watch);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watching> {
        // What is behind the lock is whole after every statement.
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch_one(&self, directory: &Path) -> Result<i32> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut error = None;
        for path in directory.ancestors() {
            match inotify::add_watch(&self.queue, path, flags) {
                Ok(watch) => return Ok(watch),
                Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => error = Some(errno),
                Err(errno) => return Err(Error::of("inotify_add_watch", path)(errno)),
            }
        }
        Err(Error::of("inotify_add_watch", directory)(error.unwrap_or(Errno::NOENT)))
    }
}

impl AsRawFd for DirectoryChanges {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl owner::Owner for DirectoryChanges {}

impl Changes for DirectoryChanges {
    const INTEREST: Interest = Interest::READABLE;
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::BorrowedFd;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::super::mount::fixture::{scratch, tmpfs};
    use super::super::namespace::isolated;
    use super::*;

    /// Waits until `source` is ready; fails after a minute.
    pub(super) fn wait(source: &impl AsRawFd, flags: PollFlags) {
        // SAFETY: the descriptor belongs to `source`, which outlives the borrow.
        let descriptor = unsafe { BorrowedFd::borrow_raw(source.as_raw_fd()) };
        let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&descriptor, flags)], Some(&patience)).unwrap();
        assert_eq!(ready, 1, "waited in vain");
    }

    #[test]
    fn a_mount_is_told() {
        isolated(|| {
            let (_base, base) = scratch();
            let changes = MountChanges::open().unwrap();

            tmpfs(&base.join("v1"));

            wait(&changes, PollFlags::PRI);
        });
    }

    #[test]
    fn an_entry_that_comes_and_a_directory_that_is_not_there_yet_are_told() {
        let base = tempfile::tempdir().unwrap();
        let pool = base.path().join("pools/fast");
        let (changes, watches) = DirectoryChanges::open().unwrap();

        for path in [base.path().join("pools"), pool.clone(), pool.join("v1")] {
            watches.set(&pool).unwrap();
            fs::create_dir(path).unwrap();
            wait(&changes, PollFlags::IN);
            changes.drain();
        }
    }

    #[test]
    fn a_directory_that_is_no_longer_watched_is_silent() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (changes, watches) = DirectoryChanges::open().unwrap();
        watches.set(old.path()).unwrap();
        watches.set(new.path()).unwrap();
        watches.keep([new.path()]);
        changes.drain();

        fs::write(old.path().join("v1"), "").unwrap();

        let mut buffer = [0; 64];
        assert_eq!(rustix::io::read(&changes.0, &mut buffer), Err(Errno::AGAIN));
    }

    #[test]
    fn a_queue_that_overflows_tells_and_goes_on_telling() {
        let directory = tempfile::tempdir().unwrap();
        let (changes, watches) = DirectoryChanges::open().unwrap();
        watches.set(directory.path()).unwrap();
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        // Two events each; equal ones that follow each other would be one.
        for number in 0..most.trim().parse::<usize>().unwrap() / 2 + 100 {
            let file = directory.path().join(number.to_string());
            fs::write(&file, "").unwrap();
            fs::remove_file(&file).unwrap();
        }
        wait(&changes, PollFlags::IN);
        changes.drain();

        fs::write(directory.path().join("after"), "").unwrap();

        wait(&changes, PollFlags::IN);
    }
}
