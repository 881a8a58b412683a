//! Valid requests, to be sent as they are or with one thing changed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use berth::csi::proto::csi_v1 as csi;
use csi::volume_capability::access_mode::Mode;
use csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};

use super::Host;

/// A capability: a mounted directory, for one node's writers.
pub fn mounted() -> csi::VolumeCapability {
    capability(AccessType::Mount(MountVolume::default()), Mode::SingleNodeMultiWriter)
}

/// A capability: a raw device, for one node's writers.
pub fn raw() -> csi::VolumeCapability {
    capability(AccessType::Block(BlockVolume {}), Mode::SingleNodeMultiWriter)
}

/// A capability.
pub fn capability(access_type: AccessType, mode: Mode) -> csi::VolumeCapability {
    csi::VolumeCapability {
        access_type: Some(access_type),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

/// Asks for a directory of `size` bytes or more from `pool`.
pub fn create(name: &str, pool: &str, size: u64) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(csi::CapacityRange {
            required_bytes: size.try_into().unwrap(),
            limit_bytes: 0,
        }),
        volume_capabilities: vec![mounted()],
        parameters: HashMap::from([("pool".into(), pool.into())]),
        ..Default::default()
    }
}

/// Stages a directory.
pub fn stage(volume_id: &str, staging: &Path) -> csi::NodeStageVolumeRequest {
    csi::NodeStageVolumeRequest {
        volume_id: volume_id.into(),
        staging_target_path: text(staging),
        volume_capability: Some(mounted()),
        ..Default::default()
    }
}

/// Unstages.
pub fn unstage(volume_id: &str, staging: &Path) -> csi::NodeUnstageVolumeRequest {
    csi::NodeUnstageVolumeRequest {
        volume_id: volume_id.into(),
        staging_target_path: text(staging),
    }
}

/// Publishes a directory.
pub fn publish(volume_id: &str, staging: &Path, target: &Path) -> csi::NodePublishVolumeRequest {
    csi::NodePublishVolumeRequest {
        volume_id: volume_id.into(),
        staging_target_path: text(staging),
        target_path: text(target),
        volume_capability: Some(mounted()),
        ..Default::default()
    }
}

/// Unpublishes.
pub fn unpublish(volume_id: &str, target: &Path) -> csi::NodeUnpublishVolumeRequest {
    csi::NodeUnpublishVolumeRequest { volume_id: volume_id.into(), target_path: text(target) }
}

/// Where a volume is staged on a host.
pub fn staging_path(host: &Host, volume_id: &str) -> PathBuf {
    host.path("kubelet").join(format!("staging-{volume_id}"))
}

/// Where a volume is published on a host.
pub fn target_path(host: &Host, volume_id: &str) -> PathBuf {
    host.path("kubelet").join(format!("target-{volume_id}"))
}

/// A path as the specification carries it.
pub fn text(path: &Path) -> String {
    path.to_str().unwrap().into()
}
