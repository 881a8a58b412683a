//! When to look at the socket's directory again: when the kernel tells that it has changed, and every half minute.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::sleep;
use tracing::warn;

use crate::host;
use crate::host::wake::{Changes, DirectoryChanges, DirectoryWatches, register};

/// How long until the directory is looked at without being asked to.
const PERIOD: Duration = Duration::from_secs(30);

/// Waits for changes of one directory.
#[derive(Debug)]
pub(super) struct DirectoryWatch {
    directory: PathBuf,
    kernel: Option<(AsyncFd<DirectoryChanges>, DirectoryWatches)>,
}

impl DirectoryWatch {
    /// Watches the directory of `socket`. Needs a runtime with I/O.
    pub(super) fn open(socket: &Path) -> Self {
        let directory = socket.parent().unwrap_or(Path::new("/")).to_owned();
        let kernel = listen().inspect_err(|error| {
            warn!(%error, "changes of the kubelet's directory are not told: they are seen within half a minute");
        });
        Self { directory, kernel: kernel.ok() }
    }

    /// Waits until the directory has changed, or may have. What happened before the call is not told: it may be what
    /// the caller did there itself.
    pub(super) async fn changed(&mut self) {
        self.follow();
        if let Some((changes, _)) = &self.kernel {
            changes.get_ref().drain();
        }
        tokio::select! {
            () = self.told() => {}
            () = sleep(PERIOD) => {}
        }
    }

    /// Waits until `is_so`, which it asks at once and after each change.
    pub(super) async fn until(&mut self, is_so: impl Fn() -> bool) {
        loop {
            // The watch comes first, so that nothing happens between the question and the wait.
            self.follow();
            if is_so() {
                return;
            }
            tokio::select! {
                () = self.told() => {}
                () = sleep(PERIOD) => {}
            }
        }
    }

    /// Watches what the directory is now, or its nearest ancestor where it is not there.
    fn follow(&mut self) {
        let Some((_, watches)) = &self.kernel else { return };
        let set = watches.set(&self.directory);
        // What was watched before in its place is of no more interest.
        watches.keep([self.directory.as_path()]);
        if let Err(error) = set {
            warn!(%error, "the kubelet's directory is not watched: its changes are seen within half a minute");
            self.kernel = None;
        }
    }

    async fn told(&self) {
        let Some((changes, _)) = &self.kernel else { return pending().await };
        // The runtime is ending where this fails.
        let Ok(mut guard) = changes.ready(DirectoryChanges::INTEREST).await else {
            return pending().await;
        };
        guard.get_inner().drain();
        guard.clear_ready();
    }
}

fn listen() -> host::Result<(AsyncFd<DirectoryChanges>, DirectoryWatches)> {
    let (changes, watches) = DirectoryChanges::open()?;
    Ok((register(changes)?, watches))
}
