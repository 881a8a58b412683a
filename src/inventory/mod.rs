//! Remember: the inventory of volumes, the one place where a decision becomes durable.
//!
//! The interface knows only whole records and compare-and-swap; what may follow what is decided by the pure transitions
//! of [`crate::volume`]. Every store passes the tests of `contract`.

#[cfg(test)]
pub(crate) mod contract;
#[expect(
    unreachable_pub,
    reason = "what kube derives repeats the visibility of what it derives from"
)]
pub mod crd;
pub mod embedded;
pub mod kubernetes;
pub mod replica;

use std::future::Future;
use std::sync::Arc;

use futures_util::Stream;

use crate::volume::{ClaimName, LocalVolume, Spec, Status, VolumeName, WipeRecord};

/// A record's version: greater after every change of it. Versions of one store are comparable with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A volume as it was recorded at one version. A copy of it is a pointer to the same record: however many parts of a
/// process hold a volume, it is in memory once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The record.
    pub volume: Arc<LocalVolume>,
    /// Its version.
    pub version: Version,
    /// Whether somebody deleted it and the store keeps it only until it is added again, by whoever knows durably what
    /// was decided about it. Only a store whose records anybody may delete ever says so.
    pub deleting: bool,
}

impl Recorded {
    /// A record that nobody deleted.
    pub fn new(volume: impl Into<Arc<LocalVolume>>, version: Version) -> Self {
        Self { volume: volume.into(), version, deleting: false }
    }
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This is all that there is now: the first event of every watch, and again whenever the watcher fell behind.
    Reset(Vec<Recorded>),
    /// This volume is new or has changed.
    Applied(Box<Recorded>),
    /// This volume is no more.
    Removed(VolumeName, Version),
}

/// Why the inventory did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such volume. Nothing was written.
    #[error("volume {0} is not in the inventory")]
    NotFound(VolumeName),
    /// The volume was changed since it was read. Nothing was written; read it again.
    #[error("volume {0} was changed by another writer")]
    Conflict(VolumeName),
    /// There is a volume of that name already. Nothing was written.
    #[error("volume {0} is in the inventory already")]
    Exists(VolumeName),
    /// Another volume holds a claim of that name: one name never gets two volumes. Nothing was written.
    #[error("claim {claim} holds volume {holder} already")]
    ClaimNameTaken {
        /// The claim's name.
        claim: ClaimName,
        /// The volume that it holds.
        holder: VolumeName,
    },
    /// The store refused and nothing was written.
    #[error("the inventory was not changed: {context}")]
    NotWritten {
        /// What was attempted.
        context: &'static str,
        /// Why it failed.
        #[source]
        source: Cause,
    },
    /// The store did not answer: what was asked may or may not have been written.
    #[error("whether the inventory was changed is not known: {context}")]
    OutcomeUnknown {
        /// What was attempted.
        context: &'static str,
        /// Why the outcome is not known.
        #[source]
        source: Cause,
    },
}

/// What lies beneath an error of a store.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A store of volumes: embedded on one machine, or Kubernetes objects.
///
/// Every change is durable when its future is ready. A future that is dropped may still have changed the store.
pub trait Inventory: Clone + Send + Sync + 'static {
    /// How many changes one caller may have under way at a time.
    const WRITES_AT_ONCE: usize = 64;

    /// Every volume, in the order of names.
    fn list(&self) -> impl Future<Output = Result<Vec<Recorded>, Error>> + Send;

    /// One volume; [`Error::NotFound`] if there is none of that name.
    fn get(&self, name: &VolumeName) -> impl Future<Output = Result<Recorded, Error>> + Send;

    /// As [`Inventory::get`], and knows what was decided before the call, by whichever process, where the store can be
    /// asked for that.
    fn latest(&self, name: &VolumeName) -> impl Future<Output = Result<Recorded, Error>> + Send {
        self.get(name)
    }

    /// Which volume holds the claim of this name, whatever a watch has told so far.
    fn holder(
        &self,
        claim: &ClaimName,
    ) -> impl Future<Output = Result<Option<VolumeName>, Error>> + Send {
        async move {
            let mut all = self.list().await?.into_iter().map(|recorded| recorded.volume);
            let holds = |volume: &LocalVolume| {
                volume.spec.claim.as_ref().is_some_and(|held| held.name == *claim)
            };
            Ok(all.find(|volume| holds(volume)).map(|volume| volume.name.clone()))
        }
    }

    /// The wipes that are remembered, the oldest first: at least the latest of each volume.
    fn wipes(&self) -> impl Future<Output = Result<Vec<WipeRecord>, Error>> + Send {
        async move {
            let all = self.list().await?;
            let mut wipes: Vec<_> = all.iter().filter_map(|one| one.volume.last_wipe()).collect();
            wipes.sort_by_key(|record| record.wipe.started);
            Ok(wipes)
        }
    }

    /// Adds a volume; [`Error::Exists`] if there is one of that name. One that is kept though somebody deleted it is made
    /// anew if it has the same spec.
    fn add(&self, volume: LocalVolume) -> impl Future<Output = Result<Recorded, Error>> + Send;

    /// Replaces what was decided about a volume, if it is still at `version`.
    ///
    /// [`Error::Conflict`] if it is not, [`Error::ClaimNameTaken`] if the claim's name is held by another volume: of
    /// any number of callers with one name, at most one volume is ever held.
    fn decide(
        &self,
        name: &VolumeName,
        version: Version,
        spec: Spec,
    ) -> impl Future<Output = Result<Recorded, Error>> + Send;

    /// Replaces what was seen of a volume, if it is still at `version`; else [`Error::Conflict`]. What a store derives
    /// from a volume for people to read is brought up to date with it.
    fn observe(
        &self,
        name: &VolumeName,
        version: Version,
        status: Status,
    ) -> impl Future<Output = Result<Recorded, Error>> + Send;

    /// Removes a volume, if it is still at `version`; else [`Error::Conflict`].
    fn remove(
        &self,
        name: &VolumeName,
        version: Version,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Tells of every change from now on: first a [`Event::Reset`], then each change once, in the order in which the
    /// store made them. A watcher that falls behind gets another `Reset`. The stream ends with the store.
    fn watch(&self) -> impl Stream<Item = Event> + Send + Unpin + 'static;

    /// Reads a volume, lets `change` say what its status becomes (`None`: nothing to write), and writes that; again
    /// from the start as long as another writer comes in between.
    fn modify_status<F>(
        &self,
        name: &VolumeName,
        mut change: F,
    ) -> impl Future<Output = Result<Recorded, Error>> + Send
    where
        F: FnMut(&LocalVolume) -> Option<Status> + Send,
    {
        async move {
            loop {
                let recorded = self.get(name).await?;
                let Some(status) = change(&recorded.volume) else { return Ok(recorded) };
                match self.observe(name, recorded.version, status).await {
                    Err(Error::Conflict(_)) => {}
                    result => return result,
                }
            }
        }
    }

    /// As [`Inventory::modify_status`], for what is decided. `change` may refuse with an error of its own.
    fn modify_spec<F, E>(
        &self,
        name: &VolumeName,
        mut change: F,
    ) -> impl Future<Output = Result<Recorded, E>> + Send
    where
        F: FnMut(&LocalVolume) -> Result<Spec, E> + Send,
        E: From<Error> + Send,
    {
        async move {
            loop {
                let recorded = self.get(name).await?;
                let spec = change(&recorded.volume)?;
                if spec == recorded.volume.spec {
                    return Ok(recorded);
                }
                match self.decide(name, recorded.version, spec).await {
                    Err(Error::Conflict(_)) => {}
                    result => return Ok(result?),
                }
            }
        }
    }
}
