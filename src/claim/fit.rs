//! Which volume fits a claim best. Pure.

use super::error::Mismatch;
use super::index::Side;
use super::request::{ClaimRequest, Topology};
use crate::volume::{CapacityRange, LocalVolume, VolumeName};

/// The smallest volume that `range` admits, in the first place that has one: the preferred topologies in order, then
/// the requisite ones in order; without requisite ones any node. Of several that are equally small, the first by name.
pub(super) fn best<'a>(
    side: &'a Side,
    range: CapacityRange,
    topology: &Topology,
) -> Option<&'a VolumeName> {
    let preferred = topology.preferred.iter().filter(|value| topology.admits(value));
    let mut shelves = preferred.chain(&topology.requisite).filter_map(|value| side.at(value));
    let best = shelves.find_map(|shelf| shelf.smallest_in(range));
    if topology.requisite.is_empty() {
        return best.or_else(|| side.anywhere().smallest_in(range));
    }
    best
}

/// What makes `volume`, which the claim of this name holds, another than the one that is asked for.
///
/// The request that the claim was made with always describes it, even where the volume has grown since beyond the limit
/// of then; any other has to admit what the volume is now.
pub(super) fn mismatch(volume: &LocalVolume, request: &ClaimRequest) -> Option<Mismatch> {
    let spec = &volume.spec;
    let held = volume.status.capacity;
    if spec.pool != request.pool {
        let (held, asked) = (spec.pool.clone(), request.pool.clone());
        return Some(Mismatch::Pool { held, asked });
    }
    if spec.mode != request.mode {
        return Some(Mismatch::Mode { held: spec.mode, asked: request.mode });
    }
    let same_range = spec.claim.as_ref().is_some_and(|claim| claim.range == request.range);
    if !same_range && !request.range.admits(held) {
        return Some(Mismatch::Size { held, asked: request.range });
    }
    if !request.topology.admits(&spec.node.topology_value()) {
        let asked = request.topology.requisite.clone();
        return Some(Mismatch::Topology { held: spec.node.clone(), asked });
    }
    None
}

#[cfg(test)]
mod tests;
