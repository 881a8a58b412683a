//! Which volume fits a claim best. Pure.

use super::error::Mismatch;
use super::index::Side;
use super::request::{ClaimRequest, Filesystem};
use crate::pool::FsType;
use crate::volume::{CleanReason, Fingerprint, LocalVolume, VolumeName};

/// The smallest volume that the request's range admits and that suits, in the first place that has one: the preferred
/// topologies in order, then the requisite ones in order; without requisite ones any node. Of several that are equally
/// small, the first by name.
pub(super) fn best<'a>(
    side: &'a Side,
    request: &ClaimRequest,
    suits: impl Fn(&VolumeName) -> bool,
) -> Option<&'a VolumeName> {
    let (range, topology) = (request.range, &request.topology);
    let preferred = topology.preferred.iter().filter(|value| topology.admits(value));
    let mut shelves = preferred.chain(&topology.requisite).filter_map(|value| side.at(value));
    let best = shelves.find_map(|shelf| shelf.smallest_in(range, &suits));
    if topology.requisite.is_empty() {
        return best.or_else(|| side.anywhere().smallest_in(range, &suits));
    }
    best
}

/// What keeps `volume` from being had with `filesystem`: Berth would refuse to stage it so.
pub fn unsuited(volume: &LocalVolume, filesystem: &Filesystem) -> Option<Mismatch> {
    let device = matches!(volume.status.fingerprint, Fingerprint::Device { .. });
    if filesystem.own && !device {
        return Some(Mismatch::Shared);
    }
    let asked = filesystem.fs_type.as_ref()?;
    let held = if device { on_device(volume) } else { volume.status.fs_type.as_deref() };
    let suits = match held {
        Some(held) => held == asked,
        None => device && FsType::named(asked).is_some(),
    };
    let held = held.map(str::to_owned);
    (!suits).then(|| Mismatch::Filesystem { held, asked: asked.clone() })
}

/// The type of the file system on a device that its tenant has or gets; absent where one is still to be made. What was
/// seen on the device counts only where it is handed out: a wipe takes it away.
fn on_device(volume: &LocalVolume) -> Option<&str> {
    let format = volume.status.format.as_ref();
    let made = format.filter(|format| format.done && format.tenancy == volume.spec.tenancy);
    let kept = matches!(
        volume.status.conditions.clean.reason,
        CleanReason::Accepted | CleanReason::LeftAsIs
    );
    match made {
        Some(format) if volume.spec.claim.is_some() => Some(&format.fs_type),
        _ if kept => volume.status.fs_type.as_deref(),
        _ => None,
    }
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
    if let Some(unsuited) = unsuited(volume, &request.filesystem) {
        return Some(unsuited);
    }
    if !request.topology.admits(&spec.node.topology_value()) {
        let asked = request.topology.requisite.clone();
        return Some(Mismatch::Topology { held: spec.node.clone(), asked });
    }
    None
}

#[cfg(test)]
mod tests;
