//! One wipe on a thread of its own, and what is recorded of it: that it began, how far it is, how it ended.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::lock::Lock;
use super::progress::Progress;
use super::queue::{self, Order};
use super::wipe::{self, Notes, Run};
use super::{Cleaner, Error};
use crate::host::namespace::HostNamespace;
use crate::host::priority;
use crate::inventory::{self, Inventory, Recorded};
use crate::observe::metrics::WipeOutcome;
use crate::volume::{
    Bytes, CleanMethod, CleanPolicy, CleanReason, Cleaning, Fingerprint, LocalVolume, Published,
    Remount, Status, Tenancy, VolumeName,
};

/// How often the progress of a wipe is recorded.
const REPORT: Duration = Duration::from_secs(3);

/// A wipe that runs.
#[derive(Debug)]
pub(super) struct Worker {
    progress: Arc<Progress>,
    order: Order,
    /// How far it was when it was looked at last, and since when it has been no further.
    seen: ((u64, u64), Instant),
}

/// A wipe that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) name: VolumeName,
    pub(super) result: Result<Option<Fingerprint>, Error>,
    tenancy: Tenancy,
    policy: CleanPolicy,
    asked: Option<Timestamp>,
    /// Where the volume was recorded to be for its tenant when it was looked at last.
    published: Vec<Published>,
    pub(super) began: Instant,
    counted: (u64, u64),
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
            volume: recorded.volume,
            policy,
            locks: cleaner.options.locks.clone(),
            host: cleaner.host,
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

impl Ended {
    /// What it was to carry out.
    pub(super) fn order(&self) -> Order {
        (self.tenancy, self.policy.clone(), self.asked)
    }

    /// Whether the volume was taken away from somewhere while it was looked at: what was found of its use is old then.
    pub(super) fn is_outdated(&self, now: &LocalVolume) -> bool {
        now.status.published != self.published
    }
}

struct Job<I> {
    inventory: I,
    volume: LocalVolume,
    policy: CleanPolicy,
    locks: PathBuf,
    host: HostNamespace,
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
            counted: self.progress.so_far(),
        }
    }

    async fn begin_and_wipe(&mut self) -> Result<Option<Fingerprint>, Error> {
        let volume = self.volume.clone();
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
        let thread = self.thread(lock);
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
        let now = Timestamp::now();
        let tenancy = self.volume.spec.tenancy;
        let policy = self.policy.clone();
        let begun = self.inventory.modify_status(&self.volume.name, |volume| {
            let earlier = volume.status.cleaning.clone().filter(|c| c.tenancy == tenancy);
            let fresh = Cleaning {
                tenancy,
                method: policy.method.clone(),
                started: now,
                entries: 0,
                bytes: Bytes(0),
                remount: None,
            };
            let remount = earlier.and_then(|earlier| earlier.remount);
            volume.cleaning(Cleaning { remount, ..fresh }, &policy, now)
        });
        self.volume = begun.await?.volume;
        // Somebody decided otherwise meanwhile; what is recorded now says what to do.
        let due = self.volume.is_due(tenancy, &self.policy);
        if due { Ok(()) } else { Err(Error::Interrupted) }
    }

    /// The wipe itself, off the async threads; a hung device keeps this thread and nothing else.
    fn thread(
        &self,
        mut lock: Lock,
    ) -> impl Future<Output = Result<Option<Fingerprint>, Error>> + use<I> {
        let (volume, policy, host) = (self.volume.clone(), self.policy.clone(), self.host);
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
        let told = self.inventory.modify_status(&self.volume.name, |volume| {
            let mut status = volume.status.clone();
            let cleaning = status.cleaning.as_mut()?;
            (cleaning.entries, cleaning.bytes) = (entries, Bytes(bytes));
            (status != volume.status).then_some(status)
        });
        if let Err(error) = told.await {
            warn!(volume = %self.volume.name, %error, "the progress of a wipe was not recorded");
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
        let cleaning = recorded.volume.status.cleaning;
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
        Ok(self.runtime.block_on(noted)?.volume)
    }
}

/// Records and logs how a wipe ended.
pub(super) async fn record<I: Inventory>(
    cleaner: &Cleaner<I>,
    ended: &Ended,
) -> Result<Recorded, inventory::Error> {
    let now = Timestamp::now();
    let recorded =
        cleaner.inventory.modify_status(&ended.name, |volume| status(volume, ended, now)).await?;
    let outcome = match &ended.result {
        Ok(_) => WipeOutcome::Done,
        Err(Error::Interrupted) => WipeOutcome::Interrupted,
        Err(_) => WipeOutcome::Failed,
    };
    let (method, took) = (ended.policy.method.name(), ended.began.elapsed());
    // Waiting for a mount to go is no wipe.
    if !matches!(&ended.result, Err(Error::InUse { .. })) {
        cleaner.metrics.wiped(&recorded.volume.spec.pool, method, outcome, took);
    }
    log(&recorded.volume, ended, took);
    Ok(recorded)
}

fn status(volume: &LocalVolume, ended: &Ended, now: Timestamp) -> Option<Status> {
    match &ended.result {
        Ok(fingerprint) => {
            let reason = match ended.policy.method {
                CleanMethod::None => CleanReason::LeftAsIs,
                _ => CleanReason::Wiped,
            };
            let mut status = volume.cleaned(ended.tenancy, &ended.policy, reason, now)?;
            if let Some(fingerprint) = fingerprint {
                status.fingerprint = fingerprint.clone();
            }
            Some(status)
        }
        // `status.cleaning` stays, and says to the next agent what was begun.
        Err(Error::Interrupted) => None,
        Err(error) => {
            let mut status = volume.not_cleaned(error.reason(), &error.sentence(), now);
            if matches!(error, Error::InUse { .. }) {
                // Nothing was begun, unless a reformat has already taken a mount away.
                status.cleaning = status.cleaning.filter(|cleaning| cleaning.remount.is_some());
            }
            (status != volume.status).then_some(status)
        }
    }
}

fn log(volume: &LocalVolume, ended: &Ended, took: Duration) {
    let (entries, bytes) = ended.counted;
    let (name, node, pool) = (&volume.name, &volume.spec.node, &volume.spec.pool);
    let (tenancy, method, seconds) =
        (ended.tenancy.0, ended.policy.method.name(), took.as_secs_f64());
    match &ended.result {
        Ok(_) => {
            info!(volume = %name, %node, %pool, tenancy, method, entries, bytes, seconds, "wiped");
        }
        Err(Error::Interrupted) => {
            info!(volume = %name, %node, %pool, tenancy, method, entries, bytes, seconds, "wipe stopped; it is resumed by the next start, or another order takes its place");
        }
        // Not a failure: so it is after each tenancy whose pod is still unwinding. The condition says how it goes on.
        Err(error @ Error::InUse { .. }) => {
            debug!(volume = %name, %node, %pool, tenancy, error = error.sentence(), "not wiped yet");
        }
        Err(error) => {
            warn!(volume = %name, %node, %pool, tenancy, method, entries, bytes, seconds, error = error.sentence(), "not wiped; it is tried again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::embedded::Embedded;
    use crate::volume::AccessMode;
    use crate::volume::fixture::{delete, released};

    #[tokio::test]
    async fn how_far_a_wipe_is_is_recorded_while_it_runs() {
        let state = tempfile::tempdir().unwrap();
        let inventory = Embedded::open(state.path()).unwrap();
        inventory.add(released()).await.unwrap();
        let mut job = Job {
            inventory: inventory.clone(),
            volume: released(),
            policy: delete(),
            locks: state.path().to_owned(),
            host: HostNamespace::default(),
            progress: Arc::default(),
        };
        job.begin().await.unwrap();
        (0..3).for_each(|_| job.progress.removed());
        job.progress.wiped(4096);

        job.report().await;

        let recorded = inventory.get(&released().name).await.unwrap().volume;
        let cleaning = recorded.status.cleaning.unwrap();
        assert_eq!((cleaning.entries, cleaning.bytes), (3, Bytes(4096)));
    }

    #[tokio::test]
    async fn what_was_found_in_use_is_outdated_once_the_volume_is_recorded_elsewhere() {
        let state = tempfile::tempdir().unwrap();
        let mut volume = released();
        volume.status.published.push(Published {
            path: "/kubelet/pods/1".into(),
            staging: false,
            read_only: false,
            access: AccessMode::SingleNodeWriter,
            flags: None,
        });
        let job = Job {
            inventory: Embedded::open(state.path()).unwrap(),
            volume: volume.clone(),
            policy: delete(),
            locks: state.path().to_owned(),
            host: HostNamespace::default(),
            progress: Arc::default(),
        };

        let ended = job.run().await;

        assert!(matches!(&ended.result, Err(Error::InUse { by }) if *by == ["/kubelet/pods/1"]));
        assert!(!ended.is_outdated(&volume));
        assert!(ended.is_outdated(&released()));
    }
}
