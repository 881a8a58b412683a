//! When to look again: what the kernel tells, gathered over a moment so that many changes make one scan.
//!
//! A source of events that cannot be had is said once, and the slow rescan makes up for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;
use tracing::warn;

use crate::health::{About, Attempts};
use crate::host;
use crate::host::wake::{
    Changes, DeviceChanges, DirectoryChanges, DirectoryWatches, MountChanges, register,
};
use crate::pool::Pools;

/// How long changes are gathered after the first.
const MOMENT: Duration = Duration::from_millis(20);
/// Events taken at most before a scan, so that a stream of them does not put it off for ever.
const MOST_GATHERED: usize = 256;

/// Waits for the host to change.
#[derive(Debug)]
pub(super) struct Wake {
    mounts: Option<AsyncFd<MountChanges>>,
    directories: Option<AsyncFd<DirectoryChanges>>,
    watches: Option<Arc<DirectoryWatches>>,
    devices: Option<AsyncFd<DeviceChanges>>,
    /// What was wrong with the watches when they were set last, so that it is said once.
    trouble: Option<String>,
}

impl Wake {
    /// Begins to listen. Needs a runtime with I/O.
    pub(super) fn open() -> Self {
        let (changes, watches) = match DirectoryChanges::open() {
            Ok((changes, watches)) => (Ok(changes), Some(Arc::new(watches))),
            Err(error) => (Err(error), None),
        };
        Self {
            mounts: listen("mounts", MountChanges::open()),
            directories: listen("directories", changes),
            watches,
            devices: listen("devices", DeviceChanges::open()),
            trouble: None,
        }
    }

    /// Watches the directories of `pools` and no others.
    pub(super) async fn watch(&mut self, attempts: &Attempts, pools: &Pools) {
        let Some(watches) = &self.watches else { return };
        let set = pools.values().map(|pool| async {
            let (watches, path) = (Arc::clone(watches), pool.path.clone());
            // A path of its own among what hangs: the directory is listed as well. There are as many as pools.
            let about = About::path(Path::new("inotify").join(pool.name.as_str())).vital();
            match attempts.run(about, move || watches.set(&path)).await {
                Ok(outcome) => outcome.err().map(|error| error.to_string()),
                Err(overdue) => Some(format!("{}: {overdue}", pool.path.display())),
            }
        });
        let troubles: Vec<_> = join_all(set).await.into_iter().flatten().collect();
        watches.keep(pools.values().map(|pool| pool.path.as_path()));
        let trouble = (!troubles.is_empty()).then(|| troubles.join(", "));
        if let Some(error) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            warn!(
                error,
                "a pool's directory is not watched: its changes are seen by the next rescan"
            );
        }
        self.trouble = trouble;
    }

    /// Waits for a change, and for the moment after it.
    pub(super) async fn changed(&mut self) {
        self.event().await;
        sleep(MOMENT).await;
        for _ in 0..MOST_GATHERED {
            if self.event().now_or_never().is_none() {
                return;
            }
        }
    }

    async fn event(&mut self) {
        loop {
            let concerns = tokio::select! {
                () = ready(self.mounts.as_ref(), |_| ()) => true,
                () = ready(self.directories.as_ref(), DirectoryChanges::drain) => true,
                about_blocks = ready(self.devices.as_ref(), DeviceChanges::drain) => about_blocks,
            };
            if concerns {
                return;
            }
        }
    }
}

fn listen<T: Changes>(what: &'static str, source: host::Result<T>) -> Option<AsyncFd<T>> {
    source
        .and_then(register)
        .inspect_err(|error| {
            warn!(%error, "changes of {what} are not told here: they are seen by the next rescan");
        })
        .ok()
}

/// Waits until `source` has something to tell, and takes it.
async fn ready<T: Changes, R>(source: Option<&AsyncFd<T>>, drain: impl FnOnce(&T) -> R) -> R {
    let Some(source) = source else { return std::future::pending().await };
    match source.ready(T::INTEREST).await {
        Ok(mut guard) => {
            let drained = drain(guard.get_inner());
            guard.clear_ready();
            drained
        }
        // The runtime is ending.
        Err(_) => std::future::pending().await,
    }
}
