//! What is to be done about a volume now, decided from what is recorded and what was tried: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::inventory::Version;
use crate::volume::{CleanMethod, CleanPolicy, LocalVolume, Tenancy, VolumeName};

/// The first wait after a failure; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// The first wait while the volume is still in use, and the longest: an unmount in another namespace is no event here.
const IN_USE_WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Which part of that wait has to pass before a change of the mounts ends it. Most changes are about something else, and
/// a host whose mounts change all the time is not to be looked at all the time.
const OF_WAIT: u32 = 10;

/// What a wipe carries out: after which tenancy, how, and when a person last asked for it. Another one is another matter.
pub(crate) type Order = (Tenancy, CleanPolicy, Option<Timestamp>);

/// What was tried with a volume, and when it is tried again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attempts {
    /// The order that was tried. Another one is tried at once.
    order: Order,
    /// How often in a row it came to the same.
    times: u32,
    /// Not before this.
    pub(super) not_before: Instant,
    /// Where the volume was in use: what may be the end of that.
    in_use: Option<InUse>,
}

/// A volume that was in use.
#[derive(Debug, Clone, PartialEq)]
struct InUse {
    /// Its version; any change of it may be the end.
    version: Version,
    /// When it was looked at.
    seen: Instant,
    /// A change of the mounts after that may be the end, and is looked at no sooner than this.
    on_change: Instant,
}

impl Attempts {
    /// One more failure.
    pub(super) fn failed(before: Option<&Self>, order: Order, now: Instant) -> Self {
        let before = before.filter(|b| b.order == order && b.in_use.is_none());
        let times = before.map_or(1, |before| before.times.saturating_add(1));
        let not_before = now + doubled(FIRST_WAIT, times, LONGEST_WAIT);
        Self { order, times, not_before, in_use: None }
    }

    /// The volume was still in use, when it was looked at not before `seen`. That is no failure.
    pub(super) fn in_use(
        before: Option<&Self>,
        order: Order,
        version: Version,
        (seen, now): (Instant, Instant),
    ) -> Self {
        let before = before.filter(|b| b.order == order && b.in_use.is_some());
        let times = before.map_or(1, |before| before.times.saturating_add(1));
        let wait = doubled(IN_USE_WAITS.0, times, IN_USE_WAITS.1);
        let in_use = Some(InUse { version, seen, on_change: now + wait / OF_WAIT });
        Self { order, times, not_before: now + wait, in_use }
    }

    /// When it is time to try again.
    fn due(&self, version: Version, mounts_changed: Option<Instant>) -> Option<Instant> {
        match &self.in_use {
            Some(in_use) if in_use.version < version => None,
            Some(in_use) if mounts_changed.is_some_and(|at| at > in_use.seen) => {
                Some(in_use.on_change)
            }
            _ => Some(self.not_before),
        }
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << (times - 1).min(16)).min(longest)
}

/// How long a wipe may get nowhere as far as is seen: of a program nothing is, before its time is up.
pub(super) fn quiet(policy: &CleanPolicy) -> Duration {
    match &policy.method {
        CleanMethod::Command { timeout, .. } => Duration::from_secs(*timeout),
        _ => Duration::ZERO,
    }
}

/// Whether what is learnt of a volume ends the wait after a failure: what was ill with it may have been the reason.
pub(super) fn is_well_again(known: &LocalVolume, learnt: &LocalVolume) -> bool {
    learnt.is_healthy() && !known.is_healthy()
}

/// What is due of a volume; absent where nothing is.
pub(crate) fn order(volume: &LocalVolume) -> Option<Order> {
    let policy = volume.spec.clean.clone().filter(|_| volume.needs_cleaning())?;
    Some((volume.spec.tenancy, policy, volume.spec.clean_asked))
}

/// What to do about a volume.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next {
    /// Nothing is due.
    Nothing,
    /// It is to be wiped now.
    Wipe(CleanPolicy),
    /// It is to be wiped, and not before this.
    Wait(Instant),
}

/// The time, and when the mounts of this namespace have changed last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) now: Instant,
    pub(crate) mounts_changed: Option<Instant>,
}

/// Decides what to do about a volume at `version`.
pub(crate) fn next(
    volume: &LocalVolume,
    version: Version,
    attempts: Option<&Attempts>,
    clock: Clock,
) -> Next {
    let Some(order) = order(volume).filter(|_| !volume.is_disproved()) else {
        return Next::Nothing;
    };
    let tried = attempts.filter(|attempts| attempts.order == order);
    match tried.and_then(|tried| tried.due(version, clock.mounts_changed)) {
        Some(due) if due > clock.now => Next::Wait(due),
        _ => Next::Wipe(order.1),
    }
}

/// Of what is ready to be wiped, that which gets the free places: what has been ready longest.
#[derive(Debug, Default)]
pub(super) struct Line {
    since: BTreeMap<VolumeName, Instant>,
}

impl Line {
    /// Stands the `ready` in line, keeps the places of those that were there before, and takes the first ones out.
    pub(super) fn take(
        &mut self,
        ready: BTreeSet<VolumeName>,
        places: usize,
        now: Instant,
    ) -> Vec<VolumeName> {
        self.since.retain(|name, _| ready.contains(name));
        for name in &ready {
            self.since.entry(name.clone()).or_insert(now);
        }
        let mut line: Vec<_> = ready.into_iter().collect();
        line.sort_by_key(|name| self.since.get(name).copied());
        line.truncate(places);
        for name in &line {
            self.since.remove(name);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::fixture::{self, available, claimed_by, delete, released};

    const V: Version = Version(1);

    fn due() -> Order {
        order(&released()).unwrap()
    }

    fn at(now: Instant) -> Clock {
        Clock { now, mounts_changed: None }
    }

    #[tokio::test]
    async fn only_a_free_volume_that_is_not_clean_and_has_an_order_is_wiped() {
        let now = Instant::now();
        let mut found = available();
        found.status.clean_for = None;

        for volume in [available(), claimed_by("pvc-1"), found] {
            assert_eq!(next(&volume, V, None, at(now)), Next::Nothing);
        }
        assert_eq!(next(&released(), V, None, at(now)), Next::Wipe(delete()));
    }

    #[tokio::test]
    async fn each_failure_doubles_the_wait_up_to_five_minutes_and_each_use_up_to_half_a_minute() {
        let now = Instant::now();
        let (mut failed, mut in_use) = (None, None);
        let (mut waits, mut uses) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            let next = Attempts::failed(failed.as_ref(), due(), now);
            waits.push((next.not_before - now).as_secs());
            failed = Some(next);
            let next = Attempts::in_use(in_use.as_ref(), due(), V, (now, now));
            uses.push((next.not_before - now).as_millis());
            in_use = Some(next);
        }

        assert_eq!((&waits[..5], waits[39]), (&[1, 2, 4, 8, 16][..], 300));
        assert_eq!((&uses[..3], uses[39]), (&[500, 1000, 2000][..], 30_000));
        // The one is not the other.
        let failed = Attempts::failed(in_use.as_ref(), due(), now);
        assert_eq!(failed.not_before, now + FIRST_WAIT);
    }

    #[tokio::test]
    async fn a_failure_is_waited_out_and_a_new_order_is_not() {
        let now = Instant::now();
        let failed = Attempts::failed(None, due(), now);
        let (then, changed) = (failed.not_before, Clock { now, mounts_changed: Some(now) });

        assert_eq!(next(&released(), V, Some(&failed), changed), Next::Wait(then));
        assert_eq!(next(&released(), V, Some(&failed), at(then)), Next::Wipe(delete()));
        let mut ordered = released();
        let verified = CleanPolicy { verify: true, ..delete() };
        ordered.spec.clean = Some(verified.clone());
        assert_eq!(next(&ordered, V, Some(&failed), at(now)), Next::Wipe(verified));
    }

    #[tokio::test]
    async fn an_order_that_a_person_gives_again_is_not_made_to_wait() {
        let now = Instant::now();
        let mut volume = released();
        let mut failed = Attempts::failed(None, due(), now);
        for asked in 1..=2 {
            let asked = Timestamp::from_second(asked).unwrap();
            volume.spec = volume.asked_to_clean(delete(), asked);

            assert_eq!(next(&volume, V, Some(&failed), at(now)), Next::Wipe(delete()));
            failed = Attempts::failed(Some(&failed), order(&volume).unwrap(), now);
            assert_eq!(failed.times, 1);
        }
    }

    #[test]
    fn a_wait_ends_when_a_volume_is_well_again_and_with_no_other_change() {
        let ill = |is_ill: bool| {
            let mut volume = released();
            volume.status.conditions.healthy.status = !is_ill;
            volume
        };

        let ends = |was: bool, is: bool| is_well_again(&ill(was), &ill(is));

        assert!(ends(true, false));
        assert!(!ends(true, true) && !ends(false, false) && !ends(false, true));
    }

    #[tokio::test]
    async fn a_volume_in_use_is_tried_again_when_it_changes_and_soon_after_the_mounts_do() {
        let now = Instant::now();
        let in_use = Attempts::in_use(None, due(), V, (now, now));
        let (soon, later) = (now + IN_USE_WAITS.0 / OF_WAIT, now + IN_USE_WAITS.0);
        let changed = |at| Clock { now, mounts_changed: Some(at) };

        assert_eq!(next(&released(), V, Some(&in_use), changed(now)), Next::Wait(later));
        let after = now + Duration::from_nanos(1);
        assert_eq!(next(&released(), V, Some(&in_use), changed(after)), Next::Wait(soon));
        assert_eq!(next(&released(), Version(2), Some(&in_use), at(now)), Next::Wipe(delete()));
    }

    #[tokio::test]
    async fn what_is_ready_longest_goes_first_so_that_nobody_waits_for_ever() {
        let now = Instant::now();
        let name = |entry: &str| fixture::named(entry, crate::volume::Bytes(1)).name;
        let (a, b, c) = (name("a"), name("b"), name("c"));
        let ready = |names: [&VolumeName; 2]| names.into_iter().cloned().collect();
        let mut line = Line::default();

        let first = line.take(ready([&b, &c]), 1, now);
        // It is in use, and ready again each time; so is one whose name comes first.
        let second = line.take(ready([&a, &c]), 1, now + FIRST_WAIT);
        let third = line.take(ready([&a, &b]), 1, now + 2 * FIRST_WAIT);

        assert_eq!([first, second, third], [[b], [c], [a]]);
    }
}
