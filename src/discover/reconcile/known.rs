//! Volumes that are recorded: where each one is now, and what its record becomes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::super::found::{Candidate, Contents, Defect, Found, Seen, Sight};
use super::places::Places;
use super::{Change, Plan, World, selectable};
use crate::pool::Pool;
use crate::volume::{
    Bytes, CleanReason, Condition, HealthReason, LocalVolume, NewVolumes, Status, VolumeName,
};

/// A recorded volume.
pub(super) struct Known<'a> {
    pub(super) volume: &'a LocalVolume,
    pub(super) whereabouts: Whereabouts<'a>,
}

/// Where a recorded volume is.
pub(super) enum Whereabouts<'a> {
    /// Here, and its pool offers it.
    Present(&'a Candidate, &'a Seen),
    /// It is certain that it is not where its pool offers it; `seen` if it is somewhere nevertheless.
    Away { reason: HealthReason, message: String, seen: Option<&'a Seen> },
    /// It may be there: looking failed.
    Unseen { reason: HealthReason, message: String },
}

/// The candidates by what they are and by where they are.
struct Index<'a> {
    by_identity: BTreeMap<Vec<u8>, Vec<(&'a Candidate, &'a Seen)>>,
    by_path: BTreeMap<&'a str, &'a Sight>,
    /// Of two records of one source, which the rules make impossible, the one that counts.
    owners: BTreeMap<Vec<u8>, &'a VolumeName>,
}

/// Finds every recorded volume.
pub(super) fn locate<'a>(
    found: &'a Found,
    recorded: &'a [LocalVolume],
    world: World<'_>,
) -> Vec<Known<'a>> {
    let index = Index::new(found, recorded);
    let locate = |volume| Known { volume, whereabouts: index.whereabouts(volume, found, world) };
    recorded.iter().map(locate).collect()
}

impl<'a> Index<'a> {
    fn new(found: &'a Found, recorded: &'a [LocalVolume]) -> Self {
        let mut by_identity: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for candidate in &found.candidates {
            if let Sight::Source(seen) = &candidate.sight {
                let identity = seen.facts.fingerprint.identity();
                by_identity.entry(identity).or_default().push((candidate, &**seen));
            }
        }
        let elsewhere = found.elsewhere.iter().map(|(path, sight)| (path.as_str(), sight));
        let candidates = found.candidates.iter().map(|found| (found.path.as_str(), &found.sight));
        let mut owners: BTreeMap<_, &VolumeName> = BTreeMap::new();
        let (free, held): (Vec<_>, Vec<_>) = recorded.iter().partition(|volume| may_go(volume));
        for volume in held.into_iter().chain(free) {
            owners.entry(volume.status.fingerprint.identity()).or_insert(&volume.name);
        }
        Self { by_identity, by_path: elsewhere.chain(candidates).collect(), owners }
    }

    fn whereabouts(
        &self,
        volume: &LocalVolume,
        found: &Found,
        world: World<'_>,
    ) -> Whereabouts<'a> {
        let (path, pool_name) = (&volume.status.path, &volume.spec.pool);
        let identity = volume.status.fingerprint.identity();
        let owner = self.owners.get(&identity).filter(|owner| **owner != &volume.name);
        if let Some(owner) = owner {
            let message = format!("what is at {path} is recorded as volume {owner} too");
            return Whereabouts::Away { reason: HealthReason::Replaced, message, seen: None };
        }
        if let Some(why) = found.unreadable.get(pool_name) {
            let message = format!("the directory of pool {pool_name} cannot be listed: {why}");
            return Whereabouts::Unseen { reason: HealthReason::ReadError, message };
        }
        let same = self.by_identity.get(&identity).map(Vec::as_slice).unwrap_or_default();
        let same =
            same.iter().filter(|(_, seen)| is_same(volume, seen)).copied().collect::<Vec<_>>();
        let seen = same.first().map(|(_, seen)| *seen);
        let Some(pool) = world.pools.get(pool_name).filter(|pool| pool.mode == volume.spec.mode)
        else {
            let message = format!(
                "pool {pool_name} of mode {} is no longer configured on this node; configure it again, or forget the \
                 volume once nobody holds it",
                volume.spec.mode
            );
            return Whereabouts::Away { reason: HealthReason::PoolGone, message, seen };
        };
        match offered(volume, pool, &same) {
            Some((candidate, seen)) => Whereabouts::Present(candidate, seen),
            None => self.not_offered(volume, pool, &same),
        }
    }

    /// Why a volume whose pool is configured is not offered by it.
    fn not_offered(
        &self,
        volume: &LocalVolume,
        pool: &Pool,
        same: &[(&'a Candidate, &'a Seen)],
    ) -> Whereabouts<'a> {
        let (path, pool_name) = (&volume.status.path, &pool.name);
        let at_path = self.by_path.get(path.as_str()).copied().unwrap_or(&Sight::Nothing);
        let away = |reason, message, seen| Whereabouts::Away { reason, message, seen };
        if let Some((candidate, seen)) = same.first() {
            let message = if candidate.pool == *pool_name {
                format!("{} is there, but pool {pool_name} no longer accepts it", candidate.path)
            } else {
                format!("it is at {} in pool {} now", candidate.path, candidate.pool)
            };
            return away(HealthReason::PoolGone, message, Some(seen));
        }
        match at_path {
            Sight::Source(seen) if is_same(volume, seen) => {
                let message = format!("{path} is there, but pool {pool_name} no longer selects it");
                away(HealthReason::PoolGone, message, Some(seen))
            }
            Sight::Source(seen) => away(HealthReason::Replaced, replaced(volume, seen), None),
            Sight::Unsuitable => {
                let message =
                    format!("what is at {path} is neither a directory nor a block device");
                away(HealthReason::Replaced, message, None)
            }
            Sight::Failed { reason, message } => {
                Whereabouts::Unseen { reason: *reason, message: message.clone() }
            }
            Sight::Nothing => {
                let message = format!(
                    "nothing is at {path}; mount or attach it again, or forget the volume if it is lost"
                );
                away(HealthReason::Missing, message, None)
            }
        }
    }
}

fn replaced(volume: &LocalVolume, seen: &Seen) -> String {
    format!(
        "{} is not this volume: recorded {}, found {}; mount the right disk there, or forget the volume if it is lost",
        volume.status.path, volume.status.fingerprint, seen.facts.fingerprint
    )
}

fn is_same(volume: &LocalVolume, seen: &Seen) -> bool {
    volume.status.fingerprint.is_same_source(&seen.facts.fingerprint)
}

/// Of the paths that lead to the volume's source the one that its pool offers it by: the recorded one, else the first.
fn offered<'a>(
    volume: &LocalVolume,
    pool: &Pool,
    same: &[(&'a Candidate, &'a Seen)],
) -> Option<(&'a Candidate, &'a Seen)> {
    let offered = |(candidate, seen): &&(&Candidate, &Seen)| {
        candidate.pool == pool.name && selectable(pool, seen).is_ok()
    };
    let recorded = |(candidate, _): &&(&Candidate, &Seen)| candidate.path == volume.status.path;
    let at_path = same.iter().filter(offered).find(recorded);
    at_path.or_else(|| same.iter().find(offered)).copied()
}

/// Whether nothing would be lost with the record of a volume that is not there: nobody holds it, it is clean, and nobody
/// said anything about it.
fn may_go(volume: &LocalVolume) -> bool {
    is_idle(volume) && volume.is_clean()
}

fn is_idle(volume: &LocalVolume) -> bool {
    let (spec, status) = (&volume.spec, &volume.status);
    let used = spec.claim.is_some() || !status.published.is_empty() || status.cleaning.is_some();
    !used && !spec.cordoned
}

/// Takes the places of the volumes that are there, those that stay whatever happens first, and gives the names of those
/// that go on being offered. A free one that lies within another, or contains it, is one no more.
pub(super) fn place(
    known: &[Known<'_>],
    places: &mut Places,
    plan: &mut Plan,
) -> BTreeSet<VolumeName> {
    let mut present = BTreeSet::new();
    for known in known.iter().filter(|known| !may_go(known.volume)) {
        if let Some(seen) = known.seen() {
            places.take(seen, &known.volume.status.path);
        }
        present.insert(known.volume.name.clone());
    }
    for known in known.iter().filter(|known| may_go(known.volume)) {
        let Whereabouts::Present(candidate, seen) = known.whereabouts else { continue };
        if let Some(with) = places.overlapping(seen) {
            plan.report(candidate, Defect::Overlaps { with: with.to_owned() });
            plan.changes.push(Change::Remove(known.volume.name.clone()));
        } else {
            places.take(seen, &candidate.path);
            present.insert(known.volume.name.clone());
        }
    }
    present
}

impl Known<'_> {
    fn seen(&self) -> Option<&Seen> {
        match &self.whereabouts {
            Whereabouts::Present(_, seen) => Some(seen),
            Whereabouts::Away { seen, .. } => *seen,
            Whereabouts::Unseen { .. } => None,
        }
    }

    /// Whether its record is dropped now.
    pub(super) fn goes(&self) -> bool {
        let Whereabouts::Away { reason, .. } = &self.whereabouts else { return false };
        // One that held data when it was found is found again as it is, should its pool ever come back.
        let unheld = is_idle(self.volume) && self.volume.spec.clean.is_none();
        may_go(self.volume) || (unheld && *reason == HealthReason::PoolGone)
    }

    /// Whether its source is expected to be away: its mount is being made anew.
    fn is_reformatted(&self) -> bool {
        self.volume.status.cleaning.as_ref().is_some_and(|cleaning| cleaning.remount.is_some())
    }
}

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
    status.fingerprint = facts.fingerprint.clone();
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
