//! Give to one: the index of free volumes, best fit, claim and release.
//!
//! [`Claims`] decides from an index in memory, which the inventory's watch feeds, and makes each decision durable by
//! one compare-and-swap; where another writer came first it learns from that and goes on. It reads and writes the
//! inventory and nothing else. The gRPC edge calls it.

mod error;
mod fit;
pub(crate) mod index;
mod request;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use self::error::{Error, Mismatch, Shortage};
pub use self::fit::unsuited;
use self::index::Index;
pub use self::request::{Capacity, CapacityQuery, ClaimRequest, Expanded, Filesystem, Topology};
use crate::inventory::{self, Event, Inventory, Recorded, Version};
use crate::pool::{FsType, Pool, Pools};
use crate::volume::{
    CapacityRange, Claim, Ended, Fingerprint, LocalVolume, Mode, VolumeId, VolumeName,
};

/// Claims and their index. Clones share it; any number may stand over one inventory, in any number of processes.
pub struct Claims<I> {
    shared: Arc<Shared<I>>,
}

struct Shared<I> {
    inventory: I,
    pools: watch::Receiver<Arc<Pools>>,
    index: RwLock<Index>,
    /// Whether the index holds what the inventory holds.
    ready: watch::Sender<bool>,
    /// Told whenever a volume is no longer set aside for a claim that is being made.
    settled: Notify,
}

impl<I> Clone for Claims<I> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<I> std::fmt::Debug for Claims<I> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Claims").finish_non_exhaustive()
    }
}

impl<I: Inventory> Claims<I> {
    /// Claims on `inventory`. They answer [`Error::NotReady`] until [`Claims::run`] has filled the index.
    pub fn new(inventory: I, pools: watch::Receiver<Arc<Pools>>) -> Self {
        let shared = Shared {
            inventory,
            pools,
            index: RwLock::default(),
            ready: watch::Sender::new(false),
            settled: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Feeds the index until `cancel`, or until the inventory ends; then nothing is ready any longer, since what the
    /// index says grows old.
    pub async fn run(&self, cancel: CancellationToken) {
        let mut events = self.shared.inventory.watch();
        while let Some(Some(event)) = cancel.run_until_cancelled(events.next()).await {
            let complete = matches!(event, Event::Reset(_));
            self.shared.write().take(event);
            if complete {
                self.shared.ready.send_replace(true);
            }
        }
        self.shared.ready.send_replace(false);
    }

    /// Waits until the index has been filled.
    pub async fn ready(&self) {
        // The sender lives as long as `self`, so that the only way on is readiness.
        let _ = self.shared.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Gives the claim of this name the volume that fits it best, or the one that it holds already.
    ///
    /// However often and by however many callers a name is asked for, it gets one volume.
    pub async fn claim(&self, request: ClaimRequest) -> Result<Recorded, Error> {
        self.shared.check_ready()?;
        loop {
            let settled = self.shared.settled.notified();
            let mut settled = std::pin::pin!(settled);
            // From here on nothing that settles is missed.
            settled.as_mut().enable();
            let choice = self.shared.write().choose(&request);
            let holder = match choice {
                Choice::Held(holder) => Some(holder),
                Choice::SetAside(volume) => match self.shared.give(&volume, &request).await? {
                    Given::Here(recorded) => return Ok(*recorded),
                    Given::Elsewhere(holder) => Some(holder),
                    Given::Lost => None,
                },
                Choice::Wait => {
                    settled.await;
                    None
                }
                // Nobody is sent elsewhere from memory alone: the claim may hold a volume of which the watch has yet to tell.
                Choice::Nothing(shortage) => {
                    match self.shared.inventory.holder(&request.name).await? {
                        None => return Err(self.nothing_for(&request, shortage)),
                        holder => holder,
                    }
                }
            };
            if let Some(holder) = holder
                && let Some(held) = self.held(&holder, &request).await?
            {
                return Ok(held);
            }
        }
    }

    /// Ends a tenancy; one that has ended or never was has ended. The agent of the volume's node then wipes it, once it is
    /// mounted for its tenant no longer.
    pub async fn release(&self, id: &VolumeId) -> Result<(), Error> {
        let inventory = &self.shared.inventory;
        // Memory may be behind a claim that another controller made. That such a tenancy never was is not said from it.
        let known = inventory.get(&id.volume).await;
        if known.is_ok_and(|known| known.volume.spec.tenancy < id.tenancy) {
            self.shared.latest(&id.volume).await?;
        }
        let release =
            |volume: &LocalVolume| volume.released(id.tenancy).map_err(|Ended { .. }| Kept::Ended);
        match inventory.modify_spec(&id.volume, release).await {
            Ok(recorded) => {
                self.shared.write().update(recorded);
                Ok(())
            }
            Err(Kept::Ended | Kept::Inventory(inventory::Error::NotFound(_))) => Ok(()),
            Err(Kept::Inventory(error)) => Err(error.into()),
        }
    }

    /// The volume of a tenancy that has not ended; else [`Error::NotFound`], which is never said from memory alone.
    pub async fn find(&self, id: &VolumeId) -> Result<Recorded, Error> {
        self.shared.check_ready()?;
        let known = self.shared.read().get(&id.volume);
        if let Some(known) = known.filter(|known| is_live(known, id)) {
            return Ok(known);
        }
        let fresh = self.shared.latest(&id.volume).await?;
        fresh.filter(|fresh| is_live(fresh, id)).ok_or_else(|| Error::NotFound(id.clone()))
    }

    /// What could be claimed now. What no configured pool offers counts for nothing, as no claim could be made of it.
    pub fn capacity(&self, query: &CapacityQuery) -> Result<Capacity, Error> {
        self.shared.check_ready()?;
        let pools = Arc::clone(&self.shared.pools.borrow());
        let pool = pools.get(&query.pool);
        let mode = pool.map(|pool| query.mode.unwrap_or(pool.mode));
        let offered = pool.filter(|pool| {
            mode == Some(pool.mode) && not_offered(pool, &query.filesystem).is_none()
        });
        let capacity = |pool: &Pool| self.shared.read().capacity(query, pool.mode);
        Ok(offered.map_or_else(Capacity::default, capacity))
    }

    /// The claimed volumes that follow `after` in the order of names, at most so many.
    pub fn list(&self, after: Option<&VolumeName>, most: usize) -> Result<Vec<Recorded>, Error> {
        self.shared.check_ready()?;
        Ok(self.shared.read().claimed(after, most))
    }

    /// What a tenancy's volume has grown to, if that satisfies `range`.
    ///
    /// A local volume grows beneath Berth, when its device or file system does; this only looks at what the node
    /// agent has seen of that. The claim's recorded range stays what the claim was made with, so that a repeat of
    /// that request is still the same request.
    pub async fn expand(&self, id: &VolumeId, range: CapacityRange) -> Result<Expanded, Error> {
        let volume = self.find(id).await?.volume;
        let capacity = volume.status.capacity;
        if !range.admits(capacity) {
            return Err(Error::OutOfRange { id: id.clone(), asked: range, capacity });
        }
        let device = matches!(volume.status.fingerprint, Fingerprint::Device { .. });
        let node_expansion_required = device && volume.spec.mode == Mode::Filesystem;
        Ok(Expanded { capacity, node_expansion_required })
    }

    /// What the claim holds by now, whatever memory says; absent when it no longer does.
    async fn held(
        &self,
        name: &VolumeName,
        request: &ClaimRequest,
    ) -> Result<Option<Recorded>, Error> {
        let fresh = self.shared.latest(name).await?;
        let holds = |recorded: &Recorded| {
            recorded.volume.spec.claim.as_ref().is_some_and(|claim| claim.name == request.name)
        };
        let Some(held) = fresh.filter(holds) else { return Ok(None) };
        match fit::mismatch(&held.volume, request) {
            None => Ok(Some(held)),
            Some(what) => Err(Error::Incompatible {
                claim: request.name.clone(),
                holder: held.volume.name.clone(),
                what,
            }),
        }
    }

    fn nothing_for(&self, request: &ClaimRequest, shortage: Shortage) -> Error {
        // A pool that nobody configured, or of another mode, says more than numbers.
        match self.shared.with_pool(request, |_| ()) {
            Err(error) => error,
            Ok(()) => Error::Exhausted {
                pool: request.pool.clone(),
                range: request.range,
                shortage: Box::new(shortage),
            },
        }
    }
}

/// What of `filesystem` no volume of `pool` can ever have, and what to ask for instead.
fn not_offered(pool: &Pool, filesystem: &Filesystem) -> Option<(String, &'static str)> {
    if filesystem.own && !pool.accept.device {
        let instead = "leave them out, or use a pool of devices";
        return Some(("mount flags of a whole file system".into(), instead));
    }
    let asked = filesystem.fs_type.as_ref()?;
    let devices_only = !pool.accept.mount && !pool.accept.directory;
    let never = devices_only && FsType::named(asked).is_none();
    never.then(|| (format!("file system type {asked:?}"), "Berth makes ext4 and xfs"))
}

fn is_live(recorded: &Recorded, id: &VolumeId) -> bool {
    let spec = &recorded.volume.spec;
    spec.claim.is_some() && spec.tenancy == id.tenancy
}

/// Why a release was not written.
enum Kept {
    Ended,
    Inventory(inventory::Error),
}

impl From<inventory::Error> for Kept {
    fn from(error: inventory::Error) -> Self {
        Self::Inventory(error)
    }
}

/// What the index has for a claim.
pub(crate) enum Choice {
    /// It holds this volume.
    Held(VolumeName),
    /// This volume, which nobody else is offered meanwhile.
    SetAside(Recorded),
    /// Only volumes that are set aside for other claims: one of them may be given up again, or be this very claim's.
    Wait,
    /// Nothing, and why.
    Nothing(Shortage),
}

/// A volume that is set aside for a claim, until this is dropped.
struct SetAside<'a, I> {
    shared: &'a Shared<I>,
    name: &'a VolumeName,
}

impl<I> Drop for SetAside<'_, I> {
    fn drop(&mut self) {
        self.shared.write().put_back(self.name);
        self.shared.settled.notify_waiters();
    }
}

/// How an attempt to give a volume to a claim ended.
enum Given {
    /// The claim holds it.
    Here(Box<Recorded>),
    /// The claim holds another.
    Elsewhere(VolumeName),
    /// Another writer came first, of which the index now knows.
    Lost,
}

impl<I: Inventory> Shared<I> {
    fn check_ready(&self) -> Result<(), Error> {
        if *self.ready.borrow() { Ok(()) } else { Err(Error::NotReady) }
    }

    /// Gives a volume that was set aside to the claim that it was set aside for.
    async fn give(&self, volume: &Recorded, request: &ClaimRequest) -> Result<Given, Error> {
        let name = &volume.volume.name;
        let _until_the_end = SetAside { shared: self, name };
        let claim = Claim {
            name: request.name.clone(),
            pvc: request.pvc.clone(),
            range: request.range,
            at: Timestamp::now(),
        };
        let refused = |source| Error::Refused { volume: name.clone(), source };
        let fingerprint = &volume.volume.status.fingerprint;
        let policy = self.with_pool(request, |pool| pool.clean_of(fingerprint).clone())?;
        let spec = volume.volume.claimed(claim, policy).map_err(refused)?;
        match self.inventory.decide(name, volume.version, spec).await {
            Ok(given) => {
                self.write().update(given.clone());
                Ok(Given::Here(Box::new(given)))
            }
            Err(inventory::Error::ClaimNameTaken { holder, .. }) => Ok(Given::Elsewhere(holder)),
            Err(inventory::Error::Conflict(_) | inventory::Error::NotFound(_)) => {
                self.learn(name, Some(volume.version), self.inventory.get(name).await)?;
                Ok(Given::Lost)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What `look` sees of the request's pool.
    fn with_pool<T>(
        &self,
        request: &ClaimRequest,
        look: impl FnOnce(&Pool) -> T,
    ) -> Result<T, Error> {
        let pools = self.pools.borrow();
        match pools.get(&request.pool) {
            None => Err(Error::UnknownPool {
                pool: request.pool.clone(),
                known: pools.keys().cloned().collect(),
            }),
            Some(pool) if pool.mode != request.mode => Err(Error::WrongMode {
                pool: request.pool.clone(),
                mode: pool.mode,
                asked: request.mode,
            }),
            Some(pool) => match not_offered(pool, &request.filesystem) {
                Some((what, instead)) => {
                    Err(Error::NotOffered { pool: pool.name.clone(), what, instead })
                }
                None => Ok(look(pool)),
            },
        }
    }

    /// What was decided about a volume before this call, by whomever.
    async fn latest(&self, name: &VolumeName) -> Result<Option<Recorded>, Error> {
        let known = self.read().get(name).map(|known| known.version);
        self.learn(name, known, self.inventory.latest(name).await)
    }

    /// Lets the index, which `known` was in before, learn what was `read` of a volume: of what it does not know the watch tells.
    fn learn(
        &self,
        name: &VolumeName,
        known: Option<Version>,
        read: Result<Recorded, inventory::Error>,
    ) -> Result<Option<Recorded>, Error> {
        let known = known.unwrap_or(Version(0));
        match read {
            Ok(fresh) => {
                self.write().correct(known, fresh.clone());
                Ok(Some(fresh))
            }
            Err(inventory::Error::NotFound(_)) => {
                self.write().remove(name, known);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

// Nothing panics while it holds the lock: a poisoned one is as good.
impl<I> Shared<I> {
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
