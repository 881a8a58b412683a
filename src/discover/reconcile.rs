//! The difference between what a host has and what is recorded of it. Pure: the scan, the records, the pools and the
//! time go in; what is to be written, and what is to be reported, comes out.
//!
//! It offers no source twice, whichever paths lead to it; it offers nothing that lies within something else that is
//! offered; it removes nothing that is held, dirty, cordoned or being wiped; and what it could not see it leaves as it
//! is.

mod capacity;
mod known;
mod places;
mod record;
mod unknown;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::found::{Candidate, Defect, Depth, Found, Problem, Seen};
use crate::health::Finding;
use crate::pool::{Pool, Pools};
use crate::volume::{
    Bytes, CleanPolicy, Fingerprint, LocalVolume, Mode, NodeName, Status, VolumeName,
};
use capacity::{Size, Sizes};
use known::{Known, Whereabouts};
use places::Places;
use unknown::Fresh;

/// What the decision depends on beside the scan and the records.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// This node.
    pub node: &'a NodeName,
    /// The UID of the Node object that it is, where that is known.
    pub node_uid: Option<&'a str>,
    /// Its pools.
    pub pools: &'a Pools,
    /// What probes found of recorded volumes, where they were probed.
    pub findings: &'a BTreeMap<VolumeName, Finding>,
    /// The directories beneath which volumes are mounted for tenants, and nothing else is.
    pub tenants: &'a [PathBuf],
    /// Now.
    pub now: Timestamp,
}

impl World<'_> {
    /// The mount points of a source that are the administrator's.
    fn own_mounts(&self, seen: &Seen) -> Vec<String> {
        self.administrators(&seen.mounts)
    }

    /// The same in the host's mount namespace, where the kubelet's directory has the same path. Absent where it is not
    /// known.
    fn host_mounts(&self, seen: &Seen) -> Option<Vec<String>> {
        seen.host_mounts.as_ref().map(|mounts| self.administrators(mounts))
    }

    fn administrators(&self, points: &[String]) -> Vec<String> {
        points.iter().filter(|point| !self.is_tenants(point)).cloned().collect()
    }

    /// A mount point of a source that is there for a tenant.
    fn tenants_mount<'s>(&self, seen: &'s Seen) -> Option<&'s str> {
        seen.mounts.iter().find(|point| self.is_tenants(point)).map(String::as_str)
    }

    /// Whether the Node is another object than the one on which `volume` was seen last.
    fn is_on_a_new_node(&self, volume: &LocalVolume) -> bool {
        self.node_uid.is_some_and(|uid| volume.status.node_uid.as_deref() != Some(uid))
    }

    fn is_tenants(&self, point: &str) -> bool {
        self.tenants.iter().any(|root| Path::new(point).starts_with(root))
    }
}

/// One thing to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A volume is new.
    Add(Box<LocalVolume>),
    /// This is seen of a volume now.
    Status(VolumeName, Box<Status>),
    /// The pool's policy orders a wipe of a volume that held data when it was found.
    Order(VolumeName, CleanPolicy),
    /// The order to wipe, which was carried out, is taken back: somebody has filled the volume since, and what he put
    /// there is not a tenant's to be wiped.
    Withdraw(VolumeName),
    /// A volume is no more, and nothing of it has to be remembered.
    Remove(VolumeName),
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to write, in this order.
    pub changes: Vec<Change>,
    /// What to report.
    pub problems: BTreeSet<Problem>,
}

impl Plan {
    /// Whether another scan is due at once: what a removed volume, or an order, stood in the way of is decided only
    /// without it.
    pub fn wants_another(&self) -> bool {
        let clears = |change: &Change| matches!(change, Change::Remove(_) | Change::Withdraw(_));
        self.changes.iter().any(clears)
    }

    /// The capacity of a candidate, after what is wrong with it was reported.
    fn sized(&mut self, candidate: &Candidate, size: Size) -> Bytes {
        if size.bytes == Bytes(0) {
            self.report(candidate, Defect::NoSpace);
        } else if let Some(declared) = size.instead_of {
            self.report(candidate, Defect::Smaller { given: size.bytes, declared });
        }
        size.bytes
    }

    fn report(&mut self, candidate: &Candidate, defect: Defect) {
        let (pool, path) = (candidate.pool.clone(), candidate.path.clone());
        self.problems.insert(Problem { pool, path, defect });
    }
}

/// Decides. `recorded` are this node's volumes and no others.
pub fn reconcile(found: &Found, recorded: &[LocalVolume], world: World<'_>) -> Plan {
    let mut plan = Plan { problems: found.problems.iter().cloned().collect(), ..Plan::default() };
    let known = known::locate(found, recorded, world);
    let mut places = Places::default();
    let present = known::place(&known, &mut places, &mut plan);
    let fresh = unknown::select(found, &known, world, &mut places, &mut plan);
    let sizes = sizes(&known, &present, &fresh, world);
    for known in &known {
        match &known.whereabouts {
            Whereabouts::Present(candidate, seen) if present.contains(&known.volume.name) => {
                let size = sizes.of(Some(known.volume), candidate, seen);
                let capacity = plan.sized(candidate, size);
                if capacity == Bytes(0) && known::may_go(known.volume) {
                    plan.changes.push(Change::Remove(known.volume.name.clone()));
                    continue;
                }
                let other_paths = &known.other_paths;
                let sight = record::Sighting { candidate, seen, other_paths, capacity };
                record::update(known.volume, &sight, world, &mut plan);
            }
            // What was said of a volume that nobody looked at stands.
            Whereabouts::Present(..) | Whereabouts::Untried => {}
            Whereabouts::Away { reason, message, .. } | Whereabouts::Unseen { reason, message } => {
                record::set_away(known, *reason, message, world.now, &mut plan);
            }
        }
    }
    for fresh in fresh {
        let size = sizes.of(None, fresh.candidate, fresh.seen);
        let capacity = plan.sized(fresh.candidate, size);
        if capacity > Bytes(0) {
            let volume = unknown::volume(fresh, capacity, world);
            plan.changes.extend(volume.map(|volume| Change::Add(Box::new(volume))));
        }
    }
    plan
}

fn sizes<'a>(
    known: &[Known<'a>],
    present: &BTreeSet<VolumeName>,
    fresh: &[Fresh<'_>],
    world: World<'a>,
) -> Sizes<'a> {
    let mut sizes = Sizes::new(world.pools);
    for fresh in fresh {
        sizes.count(None, fresh.candidate, fresh.seen);
    }
    for known in known {
        match &known.whereabouts {
            Whereabouts::Present(candidate, seen) if present.contains(&known.volume.name) => {
                sizes.count(Some(known.volume), candidate, seen);
            }
            _ => sizes.count_away(known.volume),
        }
    }
    sizes.divide();
    sizes
}

/// How closely it is to be looked at what `volume` holds. It is settled while somebody holds it or it waits for a wipe; a
/// free one may be filled or emptied by the administrator at any time. Devices, which take longer to look at, are looked
/// at when everything is, and when they come back.
pub fn depth(volume: &LocalVolume, thorough: bool) -> Depth {
    let is_device = matches!(volume.status.fingerprint, Fingerprint::Device { .. });
    let is_due = !is_device || thorough || !volume.is_healthy();
    match () {
        () if !is_due => Depth::None,
        () if record::is_found_dirty(volume) => Depth::Search,
        () if record::is_known_empty(volume) => Depth::Glance,
        () => Depth::None,
    }
}

/// Whether `pool` may offer this source.
fn selectable(pool: &Pool, seen: &Seen) -> Result<(), Defect> {
    let is_device = is_device(seen);
    let accepted = match pool.mode {
        Mode::Block => is_device,
        Mode::Filesystem if is_device => pool.accept.device,
        Mode::Filesystem if seen.facts.is_mount => pool.accept.mount,
        Mode::Filesystem => pool.accept.directory,
    };
    match () {
        () if seen.holds_its_pool => Err(Defect::HoldsItsPool),
        () if !accepted && is_device => Err(Defect::NotAccepted("a block device")),
        () if !accepted && seen.facts.is_mount => Err(Defect::NotAccepted("a mount point")),
        () if !accepted => Err(Defect::NotAccepted("a plain directory")),
        () => Ok(()),
    }
}

fn is_device(seen: &Seen) -> bool {
    matches!(seen.facts.fingerprint, Fingerprint::Device { .. })
}

#[cfg(test)]
pub(super) mod tests;
