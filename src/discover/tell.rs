//! What a person wants to know of discovery: one line for each thing that appeared, vanished or changed, once.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::found::Problem;
use crate::volume::{CleanReason, LocalVolume, NodeName};

/// Says something of a volume, with the fields by which its lines are found.
macro_rules! say {
    ($level:ident, $volume:expr, $($said:tt)+) => {
        $level!(
            volume = %$volume.name,
            node = %$volume.spec.node,
            pool = %$volume.spec.pool,
            path = $volume.status.path.as_str(),
            $($said)+
        )
    };
}

/// A volume is new.
pub(super) fn appeared(volume: &LocalVolume) {
    let (capacity, phase) = (volume.status.capacity, volume.phase());
    let because = volume.status.conditions.clean.message.as_str();
    say!(info, volume, %capacity, %phase, because, "volume appeared");
    if !volume.is_healthy() {
        let because = volume.status.conditions.healthy.message.as_str();
        say!(warn, volume, because, "volume is not healthy and not offered");
    }
}

/// A volume is no more.
pub(super) fn vanished(volume: &LocalVolume) {
    say!(info, volume, "volume vanished; nobody held it, so it is no longer in the inventory");
}

/// The pool's policy ordered a wipe.
pub(super) fn ordered(volume: &LocalVolume) {
    say!(info, volume, "volume is to be wiped, as its pool's newVolumes says");
}

/// What is seen of a volume has changed.
pub(super) fn differences(old: &LocalVolume, new: &LocalVolume) {
    let (was, is) = (&old.status.conditions.healthy, &new.status.conditions.healthy);
    let because = is.message.as_str();
    match (was.status, is.status) {
        (_, false) if was.reason != is.reason || was.status => {
            say!(warn, new, reason = is.reason.as_str(), because, "volume is not healthy");
        }
        (false, true) => say!(info, new, because, "volume is healthy again"),
        _ => {}
    }
    if old.status.path != new.status.path {
        say!(info, new, was = old.status.path.as_str(), "volume moved to another path");
    }
    if old.status.capacity != new.status.capacity {
        let (was, is) = (old.status.capacity, new.status.capacity);
        say!(info, new, %was, %is, "volume changed its capacity");
    }
    let (was, is) = (&old.status.conditions.clean, &new.status.conditions.clean);
    if was.reason != is.reason && is.reason != CleanReason::InUse {
        let because = is.message.as_str();
        say!(info, new, phase = %new.phase(), because, "volume changed its contents");
    }
}

/// What is wrong since this scan, and what is wrong no more.
pub(super) fn problems(node: &NodeName, known: &BTreeSet<Problem>, now: &BTreeSet<Problem>) {
    for problem in now.difference(known) {
        warn!(%node, pool = %problem.pool, path = problem.path, "{problem}");
    }
    for problem in known.difference(now) {
        info!(%node, pool = %problem.pool, path = problem.path, "no longer so: {problem}");
    }
}
