//! Requests that are wrong in one way each.

use std::collections::HashMap;

use super::super::proto::csi_v1 as csi;
use super::world::{Access, create, mounted, raw, with};

/// A request that is wrong in one way, and a word of what is said of it.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn wrong() -> Vec<(csi::CreateVolumeRequest, &'static str)> {
    let request = || create("pvc-1", 1);
    let range =
        |required_bytes, limit_bytes| Some(csi::CapacityRange { required_bytes, limit_bytes });
    let parameters = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    };
    let capable = |capability| csi::CreateVolumeRequest {
        volume_capabilities: vec![capability],
        ..request()
    };
    vec![
        (csi::CreateVolumeRequest { name: String::new(), ..request() }, "name is missing"),
        (csi::CreateVolumeRequest { name: "x".repeat(129), ..request() }, "128 bytes"),
        (csi::CreateVolumeRequest { name: "a\u{7}b".into(), ..request() }, "control character"),
        (
            csi::CreateVolumeRequest { volume_capabilities: vec![], ..request() },
            "volume_capabilities",
        ),
        (capable(csi::VolumeCapability::default()), "access_mode"),
        (capable(mounted(Access::MultiNodeMultiWriter)), "MULTI_NODE_MULTI_WRITER"),
        (
            csi::CreateVolumeRequest {
                volume_capabilities: vec![mounted(Access::SingleNodeWriter), raw()],
                ..request()
            },
            "both as a device and as a directory",
        ),
        (
            csi::CreateVolumeRequest { capacity_range: range(-1, 0), ..request() },
            "required_bytes is -1",
        ),
        (csi::CreateVolumeRequest { capacity_range: range(2, 1), ..request() }, "limit_bytes is 1"),
        (
            csi::CreateVolumeRequest { parameters: parameters(&[]), ..request() },
            "parameter pool is missing",
        ),
        (
            csi::CreateVolumeRequest { parameters: parameters(&[("pool", "slow")]), ..request() },
            "fast, raw",
        ),
        (
            csi::CreateVolumeRequest {
                parameters: parameters(&[("pool", "../fast")]),
                ..request()
            },
            "parameter pool",
        ),
        (
            csi::CreateVolumeRequest {
                parameters: parameters(&[("pool", "fast"), ("fsTyp", "xfs")]),
                ..request()
            },
            "\"fsTyp\"",
        ),
        (
            csi::CreateVolumeRequest { mutable_parameters: parameters(&[("a", "b")]), ..request() },
            "mutable_parameters",
        ),
        (
            csi::CreateVolumeRequest {
                volume_content_source: Some(csi::VolumeContentSource::default()),
                ..request()
            },
            "volume_content_source",
        ),
        (capable(raw()), "mode Filesystem"),
        (capable(with("", &["ro", "hunter2"])), "mount flag number 2 is not allowed"),
        (capable(with("", &["ro", "rw"])), "exclude each other"),
        (
            csi::CreateVolumeRequest {
                volume_capabilities: vec![with("ext4", &[]), with("xfs", &[])],
                ..request()
            },
            "several types of file system",
        ),
    ]
}
