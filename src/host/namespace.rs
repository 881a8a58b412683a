//! Mount namespaces: a private one for the demonstration and for tests.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::{Errno, Error, Result};

/// Moves the calling thread, and every thread and process that it starts from now on, into a mount namespace of its own:
/// mounts made there are seen by nobody else and vanish with the last process in it.
///
/// Needs `CAP_SYS_ADMIN`. Other threads of the process stay where they are (unshare(2)).
pub fn enter_private() -> Result<()> {
    let root = Path::new("/");
    let errno = |errno: nix::Error| Errno::from_raw_os_error(errno as i32);
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)
        .map_err(errno)
        .map_err(Error::of("unshare", root))?;
    let none = None::<&Path>;
    mount(none, root, none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(errno)
        .map_err(Error::of("mount", root))
}

/// Runs `act` on a thread of its own in a private mount namespace and gives what it gives. Threads that `act` starts
/// are in that namespace too; a runtime that it builds therefore is, with all of its threads.
///
/// # Panics
/// When `act` does, or when the namespace is refused.
#[cfg(test)]
pub(crate) fn isolated<R: Send>(act: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter_private().unwrap();
            act()
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
