//! The Kubernetes store: each volume a `LocalVolume` object, the API server the one place where a decision becomes
//! durable.
//!
//! `follow` keeps [`memory`] equal to the API server; reads come from there. Writes are [`mod@patch`]es that take effect
//! at one version only, and whatever the API server answers goes into memory before the caller hears of it. That one
//! claim's name is held once is the work of [`reservation`] and [`claims`]. `berth controller` keeps its inventory here.

mod alike;
mod api;
mod claims;
pub(crate) mod entry;
mod error;
mod follow;
mod memory;
mod object;
mod patch;
pub(crate) mod reservation;
mod sweep;
mod uid;

use std::fmt;
use std::sync::Arc;

use futures_util::Stream;
use tokio::task::AbortHandle;

use self::api::Api;
use self::claims::recorded;
use self::entry::{Content, Entry, FINALIZER};
use self::error::{Failure, PATIENCE};
use self::memory::Memory;
pub use self::sweep::Swept;
use super::{Error, Event, Inventory, Recorded, Version};
use crate::volume::{ClaimName, LocalVolume, NodeName, Spec, Status, VolumeName};

/// The Kubernetes store. Clones share it; dropping the last one ends its watches.
#[derive(Clone)]
pub struct Kubernetes {
    running: Arc<Running>,
}

struct Running {
    api: Arc<Api>,
    memory: Arc<Memory>,
    scope: Scope,
    following: AbortHandle,
}

/// Which volumes are listed and watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them: the controller's.
    All,
    /// Those of one node: its agent's.
    Node(NodeName),
}

/// Why the store was not opened.
#[derive(Debug, thiserror::Error)]
#[error("the configuration of the Kubernetes client is of no use")]
pub struct OpenError(#[source] kube::Error);

impl Kubernetes {
    /// Opens the store that `config` leads to, with its reservations in `namespace`. It does not wait for the API
    /// server, and follows it from here on. To be called on a tokio runtime.
    pub fn open(
        mut config: kube::Config,
        namespace: &str,
        scope: Scope,
    ) -> Result<Self, OpenError> {
        // A write that is repeated after its answer was lost meets its own work and would be told as a conflict.
        config.default_retry = false;
        let client = kube::Client::try_from(config).map_err(OpenError)?;
        let node = match &scope {
            Scope::All => None,
            Scope::Node(node) => Some(node),
        };
        let api = Arc::new(Api::new(client, namespace, node));
        let memory = Arc::new(Memory::new());
        let following = tokio::spawn(follow::follow(Arc::clone(&api), Arc::clone(&memory)));
        let following = following.abort_handle();
        Ok(Self { running: Arc::new(Running { api, memory, scope, following }) })
    }

    /// One volume as the API server has it now, whatever memory says. An agent believes no object of another node: whoever
    /// took over that may have given it the name of a volume here, to decide about that.
    pub async fn get_live(&self, name: &VolumeName) -> Result<Recorded, Error> {
        let entry = match self.look(name).await {
            Err(Failure::Missing) if self.running.scope == Scope::All => {
                self.check_unreserved(name).await?;
                Err(Failure::Missing)
            }
            Ok(entry) if !self.is_within(&entry) => {
                Err(Failure::untried("an object of another node has its name: delete that"))
            }
            entry => entry,
        };
        recorded(&entry.map_err(|failure| failure.of_preparation(name, "reading a LocalVolume"))?)
    }

    /// Asks the API server for an object, and lets memory know.
    async fn look(&self, name: &VolumeName) -> Result<Entry, Failure> {
        let known = self.running.memory.get(name).map(|known| known.version);
        match self.running.api.get(name).await {
            Ok(entry) => {
                self.note(&entry);
                Ok(entry)
            }
            Err(Failure::Missing) => {
                if let Some(version) = known {
                    self.running.memory.missed(name, version);
                }
                Err(Failure::Missing)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Whether an object is of the scope, as far as can be read.
    fn is_within(&self, entry: &Entry) -> bool {
        match &self.running.scope {
            Scope::All => true,
            Scope::Node(node) => entry.spec().is_none_or(|spec| spec.node == *node),
        }
    }

    /// Lets memory know of an object, if its watch would tell of it too.
    fn note(&self, entry: &Entry) {
        if self.is_within(entry) && (self.running.scope == Scope::All || entry.spec().is_some()) {
            self.running.memory.answered(entry.clone());
        }
    }

    /// The object at exactly this version; else what a change of it is answered.
    async fn at(&self, name: &VolumeName, version: Version) -> Result<Entry, Error> {
        if let Some(known) = self.running.memory.get(name) {
            if known.version == version {
                return Ok(Arc::unwrap_or_clone(known));
            }
            if known.version > version {
                return Err(Error::Conflict(name.clone()));
            }
        }
        let entry = self.look(name).await;
        let entry = entry.map_err(|failure| failure.of_preparation(name, "reading it first"))?;
        recorded(&entry)?;
        if entry.version == version { Ok(entry) } else { Err(Error::Conflict(name.clone())) }
    }

    /// The error of a change that failed, after memory has learnt of what was in its way.
    async fn failed(&self, failure: Failure, name: &VolumeName, context: &'static str) -> Error {
        if matches!(failure, Failure::Conflict | Failure::Missing) {
            // What is there now is all that is of interest; without an answer, the next read asks again.
            let _ = self.look(name).await;
        }
        failure.of_change(name, context)
    }

    /// Makes the object of a volume: with its claim, so that whoever looks at it finds the holder of that or nothing, and
    /// without a status, so that nobody takes it for a volume yet. One that an earlier try left is taken up; one that is
    /// being deleted gives way if it says the same.
    async fn begin_adding(&self, volume: &LocalVolume) -> Result<Entry, Error> {
        const ADDING: &str = "making its object";
        let name = &volume.name;
        loop {
            // While its kind is being deleted too, making an object is refused before one of its name is looked for.
            let deleting = self.running.memory.get(name).is_some_and(|known| known.deleting);
            let made =
                if deleting { Err(Failure::Exists) } else { self.running.api.create(volume).await };
            match made {
                Err(Failure::Exists) => {}
                made => return made.map_err(|failure| failure.of_change(name, ADDING)),
            }
            let entry = match self.look(name).await {
                Ok(entry) => entry,
                Err(Failure::Missing) => continue,
                Err(failure) => return Err(failure.of_preparation(name, ADDING)),
            };
            match &entry.content {
                _ if entry.deleting && entry.spec() == Some(&volume.spec) => {}
                Content::Incomplete(spec) if **spec == volume.spec => return Ok(entry),
                Content::Incomplete(_) => {}
                _ => return Err(Error::Exists(name.clone())),
            }
            match self.erase(entry).await {
                Ok(last) if last.finalizers.iter().any(|finalizer| finalizer != FINALIZER) => {
                    let kept = Failure::untried("the old object waits for a finalizer of others");
                    return Err(kept.of_preparation(name, ADDING));
                }
                Ok(_) | Err(Failure::Conflict | Failure::Missing) => {}
                Err(failure) => return Err(failure.of_preparation(name, ADDING)),
            }
        }
    }

    async fn write_status(&self, entry: &Entry, status: Status) -> Result<Recorded, Failure> {
        let patch = patch::status(entry, status);
        let patch = patch.ok_or_else(|| Failure::untried("the object cannot be read"))?;
        let answer = self.running.api.patch_status(&entry.name, patch).await;
        self.judged(answer, entry).await?.recorded().ok_or(Failure::Missing)
    }

    /// The answer to a patch of the object at `entry`. One that does not fit what is there now is refused as one that
    /// breaks a rule is, before the versions are compared: if the object has moved on, that is a conflict.
    async fn judged(
        &self,
        answer: Result<Entry, Failure>,
        entry: &Entry,
    ) -> Result<Entry, Failure> {
        match answer {
            Ok(written) => {
                self.note(&written);
                Ok(written)
            }
            Err(Failure::Invalid(cause)) => match self.look(&entry.name).await {
                Ok(now) if now.version != entry.version => Err(Failure::Conflict),
                Err(Failure::Missing) => Err(Failure::Missing),
                _ => Err(Failure::Invalid(cause)),
            },
            Err(failure) => Err(failure),
        }
    }

    /// Deletes the object at `entry`, with Berth's finalizer; what it was last.
    async fn erase(&self, mut entry: Entry) -> Result<Entry, Failure> {
        let api = &self.running.api;
        if entry.is_kept() {
            let answer = api.patch(&entry.name, patch::unfinalized(&entry)).await;
            entry = self.judged(answer, &entry).await?;
        }
        // A deletion that was asked for before ends with the last finalizer.
        let gone =
            if entry.deleting { entry.finalizers.is_empty() } else { api.delete(&entry).await? };
        if gone {
            self.running.memory.missed(&entry.name, entry.version);
        }
        Ok(entry)
    }
}

impl Inventory for Kubernetes {
    async fn list(&self) -> Result<Vec<Recorded>, Error> {
        let listing = tokio::time::timeout(PATIENCE, self.running.memory.list());
        let all = listing.await.map_err(|_| {
            Failure::untried("the API server has not been read yet").of_reading("listing all")
        })?;
        Ok(memory::recorded(&all))
    }

    async fn get(&self, name: &VolumeName) -> Result<Recorded, Error> {
        match self.running.memory.get(name).and_then(|known| known.recorded()) {
            Some(recorded) => Ok(recorded),
            None => self.get_live(name).await,
        }
    }

    async fn latest(&self, name: &VolumeName) -> Result<Recorded, Error> {
        self.get_live(name).await
    }

    async fn holder(&self, claim: &ClaimName) -> Result<Option<VolumeName>, Error> {
        self.reserved_for(claim).await
    }

    async fn add(&self, volume: LocalVolume) -> Result<Recorded, Error> {
        const ADDING: &str = "writing its status";
        if let Some(claim) = &volume.spec.claim {
            self.check_untaken(&claim.name, &volume.name).await?;
        }
        let mut entry = self.begin_adding(&volume).await?;
        loop {
            match self.write_status(&entry, volume.status.clone()).await {
                Err(Failure::Conflict) => {}
                written => return written.map_err(|f| f.of_change(&volume.name, ADDING)),
            }
            let now = self.look(&volume.name).await;
            entry = now.map_err(|failure| failure.of_preparation(&volume.name, ADDING))?;
            if !matches!(entry.content, Content::Incomplete(_)) {
                return Err(Error::Exists(volume.name));
            }
        }
    }

    async fn decide(
        &self,
        name: &VolumeName,
        version: Version,
        spec: Spec,
    ) -> Result<Recorded, Error> {
        const DECIDING: &str = "writing what was decided";
        let entry = self.at(name, version).await?;
        let held = entry.claim_name().cloned();
        let wanted = spec.claim.as_ref().map(|claim| claim.name.clone());
        let written = match wanted {
            Some(claim) if held.as_ref() != Some(&claim) => {
                self.begin_claim(&entry, spec, claim).await?
            }
            _ => match self.patched(&entry, &spec).await {
                Ok(written) => written,
                Err(failure) => return Err(self.failed(failure, name, DECIDING).await),
            },
        };
        if let Some(held) = held
            && written.claim_name() != Some(&held)
        {
            self.tidy(&held, name, written.version).await;
        }
        recorded(&written)
    }

    async fn observe(
        &self,
        name: &VolumeName,
        version: Version,
        status: Status,
    ) -> Result<Recorded, Error> {
        const OBSERVING: &str = "writing what was seen";
        let entry = self.at(name, version).await?;
        match self.write_status(&entry, status).await {
            Ok(recorded) => Ok(recorded),
            Err(failure) => Err(self.failed(failure, name, OBSERVING).await),
        }
    }

    async fn remove(&self, name: &VolumeName, version: Version) -> Result<(), Error> {
        const REMOVING: &str = "deleting its object";
        let mut entry = self.at(name, version).await?;
        let held = entry.claim_name().cloned();
        // The claim ends first: without that, an object that is gone was deleted by mistake and its claim lasts.
        if let Some(spec) = entry.spec().filter(|spec| spec.claim.is_some()) {
            let free = Spec { claim: None, ..spec.clone() };
            entry = match self.patched(&entry, &free).await {
                Ok(ended) => ended,
                Err(failure) => return Err(self.failed(failure, name, REMOVING).await),
            };
        }
        let last = match self.erase(entry).await {
            Ok(last) => last,
            Err(failure) => return Err(self.failed(failure, name, REMOVING).await),
        };
        if let Some(held) = held {
            self.tidy(&held, name, Version(last.version.0 + 1)).await;
        }
        Ok(())
    }

    fn watch(&self) -> impl Stream<Item = Event> + Send + Unpin + 'static {
        memory::watch(Arc::clone(&self.running.memory))
    }
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = &self.running.scope;
        formatter.debug_struct("Kubernetes").field("scope", scope).finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.following.abort();
        self.memory.end();
    }
}

#[cfg(test)]
mod tests;
