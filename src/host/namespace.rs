//! Mount namespaces: the host's, and a private one for the demonstration and for tests.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::mountinfo::MountTable;
use super::wake::MountChanges;
use super::{Errno, Error, Result};

/// The mount namespace in which the administrator of the host works: that of the first process that `/proc` shows. A
/// container that has the host's process namespace and a mount namespace of its own sees it so, and only so.
#[derive(Debug, Clone, Copy)]
pub struct HostNamespace {
    process: u32,
}

impl Default for HostNamespace {
    fn default() -> Self {
        Self { process: 1 }
    }
}

impl HostNamespace {
    /// Its mount table; absent where it is the calling thread's own, or is not to be told.
    pub fn table(self) -> Result<Option<MountTable>> {
        self.look_at(|path| MountTable::read_from(&path.join("mountinfo")))
    }

    /// The changes of its mount table; absent as in [`HostNamespace::table`].
    pub fn changes(self) -> Result<Option<MountChanges>> {
        self.look_at(|path| MountChanges::open_at(&path.join("mountinfo")))
    }

    fn look_at<T>(self, look: impl FnOnce(&Path) -> Result<T>) -> Result<Option<T>> {
        let path = PathBuf::from(format!("/proc/{}", self.process));
        let link = |process: &Path| std::fs::read_link(process.join("ns/mnt")).ok();
        let (own, host) = (link(Path::new("/proc/thread-self")), link(&path));
        if host.is_none() || host == own { Ok(None) } else { look(&path).map(Some) }
    }
}

/// Moves the calling thread, and every thread and process that it starts from now on, into a mount namespace of its own:
/// mounts made there are seen by nobody else and vanish with the last process in it.
///
/// Needs `CAP_SYS_ADMIN`. Other threads of the process stay where they are (unshare(2)).
pub fn enter_private() -> Result<()> {
    let root = Path::new("/");
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)
        .map_err(Error::of_nix("unshare", root))?;
    let none = None::<&Path>;
    mount(none, root, none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(Error::of_nix("mount", root))
}

/// As [`enter_private`], for who may not mount too: in a user namespace of its own, in which it is root and may.
///
/// The process must have one thread (unshare(2), `CLONE_NEWUSER`). `EPERM` where the kernel or its policy forbids user
/// namespaces. Says whether a user namespace was needed.
pub fn enter_private_unprivileged() -> Result<bool> {
    // Who one is says nothing: root of a container usually lacks CAP_SYS_ADMIN.
    match enter_private() {
        Err(error) if error.errno == Errno::PERM => {}
        entered => return entered.map(|()| false),
    }
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(Error::of_nix("unshare(user)", Path::new("/")))?;
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ];
    for (path, text) in maps {
        std::fs::write(path, text).map_err(Error::of_io("write", Path::new(path)))?;
    }
    enter_private().map(|()| true)
}

/// Mounts an empty tmpfs of `size` bytes at the directory `path`: a disk for the demonstration.
pub fn mount_tmpfs(path: &Path, size: u64) -> Result<()> {
    let options = format!("size={size},mode=755");
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
        .map_err(Error::of_nix("mount(tmpfs)", path))
}

/// Makes the directory `source` appear at the directory `path` too (a bind mount).
pub fn bind(source: &Path, path: &Path) -> Result<()> {
    let none = None::<&Path>;
    mount(Some(source), path, none, MsFlags::MS_BIND, none)
        .map_err(Error::of_nix("mount(bind)", path))
}

/// Takes away what is mounted at `path` and everything mounted beneath it, though somebody may still use it: what is in
/// use goes with its last user.
pub fn detach(path: &Path) -> Result<()> {
    umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
        .map_err(Error::of_nix("umount2", path))
}

/// Runs `act` on a thread of its own in a private mount namespace and gives what it gives. Threads that `act` starts
/// are in that namespace too; a runtime that it builds therefore is, with all of its threads.
///
/// # Panics
/// When `act` does, when the namespace is refused, or when `act` leaves a mount in a temporary directory: that directory
/// could not be removed.
#[cfg(test)]
pub(crate) fn isolated<R: Send>(act: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter_private().unwrap();
            let before = temporary_mounts();
            let result = act();
            assert_eq!(temporary_mounts(), before);
            result
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
fn temporary_mounts() -> Vec<std::path::PathBuf> {
    let table = super::mountinfo::MountTable::read().unwrap();
    let points = table.iter().map(|mount| mount.mount_point.clone());
    points.filter(|point| point.starts_with(std::env::temp_dir())).collect()
}
