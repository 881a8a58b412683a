//! What is wrong with a volume or a node's storage, in the specification's words.

use std::path::PathBuf;

use super::proto::csi_v1 as csi;
use crate::health::{Ailment, Extent, Finding};
use crate::volume::{HealthReason, LocalVolume};

/// The reason of a volume that is well and not where it should be; stable between releases, as those of conditions.
const NOT_MOUNTED: &str = "NotMounted";

/// How a volume was when its agent last looked.
pub(super) fn recorded(volume: &LocalVolume) -> csi::VolumeHealth {
    let healthy = &volume.status.conditions.healthy;
    one(volume, healthy.reason, &healthy.message)
}

/// How a volume is now.
pub(super) fn probed(volume: &LocalVolume, finding: &Finding) -> csi::VolumeHealth {
    one(volume, finding.reason, &finding.message)
}

/// As [`probed`], of a volume whose source can be had and that is not at `paths`, where it should be.
pub(super) fn absent(
    volume: &LocalVolume,
    finding: &Finding,
    paths: &[PathBuf],
) -> csi::VolumeHealth {
    let mut health = probed(volume, finding);
    let entry = |path: &PathBuf| csi::volume_health::VolumeHealthEntry {
        status: csi::VolumeHealthErrorType::Inaccessible.into(),
        reason: NOT_MOUNTED.to_owned(),
        message: format!(
            "the volume is not at {}: its mount there was lost; end the pods that use it there, so that it is published \
             again",
            path.display()
        ),
    };
    health.health_statuses.extend(paths.iter().map(entry));
    health
}

/// How a volume is whose mounts did not answer.
pub(super) fn silent(volume: &LocalVolume, message: &str) -> csi::VolumeHealth {
    one(volume, HealthReason::ProbeTimeout, message)
}

fn one(volume: &LocalVolume, reason: HealthReason, message: &str) -> csi::VolumeHealth {
    let entry = |status| csi::volume_health::VolumeHealthEntry {
        status: i32::from(status),
        reason: reason.as_str().to_owned(),
        message: message.to_owned(),
    };
    csi::VolumeHealth {
        volume_id: volume.id().map(String::from).unwrap_or_default(),
        health_statuses: severity(reason).map(entry).into_iter().collect(),
    }
}

/// How bad it is; nothing for a volume that is well. What is missing or another disk may come back, so that no reason
/// is `DATA_LOSS`: only its owner can know that.
fn severity(reason: HealthReason) -> Option<csi::VolumeHealthErrorType> {
    match reason {
        HealthReason::Present => None,
        HealthReason::ReadOnly => Some(csi::VolumeHealthErrorType::Degraded),
        HealthReason::Missing
        | HealthReason::Replaced
        | HealthReason::ReadError
        | HealthReason::ProbeTimeout
        | HealthReason::PoolGone => Some(csi::VolumeHealthErrorType::Inaccessible),
    }
}

/// What is wrong with a node's storage as a whole.
pub(super) fn storage(
    ailment: Ailment,
) -> csi::node_get_storage_health_response::StorageBackendHealth {
    let status = match ailment.extent {
        Extent::Part => csi::StorageHealthErrorType::StorageDegraded,
        Extent::Whole => csi::StorageHealthErrorType::StorageUnreachable,
    };
    csi::node_get_storage_health_response::StorageBackendHealth {
        status: status.into(),
        reason: ailment.reason.as_str().to_owned(),
        message: ailment.message,
        volume_capability: None,
    }
}
