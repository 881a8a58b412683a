//! How many threads are at work at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// The threads that may still begin to work. Of two that share something the one that ends first gives its right back,
/// though it waits for the other: so there are never more at work than there may be, and as many as find something to do.
pub(super) struct Hands {
    free: AtomicUsize,
}

impl Hands {
    /// So many threads, the one that asks among them.
    pub(super) fn of(threads: usize) -> Self {
        Self { free: AtomicUsize::new(threads.saturating_sub(1)) }
    }

    /// Whether one more may begin; then [`Hands::both`] has to follow.
    pub(super) fn take(&self) -> bool {
        let order = Ordering::Relaxed;
        self.free.fetch_update(order, order, |free| free.checked_sub(1)).is_ok()
    }

    /// Does `work` on this thread and on another, which has its I/O priority (ioprio_set(2)).
    pub(super) fn both<T: Send>(&self, work: impl Fn() -> T + Sync) -> [T; 2] {
        let ended = AtomicBool::new(false);
        let by_one = || {
            let done = work();
            if !ended.swap(true, Ordering::Relaxed) {
                self.free.fetch_add(1, Ordering::Relaxed);
            }
            done
        };
        thread::scope(|scope| {
            let other = scope.spawn(by_one);
            let own = by_one();
            match other.join() {
                Ok(other) => [own, other],
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Work that divides itself as often as it may; counts those at work at once.
    struct Count {
        hands: Hands,
        now: AtomicUsize,
        most: AtomicUsize,
        done: AtomicUsize,
    }

    impl Count {
        fn divide(&self, depth: usize) {
            if depth == 0 {
                let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(now, Ordering::SeqCst);
                thread::yield_now();
                self.now.fetch_sub(1, Ordering::SeqCst);
                self.done.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if self.hands.take() {
                self.hands.both(|| self.divide(depth - 1));
            } else {
                self.divide(depth - 1);
                self.divide(depth - 1);
            }
        }
    }

    #[test]
    fn never_more_are_at_work_than_may_be_and_each_has_its_right_back_in_the_end() {
        for threads in [1, 2, 3] {
            let (hands, zero) = (Hands::of(threads), || AtomicUsize::new(0));
            let count = Count { hands, now: zero(), most: zero(), done: zero() };

            count.divide(10);

            assert_eq!(count.done.into_inner(), 1 << 10);
            assert!(count.most.into_inner() <= threads);
            assert_eq!(count.hands.free.into_inner(), threads - 1);
        }
    }

    #[test]
    fn one_that_ends_early_is_free_for_what_the_other_has_still_to_do() {
        let hands = Hands::of(2);
        let first = AtomicBool::new(true);
        assert!(hands.take() && !hands.take());

        let taken = hands.both(|| {
            // The one ends at once; the other asks until it has its right.
            if first.swap(false, Ordering::SeqCst) {
                return false;
            }
            while !hands.take() {
                thread::yield_now();
            }
            hands.both(|| ());
            true
        });

        assert!(taken.contains(&true));
        assert!(hands.take() && !hands.take());
    }
}
