//! What `build.rs` made of `proto/`: the messages, clients and servers of CSI 1.13 and of the operator's service.
//!
//! Messages that may carry secrets, contexts or mount flags have a `Debug` that shows nothing of them.
#![expect(missing_docs, clippy::pedantic, reason = "generated; the documentation stands in proto/")]

/// The Container Storage Interface, version 1.13.0.
pub mod csi_v1 {
    tonic::include_proto!("csi.v1");
    include!(concat!(env!("OUT_DIR"), "/redacted.rs"));
}

/// The calls behind `berth volumes`, `clean`, `release`, `cordon` and `forget`.
pub mod operator_v1alpha1 {
    tonic::include_proto!("berth.v1alpha1");
}

/// The compiled `FileDescriptorSet`, imports and options included.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests {
    use super::csi_v1::volume_capability::{AccessType, MountVolume};
    use super::csi_v1::{NodePublishVolumeRequest, NodeStageVolumeRequest, VolumeCapability};

    #[test]
    fn secrets_contexts_and_mount_flags_are_not_shown() {
        let capability = VolumeCapability {
            access_type: Some(AccessType::Mount(MountVolume {
                mount_flags: vec!["password=hunter2".into()],
                ..Default::default()
            })),
            access_mode: None,
        };
        let secret = [("token".to_owned(), "hunter2".to_owned())];
        let stage = NodeStageVolumeRequest { secrets: secret.clone().into(), ..Default::default() };
        let publish = NodePublishVolumeRequest {
            volume_context: secret.into(),
            volume_capability: Some(capability.clone()),
            ..Default::default()
        };

        for shown in [format!("{stage:?}"), format!("{publish:?}"), format!("{capability:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
