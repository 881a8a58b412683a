//! Where volumes are, written down: at once where somebody decides by it, else soon and together.
//!
//! Staging and unstaging wait for the record, since the cleaner trusts it; publishing does not wait for a disk. What
//! a crash keeps from being written is read back from the mount table by [`super::restore`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Error, Format, Publisher, Status};
use crate::inventory::{self, Inventory};
use crate::volume::{LocalVolume, Published, VolumeId};

/// How long to wait before writing again what could not be written.
const RETRY: Duration = Duration::from_secs(1);

/// Volumes of which something is to be written down.
#[derive(Debug, Default)]
pub(super) struct Unwritten(Mutex<HashMap<VolumeId, Round>>);

/// What the one task that writes for a volume has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// It writes; nothing came since it read.
    Writing,
    /// It has to write once more.
    Again,
}

impl Unwritten {
    /// Asks for a round; whether nobody writes for `id`, so that the caller has to.
    fn ask(&self, id: &VolumeId) -> bool {
        self.lock().insert(id.clone(), Round::Again).is_none()
    }

    /// Begins a round if one was asked for, else lets go of `id`.
    fn begin(&self, id: &VolumeId) -> bool {
        let mut rounds = self.lock();
        let asked = rounds.get(id) == Some(&Round::Again);
        if asked {
            rounds.insert(id.clone(), Round::Writing);
        } else {
            rounds.remove(id);
        }
        asked
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<VolumeId, Round>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: Inventory> Publisher<I> {
    /// Writes down where `id` is now, also once its tenancy has ended: the wipe after it waits for that. A volume that is
    /// gone, or in another tenancy, has nothing to be written.
    pub(super) async fn record(&self, id: &VolumeId) -> Result<(), Error> {
        let write = self.shared.inventory.modify_status(&id.volume, |volume| {
            // Read here and not before: of two writers the later one writes what is true then.
            recorded(volume, id, self.shared.places.published(id))
        });
        outcome(id, write.await)
    }

    /// Writes down where `id` is before it is mounted there: from then on it is not wiped. [`Error::NotFound`] if its
    /// tenancy has ended.
    ///
    /// It is written even where that changes nothing. What was read may be old, and then the write is what fails: this
    /// orders it with the end of the tenancy, which another process writes and which knows no turns.
    pub(super) async fn hold(&self, id: &VolumeId) -> Result<(), Error> {
        let mut current = false;
        let write = self.shared.inventory.modify_status(&id.volume, |volume| {
            let status = held_at(volume, id, self.shared.places.published(id));
            current = status.is_some();
            status
        });
        let written = write.await;
        if written.is_ok() && !current {
            return Err(Error::NotFound { id: id.clone() });
        }
        held(id, written)
    }

    /// Writes down where `id` is, after this call and no matter how often it is called meanwhile.
    pub(super) fn record_soon(&self, id: &VolumeId) {
        if !self.shared.unwritten.ask(id) {
            return;
        }
        let (this, id) = (self.clone(), id.clone());
        self.shared.tasks.spawn(async move {
            // Begun before the places are read: a change that comes later asks for another round.
            while this.shared.unwritten.begin(&id) {
                let Err(error) = this.record(&id).await else { continue };
                tracing::warn!(volume = %id, error = crate::causes::chain(&error),
                    "where the volume is published could not be recorded");
                let stopping = this.shared.stopping.cancelled();
                if tokio::time::timeout(RETRY, stopping).await.is_ok() {
                    return;
                }
                this.shared.unwritten.ask(&id);
            }
        });
    }

    /// Writes down that a file system is being made, or was made, for this tenancy.
    pub(super) async fn record_format(
        &self,
        id: &VolumeId,
        fs_type: &str,
        done: bool,
    ) -> Result<(), Error> {
        let format = Format { tenancy: id.tenancy, fs_type: fs_type.to_owned(), done };
        self.set_format(id, Some(format.into())).await
    }

    /// Writes down what is known of the file system on the device of `id`.
    pub(super) async fn set_format(
        &self,
        id: &VolumeId,
        format: Option<Box<Format>>,
    ) -> Result<(), Error> {
        let mut current = false;
        let write = self.shared.inventory.modify_status(&id.volume, |volume| {
            current = volume.id().as_ref() == Some(id);
            let changed = current && volume.status.format != format;
            changed.then(|| Status { format: format.clone(), ..volume.status.clone() })
        });
        let written = write.await;
        // Never touch a device that was taken from this tenancy meanwhile.
        if written.is_ok() && !current {
            return Err(Error::NotFound { id: id.clone() });
        }
        held(id, written)
    }
}

/// What becomes of a record by the places of `id`. Absent where it says so already, or is in another tenancy.
pub(crate) fn recorded(
    volume: &LocalVolume,
    id: &VolumeId,
    published: Vec<Published>,
) -> Option<Status> {
    let changed = volume.spec.tenancy == id.tenancy && volume.status.published != published;
    changed.then(|| Status { published, ..volume.status.clone() })
}

/// What becomes of a record by places of `id` that hold the volume from now on. Absent where the tenancy has ended.
pub(crate) fn held_at(
    volume: &LocalVolume,
    id: &VolumeId,
    published: Vec<Published>,
) -> Option<Status> {
    let current = volume.id().as_ref() == Some(id);
    current.then(|| Status { published, ..volume.status.clone() })
}

fn outcome(
    id: &VolumeId,
    written: Result<inventory::Recorded, inventory::Error>,
) -> Result<(), Error> {
    match written {
        Ok(_) | Err(inventory::Error::NotFound(_)) => Ok(()),
        Err(source) => Err(Error::Inventory { id: id.clone(), source }),
    }
}

/// As [`outcome`], for what may go on only while the volume is there.
fn held(
    id: &VolumeId,
    written: Result<inventory::Recorded, inventory::Error>,
) -> Result<(), Error> {
    match written {
        Err(inventory::Error::NotFound(_)) => Err(Error::NotFound { id: id.clone() }),
        written => outcome(id, written),
    }
}
