//! What is to be done about a volume now, decided from what is recorded and what was tried: pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::inventory::Version;
use crate::volume::{CleanPolicy, LocalVolume, Tenancy};

/// The first wait after a failure; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// The wait while the volume is still in use: an unmount elsewhere is no event here.
pub(super) const IN_USE_WAIT: Duration = Duration::from_millis(500);

/// What a wipe carries out: after which tenancy, and how. Another one is another matter.
pub(super) type Order = (Tenancy, CleanPolicy);

/// What was tried with a volume, and when it is tried again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attempts {
    /// The order that was tried. Another one is tried at once.
    order: Order,
    /// How often it failed.
    pub(super) failures: u32,
    /// Not before this.
    pub(super) not_before: Instant,
    /// The version at which the volume was in use; any change of it may be the end of that.
    waits_for_change_of: Option<Version>,
}

impl Attempts {
    /// One more failure.
    pub(super) fn failed(before: Option<&Self>, order: Order, now: Instant) -> Self {
        let failures =
            before.filter(|b| b.order == order).map_or(1, |b| b.failures.saturating_add(1));
        let doubled = FIRST_WAIT.saturating_mul(1 << (failures - 1).min(16));
        let not_before = now + doubled.min(LONGEST_WAIT);
        Self { order, failures, not_before, waits_for_change_of: None }
    }

    /// The volume was still in use, which is no failure.
    pub(super) fn in_use(order: Order, version: Version, now: Instant) -> Self {
        let not_before = now + IN_USE_WAIT;
        Self { order, failures: 0, not_before, waits_for_change_of: Some(version) }
    }
}

/// What is due of a volume; absent where nothing is.
pub(super) fn order(volume: &LocalVolume) -> Option<Order> {
    let policy = volume.spec.clean.clone().filter(|_| volume.needs_cleaning())?;
    Some((volume.spec.tenancy, policy))
}

/// What to do about a volume.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// Nothing is due.
    Nothing,
    /// It is to be wiped now.
    Wipe(CleanPolicy),
    /// It is to be wiped, and not before this.
    Wait(Instant),
}

/// Decides what to do about a volume at `version`.
pub(super) fn next(
    volume: &LocalVolume,
    version: Version,
    attempts: Option<&Attempts>,
    now: Instant,
) -> Next {
    let Some(order) = order(volume) else { return Next::Nothing };
    let tried = attempts.filter(|attempts| attempts.order == order);
    let changed = |tried: &Attempts| tried.waits_for_change_of.is_some_and(|at| at < version);
    match tried {
        Some(tried) if !changed(tried) && tried.not_before > now => Next::Wait(tried.not_before),
        _ => Next::Wipe(order.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::fixture::{available, claimed_by, delete, released};

    const V: Version = Version(1);

    fn due() -> Order {
        order(&released()).unwrap()
    }

    #[tokio::test]
    async fn only_a_free_volume_that_is_not_clean_and_has_an_order_is_wiped() {
        let now = Instant::now();
        let mut found = available();
        found.status.clean_for = None;

        for volume in [available(), claimed_by("pvc-1"), found] {
            assert_eq!(next(&volume, V, None, now), Next::Nothing);
        }
        assert_eq!(next(&released(), V, None, now), Next::Wipe(delete()));
    }

    #[tokio::test]
    async fn each_failure_doubles_the_wait_up_to_five_minutes() {
        let now = Instant::now();
        let mut attempts: Option<Attempts> = None;
        let mut waits = Vec::new();
        for _ in 0..40 {
            let failed = Attempts::failed(attempts.as_ref(), due(), now);
            waits.push((failed.not_before - now).as_secs());
            attempts = Some(failed);
        }

        assert_eq!(waits[..5], [1, 2, 4, 8, 16]);
        assert_eq!(waits[39], 300);
    }

    #[tokio::test]
    async fn a_failure_is_waited_out_and_a_new_order_is_not() {
        let now = Instant::now();
        let failed = Attempts::failed(None, due(), now);

        assert_eq!(next(&released(), V, Some(&failed), now), Next::Wait(failed.not_before));
        assert_eq!(next(&released(), V, Some(&failed), failed.not_before), Next::Wipe(delete()));
        let mut ordered = released();
        let verified = CleanPolicy { verify: true, ..delete() };
        ordered.spec.clean = Some(verified.clone());
        assert_eq!(next(&ordered, V, Some(&failed), now), Next::Wipe(verified));
    }

    #[tokio::test]
    async fn a_volume_in_use_is_tried_again_as_soon_as_it_changes() {
        let now = Instant::now();
        let in_use = Attempts::in_use(due(), V, now);

        assert_eq!(next(&released(), V, Some(&in_use), now), Next::Wait(now + IN_USE_WAIT));
        assert_eq!(next(&released(), Version(2), Some(&in_use), now), Next::Wipe(delete()));
    }
}
