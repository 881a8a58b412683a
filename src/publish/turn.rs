//! One operation on a volume at a time, whatever becomes of the caller.
//!
//! The turn is held by the work itself, by the thread that a dead disk keeps as well: a caller that gives up and comes
//! back finds it taken, so that at most one thread per volume and lane is ever stuck.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Error;
use crate::volume::{VolumeId, VolumeName};

/// Kinds of operations that may go on side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// Those that change where a volume is or how large.
    Change,
    /// Those that only look.
    Look,
}

type Taken = HashSet<(VolumeName, Lane)>;

/// The turns that are taken now.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<Taken>>);

/// A turn; the last of its clones gives it back when it is dropped.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    turns: Turns,
    lane: Lane,
    id: VolumeId,
    path: PathBuf,
}

impl Turns {
    /// Takes the turn of the volume of `id`, any tenancy of it, in `lane`; `None` while another has it. `path` is where
    /// something is to be done, for messages.
    pub(super) fn take(&self, id: &VolumeId, path: &Path, lane: Lane) -> Option<Turn> {
        let free = self.lock().insert((id.volume.clone(), lane));
        free.then(|| {
            let (id, path) = (id.clone(), path.to_owned());
            Turn { held: Arc::new(Held { turns: self.clone(), lane, id, path }) }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Runs `act`, which blocks, on a thread of its own, and waits for it until `limit`. It keeps the turn until it ends.
    pub(super) async fn block<T: Send + 'static>(
        &self,
        limit: Duration,
        act: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            act()
        });
        let Held { id, path, .. } = &*self.held;
        let Ok(done) = tokio::time::timeout(limit, task).await else {
            return Err(Error::TooSlow { id: id.clone(), path: path.clone(), limit });
        };
        done.unwrap_or_else(|_| Err(Error::Stopping { id: id.clone() }))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.turns.lock().remove(&(self.id.volume.clone(), self.lane));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> VolumeId {
        "node-a-fast-v1-0123456789abcdef@1".parse().unwrap()
    }

    #[test]
    fn a_turn_is_free_again_when_its_last_holder_is_gone() {
        let turns = Turns::default();
        let path = Path::new("/target");

        let first = turns.take(&id(), path, Lane::Change).unwrap();
        let stuck = first.clone();
        drop(first);

        assert!(turns.take(&id(), path, Lane::Change).is_none());
        assert!(turns.take(&id(), path, Lane::Look).is_some());
        drop(stuck);
        assert!(turns.take(&id(), path, Lane::Change).is_some());
    }

    #[tokio::test]
    async fn a_hung_disk_keeps_one_thread_and_no_caller() {
        let turns = Turns::default();
        let (free, hung) = std::sync::mpsc::channel::<()>();
        let turn = turns.take(&id(), Path::new("/target"), Lane::Change).unwrap();

        let act = move || {
            let _ = hung.recv();
            Ok(())
        };
        let late = turn.block(Duration::from_millis(1), act).await;
        drop(turn);

        assert!(matches!(late, Err(Error::TooSlow { .. })), "{late:?}");
        assert!(turns.take(&id(), Path::new("/target"), Lane::Change).is_none());
        drop(free);
        while turns.take(&id(), Path::new("/target"), Lane::Change).is_none() {
            std::thread::yield_now();
        }
    }
}
