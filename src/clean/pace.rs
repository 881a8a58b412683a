//! Leaves a device's disk to others: while somebody else reads or writes there, a wipe works a twentieth of the time:
//! the others are to keep nine tenths of what they had, with some to spare.
//!
//! That it is of the idle class of I/O is not enough: the scheduler `none`, which is what fast disks have, knows no classes,
//! and a disk whose queue is full of a wipe's writes makes everybody wait. Whether there is somebody else is seen while the
//! wipe rests and has nothing on its way to the disk: what the disk ends then is another's. While two wipes of this process are
//! at work on one disk it may be the other's of them, and neither is held back.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::info;

use super::Error;
use super::progress::Progress;
use crate::volume::VolumeName;

/// How long a wipe that has the disk for itself works before it looks, and how long it looks: a fiftieth.
const ALONE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(2));
/// How long one works that shares it, short enough for others not to notice, and how many times as long it rests.
const SHARED: (Duration, u32) = (Duration::from_millis(10), 19);
/// How long it rests at most, whatever a step took: while it rests it makes no progress, which looks as if the device hung.
const LONGEST: Duration = Duration::from_secs(10);
/// With how many ends of I/O a second others are said to use a disk. A log that is written now and then is fewer.
const OTHERS: u128 = 50;

/// When a wipe works and when it rests.
pub(super) struct Pace<'a> {
    at_work: AtWork,
    /// How many reads and writes the disks have ended, whose ever they are.
    served: Box<dyn Fn() -> u64 + 'a>,
    progress: &'a Progress,
    since: Cell<Instant>,
    /// Whether others use the disk, as the last rest has shown.
    shared: Cell<bool>,
    /// Whether that was said.
    told: Cell<bool>,
    volume: &'a VolumeName,
}

impl<'a> Pace<'a> {
    /// Of the wipe of a volume on these disks, which have served so much, and have nothing of it on its way to them yet.
    pub(super) fn of(
        disks: Vec<PathBuf>,
        served: impl Fn() -> u64 + 'a,
        volume: &'a VolumeName,
        progress: &'a Progress,
    ) -> Result<Self, Error> {
        let since = Cell::new(Instant::now());
        let [shared, told] = [const { Cell::new(false) }; 2];
        let served = Box::new(served);
        let at_work = AtWork::on(disks);
        let pace = Self { at_work, served, progress, since, shared, told, volume };
        pace.rest().map(|()| pace)
    }

    /// Rests where that is due, before a step, where the one before has left nothing on its way to the disk.
    pub(super) fn keep(&self) -> Result<(), Error> {
        if self.is_due() { self.rest() } else { Ok(()) }
    }

    /// Whether it has worked for long enough; then [`Pace::rest`] is to follow, as soon as nothing is on its way to the disk.
    pub(super) fn is_due(&self) -> bool {
        self.since.get().elapsed() >= if self.shared.get() { SHARED.0 } else { ALONE.0 }
    }

    /// Rests, and looks whether others use the disk.
    pub(super) fn rest(&self) -> Result<(), Error> {
        let (served, began) = ((self.served)(), Instant::now());
        self.progress.rest(due(self.shared.get(), self.since.get().elapsed()))?;
        let others = (self.served)().saturating_sub(served);
        let shared = is_used(others, began.elapsed()) && !self.at_work.meets_another();
        self.shared.set(shared);
        if shared && !self.told.replace(true) {
            info!(volume = %self.volume, "others use the disk: a twentieth of the time is left to the wipe");
        }
        self.since.set(Instant::now());
        Ok(())
    }
}

/// The disks that the wipes of this process are at work on, each as often as there are wipes.
static DISKS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn disks() -> MutexGuard<'static, Vec<PathBuf>> {
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A wipe that is at work on disks, as long as this lives.
struct AtWork(Vec<PathBuf>);

impl AtWork {
    fn on(own: Vec<PathBuf>) -> Self {
        disks().extend(own.iter().cloned());
        Self(own)
    }

    /// Whether another wipe is at work on one of its disks.
    fn meets_another(&self) -> bool {
        let all = disks();
        self.0.iter().any(|disk| all.iter().filter(|other| *other == disk).count() > 1)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut all = disks();
        for disk in &self.0 {
            if let Some(place) = all.iter().position(|other| other == disk) {
                all.swap_remove(place);
            }
        }
    }
}

/// How long to rest after so much work.
fn due(shared: bool, worked: Duration) -> Duration {
    if shared { worked.saturating_mul(SHARED.1).min(LONGEST) } else { ALONE.1 }
}

/// Whether so many ends of I/O in a time are others' use of the disk.
fn is_used(ended: u64, time: Duration) -> bool {
    u128::from(ended) * 1000 > OTHERS * time.as_millis().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_shares_the_disk_rests_nineteen_times_as_long_as_it_worked_but_never_for_minutes() {
        let worked = Duration::from_millis(30);
        assert_eq!(due(true, worked), Duration::from_millis(570));
        assert_eq!(due(true, Duration::from_mins(1)), LONGEST);
        assert_eq!(due(true, Duration::MAX), LONGEST);
        assert_eq!(due(false, worked), ALONE.1);
    }

    #[test]
    fn a_line_of_a_log_now_and_then_is_no_use_of_a_disk_and_a_database_is() {
        let second = Duration::from_secs(1);
        assert!(!is_used(0, ALONE.1));
        assert!(is_used(1, ALONE.1));
        assert!(!is_used(9, Duration::from_millis(190)));
        assert!(is_used(10, Duration::from_millis(190)));
        assert!(!is_used(50, second) && is_used(51, second));
        assert!(is_used(u64::MAX, second) && !is_used(0, Duration::ZERO));
    }

    #[test]
    fn it_looks_before_it_begins_and_again_with_each_rest_whether_others_use_the_disk() {
        let (progress, volume) = (Progress::default(), "v1".parse().unwrap());
        let (served, others) = (Cell::new(0), Cell::new(1000));
        let counted = || served.replace(served.get() + others.get());

        let pace = Pace::of(vec![], counted, &volume, &progress).unwrap();
        assert!(pace.shared.get());

        others.set(0);
        pace.rest().unwrap();
        assert!(!pace.shared.get());

        others.set(1000);
        pace.rest().unwrap();
        assert!(pace.shared.get());
    }

    #[test]
    fn two_wipes_on_one_disk_do_not_take_each_other_for_others_and_one_that_is_left_looks_again() {
        let (progress, volume) = (Progress::default(), "v1".parse().unwrap());
        let served = Cell::new(0);
        let counted = || served.replace(served.get() + 1000);
        let pace = |disk: &str| Pace::of(vec![disk.into()], counted, &volume, &progress).unwrap();

        let (one, elsewhere) = (pace("test/vda"), pace("test/vdb"));
        assert!(one.shared.get() && elsewhere.shared.get());
        let other = pace("test/vda");
        one.rest().unwrap();
        elsewhere.rest().unwrap();
        assert!(!one.shared.get() && !other.shared.get() && elsewhere.shared.get());

        drop(other);
        one.rest().unwrap();
        assert!(one.shared.get());
    }

    #[test]
    fn one_that_has_worked_for_less_than_is_due_goes_on() {
        let (progress, volume) = (Progress::default(), "v1".parse().unwrap());
        let pace = Pace::of(vec![], || 0, &volume, &progress).unwrap();
        let worked = |time| {
            pace.since.set(Instant::now().checked_sub(time).unwrap());
            pace.is_due()
        };

        pace.since.set(Instant::now() + ALONE.0);
        assert!(!pace.is_due());
        assert!(worked(ALONE.0));
        pace.shared.set(true);
        assert!(worked(SHARED.0));
    }

    #[test]
    fn a_wipe_that_is_to_stop_does_not_begin() {
        let (progress, volume) = (Progress::default(), "v1".parse().unwrap());
        progress.stop();

        let pace = Pace::of(vec![], || 0, &volume, &progress);

        assert!(matches!(pace, Err(Error::Interrupted)));
    }
}
