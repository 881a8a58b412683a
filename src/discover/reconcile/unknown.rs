//! Candidates that are no volumes yet: which of them become one, and how that one begins.

use std::collections::BTreeMap;

use super::super::found::{Candidate, Contents, Defect, Found, Seen, Sight};
use super::known::{Known, Whereabouts};
use super::places::Places;
use super::record::{accepted, holds};
use super::{Plan, World, is_device, selectable};
use jiff::Timestamp;

use crate::volume::{
    Bytes, CleanReason, Condition, Conditions, HealthReason, LocalVolume, NewVolumes, Spec, Status,
    Tenancy, VolumeName,
};

/// Chooses the candidates that become volumes, and reports why the others do not.
pub(super) fn select<'a>(
    found: &'a Found,
    known: &[Known<'_>],
    world: World<'_>,
    places: &mut Places,
    plan: &mut Plan,
) -> Vec<(&'a Candidate, &'a Seen)> {
    let records = Records::of(known);
    let mut chosen: BTreeMap<Vec<u8>, (&Candidate, &Seen)> = BTreeMap::new();
    for candidate in &found.candidates {
        let Some(seen) = source(candidate, &records, world, plan) else { continue };
        let identity = seen.facts.fingerprint.identity();
        let of = records.paths.get(&identity).copied();
        if of.is_some_and(|of| of == Some(candidate.path.as_str())) {
            continue;
        }
        let other = chosen.get(&identity).map(|(other, _)| other.path.as_str());
        match (of, other) {
            (None, None) => drop(chosen.insert(identity, (candidate, seen))),
            (Some(Some(of)), _) | (None, Some(of)) => {
                plan.report(candidate, Defect::Duplicate { of: of.to_owned() });
            }
            // Its record, which says so itself, is away or about to go.
            (Some(None), _) => {}
        }
    }
    let mut chosen: Vec<_> = chosen.into_values().collect();
    // The outer of two comes first, so that it is the inner one that is not offered.
    chosen.sort_by_key(|(found, seen)| (seen.facts.root.components().count(), &found.path));
    chosen.retain(|(candidate, seen)| place(candidate, seen, &records, places, plan));
    chosen
}

/// What is recorded, by what new candidates may collide with.
struct Records<'a> {
    /// By the identity of each recorded source the path that it is offered by; absent where it is not.
    paths: BTreeMap<Vec<u8>, Option<&'a str>>,
    /// Volumes that are not where they were recorded, by that path, and whether their record stays.
    missing: BTreeMap<&'a str, (&'a VolumeName, bool)>,
}

impl<'a> Records<'a> {
    fn of(known: &'a [Known<'_>]) -> Self {
        let mut records = Self { paths: BTreeMap::new(), missing: BTreeMap::new() };
        for known in known {
            let volume = known.volume;
            let identity = volume.status.fingerprint.identity();
            if let Whereabouts::Present(candidate, _) = &known.whereabouts {
                records.paths.insert(identity, Some(&candidate.path));
            } else {
                records.paths.entry(identity).or_insert(None);
                let missing = (&volume.name, !known.goes());
                records.missing.insert(&volume.status.path, missing);
            }
        }
        records
    }
}

/// The source that a candidate is, if its pool may offer it.
fn source<'a>(
    candidate: &'a Candidate,
    records: &Records<'_>,
    world: World<'_>,
    plan: &mut Plan,
) -> Option<&'a Seen> {
    let defect = match &candidate.sight {
        Sight::Source(seen) => match selectable(world.pools.get(&candidate.pool)?, seen) {
            Ok(()) => return Some(seen),
            Err(defect) => defect,
        },
        // Where a volume was recorded, its condition says it.
        Sight::Failed { .. } | Sight::Nothing
            if records.missing.contains_key(candidate.path.as_str()) =>
        {
            return None;
        }
        Sight::Nothing => Defect::Nothing,
        Sight::Unsuitable => Defect::Unsuitable,
        Sight::Failed { message, .. } => Defect::Failed(message.clone()),
    };
    plan.report(candidate, defect);
    None
}

/// Takes the place of a chosen candidate; it stays chosen if that was free.
fn place(
    candidate: &Candidate,
    seen: &Seen,
    records: &Records<'_>,
    places: &mut Places,
    plan: &mut Plan,
) -> bool {
    let is_plain = !seen.facts.is_mount && !is_device(seen);
    match records.missing.get(candidate.path.as_str()) {
        // A tenant must never be given the empty directory that a lost mount leaves.
        Some((volume, true)) if is_plain => {
            plan.report(candidate, Defect::Beneath { volume: (*volume).clone() });
            return false;
        }
        Some((_, false)) if is_plain => return false,
        _ => {}
    }
    if let Some(with) = places.overlapping(seen) {
        plan.report(candidate, Defect::Overlaps { with: with.to_owned() });
        return false;
    }
    places.take(seen, &candidate.path);
    true
}

/// A volume as it begins. Absent while nobody looked into it.
pub(super) fn volume(
    candidate: &Candidate,
    seen: &Seen,
    capacity: Bytes,
    world: World<'_>,
) -> Option<LocalVolume> {
    let pool = world.pools.get(&candidate.pool)?;
    let path = &candidate.path;
    let identity = seen.facts.fingerprint.identity();
    let name = VolumeName::compose(world.node, &pool.name, &candidate.entry, &identity);
    let (reason, message) = judged(path, seen.contents.as_ref()?, pool.new_volumes, &name);
    let is_clean = reason != CleanReason::FoundData;
    let ordered = !is_clean && pool.new_volumes == NewVolumes::Clean;
    let tenancy = before_the_first(world.now);
    let spec = Spec {
        node: world.node.clone(),
        pool: pool.name.clone(),
        mode: pool.mode,
        tenancy,
        claim: None,
        clean: ordered.then(|| pool.clean.clone()),
        cordoned: false,
    };
    let since = world.now;
    let present = format!("{path} is present and can be read");
    let status = Status {
        path: path.clone(),
        fingerprint: seen.facts.fingerprint.clone(),
        capacity,
        fs_type: seen.facts.fs_type.clone(),
        clean_for: is_clean.then_some(tenancy),
        conditions: Conditions {
            healthy: Condition {
                status: true,
                reason: HealthReason::Present,
                message: present,
                since,
            },
            clean: Condition { status: is_clean, reason, message, since },
        },
        cleaning: None,
        published: Vec::new(),
        own_mounts: seen.mounts.clone(),
        root: seen.root.clone(),
        format: None,
        node_uid: None,
    };
    Some(LocalVolume { name, spec, status })
}

fn judged(
    path: &str,
    contents: &Contents,
    policy: NewVolumes,
    name: &VolumeName,
) -> (CleanReason, String) {
    match (contents, policy) {
        (Contents::Empty, _) => {
            (CleanReason::FoundEmpty, format!("{path} was empty when it was found"))
        }
        (Contents::Holds(what), NewVolumes::Accept) => {
            (CleanReason::Accepted, accepted(path, what))
        }
        (Contents::Holds(what), NewVolumes::RequireEmpty) => {
            (CleanReason::FoundData, holds(path, what, name.as_str()))
        }
        (Contents::Holds(what), NewVolumes::Clean) => {
            (CleanReason::FoundData, format!("{path} holds {what} and is wiped, as its pool says"))
        }
    }
}

/// The tenancy number that a new record begins with: the milliseconds since the beginning of 2026.
///
/// The record of a free volume that vanishes is removed, and its name comes back with the disk. Counting from zero again
/// would give the numbers of its old tenancies to new ones, and a late call about an old tenancy would reach the new
/// tenant. No volume has more than one tenant a millisecond: each ends with a wipe and two durable writes.
fn before_the_first(now: Timestamp) -> Tenancy {
    const BEGINNING: i64 = 1_767_225_600_000;
    Tenancy(u64::try_from(now.as_millisecond() - BEGINNING).unwrap_or_default())
}
