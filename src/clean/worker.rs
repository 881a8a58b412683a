//! One wipe on a thread of its own, and what is recorded of it: that it began, how far it is, how it ended.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use super::ended::Ended;
use super::lock::Lock;
use super::outcome;
use super::programs::Programs;
use super::progress::Progress;
use super::queue::{self, Order};
use super::wipe::{self, Done, Notes, Run};
use super::{Cleaner, Error};
use crate::causes;
use crate::host::namespace::HostNamespace;
use crate::host::priority;
use crate::inventory::{Inventory, Recorded};
use crate::volume::{
    Bytes, CleanMethod, CleanPolicy, Cleaning, Fingerprint, LocalVolume, Remount, VolumeName,
};

/// How often the progress of a wipe is recorded.
const REPORT: Duration = Duration::from_secs(3);
/// How many reports in a row may have nothing new to say before that is said: five minutes.
const IDLE_REPORTS: u64 = 100;

/// What is said then.
const HANGS: &str = "; it has made no progress for minutes: check the device, and who answers for what is opened there";

/// A wipe that runs.
#[derive(Debug)]
pub(super) struct Worker {
    progress: Arc<Progress>,
    order: Order,
    /// How far it was when it was looked at last, and since when it has been no further.
    seen: ((u64, u64), Instant),
}

impl Worker {
    /// Starts the wipe of a volume; how it ended is sent to `ended`.
    pub(super) fn start<I: Inventory>(
        cleaner: &Cleaner<I>,
        recorded: Recorded,
        policy: CleanPolicy,
        ended: mpsc::Sender<Ended>,
    ) -> Self {
        let progress = Arc::new(Progress::default());
        let spec = &recorded.volume.spec;
        let order = (spec.tenancy, policy.clone(), spec.clean_asked);
        let job = Job {
            inventory: cleaner.inventory.clone(),
            volume: Arc::unwrap_or_clone(recorded.volume),
            policy,
            locks: cleaner.options.locks.clone(),
            host: cleaner.host,
            started: Timestamp::now(),
            programs: cleaner.programs.clone(),
            progress: Arc::clone(&progress),
        };
        tokio::spawn(async move {
            // Whoever waited for it is gone only when the process ends.
            let _ = ended.send(job.run().await).await;
        });
        Self { progress, order, seen: ((0, 0), Instant::now()) }
    }

    /// When it will have got nowhere for `patience`, as far as is known at `now`.
    pub(super) fn hangs_from(&mut self, now: Instant, patience: Duration) -> Instant {
        let so_far = self.progress.so_far();
        if so_far != self.seen.0 {
            self.seen = (so_far, now);
        }
        self.seen.1 + queue::quiet(&self.order.1) + patience
    }

    /// Stops the wipe if it is not what is due of the volume, as that is recorded by now.
    pub(super) fn stop_unless_due(&self, volume: &LocalVolume) {
        let (tenancy, policy, _) = &self.order;
        if !volume.is_due(*tenancy, policy) {
            self.stop();
        }
    }

    /// Tells the wipe to stop at its next safe point.
    pub(super) fn stop(&self) {
        self.progress.stop();
    }
}

struct Job<I> {
    inventory: I,
    volume: LocalVolume,
    policy: CleanPolicy,
    locks: PathBuf,
    host: HostNamespace,
    started: Timestamp,
    programs: Programs,
    progress: Arc<Progress>,
}

impl<I: Inventory> Job<I> {
    async fn run(mut self) -> Ended {
        let began = Instant::now();
        let result = self.begin_and_wipe().await;
        Ended {
            name: self.volume.name.clone(),
            result,
            tenancy: self.volume.spec.tenancy,
            policy: self.policy,
            asked: self.volume.spec.clean_asked,
            published: self.volume.status.published,
            began,
            started: self.started,
            took: began.elapsed(),
            counted: self.progress.so_far(),
        }
    }

    async fn begin_and_wipe(&mut self) -> Result<Done, Error> {
        let volume = self.volume.clone();
        let policy = self.programs.carried_out(&volume, &self.policy)?;
        let (locks, host) = (self.locks.clone(), self.host);
        let lock = on_thread(move || {
            let lock = Lock::take(&locks, &volume.name)?;
            wipe::require_ready(&volume, host).map(|()| lock)
        });
        let lock = lock.await?;
        self.begin().await?;
        let volume = &self.volume;
        info!(
            volume = %volume.name,
            node = %volume.spec.node,
            pool = %volume.spec.pool,
            tenancy = volume.spec.tenancy.0,
            method = self.policy.method.name(),
            "wiping"
        );
        let thread = self.thread(lock, policy);
        tokio::pin!(thread);
        loop {
            tokio::select! {
                result = &mut thread => return result,
                () = tokio::time::sleep(REPORT) => self.report().await,
            }
        }
    }

    /// Records that the wipe has begun, keeping what an earlier try noted about itself.
    async fn begin(&mut self) -> Result<(), Error> {
        let now = self.started;
        let tenancy = self.volume.spec.tenancy;
        let policy = self.policy.clone();
        let begun = self.inventory.modify_status(&self.volume.name, |volume| {
            outcome::begun(volume, tenancy, &policy, now)
        });
        self.volume = Arc::unwrap_or_clone(begun.await?.volume);
        // Somebody decided otherwise meanwhile; what is recorded now says what to do.
        let due = self.volume.is_due(tenancy, &self.policy);
        if due { Ok(()) } else { Err(Error::Interrupted) }
    }

    /// The wipe itself, off the async threads; a hung device keeps this thread and nothing else.
    fn thread(
        &self,
        mut lock: Lock,
        policy: CleanPolicy,
    ) -> impl Future<Output = Result<Done, Error>> + use<I> {
        let (volume, host) = (self.volume.clone(), self.host);
        let progress = Arc::clone(&self.progress);
        let notes = Recorder {
            inventory: self.inventory.clone(),
            name: volume.name.clone(),
            runtime: Handle::current(),
        };
        on_thread(move || {
            priority::become_idle();
            let mut run = Run { host, progress: &progress, lock: &mut lock };
            wipe::wipe(&volume, &policy, &mut run, &notes)
        })
    }

    async fn report(&self) {
        let (entries, bytes) = self.progress.so_far();
        // A program says nothing of how far it is.
        let counts =
            !matches!(self.policy.method, CleanMethod::Command { .. } | CleanMethod::Reformat);
        let hangs = self.progress.idle_looks() >= IDLE_REPORTS && counts;
        let told = self.inventory.modify_status(&self.volume.name, |volume| {
            let mut cleaning = Cleaning::clone(volume.status.cleaning.as_ref()?);
            (cleaning.entries, cleaning.bytes) = (entries, Bytes(bytes));
            let mut status = volume.cleaning(cleaning, &self.policy, Timestamp::now())?;
            if hangs {
                let said = &mut status.conditions.clean.message;
                *said = format!("{said}{HANGS}").into();
            }
            (status != volume.status).then_some(status)
        });
        if let Err(error) = told.await {
            let error = causes::chain(&error);
            warn!(volume = %self.volume.name, error, "the progress of a wipe was not recorded");
        }
    }
}

/// Runs `work` on a thread of its own, which a device that hangs keeps, and nothing else.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = ended.send(work());
    });
    // A thread that panicked has not ended its work.
    end.await.unwrap_or(Err(Error::Interrupted))
}

/// Records from the thread of a wipe what has to be recorded before it goes on.
struct Recorder<I> {
    inventory: I,
    name: VolumeName,
    runtime: Handle,
}

impl<I: Inventory> Notes for Recorder<I> {
    fn remount(&self, remount: &Remount) -> Result<(), Error> {
        let noted = self.inventory.modify_status(&self.name, |volume| {
            let mut status = volume.status.clone();
            status.cleaning.as_mut()?.remount = Some(remount.clone());
            Some(status)
        });
        let recorded = self.runtime.block_on(noted)?;
        let cleaning = recorded.volume.status.cleaning.as_ref();
        // A wipe that is no longer due must not go on.
        let kept = cleaning.is_some_and(|cleaning| cleaning.remount.is_some());
        if kept { Ok(()) } else { Err(Error::Interrupted) }
    }

    fn put_back(&self, fingerprint: &Fingerprint) -> Result<LocalVolume, Error> {
        let noted = self.inventory.modify_status(&self.name, |volume| {
            let mut status = volume.status.clone();
            status.fingerprint = fingerprint.clone();
            if let Some(cleaning) = &mut status.cleaning {
                cleaning.remount = None;
            }
            Some(status)
        });
        Ok(Arc::unwrap_or_clone(self.runtime.block_on(noted)?.volume))
    }
}

#[cfg(test)]
mod tests;
