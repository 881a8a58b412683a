//! Mount: stage, publish, unpublish, unstage, statistics, formatting and expansion. The CSI edge calls [`Publisher`].
//!
//! Each operation opens the volume's source once, verifies its fingerprint and acts on that descriptor: what was checked is
//! what is mounted. `plan` decides, purely; `stage`, `target`, `clear` and `device` act, and block, on threads of their own
//! with a deadline; `places` is the one truth about where volumes are, rebuilt from the record and the mount table.
//! An operation goes on to its end when its caller gives up; whoever comes back meanwhile is told so.

mod clear;
mod device;
mod error;
mod expand;
mod options;
mod path;
mod places;
mod plan;
mod ready;
pub(crate) mod record;
mod request;
mod reserved;
mod restore;
mod shown;
mod stage;
mod stats;
mod target;
mod there;
mod turn;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use error::{Error, Found};
pub use options::{MountFlags, Refused};
pub use request::{Access, AccessType, ExpandNode, Publish, Stage, Unpublish, Unstage};
pub use stats::{Stats, Usage};
pub use there::Expected;

use crate::inventory::{self, Inventory};
use crate::pool::{Pool, Pools};
use crate::volume::{
    ClaimName, Fingerprint, Format, LocalVolume, Mode, NodeName, Status, VolumeId,
};
use clear::Clearing;
use options::Options;
use path::Roots;
use places::Places;
use record::Unwritten;
use reserved::Reserved;
use target::Target;
use turn::{Lane, Turn, Turns};

/// How long a look at a volume may take.
const LOOK: Duration = Duration::from_secs(15);
/// How long mounting and unmounting may take: a journal is replayed, or what was written is flushed.
const MOUNT: Duration = Duration::from_secs(100);
/// How long making a file system may take. Its caller gives up before and finds it done when it comes back.
const FORMAT: Duration = Duration::from_hours(1);

/// Mounts the volumes of one node. Clones share everything.
#[derive(Debug)]
pub struct Publisher<I> {
    shared: Arc<Shared<I>>,
}

#[derive(Debug)]
struct Shared<I> {
    inventory: I,
    node: NodeName,
    pools: watch::Receiver<Arc<Pools>>,
    roots: Roots,
    places: Arc<Places>,
    turns: Turns,
    unwritten: Unwritten,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl<I> Clone for Publisher<I> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<I: Inventory> Publisher<I> {
    /// A publisher for the volumes of `node`, whose configuration is `pools`. It mounts beneath `allowed_roots` only, or
    /// anywhere if there are none. Call [`Publisher::restore`] before it serves and [`Publisher::drain`] at the end.
    pub fn new(
        inventory: I,
        node: NodeName,
        pools: watch::Receiver<Arc<Pools>>,
        allowed_roots: Vec<PathBuf>,
    ) -> Self {
        let shared = Shared {
            inventory,
            node,
            pools,
            roots: allowed_roots.into(),
            places: Arc::default(),
            turns: Turns::default(),
            unwritten: Unwritten::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Verifies the volume and readies it at the staging path. A volume that is staged there so already is left as it is.
    pub async fn stage(&self, request: Stage) -> Result<(), Error> {
        let this = self.clone();
        self.to_the_end(request.id.clone(), async move { this.stage_now(request).await }).await
    }

    /// Takes the volume away from the staging path; not being there is no error.
    pub async fn unstage(&self, request: Unstage) -> Result<(), Error> {
        let this = self.clone();
        self.to_the_end(request.id.clone(), async move { this.unstage_now(request).await }).await
    }

    /// Mounts the staged volume at the target path. One that is there so already is left as it is.
    pub async fn publish(&self, request: Publish) -> Result<(), Error> {
        let this = self.clone();
        self.to_the_end(request.id.clone(), async move { this.publish_now(request).await }).await
    }

    /// Takes the volume away from the target path and removes the empty directory or file there; not being there is no
    /// error.
    pub async fn unpublish(&self, request: Unpublish) -> Result<(), Error> {
        let this = self.clone();
        self.to_the_end(request.id.clone(), async move { this.unpublish_now(request).await }).await
    }

    /// Waits for the operations under way and for what they have to record. No new one begins. Bound it by the time that
    /// the process has: a dead disk ends nothing, and what was not recorded is found again by [`Publisher::restore`].
    pub async fn drain(&self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    async fn publish_now(self, request: Publish) -> Result<(), Error> {
        let Publish { id, claim, staging, target: path, access, read_only } = request;
        let turn = self.turn(&id, &path)?;
        let volume = self.find_for(&id, claim.as_ref()).await?;
        check_kind(&id, &volume, &access.kind)?;
        path::check(&id, &path, &self.shared.roots)?;
        self.learn(&id, &volume, &turn).await?;
        let pool = self.pool(&volume);
        let task = Target {
            options: options_of(&id, &access.kind, pool.as_ref(), &volume)?,
            fs_type: access.kind.fs_type().map(str::to_owned),
            places: self.shared.places.of(&id),
            reserved: self.reserved(&id).await?,
            roots: self.shared.roots.clone(),
            pool_known: pool.is_some(),
            access: access.mode,
            id: id.clone(),
            path: path.clone(),
            volume,
            staging,
            read_only,
        };
        let place = turn.block(LOOK, move || task.publish()).await?;
        if self.shared.places.put(&id, place) {
            self.record_soon(&id);
        }
        Ok(())
    }

    async fn unpublish_now(self, request: Unpublish) -> Result<(), Error> {
        let Unpublish { id, target } = request;
        let turn = self.turn(&id, &target)?;
        let task = self.clearing(&id, &target, &turn).await?;
        let at = turn.block(MOUNT, move || task.unpublish()).await?;
        if self.shared.places.remove(&id, &at) {
            self.record_soon(&id);
        }
        Ok(())
    }

    async fn unstage_now(self, request: Unstage) -> Result<(), Error> {
        let Unstage { id, staging } = request;
        let turn = self.turn(&id, &staging)?;
        let task = self.clearing(&id, &staging, &turn).await?;
        let at = turn.block(MOUNT, move || task.unstage()).await?;
        self.shared.places.remove(&id, &at);
        // Targets that are no longer mounted were unmounted by somebody else: with the staging path gone, so are they.
        let staged = self.shared.places.of(&id).iter().any(|place| place.published.staging);
        if !staged {
            self.shared.places.clear(&id);
        }
        self.record(&id).await
    }

    /// What is needed to take a volume away, whichever tenancy it is in now and whether or not it is still recorded.
    async fn clearing(&self, id: &VolumeId, path: &Path, turn: &Turn) -> Result<Clearing, Error> {
        path::check(id, path, &self.shared.roots)?;
        let volume = match self.shared.inventory.get(&id.volume).await {
            Ok(recorded) => Some(Arc::unwrap_or_clone(recorded.volume)),
            Err(inventory::Error::NotFound(_)) => None,
            Err(source) => return Err(Error::Inventory { id: id.clone(), source }),
        };
        let volume = volume.filter(|volume| volume.spec.node == self.shared.node);
        if let Some(volume) = volume.as_ref().filter(|volume| volume.spec.tenancy == id.tenancy) {
            self.learn(id, volume, turn).await?;
        }
        Ok(Clearing {
            places: self.shared.places.of(id),
            reserved: self.reserved(id).await?,
            roots: self.shared.roots.clone(),
            id: id.clone(),
            path: path.to_owned(),
            volume,
        })
    }

    /// The volume whose tenancy `id` is under way on this node.
    async fn find(&self, id: &VolumeId) -> Result<LocalVolume, Error> {
        self.find_for(id, None).await
    }

    /// As [`Self::find`], and for this claim, where it is said for which.
    async fn find_for(
        &self,
        id: &VolumeId,
        claim: Option<&ClaimName>,
    ) -> Result<LocalVolume, Error> {
        let is_it = |volume: &LocalVolume| {
            volume.spec.node == self.shared.node && volume.is_tenancy(id, claim)
        };
        let known = self.shared.inventory.get(&id.volume).await;
        // A claim may be so new that this node has not heard of it.
        let found = match known {
            Ok(known) if is_it(&known.volume) => Ok(known),
            _ => self.shared.inventory.latest(&id.volume).await,
        };
        match found {
            Ok(found) if is_it(&found.volume) => Ok(Arc::unwrap_or_clone(found.volume)),
            Ok(_) | Err(inventory::Error::NotFound(_)) => Err(Error::NotFound { id: id.clone() }),
            Err(source) => Err(Error::Inventory { id: id.clone(), source }),
        }
    }

    /// Where on this node nothing is mounted for a tenant.
    async fn reserved(&self, id: &VolumeId) -> Result<Reserved, Error> {
        let all = self.shared.inventory.list().await;
        Ok(Reserved {
            roots: self.shared.roots.clone(),
            pools: self.shared.pools.borrow().clone(),
            volumes: all.map_err(|source| Error::Inventory { id: id.clone(), source })?,
            node: self.shared.node.clone(),
            places: self.shared.places.clone(),
        })
    }

    fn pool(&self, volume: &LocalVolume) -> Option<Pool> {
        self.shared.pools.borrow().get(&volume.spec.pool).cloned()
    }

    fn turn(&self, id: &VolumeId, path: &Path) -> Result<Turn, Error> {
        let turn = self.shared.turns.take(id, path, Lane::Change);
        turn.ok_or_else(|| Error::Pending { id: id.clone() })
    }

    /// The turn to look at the volume, once earlier looks have ended.
    async fn look(&self, id: &VolumeId, path: &Path) -> Result<Turn, Error> {
        let turn = self.shared.turns.wait(id, path, Lane::Look, LOOK).await;
        turn.ok_or_else(|| Error::Pending { id: id.clone() })
    }

    /// Runs `operation` to its end, even when the caller is gone.
    async fn to_the_end<T: Send + 'static>(
        &self,
        id: VolumeId,
        operation: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        if self.shared.stopping.is_cancelled() {
            return Err(Error::Stopping { id });
        }
        let task = self.shared.tasks.spawn(operation);
        task.await.unwrap_or_else(|_| Err(Error::Stopping { id }))
    }
}

/// Whether the volume can be had as `kind`.
fn check_kind(id: &VolumeId, volume: &LocalVolume, kind: &AccessType) -> Result<(), Error> {
    match (volume.spec.mode, kind) {
        (Mode::Block, AccessType::Block) | (Mode::Filesystem, AccessType::Mount { .. }) => Ok(()),
        (mode, _) => Err(Error::AccessType { id: id.clone(), mode }),
    }
}

/// What the volume is mounted with: what the claim asks for and what its pool adds.
fn options_of(
    id: &VolumeId,
    kind: &AccessType,
    pool: Option<&Pool>,
    volume: &LocalVolume,
) -> Result<Options, Error> {
    let AccessType::Mount { flags, .. } = kind else { return Ok(Options::default()) };
    let whole = matches!(volume.status.fingerprint, Fingerprint::Device { .. });
    flags.check(whole).map_err(|source| Error::Flag { id: id.clone(), source })?;
    let pool = pool.map_or(&[][..], |pool| &pool.mount_options);
    Ok(Options { flags: flags.clone(), pool: options::of_pool(pool) })
}

#[cfg(test)]
mod tests;
