//! A node's own copy of its volumes: the embedded store as the node's ledger, kept equal to a remote store that all nodes
//! share.
//!
//! What is seen (`status`) is written to the ledger, durably and also while the remote store is away, and told to the
//! remote store soon after. What is decided (`spec`) is decided by the remote store and learnt from it. A record that one
//! of the two has lost comes back from the other: absence never means anything ([`mod@step`] has the rules, [`mod@sync`] the
//! task that follows them).
//!
//! This is safe although the two differ for moments. A claim needs a volume that the remote store knows clean, which it
//! is told only after the ledger knows it; so a wipe that the ledger has not finished never meets a new tenant.

pub(crate) mod step;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::embedded::Embedded;
use super::{Error, Event, Inventory, Recorded, Version};
use crate::volume::{LocalVolume, Premises, Spec, Status, VolumeName, WipeRecord};

/// How long a question to the remote store may take when the ledger has an answer too.
const ASK: Duration = Duration::from_secs(3);

/// A ledger and the remote store that it is kept equal to. Clones share both.
///
/// It is an [`Inventory`] of the volumes that the ledger has, so that whatever runs on a node runs on it unchanged. The
/// remote store must hold this node's volumes and no others.
#[derive(Debug, Clone)]
pub struct Replica<R> {
    ledger: Embedded,
    remote: R,
    /// What is believed of a record that the ledger has lost: all of it, or what these allow.
    premises: Option<Arc<Premises>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Volumes that are being removed from both, which nothing brings back meanwhile.
    leaving: Mutex<BTreeSet<VolumeName>>,
    /// Which version of the remote store's record the ledger learnt latest.
    taken: Mutex<BTreeMap<VolumeName, Version>>,
    /// Told when one of them has left, or did not.
    left: Notify,
    /// Whether the two were equal once.
    ready: watch::Sender<bool>,
}

impl<R: Inventory> Replica<R> {
    /// A replica of `remote` in `ledger`. It is kept equal while [`Replica::run`] runs.
    pub fn new(ledger: Embedded, remote: R) -> Self {
        Self { ledger, remote, premises: None, shared: Arc::default() }
    }

    /// Believes of what only the remote store has no more than `premises` allow: whoever may write there must not thereby
    /// have this node touch anything but its volumes.
    #[must_use]
    pub fn believing(self, premises: Premises) -> Self {
        Self { premises: Some(Arc::new(premises)), ..self }
    }

    /// What the ledger takes over of a volume that it does not know.
    fn adopted(&self, remote: &LocalVolume) -> LocalVolume {
        self.premises.as_ref().map_or_else(|| remote.clone(), |known| known.adopted(remote))
    }

    /// Keeps ledger and remote store equal until `cancel`.
    pub async fn run(&self, cancel: CancellationToken) {
        sync::run(self, cancel).await;
    }

    /// Resolves once ledger and remote store have been equal. Before that, a ledger that is empty knows nothing of what
    /// this node's volumes hold.
    pub async fn ready(&self) {
        // The sender lives as long as `self`.
        let _ = self.shared.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Takes what the remote store decided into the ledger. What is older than what was taken before is not taken, and a
    /// tenancy never goes back.
    async fn take(&self, decided: &Recorded) -> Result<Recorded, Error> {
        // Asked again whenever another writer of the ledger comes in between, so that the newest wins.
        let learnt = |known: &LocalVolume| -> Result<Spec, Error> {
            let newest = self.shared.is_news(decided).then_some(&decided.volume.spec);
            Ok(step::learnt(known, newest))
        };
        self.ledger.modify_spec(&decided.volume.name, learnt).await
    }

    /// The ledger's record at `version`.
    async fn at(&self, name: &VolumeName, version: Version) -> Result<Recorded, Error> {
        let recorded = self.ledger.get(name).await?;
        if recorded.version == version { Ok(recorded) } else { Err(Error::Conflict(name.clone())) }
    }

    /// What the remote store has of a volume that the ledger has too: added if it has nothing, an error of conflict if it
    /// has decided something that the ledger had yet to learn.
    async fn agreed(&self, known: &Recorded) -> Result<Recorded, Error> {
        let name = &known.volume.name;
        let remote = loop {
            match self.remote.latest(name).await {
                Err(Error::NotFound(_)) => {}
                answer => break answer?,
            }
            match self.remote.add(LocalVolume::clone(&known.volume)).await {
                // The task that keeps both equal was first.
                Err(Error::Exists(_)) => {}
                answer => break answer?,
            }
        };
        if remote.volume.spec == known.volume.spec {
            return Ok(remote);
        }
        self.take(&remote).await?;
        Err(Error::Conflict(name.clone()))
    }

    fn leave(&self, name: &VolumeName) -> Leaving<'_> {
        self.shared.leaving().insert(name.clone());
        Leaving { shared: &self.shared, name: name.clone() }
    }
}

// Nothing panics while it holds a lock: a poisoned one is as good.
impl Shared {
    fn leaving(&self) -> MutexGuard<'_, BTreeSet<VolumeName>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<VolumeName, Version>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing newer than `recorded` was taken; it is the newest from then on.
    fn is_news(&self, recorded: &Recorded) -> bool {
        let mut taken = self.taken();
        let newest = taken.entry(recorded.volume.name.clone()).or_insert(recorded.version);
        *newest = recorded.version.max(*newest);
        *newest == recorded.version
    }
}

/// A volume that is being removed, until this is dropped.
struct Leaving<'a> {
    shared: &'a Shared,
    name: VolumeName,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.shared.leaving().remove(&self.name);
        self.shared.left.notify_one();
    }
}

impl<R: Inventory> Inventory for Replica<R> {
    async fn list(&self) -> Result<Vec<Recorded>, Error> {
        self.ledger.list().await
    }

    async fn get(&self, name: &VolumeName) -> Result<Recorded, Error> {
        self.ledger.get(name).await
    }

    async fn wipes(&self) -> Result<Vec<WipeRecord>, Error> {
        self.ledger.wipes().await
    }

    async fn latest(&self, name: &VolumeName) -> Result<Recorded, Error> {
        let known = self.ledger.get(name).await?;
        match tokio::time::timeout(ASK, self.remote.latest(name)).await {
            Ok(Ok(remote)) => self.take(&remote).await,
            Ok(Err(error)) => {
                let error = crate::causes::chain(&error);
                debug!(volume = %name, error, "answered from the ledger");
                Ok(known)
            }
            Err(_) => Ok(known),
        }
    }

    async fn add(&self, volume: LocalVolume) -> Result<Recorded, Error> {
        self.ledger.add(volume).await
    }

    async fn decide(
        &self,
        name: &VolumeName,
        version: Version,
        spec: Spec,
    ) -> Result<Recorded, Error> {
        loop {
            let known = self.at(name, version).await?;
            if known.volume.spec == spec {
                return Ok(known);
            }
            let remote = self.agreed(&known).await?;
            match self.remote.decide(name, remote.version, spec.clone()).await {
                // It was told what was seen meanwhile: that is no other decision.
                Err(Error::Conflict(_)) => {}
                decided => return self.take(&decided?).await,
            }
        }
    }

    async fn observe(
        &self,
        name: &VolumeName,
        version: Version,
        status: Status,
    ) -> Result<Recorded, Error> {
        self.ledger.observe(name, version, status).await
    }

    async fn remove(&self, name: &VolumeName, version: Version) -> Result<(), Error> {
        let _leaving = self.leave(name);
        loop {
            let known = self.at(name, version).await?;
            let remote = self.agreed(&known).await?;
            match self.remote.remove(name, remote.version).await {
                Ok(()) | Err(Error::NotFound(_)) => {
                    self.shared.taken().remove(name);
                    return self.ledger.remove(name, version).await;
                }
                // As in `decide`.
                Err(Error::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn watch(&self) -> impl Stream<Item = Event> + Send + Unpin + 'static {
        self.ledger.watch()
    }
}

#[cfg(test)]
mod tests;
