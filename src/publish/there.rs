//! Whether a volume is where its orchestrator believes it to be, for those who ask after its health.

use std::path::PathBuf;

use super::error::Error;
use super::shown::{Subject, is_mounted_when_staged};
use super::stats::At;
use super::{LOOK, Publisher};
use crate::host::mount::{Kind, Seen};
use crate::inventory::Inventory;
use crate::volume::VolumeId;

/// Where a volume is to be looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// The staging path, if it is known.
    pub staging: Option<PathBuf>,
    /// Targets.
    pub targets: Vec<PathBuf>,
}

impl<I: Inventory> Publisher<I> {
    /// At which of the paths that `expected` names the volume is not; where it names none, those at which the volume was
    /// put. Its source has to be well.
    pub async fn absent(&self, id: &VolumeId, expected: Expected) -> Result<Vec<PathBuf>, Error> {
        let volume = self.find(id).await?;
        let named = expected.staging.is_some() || !expected.targets.is_empty();
        let expected = if named { expected } else { self.put_at(id, &volume) };
        let turn = self.look(id, volume.status.path.as_ref()).await?;
        let (id, volume) = (id.clone(), volume);
        let look = move || {
            Subject::open(&id, &volume)?;
            let is_there = |path: PathBuf| {
                let at = At { id: id.clone(), volume: volume.clone(), path };
                match at.verified() {
                    Ok(_) => Ok(None),
                    Err(Error::NotHere { path, .. }) => Ok(Some(path)),
                    Err(error) => Err(error),
                }
            };
            let (staging, targets) = (expected.staging, expected.targets);
            let bare = |path: &PathBuf| {
                !is_mounted_when_staged(&volume)
                    && Seen::at(path).is_ok_and(|seen| seen.kind == Kind::Directory)
            };
            let staging = staging.filter(|path| !bare(path));
            let absent = staging.into_iter().chain(targets).map(is_there);
            absent.filter_map(Result::transpose).collect()
        };
        turn.block(LOOK, look).await
    }

    fn put_at(&self, id: &VolumeId, volume: &crate::volume::LocalVolume) -> Expected {
        let places = if self.shared.places.know(id) {
            self.shared.places.published(id)
        } else {
            volume.status.published.clone()
        };
        let (staging, targets): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|place| place.staging);
        Expected {
            staging: staging.into_iter().next().map(|place| place.path.into()),
            targets: targets.into_iter().map(|place| place.path.into()).collect(),
        }
    }
}
