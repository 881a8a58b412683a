//! One operation on a volume at a time, whatever becomes of the caller.
//!
//! The turn is held by the work itself, by the thread that a dead disk keeps as well: a caller that gives up and comes
//! back finds it taken, so that at most one thread per volume and lane is ever stuck.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

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

/// The turns that are taken, each with whether what has it is overdue.
type Taken = HashMap<(VolumeName, Lane), bool>;

/// The turns that are taken now.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    taken: Arc<Mutex<Taken>>,
    /// Told whenever a turn was given back or is overdue.
    changed: Arc<Notify>,
}

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
        let key = (id.volume.clone(), lane);
        let mut taken = self.lock();
        if taken.contains_key(&key) {
            return None;
        }
        taken.insert(key, false);
        let (id, path) = (id.clone(), path.to_owned());
        Some(Turn { held: Arc::new(Held { turns: self.clone(), lane, id, path }) })
    }

    /// As [`Turns::take`], once it is free: `None` after `limit`, or while what has the turn is overdue and may never end.
    pub(super) async fn wait(
        &self,
        id: &VolumeId,
        path: &Path,
        lane: Lane,
        limit: Duration,
    ) -> Option<Turn> {
        let waited = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                // From here on no change is missed.
                changed.as_mut().enable();
                let turn = self.take(id, path, lane);
                let overdue = || self.lock().get(&(id.volume.clone(), lane)) == Some(&true);
                if turn.is_some() || overdue() {
                    return turn;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, waited).await.ok().flatten()
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
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
            self.held.is_overdue();
            return Err(Error::TooSlow { id: id.clone(), path: path.clone(), limit });
        };
        done.unwrap_or_else(|_| Err(Error::Stopping { id: id.clone() }))
    }
}

impl Held {
    fn is_overdue(&self) {
        self.turns.lock().insert((self.id.volume.clone(), self.lane), true);
        self.turns.changed.notify_waiters();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.turns.lock().remove(&(self.id.volume.clone(), self.lane));
        self.turns.changed.notify_waiters();
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

    #[tokio::test]
    async fn who_waits_for_a_turn_gets_it_in_the_end_and_is_told_at_once_where_it_may_never_end() {
        let turns = Turns::default();
        let (id, path) = (id(), Path::new("/target"));
        let wait = || turns.wait(&id, path, Lane::Look, Duration::from_mins(10));
        let (free, hung) = std::sync::mpsc::channel::<()>();
        let turn = turns.take(&id, path, Lane::Look).unwrap();

        let eight =
            futures_util::future::join_all((0..8).map(|_| async { wait().await.is_some() }));
        let release = async { drop(turn) };
        assert_eq!(futures_util::future::join(eight, release).await.0, [true; 8]);

        let turn = turns.take(&id, path, Lane::Look).unwrap();
        let act = move || {
            let _ = hung.recv();
            Ok(())
        };
        let (late, waiting) =
            futures_util::future::join(turn.block(Duration::from_millis(1), act), wait()).await;
        assert!(late.is_err() && waiting.is_none());
        assert!(wait().await.is_none());
        drop(free);
    }
}
