//! When to look again: what the kernel tells, gathered over a moment so that many changes make one scan.
//!
//! A source of events that cannot be had is said once, and the slow rescan makes up for it.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;
use tracing::warn;

use super::found::{Found, Sight};
use crate::health::{About, Attempts};
use crate::host::wake::{
    Announcement, Changes, DeviceChanges, DirectoryChanges, DirectoryWatches, MountChanges,
    register,
};
use crate::host::{self, DeviceNumber};
use crate::pool::Pools;

/// How long changes are gathered after the first: mount(8) is done within it once a directory was made.
const MOMENT: Duration = Duration::from_millis(5);
/// Events taken at most before a scan, so that a stream of them does not put it off for ever.
const MOST_GATHERED: usize = 256;

/// Which news of devices may be about a volume. Hosts attach and detach the files of loop devices all the time, and disks
/// that are written to are said to have changed.
#[derive(Debug, Default)]
pub(super) struct Concerns {
    /// The devices that sources are, or lie on.
    devices: HashSet<DeviceNumber>,
    /// Whether nothing else can be one; not before everything was seen once.
    is_complete: bool,
}

impl Concerns {
    /// What concerns whoever found this. Where something is missing, or was not to be seen, any device may be it.
    pub(super) fn of(found: &Found) -> Self {
        let candidates = found.candidates.iter().map(|candidate| &candidate.sight);
        let sights = || candidates.clone().chain(found.elsewhere.values());
        let devices = sights().filter_map(|sight| match sight {
            Sight::Source(seen) => Some(seen.facts.device),
            _ => None,
        });
        let is_seen = |sight: &Sight| matches!(sight, Sight::Source(_) | Sight::Unsuitable);
        let is_complete = found.unreadable.is_empty() && sights().all(is_seen);
        Self { devices: devices.collect(), is_complete }
    }

    /// Whether `news` may be about a volume. A disk that comes or goes always may: a symlink may lead to it now.
    fn include(&self, news: Announcement) -> bool {
        let is_theirs = news.number.is_none_or(|number| self.devices.contains(&number));
        is_theirs || !self.is_complete || !(news.is_loop || news.is_change)
    }
}

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
    pub(super) async fn changed(&mut self, concerns: &Concerns) {
        self.event(concerns).await;
        sleep(MOMENT).await;
        for _ in 0..MOST_GATHERED {
            if self.event(concerns).now_or_never().is_none() {
                return;
            }
        }
    }

    async fn event(&mut self, concerns: &Concerns) {
        let drain = |devices: &DeviceChanges| devices.drain(|news| concerns.include(news));
        loop {
            let concerns = tokio::select! {
                () = ready(self.mounts.as_ref(), |_| ()) => true,
                () = ready(self.directories.as_ref(), DirectoryChanges::drain) => true,
                concerns = ready(self.devices.as_ref(), drain) => concerns,
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

#[cfg(test)]
mod tests {
    use super::super::found::Candidate;
    use super::super::reconcile::tests::world::device;
    use super::*;

    /// Of a host with the disk `8:1`, and with what else is at another entry.
    fn concerns(other: Sight) -> Concerns {
        let sights = [Sight::Source(Box::new(device(1))), other];
        let candidates = sights.into_iter().enumerate().map(|(number, sight)| Candidate {
            pool: "fast".parse().unwrap(),
            entry: number.to_string(),
            path: format!("/mnt/fast/{number}"),
            sight,
        });
        Concerns::of(&Found { candidates: candidates.collect(), ..Found::default() })
    }

    fn news(number: Option<(u32, u32)>, is_change: bool, is_loop: bool) -> Announcement {
        let number = number.map(|(major, minor)| DeviceNumber { major, minor });
        Announcement { number, is_change, is_loop }
    }

    #[test]
    fn what_happens_to_the_devices_of_volumes_and_whatever_may_become_one_concerns() {
        let concerns = concerns(Sight::Unsuitable);

        assert!(concerns.include(news(Some((8, 1)), true, false)));
        assert!(concerns.include(news(None, true, true)));
        // A symlink may lead to it from now on, or no longer.
        assert!(concerns.include(news(Some((8, 2)), false, false)));
    }

    #[test]
    fn files_that_others_attach_and_disks_that_they_write_to_do_not_concern() {
        let concerns = concerns(Sight::Unsuitable);

        assert!(!concerns.include(news(Some((7, 1)), false, true)));
        assert!(!concerns.include(news(Some((7, 1)), true, true)));
        assert!(!concerns.include(news(Some((8, 2)), true, false)));
    }

    #[test]
    fn while_something_is_missing_or_nothing_was_seen_yet_any_device_concerns() {
        let failed = Sight::Failed {
            reason: crate::volume::HealthReason::ReadError,
            message: String::new(),
        };
        let unreadable = Found {
            unreadable: [("fast".parse().unwrap(), "EIO".to_owned())].into(),
            ..Found::default()
        };
        let all = [Sight::Nothing, Sight::Untried, failed].map(concerns).into_iter();

        for concerns in all.chain([Concerns::of(&unreadable), Concerns::default()]) {
            assert!(concerns.include(news(Some((7, 1)), true, true)));
        }
    }
}
