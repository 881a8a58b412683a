//! Candidates that are no volumes yet: which of them become one, and how that one begins.

use std::collections::{BTreeMap, BTreeSet};

use super::super::found::{Candidate, Defect, Found, Seen, Sight};
use super::known::{Known, Whereabouts};
use super::places::Places;
use super::record::{accepted, holds};
use super::{Plan, World, selectable};
use jiff::Timestamp;

use crate::volume::{
    Bytes, CleanReason, Condition, Conditions, HealthReason, LocalVolume, NewVolumes, Spec, Status,
    Tenancy, VolumeName,
};

/// A candidate that becomes a volume.
pub(super) struct Fresh<'a> {
    pub(super) candidate: &'a Candidate,
    pub(super) seen: &'a Seen,
    /// The other entries that lead to it as a mount or a device.
    other_paths: BTreeSet<String>,
}

/// Chooses the candidates that become volumes, and reports why the others do not.
pub(super) fn select<'a>(
    found: &'a Found,
    known: &[Known<'_>],
    world: World<'_>,
    places: &mut Places,
    plan: &mut Plan,
) -> Vec<Fresh<'a>> {
    let records = Records::of(known);
    let mut chosen: BTreeMap<Vec<u8>, Fresh<'_>> = BTreeMap::new();
    for candidate in &found.candidates {
        let Some(seen) = source(candidate, &records, world, plan) else { continue };
        let identity = seen.facts.fingerprint.identity();
        let of = records.paths.get(&identity).copied();
        if of.is_some_and(|of| of == Some(candidate.path.as_str())) {
            continue;
        }
        match (of, chosen.get_mut(&identity)) {
            (None, None) => {
                let fresh = Fresh { candidate, seen, other_paths: BTreeSet::new() };
                chosen.insert(identity, fresh);
            }
            (None, Some(fresh)) => {
                let of = fresh.candidate.path.clone();
                plan.report(candidate, Defect::Duplicate { of });
                fresh.other_paths.extend(attached(candidate, seen));
            }
            (Some(Some(of)), _) => {
                plan.report(candidate, Defect::Duplicate { of: of.to_owned() });
            }
            // Its record, which says so itself, is away or about to go.
            (Some(None), _) => {}
        }
    }
    let mut chosen: Vec<_> = chosen.into_values().collect();
    // The outer of two comes first, so that it is the inner one that is not offered.
    chosen.sort_by_key(|fresh| (fresh.seen.facts.root.components().count(), &fresh.candidate.path));
    chosen.retain(|fresh| place(fresh.candidate, fresh.seen, &records, places, plan));
    chosen
}

fn attached(candidate: &Candidate, seen: &Seen) -> Option<String> {
    seen.facts.place.attached.then(|| candidate.path.clone())
}

/// What is recorded, by what new candidates may collide with.
struct Records<'a> {
    /// By the identity of each recorded source the path that it is offered by; absent where it is not.
    paths: BTreeMap<Vec<u8>, Option<&'a str>>,
    /// Volumes that are not where they were recorded, by that path, and whether their record stays.
    missing: BTreeMap<&'a str, (&'a VolumeName, bool)>,
    /// Volumes by each other path at which they stood as a mount or a device.
    left: BTreeMap<&'a str, &'a VolumeName>,
}

impl<'a> Records<'a> {
    fn of(known: &'a [Known<'_>]) -> Self {
        let mut records =
            Self { paths: BTreeMap::new(), missing: BTreeMap::new(), left: BTreeMap::new() };
        for known in known {
            let volume = known.volume;
            let left = known.other_paths.iter().map(|path| (path.as_str(), &volume.name));
            records.left.extend(left);
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
        Sight::Failed { .. } | Sight::Untried | Sight::Nothing
            if records.missing.contains_key(candidate.path.as_str()) =>
        {
            return None;
        }
        Sight::Nothing => Defect::Nothing,
        Sight::Untried => Defect::Untried,
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
    let is_plain = !seen.facts.place.attached;
    match records.missing.get(candidate.path.as_str()) {
        // A tenant must never be given the empty directory that a lost mount leaves.
        Some((volume, true)) if is_plain => {
            plan.report(candidate, Defect::Beneath { volume: (*volume).clone() });
            return false;
        }
        Some((_, false)) if is_plain => return false,
        _ => {}
    }
    if let Some(volume) = records.left.get(candidate.path.as_str()).filter(|_| is_plain) {
        plan.report(candidate, Defect::Left { volume: (*volume).clone() });
        return false;
    }
    if let Some(with) = places.overlapping(&seen.facts.place) {
        plan.report(candidate, Defect::Overlaps { with: with.to_owned() });
        return false;
    }
    places.take(&seen.facts.place, &candidate.path);
    true
}

/// A volume as it begins. Absent while nobody looked into it.
pub(super) fn volume(fresh: Fresh<'_>, capacity: Bytes, world: World<'_>) -> Option<LocalVolume> {
    let Fresh { candidate, seen, other_paths } = fresh;
    let pool = world.pools.get(&candidate.pool)?;
    let path = &candidate.path;
    let identity = seen.facts.fingerprint.identity();
    let name = VolumeName::compose(world.node, &pool.name, &candidate.entry, &identity);
    let (reason, message) = match world.tenants_mount(seen) {
        Some(at) => (CleanReason::FoundInUse, in_use(path, at, &name)),
        None => judged(path, seen.contents.as_ref()?.shown_as(pool.mode), pool.new_volumes, &name),
    };
    let is_clean = matches!(reason, CleanReason::FoundEmpty | CleanReason::Accepted);
    let ordered = reason == CleanReason::FoundData && pool.new_volumes == NewVolumes::Clean;
    let tenancy = before_the_first(world.now);
    let spec = Spec {
        node: world.node.clone(),
        pool: pool.name.clone(),
        mode: pool.mode,
        tenancy,
        claim: None,
        clean: ordered.then(|| pool.clean_of(&seen.facts.fingerprint).clone()),
        clean_asked: None,
        cordoned: false,
    };
    let since = world.now;
    let present = format!("{path} is present and can be read");
    let status = Status {
        path: path.as_str().into(),
        fingerprint: seen.facts.fingerprint.clone(),
        place: Some(seen.facts.place.clone()),
        other_paths,
        capacity,
        fs_type: seen.facts.fs_type.as_deref().map(Into::into),
        clean_for: is_clean.then_some(tenancy),
        accepted: reason == CleanReason::Accepted,
        conditions: Conditions {
            healthy: Condition {
                status: true,
                reason: HealthReason::Present,
                message: present.into(),
                since,
            },
            clean: Condition { status: is_clean, reason, message: message.into(), since },
        },
        cleaning: None,
        last_wipe: None,
        published: Vec::new(),
        own_mounts: world.own_mounts(seen),
        host_mounts: world.host_mounts(seen).unwrap_or_default(),
        root: seen.root.clone().map(Into::into),
        format: None,
        node_uid: world.node_uid.map(Into::into),
    };
    Some(LocalVolume { name, spec, status })
}

/// Of a volume whose record was lost while a tenant had it. That there is no record never means "wipe", whatever the
/// pool says of data that is found.
fn in_use(path: &str, at: &str, name: &VolumeName) -> String {
    format!(
        "{path} is mounted at {at} for a tenant of whom nothing is recorded: when the data is of no more use, unmount \
         that and wipe it with `berth clean {name}`"
    )
}

fn judged(
    path: &str,
    contents: Option<&str>,
    policy: NewVolumes,
    name: &VolumeName,
) -> (CleanReason, String) {
    match (contents, policy) {
        (None, _) => (CleanReason::FoundEmpty, format!("{path} was empty when it was found")),
        (Some(what), NewVolumes::Accept) => (CleanReason::Accepted, accepted(path, what)),
        (Some(what), NewVolumes::RequireEmpty) => {
            (CleanReason::FoundData, holds(path, what, name.as_str()))
        }
        (Some(what), NewVolumes::Clean) => {
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
