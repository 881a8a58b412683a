//! Blocking calls that may never come back, each with a deadline, on a bounded number of threads.
//!
//! A call cannot be taken back from the kernel. One that is overdue keeps its thread until it ends, but not its turn;
//! what it was about is remembered, and not tried again before.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Calls at a time.
const TURNS: usize = 16;
/// Overdue calls that may keep a thread; a quarter of the threads that a runtime has for blocking calls.
const MOST_HANGING: usize = 128;

/// A call did not come back in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overdue {
    /// This one.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Now(Duration),
    /// An earlier one about the same path, which has not ended yet.
    #[error("an earlier call has had no answer yet")]
    Still,
    /// So many others that no thread is left to try.
    #[error("not tried, since {MOST_HANGING} calls to other paths have had no answer yet")]
    TooMany,
}

/// Makes the calls. Clones share the turns and what hangs.
#[derive(Debug, Clone)]
pub struct Attempts {
    deadline: Duration,
    turns: Arc<Semaphore>,
    hanging: Arc<Mutex<HashMap<PathBuf, usize>>>,
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Somebody waits for it.
    Awaited,
    /// It is counted among those that hang.
    Hanging,
    /// It has ended.
    Ended,
}

impl Attempts {
    /// Gives each call `deadline`.
    pub fn new(deadline: Duration) -> Self {
        Self { deadline, turns: Arc::new(Semaphore::new(TURNS)), hanging: Arc::default() }
    }

    /// Makes the call `work`, which is about `path`.
    ///
    /// # Panics
    /// When `work` does.
    pub async fn run<T, F>(&self, path: &Path, work: F) -> Result<T, Overdue>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        // A turn is never waited for longer than the deadline of those who have one.
        let _turn = self.turns.acquire().await;
        self.may_try(path)?;
        let stage = Arc::new(Mutex::new(Stage::Awaited));
        let call = self.watched(path, Arc::clone(&stage), work);
        match timeout(self.deadline, spawn_blocking(call)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failed)) => match failed.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => Err(Overdue::Now(self.deadline)),
            },
            Err(_) => {
                self.remember(path, &stage);
                Err(Overdue::Now(self.deadline))
            }
        }
    }

    /// Counts a call as hanging, unless it ended just now.
    fn remember(&self, path: &Path, stage: &Mutex<Stage>) {
        let mut stage = lock(stage);
        if *stage == Stage::Awaited {
            *stage = Stage::Hanging;
            *lock(&self.hanging).entry(path.to_owned()).or_default() += 1;
        }
    }

    fn may_try(&self, path: &Path) -> Result<(), Overdue> {
        let hanging = lock(&self.hanging);
        match () {
            () if hanging.contains_key(path) => Err(Overdue::Still),
            () if hanging.len() >= MOST_HANGING => Err(Overdue::TooMany),
            () => Ok(()),
        }
    }

    /// `work`, and then word that it has ended, whether somebody still waits for it or not.
    fn watched<T, F: FnOnce() -> T>(
        &self,
        path: &Path,
        stage: Arc<Mutex<Stage>>,
        work: F,
    ) -> impl FnOnce() -> T + use<T, F> {
        let ended = Ended { path: path.to_owned(), stage, hanging: Arc::clone(&self.hanging) };
        move || {
            let _ended = ended;
            work()
        }
    }
}

/// Dropped when a call has ended, by a panic too.
struct Ended {
    path: PathBuf,
    stage: Arc<Mutex<Stage>>,
    hanging: Arc<Mutex<HashMap<PathBuf, usize>>>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let mut stage = lock(&self.stage);
        if std::mem::replace(&mut *stage, Stage::Ended) == Stage::Hanging {
            let mut hanging = lock(&self.hanging);
            if let Some(count) = hanging.get_mut(&self.path) {
                *count -= 1;
                if *count == 0 {
                    hanging.remove(&self.path);
                }
            }
        }
    }
}

/// What is behind the locks is whole after every statement, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn attempts() -> Attempts {
        Attempts::new(Duration::from_millis(20))
    }

    async fn hang(attempts: &Attempts, path: &str) -> mpsc::Sender<()> {
        let (release, wait) = mpsc::channel::<()>();
        let overdue = attempts
            .run(Path::new(path), move || {
                let _ = wait.recv();
            })
            .await;
        assert_eq!(overdue, Err(Overdue::Now(Duration::from_millis(20))));
        release
    }

    #[tokio::test]
    async fn a_call_that_hangs_is_not_made_again_until_it_has_ended() {
        let attempts = attempts();
        let release = hang(&attempts, "/dev/a").await;

        assert_eq!(attempts.run(Path::new("/dev/a"), || 1).await, Err(Overdue::Still));
        assert_eq!(attempts.run(Path::new("/dev/b"), || 2).await, Ok(2));

        drop(release);
        while attempts.run(Path::new("/dev/a"), || 3).await != Ok(3) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn calls_that_hang_keep_no_turn_and_their_threads_are_bounded() {
        let attempts = attempts();
        let mut held = Vec::new();
        for number in 0..MOST_HANGING {
            held.push(hang(&attempts, &format!("/dev/{number}")).await);
        }

        assert_eq!(attempts.turns.available_permits(), TURNS);
        assert_eq!(attempts.run(Path::new("/dev/x"), || 1).await, Err(Overdue::TooMany));
    }

    #[tokio::test]
    async fn a_call_that_panics_panics_where_it_was_asked_for_and_can_be_made_again() {
        let attempts = Attempts::new(Duration::from_mins(1));
        let asked = attempts.clone();
        let panicked = tokio::spawn(async move {
            let failing = || -> () { panic!("on purpose") };
            asked.run(Path::new("/dev/a"), failing).await
        });

        assert!(panicked.await.unwrap_err().is_panic());
        assert_eq!(attempts.run(Path::new("/dev/a"), || 1).await, Ok(1));
    }
}
