//! Where each volume is now: the one truth about targets while the process runs.
//!
//! Read from the inventory and the mount table when a volume is first touched, changed by what is mounted and unmounted,
//! and written back to `status.published` by [`super::record`]. No I/O happens here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::shown::Shown;
use crate::host::DeviceNumber;
use crate::volume::{Published, VolumeId, VolumeName};

/// One place of a volume, with what the inventory does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// What is recorded.
    pub(super) published: Published,
    /// What is mounted there; absent where that is not known.
    pub(super) shown: Option<Shown>,
}

/// The places of every volume, the staging path among them.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<BTreeMap<VolumeId, Vec<Place>>>);

impl Places {
    /// Whether the places of `id` are known.
    pub(super) fn know(&self, id: &VolumeId) -> bool {
        self.lock().contains_key(id)
    }

    /// Learns the places of `id`; what is known already is newer and stays. Earlier tenancies that are nowhere any more
    /// are forgotten.
    pub(super) fn learn(&self, id: &VolumeId, places: Vec<Place>) {
        let mut all = self.lock();
        all.entry(id.clone()).or_insert(places);
        all.retain(|other, places| {
            other.volume != id.volume || other.tenancy >= id.tenancy || !places.is_empty()
        });
    }

    /// The places of `id`.
    pub(super) fn of(&self, id: &VolumeId) -> Vec<Place> {
        self.lock().get(id).cloned().unwrap_or_default()
    }

    /// What of the places of `id` is recorded, in the order of paths.
    pub(super) fn published(&self, id: &VolumeId) -> Vec<Published> {
        let places = self.of(id).into_iter();
        let mut published: Vec<_> = places.map(|place| place.published).collect();
        published.sort_by(|one, other| one.path.cmp(&other.path));
        published
    }

    /// Notes that `id` is at `place`, and tells whether that is news for the record.
    pub(super) fn put(&self, id: &VolumeId, place: Place) -> bool {
        let mut all = self.lock();
        let places = all.entry(id.clone()).or_default();
        let known = places.iter_mut().find(|known| known.published.path == place.published.path);
        let Some(known) = known else {
            places.push(place);
            return true;
        };
        let news = known.published != place.published;
        *known = place;
        news
    }

    /// Notes that `id` is no longer at `path`, and tells whether it was.
    pub(super) fn remove(&self, id: &VolumeId, path: &Path) -> bool {
        let mut all = self.lock();
        let Some(places) = all.get_mut(id) else { return false };
        let before = places.len();
        places.retain(|place| Path::new(&place.published.path) != path);
        places.len() != before
    }

    /// Notes that `id` is nowhere any more. That is kept: the record may tell of its places for a while yet.
    pub(super) fn clear(&self, id: &VolumeId) {
        self.lock().insert(id.clone(), Vec::new());
    }

    /// Forgets what is nowhere any more and is no volume of `recorded`: there is no record of it, old or new, to be checked.
    pub(super) fn forget_all_but(&self, recorded: &BTreeSet<&VolumeName>) {
        self.lock().retain(|id, places| !places.is_empty() || recorded.contains(&id.volume));
    }

    /// Whether a tenancy other than `id`, of any volume, is at `path`.
    pub(super) fn is_anothers(&self, id: &VolumeId, path: &Path) -> bool {
        self.any_other(id, |place| place.is_at(path))
    }

    /// Whether a tenancy other than `id` is staged at `path`.
    pub(super) fn is_staged_by_another(&self, id: &VolumeId, path: &Path) -> bool {
        self.any_other(id, |place| place.published.staging && place.is_at(path))
    }

    /// Whether `inside`, a path within the file system on `device`, is within something that is mounted for a tenant.
    pub(super) fn have(&self, device: DeviceNumber, inside: &Path) -> bool {
        let has = |place: &Place| match &place.shown {
            Some(Shown::Mount { device: on, root }) => *on == device && inside.starts_with(root),
            _ => false,
        };
        self.lock().values().flatten().any(has)
    }

    fn any_other(&self, id: &VolumeId, is_it: impl Fn(&Place) -> bool) -> bool {
        let all = self.lock();
        let others = all.iter().filter(|(other, _)| *other != id);
        others.flat_map(|(_, places)| places).any(is_it)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VolumeId, Vec<Place>>> {
        // Each change is one call on a collection: a panic elsewhere leaves no half of one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whether it is `path`.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        Path::new(&self.published.path) == path
    }
}
