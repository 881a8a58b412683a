//! Wipe: after a tenancy a volume is emptied, and offered again when it is known to be.
//!
//! [`Cleaner`] watches its node's volumes and acts on what is recorded and on nothing else, so that an agent that starts
//! after a crash knows what to do next ([`queue`] decides, purely). Each wipe has a thread of its own with idle I/O
//! priority, and at most `concurrency` run at once; one that hangs keeps its thread and no place. Before
//! anything is touched the source is verified and must be unused ([`wipe`]); the ways to wipe are [`delete`],
//! [`reformat`], [`block`] and [`command`], and [`verify`] reads back.

mod block;
mod command;
mod delete;
mod ended;
mod error;
pub(crate) mod in_use;
mod lock;
pub(crate) mod outcome;
mod pace;
mod programs;
mod progress;
pub(crate) mod queue;
mod reformat;
mod verify;
mod wipe;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::ended::Ended;
use self::programs::Programs;
use self::queue::{Attempts, Clock, Line, Next};
use self::worker::Worker;
use crate::causes;
use crate::host::namespace::HostNamespace;
use crate::host::wake::{self, Changes, MountChanges};
use crate::inventory::{Event, Inventory, Recorded};
use crate::observe::metrics::Metrics;
use crate::pool::Pools;
use crate::volume::{CleanPolicy, NodeName, VolumeName};

pub use error::Error;

/// How long wipes have to stop when the process ends.
const STOP: Duration = Duration::from_secs(10);
/// How long a wipe may get nowhere, unless it is said otherwise, before it counts as one that hangs.
pub const HANGING: Duration = Duration::from_mins(1);
/// Wipes that may hang beside those that run; each keeps a thread.
const MOST_HANGING: usize = 64;
/// How long changes of the mounts are gathered.
const MOMENT: Duration = Duration::from_millis(50);

/// How a cleaner works.
#[derive(Debug, Clone)]
pub struct CleanerOptions {
    /// How many wipes run at once; at least one does.
    pub concurrency: usize,
    /// How long a wipe may get nowhere before others take its place.
    pub patience: Duration,
    /// The directory, of this agent alone, for the files that keep a wipe from running beside one that an agent before
    /// this one began. It has to outlive the agent.
    pub locks: PathBuf,
}

/// Wipes the volumes of one node.
#[derive(Debug, Clone)]
pub struct Cleaner<I> {
    inventory: I,
    node: NodeName,
    metrics: Metrics,
    options: CleanerOptions,
    host: HostNamespace,
    programs: Programs,
}

impl<I: Inventory> Cleaner<I> {
    /// A cleaner of `node`'s volumes. It does nothing before [`Cleaner::run`].
    pub fn new(inventory: I, node: NodeName, metrics: Metrics, options: CleanerOptions) -> Self {
        let (host, programs) = (HostNamespace::default(), Programs::default());
        Self { inventory, node, metrics, options, host, programs }
    }

    /// Runs the programs of these pools and no others, whatever a record names: one that others can write.
    #[must_use]
    pub fn only_programs_of(self, pools: watch::Receiver<Arc<Pools>>) -> Self {
        Self { programs: Programs(Some(pools)), ..self }
    }

    /// Takes another process's mount namespace for the host's.
    #[cfg(test)]
    fn on_host(self, host: HostNamespace) -> Self {
        Self { host, ..self }
    }

    /// Wipes what is due, until `cancel`; then the wipes under way stop at a safe point and it returns.
    pub async fn run(&self, cancel: CancellationToken) {
        let (ended, results) = mpsc::channel(self.options.concurrency.max(1));
        Queue::new(self, ended).run(results, cancel).await;
    }
}

/// What the cleaner knows of its node's volumes, and what it does with them now.
struct Queue<'a, I> {
    cleaner: &'a Cleaner<I>,
    volumes: BTreeMap<VolumeName, Recorded>,
    attempts: BTreeMap<VolumeName, Attempts>,
    running: BTreeMap<VolumeName, Worker>,
    line: Line,
    mounts: Mounts,
    ended: mpsc::Sender<Ended>,
}

impl<'a, I: Inventory> Queue<'a, I> {
    fn new(cleaner: &'a Cleaner<I>, ended: mpsc::Sender<Ended>) -> Self {
        Self {
            cleaner,
            volumes: BTreeMap::new(),
            attempts: BTreeMap::new(),
            running: BTreeMap::new(),
            line: Line::default(),
            mounts: Mounts::watch(cleaner.host),
            ended,
        }
    }

    async fn run(mut self, mut results: mpsc::Receiver<Ended>, cancel: CancellationToken) {
        let mut events = self.cleaner.inventory.watch();
        loop {
            let wake = self.act();
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.apply(event),
                    None => break,
                },
                Some(ended) = results.recv() => self.settle(ended).await,
                () = self.mounts.change() => {}
                () = tokio::time::sleep_until(wake) => {}
                () = cancel.cancelled() => break,
            }
        }
        self.stop(results).await;
    }

    /// Learns what has changed.
    fn apply(&mut self, event: Event) {
        match event {
            Event::Reset(all) => {
                self.volumes.clear();
                for recorded in all {
                    self.learn(recorded);
                }
                self.attempts.retain(|name, _| self.volumes.contains_key(name));
            }
            Event::Applied(recorded) => self.learn(*recorded),
            Event::Removed(name, _) => {
                self.volumes.remove(&name);
                self.attempts.remove(&name);
                if let Some(worker) = self.running.get(&name) {
                    worker.stop();
                }
            }
        }
    }

    fn learn(&mut self, recorded: Recorded) {
        if recorded.volume.spec.node != self.cleaner.node {
            return;
        }
        // What this cleaner has just written may be told of again later, by the watch.
        let name = recorded.volume.name.clone();
        if self.volumes.get(&name).is_none_or(|known| known.version <= recorded.version) {
            if let Some(worker) = self.running.get(&name) {
                worker.stop_unless_due(&recorded.volume);
            }
            let known = self.volumes.get(&name).map(|known| &known.volume);
            if known.is_some_and(|known| queue::is_well_again(known, &recorded.volume)) {
                self.attempts.remove(&name);
            }
            self.volumes.insert(name, recorded);
        }
    }

    /// Begins what is due, as far as there is a place for it; gives the time at which something else will be.
    fn act(&mut self) -> Instant {
        let clock = Clock { now: Instant::now(), mounts_changed: self.mounts.changed };
        let mut wake = clock.now + Duration::from_hours(1);
        let mut due: BTreeMap<VolumeName, (Recorded, CleanPolicy)> = BTreeMap::new();
        let waiting = self.volumes.iter().filter(|(name, _)| !self.running.contains_key(*name));
        for (name, recorded) in waiting {
            match queue::next(&recorded.volume, recorded.version, self.attempts.get(name), clock) {
                Next::Nothing => {}
                Next::Wipe(policy) => drop(due.insert(name.clone(), (recorded.clone(), policy))),
                Next::Wait(until) => wake = wake.min(until),
            }
        }
        let (taken, look) = self.places_taken(clock.now);
        wake = look.map_or(wake, |look| look.min(wake));
        let places = self.cleaner.options.concurrency.max(1).saturating_sub(taken);
        for name in self.line.take(due.keys().cloned().collect(), places, clock.now) {
            let Some((recorded, policy)) = due.remove(&name) else { continue };
            let worker = Worker::start(self.cleaner, recorded, policy, self.ended.clone());
            self.running.insert(name, worker);
        }
        wake
    }

    /// How many wipes keep a place, and when that has to be looked at again. One that hangs keeps none, so that a device
    /// with several volumes, or several such devices, do not stop the wipes of all others.
    fn places_taken(&mut self, now: Instant) -> (usize, Option<Instant>) {
        let patience = self.cleaner.options.patience;
        let ends: Vec<_> =
            self.running.values_mut().map(|worker| worker.hangs_from(now, patience)).collect();
        let hanging = ends.iter().filter(|end| **end <= now).count().min(MOST_HANGING);
        (self.running.len() - hanging, ends.into_iter().filter(|end| *end > now).min())
    }

    /// Takes up what a wipe ended with.
    async fn settle(&mut self, ended: Ended) {
        let name = ended.name.clone();
        self.running.remove(&name);
        let recorded = ended::record(self.cleaner, &ended).await;
        let (now, order, before) = (Instant::now(), ended.order(), self.attempts.get(&name));
        let tried = match (&recorded, &ended.result) {
            (Ok(_), Ok(_)) => None,
            (Ok(recorded), Err(Error::InUse { .. })) if ended.is_outdated(&recorded.volume) => None,
            (Ok(recorded), Err(Error::InUse { .. })) => {
                Some(Attempts::in_use(before, order, recorded.version, (ended.began, now)))
            }
            _ => Some(Attempts::failed(before, order, now)),
        };
        match tried {
            // Of one that is gone meanwhile nothing is kept.
            Some(tried) if self.volumes.contains_key(&name) => {
                self.attempts.insert(name.clone(), tried);
            }
            _ => drop(self.attempts.remove(&name)),
        }
        match recorded {
            Ok(recorded) => self.learn(recorded),
            // What is recorded says what is due.
            Err(error) => {
                let error = causes::chain(&error);
                warn!(volume = %name, node = %self.cleaner.node, error, "the inventory was not told of a wipe; it is tried again");
            }
        }
    }

    /// Stops every wipe at its next safe point and waits for that, though not for a device that hangs.
    async fn stop(mut self, mut results: mpsc::Receiver<Ended>) {
        for worker in self.running.values() {
            worker.stop();
        }
        let until = Instant::now() + STOP;
        while !self.running.is_empty() {
            match tokio::time::timeout_at(until, results.recv()).await {
                Ok(Some(ended)) => self.settle(ended).await,
                Ok(None) => break,
                Err(_) => {
                    for name in self.running.keys() {
                        warn!(volume = %name, node = %self.cleaner.node, "its wipe hangs and is left; the next start resumes it");
                    }
                    break;
                }
            }
        }
    }
}

/// The changes of the mount table, and of the host's where that is another.
struct Mounts {
    changes: Vec<AsyncFd<MountChanges>>,
    /// When there was one last.
    changed: Option<Instant>,
}

impl Mounts {
    fn watch(host: HostNamespace) -> Self {
        let opened = [MountChanges::open().map(Some), host.changes()].into_iter();
        let registered = opened.filter_map(Result::transpose).map(|changes| {
            changes.and_then(wake::register).inspect_err(
                |error| warn!(%error, "mounts are not watched: that a volume is free is seen later"),
            )
        });
        Self { changes: registered.flatten().collect(), changed: None }
    }

    /// Waits for a change; many within a moment are one.
    async fn change(&mut self) {
        if let Some(changed) = self.changed {
            tokio::time::sleep_until(changed + MOMENT).await;
        }
        let waits = self.changes.iter().map(|one| Box::pin(one.ready(MountChanges::INTEREST)));
        let waits: Vec<_> = waits.collect();
        if waits.is_empty() {
            return std::future::pending().await;
        }
        match futures_util::future::select_all(waits).await.0 {
            Ok(mut guard) => guard.clear_ready(),
            // The runtime is ending.
            Err(_) => return std::future::pending().await,
        }
        self.changed = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests;
