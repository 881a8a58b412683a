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
mod record;
mod request;
mod restore;
mod shown;
mod stage;
mod stats;
mod target;
mod turn;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use error::{Error, Found};
pub use options::Refused;
pub use request::{Access, AccessType, ExpandNode, Publish, Stage, Unpublish, Unstage};
pub use stats::{Stats, Usage};

use crate::inventory::{self, Inventory};
use crate::pool::{Pool, Pools};
use crate::volume::{Fingerprint, Format, LocalVolume, Mode, NodeName, Status, VolumeId};
use clear::Clearing;
use options::Options;
use path::Roots;
use places::{Place, Places};
use plan::Prepare;
use record::Unwritten;
use stage::{Next, Staging};
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
    places: Places,
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
            places: Places::default(),
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

    async fn stage_now(self, request: Stage) -> Result<(), Error> {
        let turn = self.turn(&request.id, &request.staging, Lane::Change)?;
        let task = Arc::new(self.staging(request, &turn).await?);
        let look = task.clone();
        match turn.block(LOOK, move || look.examine()).await? {
            Next::Done(place) => {
                let news = self.shared.places.put(&task.id, place);
                if news { self.record(&task.id).await } else { Ok(()) }
            }
            Next::Bind(place) => self.stage_anew(&task, place, None, &turn).await,
            Next::Device(place, prepare) => {
                self.stage_anew(&task, place, Some(prepare), &turn).await
            }
        }
    }

    async fn staging(&self, request: Stage, turn: &Turn) -> Result<Staging, Error> {
        let Stage { id, staging: path, access } = request;
        let volume = self.find(&id).await?;
        check_kind(&id, &volume, &access.kind)?;
        path::check(&id, &path, &self.shared.roots)?;
        self.learn(&id, &volume, turn).await?;
        let pool = self.pool(&volume);
        Ok(Staging {
            options: options(&id, &access.kind, pool.as_ref(), &volume)?,
            places: self.shared.places.of(&id),
            roots: self.shared.roots.clone(),
            access: access.mode,
            kind: access.kind,
            id,
            volume,
            path,
            pool,
        })
    }

    async fn stage_anew(
        &self,
        task: &Arc<Staging>,
        place: Place,
        prepare: Option<Prepare>,
        turn: &Turn,
    ) -> Result<(), Error> {
        let path = PathBuf::from(&place.published.path);
        // Recorded before it is mounted: a release that comes after a crash in between must see it.
        self.shared.places.put(&task.id, place);
        let staged = match self.record(&task.id).await {
            Ok(()) => self.ready(task, prepare, turn).await,
            Err(error) => Err(error),
        };
        // What is still going on may yet mount it; only unstaging ends that.
        if !matches!(staged, Ok(()) | Err(Error::TooSlow { .. })) {
            self.shared.places.remove(&task.id, &path);
            self.record_soon(&task.id);
        }
        staged
    }

    /// Makes and mounts what `task` needs. Each step that must not be repeated is recorded before and after it.
    async fn ready(
        &self,
        task: &Arc<Staging>,
        prepare: Option<Prepare>,
        turn: &Turn,
    ) -> Result<(), Error> {
        let act = task.clone();
        let fs_type = match prepare {
            None => None,
            Some(Prepare::Mount(fs_type)) => Some(fs_type),
            Some(Prepare::MountEmpty(fs_type)) => {
                let empty = fs_type.clone();
                turn.block(MOUNT, move || act.require_empty(&empty)).await?;
                Some(fs_type)
            }
            Some(Prepare::Format(fs_type)) => {
                let make = fs_type.clone();
                self.record_format(&task.id, &fs_type, false).await?;
                turn.block(FORMAT, move || act.format(&make)).await?;
                Some(fs_type)
            }
        };
        if let Some(fs_type) = &fs_type {
            // From now on the tenant has it, and nothing formats it again.
            self.record_format(&task.id, fs_type, true).await?;
        }
        let act = task.clone();
        turn.block(MOUNT, move || act.attach(fs_type.as_deref())).await
    }

    async fn publish_now(self, request: Publish) -> Result<(), Error> {
        let Publish { id, staging, target: path, access, read_only } = request;
        let turn = self.turn(&id, &path, Lane::Change)?;
        let volume = self.find(&id).await?;
        check_kind(&id, &volume, &access.kind)?;
        path::check(&id, &path, &self.shared.roots)?;
        self.learn(&id, &volume, &turn).await?;
        let pool = self.pool(&volume);
        let task = Target {
            options: options(&id, &access.kind, pool.as_ref(), &volume)?,
            places: self.shared.places.of(&id),
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
        let turn = self.turn(&id, &target, Lane::Change)?;
        let task = self.clearing(&id, &target, &turn).await?;
        let at = turn.block(MOUNT, move || task.unpublish()).await?;
        if self.shared.places.remove(&id, &at) {
            self.record_soon(&id);
        }
        Ok(())
    }

    async fn unstage_now(self, request: Unstage) -> Result<(), Error> {
        let Unstage { id, staging } = request;
        let turn = self.turn(&id, &staging, Lane::Change)?;
        let task = self.clearing(&id, &staging, &turn).await?;
        let at = turn.block(MOUNT, move || task.unstage()).await?;
        self.shared.places.remove(&id, &at);
        // Targets that are no longer mounted were unmounted by somebody else: with the staging path gone, so are they.
        let staged = self.shared.places.of(&id).iter().any(|place| place.published.staging);
        if !staged {
            self.shared.places.forget(&id);
        }
        self.record(&id).await
    }

    /// What is needed to take a volume away, whichever tenancy it is in now and whether or not it is still recorded.
    async fn clearing(&self, id: &VolumeId, path: &Path, turn: &Turn) -> Result<Clearing, Error> {
        path::check(id, path, &self.shared.roots)?;
        let volume = match self.shared.inventory.get(&id.volume).await {
            Ok(recorded) => Some(recorded.volume),
            Err(inventory::Error::NotFound(_)) => None,
            Err(source) => return Err(Error::Inventory { id: id.clone(), source }),
        };
        let volume = volume.filter(|volume| volume.spec.node == self.shared.node);
        if let Some(volume) = volume.as_ref().filter(|volume| volume.spec.tenancy == id.tenancy) {
            self.learn(id, volume, turn).await?;
        }
        if self.shared.places.other_at(id, path).is_some() {
            let (id, path) = (id.clone(), path.to_owned());
            return Err(Error::Occupied { id, path, found: Found::Owned });
        }
        Ok(Clearing {
            places: self.shared.places.of(id),
            roots: self.shared.roots.clone(),
            id: id.clone(),
            path: path.to_owned(),
            volume,
        })
    }

    /// The volume whose tenancy `id` is under way on this node.
    async fn find(&self, id: &VolumeId) -> Result<LocalVolume, Error> {
        let volume = match self.shared.inventory.get(&id.volume).await {
            Ok(recorded) => recorded.volume,
            Err(inventory::Error::NotFound(_)) => return Err(Error::NotFound { id: id.clone() }),
            Err(source) => return Err(Error::Inventory { id: id.clone(), source }),
        };
        if volume.spec.node != self.shared.node || volume.id().as_ref() != Some(id) {
            return Err(Error::NotFound { id: id.clone() });
        }
        Ok(volume)
    }

    fn pool(&self, volume: &LocalVolume) -> Option<Pool> {
        self.shared.pools.borrow().get(&volume.spec.pool).cloned()
    }

    fn turn(&self, id: &VolumeId, path: &Path, lane: Lane) -> Result<Turn, Error> {
        let turn = self.shared.turns.take(id, path, lane);
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
fn options(
    id: &VolumeId,
    kind: &AccessType,
    pool: Option<&Pool>,
    volume: &LocalVolume,
) -> Result<Options, Error> {
    let AccessType::Mount { flags, .. } = kind else { return Ok(Options::default()) };
    let pool = pool.map_or(&[][..], |pool| &pool.mount_options);
    let whole = matches!(volume.status.fingerprint, Fingerprint::Device { .. });
    options::parse(flags, pool, whole).map_err(|source| Error::Flag { id: id.clone(), source })
}

#[cfg(test)]
mod tests;
