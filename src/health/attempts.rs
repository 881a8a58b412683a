//! Blocking calls that may never come back, each with a deadline, on a bounded number of threads.
//!
//! A call cannot be taken back from the kernel. One that is overdue keeps its thread until it ends, but not its turn;
//! what it was about is remembered, and not tried again before. Where several calls hang on one device, none is made
//! about anything else on it.

use std::collections::HashMap;
use std::hash::Hash;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::host::DeviceNumber;

/// Calls at a time.
pub(super) const TURNS: usize = 16;
/// Overdue calls about one device that say that it is the device which hangs, rather than one place on it.
pub(super) const HANGS: usize = 4;
/// Overdue calls that may keep a thread; a quarter of the threads that a runtime has for blocking calls.
const MOST_HANGING: usize = 128;

/// A call did not come back in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overdue {
    /// This one.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Now(Duration),
    /// An earlier one about the same path, or some about the same device, which have not ended yet.
    #[error("an earlier call has had no answer yet")]
    Still,
    /// So many others that no thread is left to try. It says nothing about the path.
    #[error("not tried, since {MOST_HANGING} calls to other paths have had no answer yet")]
    TooMany,
}

/// What a call is about, so that what hangs with it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    path: PathBuf,
    device: Option<DeviceNumber>,
    vital: bool,
}

impl About {
    /// A call about `path`.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), device: None, vital: false }
    }

    /// One that hangs if `device` does, where that is known for certain.
    #[must_use]
    pub fn on(self, device: Option<DeviceNumber>) -> Self {
        Self { device, ..self }
    }

    /// One without which nothing is known of any volume. There are few, so that it is made however many others hang.
    #[must_use]
    pub fn vital(self) -> Self {
        Self { vital: true, ..self }
    }
}

/// Makes the calls. Clones share the turns and what hangs.
#[derive(Debug, Clone)]
pub struct Attempts {
    pub(super) deadline: Duration,
    turns: Arc<Semaphore>,
    pub(super) hanging: Arc<Mutex<Hanging>>,
}

/// How many overdue calls are about what.
#[derive(Debug, Default)]
pub(super) struct Hanging {
    paths: HashMap<PathBuf, usize>,
    devices: HashMap<DeviceNumber, usize>,
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

    /// Makes the call `work`, which is about `about`.
    ///
    /// # Panics
    /// When `work` does.
    pub async fn run<T, F>(&self, about: About, work: F) -> Result<T, Overdue>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        // A turn is never waited for longer than the deadline of those who have one.
        let _turn = self.turns.acquire().await;
        lock(&self.hanging).allow(&about)?;
        let stage = Arc::new(Mutex::new(Stage::Awaited));
        let call = self.watched(about.clone(), Arc::clone(&stage), work);
        match timeout(self.deadline, spawn_blocking(call)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failed)) => match failed.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => Err(Overdue::Now(self.deadline)),
            },
            Err(_) => {
                self.remember(&about, &stage);
                Err(Overdue::Now(self.deadline))
            }
        }
    }

    /// Counts a call as hanging, unless it ended just now.
    fn remember(&self, about: &About, stage: &Mutex<Stage>) {
        let mut stage = lock(stage);
        if *stage == Stage::Awaited {
            *stage = Stage::Hanging;
            lock(&self.hanging).add(about);
        }
    }

    /// `work`, and then word that it has ended, whether somebody still waits for it or not.
    fn watched<T, F: FnOnce() -> T>(
        &self,
        about: About,
        stage: Arc<Mutex<Stage>>,
        work: F,
    ) -> impl FnOnce() -> T + use<T, F> {
        let ended = Ended { about, stage, hanging: Arc::clone(&self.hanging) };
        move || {
            let _ended = ended;
            work()
        }
    }
}

impl Hanging {
    pub(super) fn allow(&self, about: &About) -> Result<(), Overdue> {
        let on_device = about.device.and_then(|device| self.devices.get(&device));
        match () {
            () if self.paths.contains_key(&about.path) => Err(Overdue::Still),
            () if on_device.is_some_and(|count| *count >= HANGS) => Err(Overdue::Still),
            () if self.paths.len() >= MOST_HANGING && !about.vital => Err(Overdue::TooMany),
            () => Ok(()),
        }
    }

    pub(super) fn add(&mut self, about: &About) {
        *self.paths.entry(about.path.clone()).or_default() += 1;
        if let Some(device) = about.device {
            *self.devices.entry(device).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, about: &About) {
        take_one(&mut self.paths, &about.path);
        if let Some(device) = about.device {
            take_one(&mut self.devices, &device);
        }
    }
}

fn take_one<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Dropped when a call has ended, by a panic too.
struct Ended {
    about: About,
    stage: Arc<Mutex<Stage>>,
    hanging: Arc<Mutex<Hanging>>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let mut stage = lock(&self.stage);
        if std::mem::replace(&mut *stage, Stage::Ended) == Stage::Hanging {
            lock(&self.hanging).remove(&self.about);
        }
    }
}

/// What is behind the locks is whole after every statement, so a panic elsewhere does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use futures_util::future::join_all;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(20);
    const DISK: DeviceNumber = DeviceNumber { major: 8, minor: 16 };

    fn attempts() -> Attempts {
        Attempts::new(DEADLINE)
    }

    async fn hang(attempts: &Attempts, about: About) -> mpsc::Sender<()> {
        let (release, wait) = mpsc::channel::<()>();
        let overdue = attempts
            .run(about, move || {
                let _ = wait.recv();
            })
            .await;
        assert_eq!(overdue, Err(Overdue::Now(DEADLINE)));
        release
    }

    #[tokio::test]
    async fn a_call_that_hangs_is_not_made_again_until_it_has_ended() {
        let attempts = attempts();
        let release = hang(&attempts, About::path("/dev/a")).await;

        assert_eq!(attempts.run(About::path("/dev/a"), || 1).await, Err(Overdue::Still));
        assert_eq!(attempts.run(About::path("/dev/b"), || 2).await, Ok(2));

        drop(release);
        while attempts.run(About::path("/dev/a"), || 3).await != Ok(3) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn calls_that_hang_keep_no_turn_and_their_threads_are_bounded() {
        let attempts = attempts();
        let mut held = Vec::new();
        for number in 0..MOST_HANGING {
            held.push(hang(&attempts, About::path(format!("/dev/{number}"))).await);
        }

        assert_eq!(attempts.turns.available_permits(), TURNS);
        assert_eq!(attempts.run(About::path("/dev/x"), || 1).await, Err(Overdue::TooMany));
        assert_eq!(attempts.run(About::path("/proc/mounts").vital(), || 1).await, Ok(1));
    }

    #[tokio::test]
    async fn a_device_that_hangs_keeps_a_few_threads_however_many_paths_lead_to_it() {
        let attempts = attempts();
        let made = Arc::new(AtomicUsize::new(0));
        let (release, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let calls = (0..2 * MOST_HANGING).map(|number| {
            let (made, wait) = (Arc::clone(&made), Arc::clone(&wait));
            attempts.run(About::path(format!("/mnt/{number}")).on(Some(DISK)), move || {
                made.fetch_add(1, Ordering::Relaxed);
                let _ = lock(&wait).recv();
            })
        });

        let answers = join_all(calls).await;

        assert!(answers.iter().all(Result::is_err));
        assert!(made.load(Ordering::Relaxed) <= TURNS + HANGS, "{made:?}");
        let other = DeviceNumber { major: 8, minor: 32 };
        assert_eq!(attempts.run(About::path("/mnt/y").on(Some(other)), || 1).await, Ok(1));
        drop(release);
        while attempts.run(About::path("/mnt/z").on(Some(DISK)), || 3).await != Ok(3) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_place_that_hangs_is_not_yet_the_whole_device() {
        let attempts = attempts();
        let _release = hang(&attempts, About::path("/mnt/a").on(Some(DISK))).await;

        assert_eq!(attempts.run(About::path("/mnt/b").on(Some(DISK)), || 1).await, Ok(1));
    }

    #[tokio::test]
    async fn a_call_that_panics_panics_where_it_was_asked_for_and_can_be_made_again() {
        let attempts = Attempts::new(Duration::from_mins(1));
        let asked = attempts.clone();
        let panicked = tokio::spawn(async move {
            let failing = || -> () { panic!("on purpose") };
            asked.run(About::path("/dev/a"), failing).await
        });

        assert!(panicked.await.unwrap_err().is_panic());
        assert_eq!(attempts.run(About::path("/dev/a"), || 1).await, Ok(1));
    }
}
