//! Where each volume is now: the one truth about targets while the process runs.
//!
//! Read from the inventory and the mount table when a volume is first touched, changed by what is mounted and unmounted,
//! and written back to `status.published` by [`super::record`]. No I/O happens here.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::shown::Shown;
use crate::host::mount::Attributes;
use crate::volume::{Published, VolumeId};

/// One place of a volume, with what the inventory does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// What is recorded.
    pub(super) published: Published,
    /// The attributes that were asked for; not known of a place from before this process.
    pub(super) attributes: Option<Attributes>,
    /// What is mounted there; absent where nothing is, or where that is not known.
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

    /// Learns the places of `id`; what is known already is newer and stays.
    pub(super) fn learn(&self, id: &VolumeId, places: Vec<Place>) {
        self.lock().entry(id.clone()).or_insert(places);
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

    /// Forgets `id`, which is nowhere any more.
    pub(super) fn forget(&self, id: &VolumeId) {
        self.lock().remove(id);
    }

    /// The tenancy other than `id` that is at `path`.
    pub(super) fn other_at(&self, id: &VolumeId, path: &Path) -> Option<VolumeId> {
        let is_at = |places: &[Place]| places.iter().any(|p| Path::new(&p.published.path) == path);
        let all = self.lock();
        let mut others = all.iter().filter(|(other, places)| *other != id && is_at(places));
        others.next().map(|(other, _)| other.clone())
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
