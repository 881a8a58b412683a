//! A volume taken away from a path: unmounted for as long as what is mounted there is its own. Blocks.
//!
//! What lies beneath a mount is never deleted: one empty directory or one empty file is removed, nothing else. The volume
//! itself is not touched, since its disk may be dead and its mounts have to go all the same.

use std::path::PathBuf;

use super::error::{Error, Found};
use super::places::Place;
use super::reserved::Reserved;
use super::shown::{Shown, Subject};
use super::target::mounted;
use super::{path, path::Roots};
use crate::host::mount::{Kind, Spot};
use crate::host::mountinfo::Mount;
use crate::host::{self, Errno};
use crate::volume::{LocalVolume, VolumeId};

/// A path from which a volume is to be taken away.
#[derive(Debug)]
pub(super) struct Clearing {
    pub(super) id: VolumeId,
    /// The volume, whichever tenancy it is in now; absent when the inventory has none of that name.
    pub(super) volume: Option<LocalVolume>,
    pub(super) path: PathBuf,
    pub(super) roots: Roots,
    /// Where this tenancy of it is, as far as is known.
    pub(super) places: Vec<Place>,
    pub(super) reserved: Reserved,
}

impl Clearing {
    /// Takes the volume away from a target and removes the directory or file there, never anything in it. Gives the
    /// place as the record has it.
    pub(super) fn unpublish(&self) -> Result<PathBuf, Error> {
        let spot = path::open(&self.id, &self.path, &self.roots)?;
        let Some(spot) = spot else { return Ok(self.path.clone()) };
        self.check_place(&spot)?;
        self.clear(&spot)?;
        let left = || Error::LeftBehind { id: self.id.clone(), path: spot.path().to_owned() };
        let kind = spot.look().map_err(|e| self.host(e))?.map(|seen| seen.kind);
        let removed = match kind {
            None => Ok(()),
            Some(Kind::Directory) => spot.remove_directory(),
            Some(Kind::File(0)) => spot.remove_file(),
            Some(_) => return Err(left()),
        };
        match removed {
            Err(host::Error { errno: Errno::NOTEMPTY | Errno::EXIST, .. }) => Err(left()),
            // Another caller, the kubelet say, was faster.
            Err(host::Error { errno: Errno::NOENT, .. }) | Ok(()) => Ok(spot.path().to_owned()),
            Err(error) => Err(self.host(error)),
        }
    }

    /// Takes the volume away from its staging path and leaves the directory, which is the caller's.
    pub(super) fn unstage(&self) -> Result<PathBuf, Error> {
        let targets = self.places.iter().filter(|place| !place.published.staging);
        let targets = mounted(targets.cloned().collect()).map_err(|e| self.host(e))?;
        if !targets.is_empty() {
            let targets = targets.into_iter().map(|place| place.published.path.into());
            return Err(Error::StillPublished { id: self.id.clone(), targets: targets.collect() });
        }
        let spot = path::open(&self.id, &self.path, &self.roots)?;
        let Some(spot) = spot else { return Ok(self.path.clone()) };
        self.check_place(&spot)?;
        self.clear(&spot)?;
        Ok(spot.path().to_owned())
    }

    /// Makes sure that `spot` is neither the administrator's nor another tenancy's: by its path without symlinks, whichever
    /// way it was named.
    fn check_place(&self, spot: &Spot) -> Result<(), Error> {
        self.reserved.check(&self.id, spot)?;
        if self.reserved.places.is_anothers(&self.id, spot.path()) {
            return Err(self.occupied(spot, Found::Owned));
        }
        Ok(())
    }

    /// Unmounts until `spot` is no mount point, each mount only if it is the volume's.
    fn clear(&self, spot: &Spot) -> Result<(), Error> {
        loop {
            let mount = spot.mount().map_err(|e| self.host(e))?;
            let Some(mount) = mount else { return Ok(()) };
            self.check_owned(spot, &mount)?;
            match spot.unmount() {
                Err(host::Error { errno: Errno::BUSY, .. }) => {
                    let (id, path) = (self.id.clone(), spot.path().to_owned());
                    return Err(Error::InUse { id, path });
                }
                result => result.map_err(|e| self.host(e))?,
            }
        }
    }

    /// Makes sure that `mount`, the topmost at `spot`, is the volume's: by what was mounted there, by the record alone
    /// where nothing better is known, or by the source as it is now.
    fn check_owned(&self, spot: &Spot, mount: &Mount) -> Result<(), Error> {
        match self.places.iter().find(|place| place.is_at(spot.path())) {
            Some(Place { shown: None, .. }) => Ok(()),
            Some(Place { shown: Some(shown), .. }) if shown.is_shown_by(mount) => Ok(()),
            _ if self.source().is_some_and(|shown| shown.is_shown_by(mount)) => Ok(()),
            _ => Err(self.occupied(spot, mount.into())),
        }
    }

    /// What the volume's source shows now, if that is there and the recorded one. Mounts of it are this tenancy's only as
    /// long as no later one is under way.
    fn source(&self) -> Option<Shown> {
        let volume = self.volume.as_ref()?;
        if volume.id().is_some_and(|live| live != self.id) {
            return None;
        }
        Subject::open(&self.id, volume).ok().map(|subject| subject.shown)
    }

    fn occupied(&self, spot: &Spot, found: Found) -> Error {
        Error::Occupied { id: self.id.clone(), path: spot.path().to_owned(), found }
    }

    fn host(&self, source: host::Error) -> Error {
        Error::Host { id: self.id.clone(), source }
    }
}
