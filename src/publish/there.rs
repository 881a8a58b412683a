//! Whether a volume is where its orchestrator believes it to be, for those who ask after its health.

use std::path::PathBuf;

use super::error::Error;
use super::shown::{Form, Subject};
use super::stats::At;
use super::{LOOK, Publisher};
use crate::inventory::Inventory;
use crate::volume::{LocalVolume, VolumeId};

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
    pub async fn absent(
        &self,
        id: &VolumeId,
        mut expected: Expected,
    ) -> Result<Vec<PathBuf>, Error> {
        let volume = self.find(id).await?;
        if Form::of(&volume) == Form::Node {
            // Nothing is mounted there, and the kubelet names another directory than that with which it had the device staged:
            // its own of links to it (`GetGlobalMapPath`).
            expected.staging = None;
        }
        let named = expected.staging.is_some() || !expected.targets.is_empty();
        let put = self.put_at(id, &volume);
        let recorded = put.staging.clone();
        let expected = if named { expected } else { put };
        let turn = self.look(id, volume.status.path.as_ref()).await?;
        let (id, roots) = (id.clone(), self.shared.roots.clone());
        let look = move || {
            Subject::open(&id, &volume)?;
            let is_there = |path: PathBuf| {
                let (id, volume, staging) = (id.clone(), volume.clone(), recorded.clone());
                let at = At { id, volume, path, staging, roots: roots.clone() };
                match at.verified() {
                    Ok(_) => Ok(None),
                    Err(Error::NotHere { path, .. }) => Ok(Some(path)),
                    Err(error) => Err(error),
                }
            };
            let (staging, targets) = (expected.staging, expected.targets);
            let absent = staging.into_iter().chain(targets).map(is_there);
            absent.filter_map(Result::transpose).collect()
        };
        turn.block(LOOK, look).await
    }

    /// Where the volume is staged, as far as is known.
    pub(super) fn staging_of(&self, id: &VolumeId, volume: &LocalVolume) -> Option<PathBuf> {
        self.put_at(id, volume).staging
    }

    fn put_at(&self, id: &VolumeId, volume: &LocalVolume) -> Expected {
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
