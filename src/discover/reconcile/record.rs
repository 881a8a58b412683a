//! What the record of a volume becomes, from where it is now and what it is like.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::super::found::{Candidate, Contents, Seen};
use super::known::{Known, is_idle};
use super::{Change, Plan, World};
use crate::pool::Pool;
use crate::volume::{Bytes, CleanReason, Condition, HealthReason, LocalVolume, NewVolumes, Status};

/// What becomes of a volume that is not there, or could not be looked at.
pub(super) fn set_away(
    known: &Known<'_>,
    reason: HealthReason,
    message: &str,
    now: Timestamp,
    plan: &mut Plan,
) {
    let (volume, name) = (known.volume, known.volume.name.clone());
    if known.is_reformatted() {
        return;
    }
    if known.goes() {
        plan.changes.push(Change::Remove(name));
        return;
    }
    let mut status = volume.status.clone();
    let healthy = Condition { status: false, reason, message: message.to_owned(), since: now };
    status.conditions.healthy = said(&volume.status.conditions.healthy, healthy);
    if status != volume.status {
        plan.changes.push(Change::Status(name, Box::new(status)));
    }
}

/// A volume that is where its pool offers it, and how large it is.
pub(super) struct Sighting<'a> {
    pub(super) candidate: &'a Candidate,
    pub(super) seen: &'a Seen,
    pub(super) other_paths: &'a BTreeSet<String>,
    pub(super) capacity: Bytes,
}

/// What becomes of a volume that is there.
pub(super) fn update(volume: &LocalVolume, here: &Sighting<'_>, world: World<'_>, plan: &mut Plan) {
    let pool = world.pools.get(&here.candidate.pool);
    let status = status(volume, here, pool, world);
    let is_dirty = status.clean_for != Some(volume.spec.tenancy);
    if status != volume.status {
        plan.changes.push(Change::Status(volume.name.clone(), Box::new(status)));
    }
    if let Some(pool) = pool.filter(|pool| pool.new_volumes == NewVolumes::Clean)
        && is_dirty
        && is_idle(volume)
        && volume.spec.clean.is_none()
    {
        plan.changes.push(Change::Order(volume.name.clone(), pool.clean.clone()));
    }
}

fn status(
    volume: &LocalVolume,
    here: &Sighting<'_>,
    pool: Option<&Pool>,
    world: World<'_>,
) -> Status {
    let facts = &here.seen.facts;
    let mut status = volume.status.clone();
    status.path.clone_from(&here.candidate.path);
    status.other_paths.clone_from(here.other_paths);
    status.fingerprint = facts.fingerprint.clone();
    status.place = Some(facts.place.clone());
    status.capacity = here.capacity;
    status.fs_type.clone_from(&facts.fs_type);
    status.conditions.healthy = healthy(volume, here.candidate, world);
    if is_idle(volume) && volume.is_clean() {
        // Whatever is mounted of it while nobody holds it is the administrator's.
        status.own_mounts.clone_from(&here.seen.mounts);
    }
    if let Some((reason, message)) = judged(volume, here, pool.map(|pool| pool.new_volumes)) {
        let clean = matches!(reason, CleanReason::FoundEmpty | CleanReason::Accepted);
        if clean {
            status.clean_for = Some(volume.spec.tenancy);
        } else if reason == CleanReason::FoundData {
            status.clean_for = None;
        }
        let condition = Condition { status: clean, reason, message, since: world.now };
        status.conditions.clean = said(&volume.status.conditions.clean, condition);
    }
    status
}

fn healthy(
    volume: &LocalVolume,
    candidate: &Candidate,
    world: World<'_>,
) -> Condition<HealthReason> {
    let was = &volume.status.conditions.healthy;
    let (reason, message) = match world.findings.get(&volume.name) {
        // A probe looks where the volume was recorded, and a moment later than the scan; the scan is what counts.
        Some(finding)
            if !matches!(finding.reason, HealthReason::Missing | HealthReason::Replaced) =>
        {
            (finding.reason, finding.message.clone())
        }
        // Only another probe says that what a probe found is over.
        None if matches!(
            was.reason,
            HealthReason::ReadOnly | HealthReason::ReadError | HealthReason::ProbeTimeout
        ) =>
        {
            return was.clone();
        }
        _ => (HealthReason::Present, format!("{} is present and can be read", candidate.path)),
    };
    let status = reason == HealthReason::Present;
    said(was, Condition { status, reason, message, since: world.now })
}

/// What is to be said anew about how clean a volume is; absent where what was said stands.
fn judged(
    volume: &LocalVolume,
    here: &Sighting<'_>,
    policy: Option<NewVolumes>,
) -> Option<(CleanReason, String)> {
    let path = &here.candidate.path;
    let reason = volume.status.conditions.clean.reason;
    if let Some(claim) = &volume.spec.claim {
        let news = (CleanReason::InUse, format!("{path} is in use by claim {}", claim.name));
        return (reason != CleanReason::InUse).then_some(news);
    }
    if !is_untouched(volume) {
        return None;
    }
    match (reason, here.seen.contents.as_ref()?) {
        (CleanReason::FoundData, Contents::Empty) => {
            Some((CleanReason::FoundEmpty, format!("{path} is empty now")))
        }
        (CleanReason::FoundData, Contents::Holds(what)) if policy == Some(NewVolumes::Accept) => {
            Some((CleanReason::Accepted, accepted(path, what)))
        }
        (CleanReason::FoundEmpty, Contents::Holds(what)) => {
            Some((CleanReason::FoundData, holds(path, what, volume.name.as_str())))
        }
        _ => None,
    }
}

/// Whether a volume is as it was found: never held, and nobody ordered a wipe.
pub(super) fn is_untouched(volume: &LocalVolume) -> bool {
    let never = volume.spec.claim.is_none() && volume.spec.clean.is_none();
    let reason = volume.status.conditions.clean.reason;
    never && matches!(reason, CleanReason::FoundData | CleanReason::FoundEmpty)
}

pub(super) fn accepted(path: &str, what: &str) -> String {
    format!("{path} holds {what}, which its pool accepts")
}

pub(super) fn holds(path: &str, what: &str, name: &str) -> String {
    format!(
        "{path} holds {what}: look at it, then wipe it with `berth clean {name}`, or empty it by hand, or say in the \
         pool's newVolumes what becomes of such volumes"
    )
}

fn said<R: PartialEq + Clone>(was: &Condition<R>, now: Condition<R>) -> Condition<R> {
    if was.says_more(&now) { was.then(now) } else { was.clone() }
}
