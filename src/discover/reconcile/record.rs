//! What the record of a volume becomes, from where it is now and what it is like.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::super::found::{Candidate, Seen};
use super::known::{Known, is_idle};
use super::{Change, Plan, World};
use crate::pool::Pool;
use crate::volume::{
    Bytes, CleanMethod, CleanReason, Condition, Fingerprint, HealthReason, LocalVolume, NewVolumes,
    Status,
};

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
    // That says why it is away, and is said by the controller.
    if volume.is_node_gone() {
        return;
    }
    let mut status = volume.status.clone();
    let healthy = Condition { status: false, reason, message: message.into(), since: now };
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
    if was_filled(volume, here.seen) && volume.spec.clean.is_some() {
        plan.changes.push(Change::Withdraw(volume.name.clone()));
    }
    if status != volume.status {
        plan.changes.push(Change::Status(volume.name.clone(), Box::new(status)));
    }
    if let Some(pool) = pool.filter(|pool| pool.new_volumes == NewVolumes::Clean)
        && is_dirty
        && is_idle(volume)
        && volume.spec.clean.is_none()
        && volume.status.conditions.clean.reason != CleanReason::FoundInUse
    {
        let policy = pool.clean_of(&volume.status.fingerprint).clone();
        plan.changes.push(Change::Order(volume.name.clone(), policy));
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
    if status.path != here.candidate.path {
        status.path = here.candidate.path.as_str().into();
    }
    if let Some(uid) = world.node_uid {
        status.node_uid = Some(uid.into());
    }
    status.other_paths.clone_from(here.other_paths);
    status.fingerprint = facts.fingerprint.clone();
    status.place = Some(facts.place.clone());
    status.capacity = here.capacity;
    status.fs_type = facts.fs_type.as_deref().map(Into::into);
    status.conditions.healthy = healthy(volume, here.candidate, world);
    if is_idle(volume) && volume.is_clean() {
        // Whatever else is mounted of it while nobody holds it is the administrator's.
        status.own_mounts = world.own_mounts(here.seen);
        if let Some(mounts) = world.host_mounts(here.seen) {
            status.host_mounts = mounts;
        }
    }
    if let Some((reason, message)) = judged(volume, here, pool.map(|pool| pool.new_volumes)) {
        let clean = matches!(reason, CleanReason::FoundEmpty | CleanReason::Accepted);
        if clean {
            status.clean_for = Some(volume.spec.tenancy);
        } else if reason == CleanReason::FoundData {
            status.clean_for = None;
        }
        let condition =
            Condition { status: clean, reason, message: message.into(), since: world.now };
        status.conditions.clean = said(&volume.status.conditions.clean, condition);
    }
    match status.conditions.clean.reason {
        CleanReason::Accepted => status.accepted = true,
        CleanReason::FoundEmpty | CleanReason::FoundData | CleanReason::Wiped => {
            status.accepted = false;
        }
        // What a tenant was given, and left as it was, is what it was before.
        _ => {}
    }
    status
}

fn healthy(
    volume: &LocalVolume,
    candidate: &Candidate,
    world: World<'_>,
) -> Condition<HealthReason> {
    let was = &volume.status.conditions.healthy;
    if volume.is_node_gone() && !world.is_on_a_new_node(volume) {
        return was.clone();
    }
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
    said(was, Condition { status, reason, message: message.into(), since: world.now })
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
    match here.seen.contents.as_ref()?.shown_as(volume.spec.mode) {
        None if is_found_dirty(volume) => {
            Some((CleanReason::FoundEmpty, format!("{path} is empty now")))
        }
        Some(what) if is_found_dirty(volume) && policy == Some(NewVolumes::Accept) => {
            Some((CleanReason::Accepted, accepted(path, what)))
        }
        // With an order it would be wiped; that is taken back first.
        Some(what) if was_filled(volume, here.seen) && volume.spec.clean.is_none() => {
            Some((CleanReason::FoundData, holds(path, what, volume.name.as_str())))
        }
        _ => None,
    }
}

/// Whether a volume holds data that was there when it was found, and nobody has decided about that.
pub(super) fn is_found_dirty(volume: &LocalVolume) -> bool {
    let undecided = volume.spec.claim.is_none() && volume.spec.clean.is_none();
    undecided && volume.status.conditions.clean.reason == CleanReason::FoundData
}

/// Whether a volume is free and clean because it was seen or made to be empty. A device that the administrator's own
/// program wiped holds whatever that leaves.
pub(super) fn is_known_empty(volume: &LocalVolume) -> bool {
    let is_device = matches!(volume.status.fingerprint, Fingerprint::Device { .. });
    let by_command = volume
        .spec
        .clean
        .as_ref()
        .is_some_and(|policy| matches!(policy.method, CleanMethod::Command { .. }));
    let empty = match volume.status.conditions.clean.reason {
        CleanReason::FoundEmpty => true,
        CleanReason::Wiped => !(is_device && by_command),
        _ => false,
    };
    empty && volume.spec.claim.is_none() && volume.is_clean()
}

/// Whether somebody has filled a volume that is taken to be empty.
fn was_filled(volume: &LocalVolume, seen: &Seen) -> bool {
    let shown = seen.contents.as_ref().and_then(|contents| contents.shown_as(volume.spec.mode));
    is_known_empty(volume) && shown.is_some()
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
