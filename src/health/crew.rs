//! Many calls at once, on a few threads that each make one after the other: a thread is handed on with its work, so that a
//! thousand calls which come back at once cost no more than a loop over them.
//!
//! One that hangs keeps its thread and nothing else, as with [`Attempts::run`]: its turn ends with the deadline, what it was
//! about is remembered, and another thread goes on with the rest. While calls are slow there are more threads, up to as many
//! as there are turns.

use std::any::Any;
use std::iter::Enumerate;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::vec;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::attempts::{About, Attempts, Hanging, Overdue, TURNS, lock};

/// Threads to begin with: calls that come back at once are bound by the processors.
const FIRST: usize = 2;
/// How long a call takes before another thread helps with the rest.
const SLOW: Duration = Duration::from_millis(10);

impl Attempts {
    /// Makes all of these calls, each with the deadline of one, and gives their answers in the same order.
    ///
    /// # Panics
    /// When one of them does.
    pub async fn run_all<T, F>(&self, calls: Vec<(About, F)>) -> Vec<Result<T, Overdue>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if calls.is_empty() {
            return Vec::new();
        }
        let crew = Arc::new(Crew {
            deadline: self.deadline,
            hanging: Arc::clone(&self.hanging),
            ended: Notify::new(),
            state: Mutex::new(State {
                answers: calls.iter().map(|_| None).collect(),
                open: calls.len(),
                waiting: calls.into_iter().enumerate(),
                workers: Vec::new(),
                panic: None,
            }),
        });
        // What nobody waits for any more is not begun.
        let _dismissed = Dismissed(&crew);
        while let Some(look) = crew.look(Instant::now()) {
            let _ = timeout_at(look, crew.ended.notified()).await;
            let panic = lock(&crew.state).panic.take();
            if let Some(panic) = panic {
                resume_unwind(panic);
            }
        }
        let answers = std::mem::take(&mut lock(&crew.state).answers);
        // All of them are answered: none is open.
        answers.into_iter().map(|answer| answer.unwrap_or(Err(Overdue::TooMany))).collect()
    }
}

/// Those who make the calls, and what is left to do.
struct Crew<T, F> {
    deadline: Duration,
    hanging: Arc<Mutex<Hanging>>,
    /// The last call was answered, or one has panicked.
    ended: Notify,
    state: Mutex<State<T, F>>,
}

struct State<T, F> {
    waiting: Enumerate<vec::IntoIter<(About, F)>>,
    answers: Vec<Option<Result<T, Overdue>>>,
    /// How many have no answer yet.
    open: usize,
    /// What each thread is at; its place stays when it has ended.
    workers: Vec<Worker>,
    panic: Option<Box<dyn Any + Send>>,
}

/// A thread.
enum Worker {
    /// It makes this call.
    At { call: usize, about: About, since: Instant },
    /// Nobody waits any more for what it is at.
    GivenUp(About),
    /// It is about to take a call.
    Free { since: Instant },
    /// It has ended.
    Ended,
}

impl<T: Send + 'static, F: FnOnce() -> T + Send + 'static> Crew<T, F> {
    /// Starts `more` threads, as far as there is work for them.
    fn help(self: &Arc<Self>, state: &mut State<T, F>, more: usize) {
        for _ in 0..more.min(state.waiting.len()) {
            let number = state.workers.len();
            state.workers.push(Worker::Free { since: Instant::now() });
            let crew = Arc::clone(self);
            drop(spawn_blocking(move || crew.work(number)));
        }
    }

    /// Makes calls until there are none left, or one took too long.
    fn work(&self, number: usize) {
        while let Some((call, work)) = self.take(number) {
            let answer = catch_unwind(AssertUnwindSafe(work));
            if !self.answered(number, call, answer) {
                return;
            }
        }
    }

    /// The next call that may be made.
    fn take(&self, number: usize) -> Option<(usize, F)> {
        let mut state = lock(&self.state);
        while let Some((call, (about, work))) = state.waiting.next() {
            match lock(&self.hanging).allow(&about) {
                Ok(()) => {
                    state.workers[number] = Worker::At { call, about, since: Instant::now() };
                    return Some((call, work));
                }
                Err(overdue) => self.answer(&mut state, call, Err(overdue)),
            }
        }
        state.workers[number] = Worker::Ended;
        None
    }

    /// Takes what a call gave; whether somebody waited for it.
    fn answered(&self, number: usize, call: usize, answer: std::thread::Result<T>) -> bool {
        let mut state = lock(&self.state);
        let free = Worker::Free { since: Instant::now() };
        if let Worker::GivenUp(about) = std::mem::replace(&mut state.workers[number], free) {
            lock(&self.hanging).remove(&about);
            state.workers[number] = Worker::Ended;
            return false;
        }
        match answer {
            Ok(answer) => self.answer(&mut state, call, Ok(answer)),
            Err(panic) => {
                state.panic = Some(panic);
                self.ended.notify_one();
            }
        }
        true
    }

    fn answer(&self, state: &mut State<T, F>, call: usize, answer: Result<T, Overdue>) {
        state.answers[call] = Some(answer);
        state.open -= 1;
        if state.open == 0 {
            self.ended.notify_one();
        }
    }

    /// Gives up what is overdue, and has others help where it is slow; when to look again, while calls are open.
    fn look(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        let state = &mut *lock(&self.state);
        let (mut slow, mut at_work, mut starved) = (0, 0, false);
        let mut look = now + self.deadline;
        for number in 0..state.workers.len() {
            let (since, overdue) = match &state.workers[number] {
                Worker::At { call, about, since } => (*since, Some((*call, about.clone()))),
                Worker::Free { since } => (*since, None),
                Worker::GivenUp(_) | Worker::Ended => continue,
            };
            if now < since + self.deadline {
                at_work += 1;
                slow += usize::from(since + SLOW <= now);
                look = look.min(since + self.deadline);
                continue;
            }
            let Some((call, about)) = overdue else {
                state.workers[number] = Worker::Ended;
                starved = true;
                continue;
            };
            lock(&self.hanging).add(&about);
            state.workers[number] = Worker::GivenUp(about);
            self.answer(state, call, Err(Overdue::Now(self.deadline)));
        }
        // No thread was to be had for as long as a call may take.
        while starved
            && at_work == 0
            && let Some((call, _)) = state.waiting.next()
        {
            self.answer(state, call, Err(Overdue::TooMany));
        }
        self.help(state, (slow + FIRST).min(TURNS).saturating_sub(at_work));
        let is_work_left = state.waiting.len() > 0;
        (state.open > 0).then(|| if is_work_left { look.min(now + SLOW) } else { look })
    }
}

/// Dropped with the future of those who waited.
struct Dismissed<'a, T, F>(&'a Arc<Crew<T, F>>);

impl<T, F> Drop for Dismissed<'_, T, F> {
    fn drop(&mut self) {
        let rest =
            std::mem::replace(&mut lock(&self.0.state).waiting, Vec::new().into_iter().enumerate());
        // Outside of the lock, whatever it is.
        drop(rest);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::super::attempts::HANGS;
    use super::*;
    use crate::host::DeviceNumber;

    const MANY: usize = 1000;

    fn about(number: usize) -> About {
        About::path(format!("/mnt/{number}"))
    }

    /// Calls that wait until they are let go of, and how many were made.
    struct Held {
        release: mpsc::Sender<()>,
        wait: Arc<Mutex<mpsc::Receiver<()>>>,
        made: Arc<AtomicUsize>,
    }

    impl Held {
        fn new() -> Self {
            let (release, wait) = mpsc::channel();
            Self { release, wait: Arc::new(Mutex::new(wait)), made: Arc::default() }
        }

        fn call(&self) -> impl FnOnce() + Send + use<> {
            let (made, wait) = (Arc::clone(&self.made), Arc::clone(&self.wait));
            move || {
                made.fetch_add(1, Ordering::SeqCst);
                let _ = lock(&wait).recv();
            }
        }

        fn made(&self) -> usize {
            self.made.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn many_calls_are_made_by_few_threads_and_answered_in_their_order() {
        let calls =
            (0..MANY).map(|number| (about(number), move || (number, std::thread::current().id())));

        let answers = Attempts::new(Duration::from_mins(1)).run_all(calls.collect()).await;

        let (numbers, threads): (Vec<_>, HashSet<_>) =
            answers.into_iter().map(Result::unwrap).unzip();
        assert_eq!(numbers, (0..MANY).collect::<Vec<_>>());
        assert!(threads.len() <= TURNS, "{threads:?}");
    }

    #[tokio::test]
    async fn calls_that_hang_keep_no_other_from_being_made_and_are_not_made_again() {
        const HANG: usize = 40;
        let attempts = Attempts::new(Duration::from_millis(50));
        let held = Held::new();
        let calls = || {
            let calls = (0..MANY).map(|number| {
                let hang = (number < HANG).then(|| held.call());
                (about(number), move || hang.map_or((), |hang| hang()))
            });
            calls.collect::<Vec<_>>()
        };

        let first = attempts.run_all(calls()).await;
        let again = attempts.run_all(calls()).await;

        assert!(first[..HANG].iter().all(|one| matches!(one, Err(Overdue::Now(_)))), "{first:?}");
        assert!(again[..HANG].iter().all(|one| *one == Err(Overdue::Still)), "{again:?}");
        assert!(first[HANG..].iter().chain(&again[HANG..]).all(Result::is_ok));
        assert_eq!(held.made(), HANG);
        drop(held.release);
        while attempts.run(about(0), || ()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_device_that_hangs_keeps_a_few_threads_however_many_paths_lead_to_it() {
        let disk = DeviceNumber { major: 8, minor: 16 };
        let held = Held::new();
        let calls = (0..MANY).map(|number| (about(number).on(Some(disk)), held.call()));

        let answers = Attempts::new(Duration::from_millis(20)).run_all(calls.collect()).await;

        assert!(answers.iter().all(Result::is_err));
        assert!(held.made() <= TURNS + HANGS, "{}", held.made());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_begun() {
        let attempts = Attempts::new(Duration::from_mins(1));
        let held = Held::new();
        let calls = (0..MANY).map(|number| (about(number), held.call()));

        let answers = attempts.run_all(calls.collect()).now_or_never();

        assert!(answers.is_none());
        drop(held.release);
        assert_eq!(attempts.run(about(MANY), || 1).await, Ok(1));
        assert!(held.made.load(Ordering::SeqCst) <= FIRST);
    }

    #[tokio::test]
    async fn a_call_that_panics_panics_where_it_was_asked_for() {
        let attempts = Attempts::new(Duration::from_mins(1));
        let asked = attempts.clone();
        let panicked = tokio::spawn(async move {
            let calls = (0..MANY)
                .map(|number| (about(number), move || assert!(number != MANY / 2, "on purpose")));
            asked.run_all(calls.collect()).await
        });

        assert!(panicked.await.unwrap_err().is_panic());
        assert_eq!(attempts.run_all(vec![(about(MANY / 2), || 1)]).await, [Ok(1)]);
    }
}
