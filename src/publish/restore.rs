//! Where volumes are when the process starts, or first meets them: what was recorded and is still mounted, and what is
//! mounted for a tenant and was not recorded before a crash.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;

use super::places::Place;
use super::shown::{Form, Shown, Subject};
use super::turn::Turn;
use super::{Error, LOOK, Publisher, path, path::Roots};
use crate::host::mount::{Kind, Seen};
use crate::host::mountinfo::{Mount, MountTable};
use crate::inventory::Inventory;
use crate::volume::{LocalVolume, Published, VolumeId};

impl<I: Inventory> Publisher<I> {
    /// Learns where this node's volumes are, and corrects the record. Call it before serving; a volume whose disk does
    /// not answer is taken to be where it was recorded.
    pub async fn restore(&self) -> Result<(), crate::inventory::Error> {
        let volumes = self.shared.inventory.list().await?.into_iter().map(|all| all.volume);
        let own = volumes.filter(|volume| {
            volume.spec.node == self.shared.node && !volume.status.published.is_empty()
        });
        // One reading for all; each asks whether it is still so.
        let table = tokio::task::spawn_blocking(|| MountTable::read().ok().map(Arc::new));
        let table = table.await.ok().flatten();
        // Side by side: each dead disk among them takes its whole deadline.
        join_all(own.map(|volume| self.restore_one(volume, table.clone()))).await;
        Ok(())
    }

    async fn restore_one(&self, volume: Arc<LocalVolume>, table: Option<Arc<MountTable>>) {
        let id = VolumeId { volume: volume.name.clone(), tenancy: volume.spec.tenancy };
        let learned = match self.turn(&id, Path::new(&volume.status.path)) {
            Ok(turn) => self.learn_from(&id, &volume, table, &turn).await,
            Err(error) => Err(error),
        };
        match learned {
            Ok(()) => self.record_soon(&id),
            Err(error) => tracing::warn!(volume = %id, error = crate::causes::chain(&error),
                "where the volume is published could not be checked"),
        }
    }

    /// Learns where `volume` is, unless that is known.
    pub(super) async fn learn(
        &self,
        id: &VolumeId,
        volume: &LocalVolume,
        turn: &Turn,
    ) -> Result<(), Error> {
        self.learn_from(id, volume, None, turn).await
    }

    async fn learn_from(
        &self,
        id: &VolumeId,
        volume: &LocalVolume,
        table: Option<Arc<MountTable>>,
        turn: &Turn,
    ) -> Result<(), Error> {
        if self.shared.places.know(id) {
            return Ok(());
        }
        if volume.status.published.is_empty() {
            self.shared.places.learn(id, Vec::new());
            return Ok(());
        }
        let (id_of, roots) = (id.clone(), self.shared.roots.clone());
        let task = Survey { id: id_of, volume: volume.clone(), roots, table };
        let recorded = task.recorded();
        let places = match turn.block(LOOK, move || task.places()).await {
            Err(Error::TooSlow { .. }) => recorded,
            places => places?,
        };
        self.shared.places.learn(id, places);
        Ok(())
    }
}

struct Survey {
    id: VolumeId,
    volume: LocalVolume,
    roots: Roots,
    /// What was read already.
    table: Option<Arc<MountTable>>,
}

impl Survey {
    /// The places that are recorded, without a look at them. One at which nothing may be mounted was never made here, and
    /// nothing is taken away from there, whatever a record says.
    fn recorded(&self) -> Vec<Place> {
        let possible = |published: &&Published| {
            path::check(&self.id, Path::new(&published.path), &self.roots).is_ok()
        };
        let recorded = self.volume.status.published.iter().filter(possible).cloned();
        recorded.map(|published| Place { published, shown: None }).collect()
    }

    fn places(&self) -> Result<Vec<Place>, Error> {
        let read = self.table.clone().filter(|table| table.is_current());
        let table = read.map_or_else(|| MountTable::read().map(Arc::new), Ok);
        let table = table.map_err(|source| Error::Host { id: self.id.clone(), source })?;
        let subject = Subject::open(&self.id, &self.volume).ok();
        let recorded = self.recorded().into_iter();
        let form = Form::of(&self.volume);
        let still = |place| still_there(place, form, &table, subject.as_ref());
        let mut places: Vec<_> = recorded.filter_map(still).collect();
        // What is staged is this tenancy's, whether or not that has ended.
        let staged = places.iter().find(|place| place.published.staging);
        if let (Some(subject), Some(staged)) = (subject, staged) {
            let unrecorded = self.unrecorded(&table, &subject, &staged.published, &places);
            places.extend(unrecorded);
        }
        Ok(places)
    }

    /// Mounts of the volume that are neither recorded nor the administrator's: the process that made them ended before
    /// it wrote them down.
    fn unrecorded(
        &self,
        table: &MountTable,
        subject: &Subject,
        staged: &Published,
        known: &[Place],
    ) -> Vec<Place> {
        let is_tenants = |mount: &&Mount| {
            let point = &mount.mount_point;
            !known.iter().any(|place| place.is_at(point))
                && !path::is_administrators(&self.volume, point)
                && path::check(&self.id, point, &self.roots).is_ok()
                && shows(&subject.shown, mount)
        };
        let place = |mount: &Mount| {
            let published = Published {
                path: mount.mount_point.to_str()?.to_owned(),
                staging: false,
                read_only: mount.is_read_only(),
                access: staged.access,
                flags: None,
            };
            Some(Place { published, shown: Some(subject.shown.clone()) })
        };
        table.iter().filter(is_tenants).filter_map(place).collect()
    }
}

/// Whether `mount` shows `shown`. Of mounts of a single file only those that can be of a device node are looked at.
fn shows(shown: &Shown, mount: &Mount) -> bool {
    let may_be_node = mount.fs_type == "devtmpfs" || mount.fs_type == "tmpfs";
    matches!(shown, Shown::Mount { .. }) && shown.is_shown_by(mount)
        || may_be_node && shown.is_shown_by(mount)
}

/// `place`, if it still is one: what is mounted there now is remembered, so that only that is ever taken away.
fn still_there(
    place: Place,
    form: Form,
    table: &MountTable,
    subject: Option<&Subject>,
) -> Option<Place> {
    let path = Path::new(&place.published.path);
    let subject = subject.map(|subject| &subject.shown);
    // It is staged as long as the caller keeps the directory. A mount there is one that an earlier version made.
    if place.published.staging && !form.is_mounted_when_staged() {
        let kept = Seen::at(path).is_ok_and(|seen| seen.kind == Kind::Directory);
        let there = || table.at(path).map_or(Shown::Nothing, Shown::by);
        let shown = Some(subject.cloned().unwrap_or_else(there));
        return kept.then_some(Place { shown, ..place });
    }
    let mount = table.at(path)?;
    let own = subject.filter(|shown| shown.is_shown_by(mount));
    let shown = Some(own.cloned().unwrap_or_else(|| Shown::by(mount)));
    Some(Place { shown, ..place })
}
