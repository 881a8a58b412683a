//! How far a wipe is, and whether it is to stop: the one thing that a wipe's thread and the queue share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::Error;

/// Counters that only grow, and the word to stop.
#[derive(Debug, Default)]
pub(super) struct Progress {
    entries: AtomicU64,
    bytes: AtomicU64,
    stopped: AtomicBool,
    /// Wakes who rests.
    word: (Mutex<()>, Condvar),
    /// What was counted at the last look, and how many looks in a row have found that.
    looks: (AtomicU64, AtomicU64),
}

impl Progress {
    /// One more entry is gone.
    pub(super) fn removed(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more bytes are wiped.
    pub(super) fn wiped(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Entries removed and bytes wiped so far.
    pub(super) fn so_far(&self) -> (u64, u64) {
        (self.entries.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Looks how far it is; gives how many looks in a row, this one among them, have found nothing new.
    pub(super) fn idle_looks(&self) -> u64 {
        let (entries, bytes) = self.so_far();
        let (last, idle) = &self.looks;
        let counted = entries.wrapping_add(bytes);
        if last.swap(counted, Ordering::Relaxed) != counted {
            idle.store(0, Ordering::Relaxed);
            return 0;
        }
        idle.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Tells the wipe to stop at the next safe point.
    pub(super) fn stop(&self) {
        let (lock, word) = &self.word;
        let given = lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.stopped.store(true, Ordering::Relaxed);
        drop(given);
        word.notify_all();
    }

    /// Waits for so long, which is a safe point: ends at once with [`Error::Interrupted`] when the wipe is to stop.
    pub(super) fn rest(&self, time: Duration) -> Result<(), Error> {
        let (lock, word) = &self.word;
        let waiting = lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(word.wait_timeout_while(waiting, time, |()| self.check().is_ok()));
        self.check()
    }

    /// A safe point: [`Error::Interrupted`] when the wipe is to stop.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.stopped.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_rest_ends_when_the_wipe_is_to_stop_however_long_it_was_to_be() {
        let progress = Progress::default();

        let ended = thread::scope(|scope| {
            let resting = scope.spawn(|| progress.rest(Duration::MAX));
            progress.stop();
            resting.join().unwrap()
        });

        assert!(matches!(ended, Err(Error::Interrupted)));
        assert!(matches!(progress.rest(Duration::MAX), Err(Error::Interrupted)));
    }

    #[test]
    fn a_rest_that_nobody_ends_is_over_when_its_time_is() {
        assert!(Progress::default().rest(Duration::from_millis(1)).is_ok());
    }
}
