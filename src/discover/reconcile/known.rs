//! Volumes that are recorded: where each one is now, and which of them go on being offered.

use std::collections::{BTreeMap, BTreeSet};

use super::super::found::{Candidate, Defect, Found, Seen, Sight};
use super::places::Places;
use super::{Change, Plan, World, selectable};
use crate::pool::Pool;
use crate::volume::{HealthReason, LocalVolume, Place, VolumeName};

/// A recorded volume.
pub(super) struct Known<'a> {
    pub(super) volume: &'a LocalVolume,
    pub(super) whereabouts: Whereabouts<'a>,
    /// Whether a plain directory that would be offered has appeared where it was recorded as a mount or a device.
    is_bared: bool,
    /// What its record says of other entries from now on; see [`crate::volume::Status::other_paths`].
    pub(super) other_paths: BTreeSet<String>,
}

/// Where a recorded volume is.
pub(super) enum Whereabouts<'a> {
    /// Here, and its pool offers it.
    Present(&'a Candidate, &'a Seen),
    /// It is certain that it is not where its pool offers it; `seen` if it is somewhere nevertheless.
    Away { reason: HealthReason, message: String, seen: Option<&'a Seen> },
    /// It may be there: looking failed.
    Unseen { reason: HealthReason, message: String },
    /// It may be there: nobody looked.
    Untried,
}

/// The candidates by what they are and by where they are.
struct Index<'a> {
    by_identity: BTreeMap<Vec<u8>, Vec<(&'a Candidate, &'a Seen)>>,
    by_path: BTreeMap<&'a str, &'a Sight>,
    /// The plain directories that would become volumes.
    plain: BTreeSet<&'a str>,
    /// Of two records of one source, which the rules make impossible, the one that counts.
    owners: BTreeMap<Vec<u8>, &'a VolumeName>,
}

/// Finds every recorded volume.
pub(super) fn locate<'a>(
    found: &'a Found,
    recorded: &'a [LocalVolume],
    world: World<'_>,
) -> Vec<Known<'a>> {
    let index = Index::new(found, recorded, world);
    let locate = |volume: &'a LocalVolume| {
        let whereabouts = index.whereabouts(volume, found, world);
        Known {
            volume,
            is_bared: was_attached(volume) && index.plain.contains(volume.status.path.as_str()),
            other_paths: index.other_paths(volume, &whereabouts),
            whereabouts,
        }
    };
    recorded.iter().map(locate).collect()
}

impl<'a> Index<'a> {
    fn new(found: &'a Found, recorded: &'a [LocalVolume], world: World<'_>) -> Self {
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
        let plain = found.candidates.iter().filter(|candidate| {
            plain(candidate, world)
                .is_some_and(|seen| !owners.contains_key(&seen.facts.fingerprint.identity()))
        });
        let plain = plain.map(|candidate| candidate.path.as_str()).collect();
        Self { by_identity, by_path: elsewhere.chain(candidates).collect(), plain, owners }
    }

    /// The other entries at which `volume` stands or stood. One is forgotten once something else than a plain directory
    /// is there.
    fn other_paths(&self, volume: &LocalVolume, whereabouts: &Whereabouts<'_>) -> BTreeSet<String> {
        let Whereabouts::Present(here, seen) = whereabouts else {
            return volume.status.other_paths.clone();
        };
        let moved = was_attached(volume).then_some(&*volume.status.path);
        let stood = volume.status.other_paths.iter().map(String::as_str).chain(moved);
        let stood = stood.filter(|path| match self.by_path.get(*path) {
            None | Some(Sight::Failed { .. } | Sight::Untried) => true,
            Some(Sight::Source(seen)) => !seen.facts.place.attached,
            Some(Sight::Nothing | Sight::Unsuitable) => false,
        });
        let same = self.by_identity.get(&seen.facts.fingerprint.identity());
        let stands = same.into_iter().flatten().filter(|(_, seen)| seen.facts.place.attached);
        let stands = stands.map(|(candidate, _)| candidate.path.as_str());
        stood.chain(stands).filter(|path| **path != *here.path).map(str::to_owned).collect()
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
            Sight::Untried => Whereabouts::Untried,
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

/// The plain directory that a candidate is, if its pool would offer it.
fn plain<'a>(candidate: &'a Candidate, world: World<'_>) -> Option<&'a Seen> {
    let pool = world.pools.get(&candidate.pool)?;
    let Sight::Source(seen) = &candidate.sight else { return None };
    (!seen.facts.place.attached && selectable(pool, seen).is_ok()).then_some(seen)
}

/// Whether a volume was a mount or a device when it was seen last. Of one that nobody saw since, it is not known.
fn was_attached(volume: &LocalVolume) -> bool {
    volume.status.place.as_ref().is_none_or(|place| place.attached)
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
    let recorded = |(candidate, _): &&(&Candidate, &Seen)| *candidate.path == *volume.status.path;
    let at_path = same.iter().filter(offered).find(recorded);
    at_path.or_else(|| same.iter().find(offered)).copied()
}

/// Whether nothing would be lost with the record of a volume that is not there: nobody holds it, it is clean, and nobody
/// said anything about it.
pub(super) fn may_go(volume: &LocalVolume) -> bool {
    is_idle(volume) && volume.is_clean()
}

pub(super) fn is_idle(volume: &LocalVolume) -> bool {
    let (spec, status) = (&volume.spec, &volume.status);
    let used = spec.claim.is_some() || !status.published.is_empty() || status.cleaning.is_some();
    !used && !spec.cordoned
}

/// Takes the places of the volumes, those that stay recorded whatever happens first, and gives the names of those that
/// go on. A free one that lies within another, or contains it, is one no more.
pub(super) fn place(
    known: &[Known<'_>],
    places: &mut Places,
    plan: &mut Plan,
) -> BTreeSet<VolumeName> {
    let mut present = BTreeSet::new();
    for known in known.iter().filter(|known| known.stays()) {
        if let Some(place) = known.place() {
            places.take(place, &known.volume.status.path);
        }
        present.insert(known.volume.name.clone());
    }
    for known in known.iter().filter(|known| !known.stays()) {
        let Whereabouts::Present(candidate, seen) = known.whereabouts else { continue };
        if let Some(with) = places.overlapping(&seen.facts.place) {
            plan.report(candidate, Defect::Overlaps { with: with.to_owned() });
            plan.changes.push(Change::Remove(known.volume.name.clone()));
        } else {
            places.take(&seen.facts.place, &candidate.path);
            present.insert(known.volume.name.clone());
        }
    }
    present
}

impl Known<'_> {
    /// Where it lies: where it is seen, else where it was seen last. What cannot be seen may still be in use: a tenant
    /// keeps his mount when the administrator's is gone.
    fn place(&self) -> Option<&Place> {
        match &self.whereabouts {
            Whereabouts::Present(_, seen) | Whereabouts::Away { seen: Some(seen), .. } => {
                Some(&seen.facts.place)
            }
            Whereabouts::Away { seen: None, .. }
            | Whereabouts::Unseen { .. }
            | Whereabouts::Untried => self.volume.status.place.as_ref(),
        }
    }

    /// Whether it stays recorded whatever else is found: nothing that overlaps it is offered.
    fn stays(&self) -> bool {
        let free = matches!(self.whereabouts, Whereabouts::Present(..)) && may_go(self.volume);
        !free && !self.goes()
    }

    /// Whether its record is dropped now.
    pub(super) fn goes(&self) -> bool {
        let Whereabouts::Away { reason, .. } = &self.whereabouts else { return false };
        let (spec, status) = (&self.volume.spec, &self.volume.status);
        // Its machine was given up, and so was its tenant: what comes of it is found anew.
        if self.volume.is_node_gone() && spec.claim.is_none() && status.published.is_empty() {
            return true;
        }
        // Without its record the empty directory beneath its mount would be offered.
        if self.is_bared {
            return false;
        }
        // One that held data when it was found is found again as it is, should its pool ever come back.
        let unheld = is_idle(self.volume) && self.volume.spec.clean.is_none();
        may_go(self.volume) || (unheld && *reason == HealthReason::PoolGone)
    }

    /// Whether its source is expected to be away: its mount is being made anew.
    pub(super) fn is_reformatted(&self) -> bool {
        self.volume.status.cleaning.as_ref().is_some_and(|cleaning| cleaning.remount.is_some())
    }
}
