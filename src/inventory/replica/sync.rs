//! The task that keeps a ledger and its remote store equal: it hears of every change of either and settles the volume that
//! changed, a few at a time, again after a pause where that failed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::{Error, Event, Inventory, Recorded};
use super::Replica;
use super::step::{self, Step};
use crate::causes;
use crate::volume::{LocalVolume, VolumeName};

/// Volumes that are settled at once: what a store answers side by side, and no more than it likes.
const LANES: usize = 16;
/// Steps that one volume is given at once.
const STEPS: u32 = 16;
/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// See [`Replica::run`].
pub(super) async fn run<R: Inventory>(replica: &Replica<R>, cancel: CancellationToken) {
    let mut sync = Sync {
        replica,
        remote: None,
        due: BTreeSet::new(),
        failed: BTreeSet::new(),
        busy: JoinSet::new(),
        settling: BTreeSet::new(),
        failures: 0,
        rested: Instant::now(),
    };
    let mut decided = replica.remote.watch();
    let mut seen = replica.ledger.watch();
    loop {
        let rested = sync.rested;
        tokio::select! {
            () = cancel.cancelled() => return,
            event = decided.next() => match event {
                Some(event) => sync.heard(event),
                None => return,
            },
            event = seen.next() => match event {
                Some(event) => sync.due.extend(names(event)),
                None => return,
            },
            Some(settled) = sync.busy.join_next() => sync.settled(settled),
            () = replica.shared.left.notified() => sync.due.extend(replica.ledger.names()),
            () = sleep_until(rested), if sync.rests() => {}
        }
        sync.begin();
    }
}

struct Sync<'a, R> {
    replica: &'a Replica<R>,
    /// What the remote store has, as its watch told it and nobody else; absent until that has told everything once.
    remote: Option<BTreeMap<VolumeName, Recorded>>,
    /// Volumes whose two records may differ.
    due: BTreeSet<VolumeName>,
    /// Those of them that failed, whose turn comes after the others'.
    failed: BTreeSet<VolumeName>,
    busy: JoinSet<Settled>,
    /// The volumes of `busy`.
    settling: BTreeSet<VolumeName>,
    failures: u32,
    /// When the pause after the latest failure ends.
    rested: Instant,
}

/// How settling one volume ended.
struct Settled {
    name: VolumeName,
    outcome: Result<(), Error>,
}

impl<R: Inventory> Sync<'_, R> {
    /// The remote store said something.
    fn heard(&mut self, event: Event) {
        match event {
            Event::Reset(all) => {
                // What is so now counts, also where the store's versions were set back.
                self.replica.shared.taken().clear();
                let all = all.into_iter().map(|recorded| (recorded.volume.name.clone(), recorded));
                let all: BTreeMap<_, _> = all.collect();
                self.due.extend(all.keys().cloned());
                // What it no longer has is due too.
                self.due.extend(self.remote.replace(all).unwrap_or_default().into_keys());
                self.due.extend(self.replica.ledger.names());
            }
            Event::Applied(recorded) => {
                let name = recorded.volume.name.clone();
                self.due.insert(name.clone());
                self.remote.get_or_insert_default().insert(name, *recorded);
            }
            Event::Removed(name, _) => {
                self.remote.get_or_insert_default().remove(&name);
                self.due.insert(name);
            }
        }
    }

    fn rests(&self) -> bool {
        self.failures > 0 && Instant::now() < self.rested
    }

    /// Begins to settle what is due, as far as there is room.
    fn begin(&mut self) {
        let Some(remote) = &self.remote else { return };
        let rests = self.rests();
        while !rests && self.settling.len() < LANES {
            if self.due.is_empty() {
                self.due = std::mem::take(&mut self.failed);
            }
            let next = self.due.iter().find(|name| !self.settling.contains(*name)).cloned();
            let Some(name) = next else { break };
            self.due.remove(&name);
            self.settling.insert(name.clone());
            let (replica, remote) = (self.replica.clone(), remote.get(&name).cloned());
            self.busy.spawn(async move {
                let outcome = settle(&replica, &name, remote).await;
                Settled { name, outcome }
            });
        }
        if self.due.is_empty() && self.failed.is_empty() && self.settling.is_empty() {
            self.replica.shared.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        }
    }

    fn settled(&mut self, settled: Result<Settled, tokio::task::JoinError>) {
        // A task that panicked took its volume's name with it: everything is looked at again.
        let Ok(Settled { name, outcome }) = settled else {
            self.settling.clear();
            self.due.extend(self.replica.ledger.names());
            return self.fail();
        };
        self.settling.remove(&name);
        match outcome {
            Ok(()) => {
                if std::mem::take(&mut self.failures) > 0 {
                    info!("the inventory answers again and is brought up to date");
                }
            }
            Err(error) => {
                if self.failures == 0 {
                    let error = causes::chain(&error);
                    warn!(volume = %name, error, "the inventory is behind the node's ledger");
                }
                self.failed.insert(name);
                self.fail();
            }
        }
    }

    /// Nothing is begun for a while, longer each time; what was under way together fails together.
    fn fail(&mut self) {
        if self.rests() {
            return;
        }
        let factor = 2_u32.saturating_pow(self.failures.min(16));
        self.rested = Instant::now() + PAUSES.0.saturating_mul(factor).min(PAUSES.1);
        self.failures = self.failures.saturating_add(1);
    }
}

/// Brings both to agree on one volume, of which the remote store had `remote` when that was last heard of.
async fn settle<R: Inventory>(
    replica: &Replica<R>,
    name: &VolumeName,
    mut remote: Option<Recorded>,
) -> Result<(), Error> {
    // Each step but a lost race brings them nearer; whoever races for ever is left to the next event.
    for _ in 0..STEPS {
        if replica.shared.leaving().contains(name) {
            return Ok(());
        }
        let ledger = match replica.ledger.get(name).await {
            Err(Error::NotFound(_)) => None,
            answer => Some(answer?.volume),
        };
        let step = step::next(ledger.as_deref(), remote.as_ref());
        if step == Step::Nothing {
            return Ok(());
        }
        remote = match act(replica, name, remote, step).await {
            // Somebody was first: what is so now decides.
            Err(Error::Conflict(_) | Error::Exists(_) | Error::NotFound(_)) => {
                match replica.remote.latest(name).await {
                    Err(Error::NotFound(_)) => None,
                    answer => Some(answer?),
                }
            }
            outcome => outcome?,
        };
    }
    Ok(())
}

/// Takes one step. What the remote store has now.
async fn act<R: Inventory>(
    replica: &Replica<R>,
    name: &VolumeName,
    remote: Option<Recorded>,
    step: Step,
) -> Result<Option<Recorded>, Error> {
    match (step, remote) {
        (Step::Adopt, _) => {
            // Only what is there now: what was heard may be from before a removal.
            let now = replica.remote.latest(name).await?;
            let adopted = replica.adopted(&now.volume);
            let (told, believed) = (&now.volume.status, &adopted.status);
            if (&told.path, &told.fingerprint) != (&believed.path, &believed.fingerprint) {
                warn!(volume = %name, path = told.path.as_str(), fingerprint = %told.fingerprint,
                    "the inventory's record is not of what this node named so: it is used once it is found here");
            }
            replica.ledger.add(adopted).await?;
            info!(volume = %name, "taken into the node's ledger from the inventory");
            Ok(Some(now))
        }
        (Step::Publish(volume), _) => replica.remote.add(*volume).await.map(Some),
        (Step::Take, Some(remote)) => {
            let status = replica.take(&remote).await?.volume.status.clone();
            // Also where nothing was seen: what people read of the volume follows from what was decided too.
            replica.remote.observe(name, remote.version, status).await.map(Some)
        }
        (Step::Mourn, Some(remote)) => {
            let gone = |volume: &LocalVolume| volume.gone_with(&remote.volume);
            replica.ledger.modify_status(name, gone).await?;
            Ok(Some(remote))
        }
        (Step::Tell(status), Some(remote)) => {
            replica.remote.observe(name, remote.version, *status).await.map(Some)
        }
        (Step::Replace(volume), Some(remote)) => {
            forsake(replica, &volume).await?;
            replica.remote.remove(name, remote.version).await?;
            warn!(volume = %name, "the inventory was set back, or made another volume of it; written anew from the node's ledger");
            replica.remote.add(*volume).await.map(Some)
        }
        // Those come of a remote record, and this of agreement.
        (Step::Take | Step::Mourn | Step::Tell(_) | Step::Replace(_), None)
        | (Step::Nothing, _) => Ok(None),
    }
}

/// Makes what was given twice nobody's here first: from now on nothing is mounted by that number. Of another volume it
/// changes nothing.
async fn forsake<R: Inventory>(replica: &Replica<R>, volume: &LocalVolume) -> Result<(), Error> {
    let spec = |_: &LocalVolume| Ok::<_, Error>(volume.spec.clone());
    replica.ledger.modify_spec(&volume.name, spec).await?;
    let status = |known: &LocalVolume| {
        let mut status = known.status.clone();
        status.clean_for = volume.status.clean_for;
        status.conditions.clean = volume.status.conditions.clean.clone();
        (status != known.status).then_some(status)
    };
    replica.ledger.modify_status(&volume.name, status).await.map(drop)
}

fn names(event: Event) -> Vec<VolumeName> {
    match event {
        Event::Reset(all) => all.iter().map(|recorded| recorded.volume.name.clone()).collect(),
        Event::Applied(recorded) => vec![recorded.volume.name.clone()],
        Event::Removed(name, _) => vec![name],
    }
}
