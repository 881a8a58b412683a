//! How soon after a scan the next one may begin: a host that changes all the time is not scanned all the time, and one that
//! has rested is looked at at once.

use std::time::Duration;

use tokio::time::Instant;

/// For how many times as long as a scan took nothing has to be scanned after it, sooner or later.
const REST: u32 = 3;
/// How much of that may be owed before it has to be kept. What belongs together comes in a row: a directory, a mount on it.
const CREDIT: Duration = Duration::from_millis(200);
/// The longest that is waited for it.
const LONGEST: Duration = Duration::from_secs(5);

/// The time that scans took, and the rest that is owed for it.
#[derive(Debug)]
pub(super) struct Pace {
    /// When nothing is owed any more.
    even: Instant,
}

impl Pace {
    /// Nothing is owed.
    pub(super) fn new(now: Instant) -> Self {
        Self { even: now }
    }

    /// A scan took from `began` to `ended`.
    pub(super) fn spent(&mut self, began: Instant, ended: Instant) {
        let rest = (ended - began).saturating_mul(REST);
        let owed = self.even.saturating_duration_since(began) + rest;
        self.even = ended + owed.min(LONGEST + CREDIT);
    }

    /// When the next scan may begin that is about something heard.
    pub(super) fn next(&self) -> Instant {
        self.even.checked_sub(CREDIT).unwrap_or(self.even)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn a_host_that_has_rested_is_scanned_at_once_and_so_is_what_follows_soon() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        assert!(pace.next() <= begun);

        let mut now = begun;
        for _ in 0..10 {
            pace.spent(now, now + 5 * MILLISECOND);
            now += 5 * MILLISECOND;
            assert!(pace.next() <= now);
        }
    }

    #[test]
    fn a_host_that_changes_all_the_time_is_scanned_a_quarter_of_the_time() {
        for took in [1, 20, 400].map(|took| took * MILLISECOND) {
            let begun = Instant::now();
            let (mut pace, mut now, mut scanned) = (Pace::new(begun), begun, Duration::ZERO);
            while now < begun + Duration::from_mins(1) {
                pace.spent(now, now + took);
                scanned += took;
                now = pace.next().max(now + took);
            }

            let share = scanned.as_secs_f64() / (now - begun).as_secs_f64();
            assert!((0.24..0.26).contains(&share), "{took:?}: {share}");
        }
    }

    #[test]
    fn what_is_owed_for_a_scan_that_hung_is_kept_for_no_more_than_some_seconds() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        let mut now = begun;
        for _ in 0..3 {
            pace.spent(now, now + Duration::from_mins(1));
            now += Duration::from_mins(1);
            assert_eq!(pace.next(), now + LONGEST);
        }
        assert!(pace.next() <= now + LONGEST);
    }
}
