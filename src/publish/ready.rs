//! A volume readied at its staging path: looked at, recorded, formatted where it may be, mounted. Each step that must not
//! be repeated is recorded before and after it.

use std::path::PathBuf;
use std::sync::Arc;

use super::places::Place;
use super::plan::Prepare;
use super::stage::{Next, Staging};
use super::turn::Turn;
use super::{Error, FORMAT, LOOK, MOUNT, Publisher, Stage, check_kind, options_of, path};
use crate::inventory::Inventory;

impl<I: Inventory> Publisher<I> {
    pub(super) async fn stage_now(self, request: Stage) -> Result<(), Error> {
        let turn = self.turn(&request.id, &request.staging)?;
        let task = Arc::new(self.staging(request, &turn).await?);
        let look = task.clone();
        let examined = turn.block(LOOK, move || look.examine()).await;
        if let Err(Error::Source { .. }) = &examined {
            self.end_staging(&task, &turn).await?;
        }
        match examined? {
            Next::Done(place) => {
                let news = self.shared.places.put(&task.id, place);
                if news { self.hold(&task.id).await } else { Ok(()) }
            }
            Next::Record(place) => self.stage_anew(&task, place, None, &turn).await,
            Next::Device(place, prepare) => {
                self.stage_anew(&task, place, Some(prepare), &turn).await
            }
        }
    }

    pub(super) async fn staging(&self, request: Stage, turn: &Turn) -> Result<Staging, Error> {
        let Stage { id, claim, staging: path, access } = request;
        let volume = self.find_for(&id, claim.as_ref()).await?;
        check_kind(&id, &volume, &access.kind)?;
        path::check(&id, &path, &self.shared.roots)?;
        self.learn(&id, &volume, turn).await?;
        let places = self.shared.places.of(&id);
        if !volume.began_clean() && !places.iter().any(|place| place.published.staging) {
            return Err(Error::NotClean { id });
        }
        let pool = self.pool(&volume);
        let reserved = self.reserved(&id).await?;
        let recorded = reserved.volumes.iter().map(|recorded| &recorded.volume.name);
        self.shared.places.forget_all_but(&recorded.collect());
        Ok(Staging {
            options: options_of(&id, &access.kind, pool.as_ref(), &volume)?,
            places,
            reserved,
            roots: self.shared.roots.clone(),
            access: access.mode,
            kind: access.kind,
            id,
            volume,
            path,
            pool,
        })
    }

    pub(super) async fn stage_anew(
        &self,
        task: &Arc<Staging>,
        place: Place,
        prepare: Option<Prepare>,
        turn: &Turn,
    ) -> Result<(), Error> {
        let path = PathBuf::from(&place.published.path);
        // Recorded before it is mounted: a wipe that is due after a crash in between must wait for it.
        self.shared.places.put(&task.id, place);
        let staged = match self.hold(&task.id).await {
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

    /// Takes back that the volume of `task` was staged, where being verified was all there was to it: it can be verified no
    /// more. Whoever is refused may never come to unstage it, as the kubelet does not after a reboot, and what is recorded
    /// as staged is neither released nor forgotten.
    async fn end_staging(&self, task: &Arc<Staging>, turn: &Turn) -> Result<(), Error> {
        let look = task.clone();
        if turn.block(LOOK, move || look.is_mounted()).await? {
            return Ok(());
        }
        self.shared.places.clear(&task.id);
        self.record(&task.id).await
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
            Some(Prepare::Resume(fs_type)) => {
                let begun = fs_type.clone();
                if !turn.block(MOUNT, move || act.was_made(&begun)).await? {
                    self.make(task, &fs_type, turn).await?;
                }
                Some(fs_type)
            }
            Some(Prepare::Format(fs_type)) => {
                self.make(task, &fs_type, turn).await?;
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

    /// Makes a file system of type `fs_type`. That it was begun is recorded before, and taken back where nothing was written:
    /// the record says that what is on the device is nobody's.
    async fn make(&self, task: &Arc<Staging>, fs_type: &str, turn: &Turn) -> Result<(), Error> {
        task.check_format(fs_type)?;
        let before = task.volume.status.format.clone();
        self.record_format(&task.id, fs_type, false).await?;
        let (act, asked) = (task.clone(), fs_type.to_owned());
        let made = turn.block(FORMAT, move || act.format(&asked)).await;
        if let Err(Error::Format { source, .. }) = &made
            && source.wrote_nothing()
        {
            self.set_format(&task.id, before).await?;
        }
        made
    }
}
