use std::collections::{BTreeSet, HashMap};

use prost_reflect::DescriptorPool;
use tonic::{Code, Request};

use super::DESCRIPTORS;
use super::csi_v1::group_controller_server::GroupController;
use super::csi_v1::volume_capability::{AccessType, MountVolume};
use super::csi_v1::{self, ValidateVolumeCapabilitiesResponse, Volume, VolumeCapability};
use super::csi_v1::{ControllerPublishVolumeResponse, NodePublishVolumeRequest};

const SECRET: &str = "hunter2";

fn secret() -> HashMap<String, String> {
    HashMap::from([(SECRET.to_owned(), SECRET.to_owned())])
}

/// Each of the messages named, with a secret in its `secrets`, by its name and as `Debug` shows it.
macro_rules! shown_with_secrets {
    ($($message:ident)*) => {
        [$((
            stringify!($message),
            format!("{:?}", csi_v1::$message { secrets: secret(), ..Default::default() }),
        )),*]
    };
}

#[test]
#[expect(clippy::needless_update, reason = "one of the messages has no field but its secrets")]
fn no_request_shows_its_secrets() {
    let shown = shown_with_secrets![
        CreateVolumeRequest DeleteVolumeRequest ControllerPublishVolumeRequest
        ControllerUnpublishVolumeRequest ValidateVolumeCapabilitiesRequest
        ControllerListVolumeHealthRequest ControllerGetVolumeHealthRequest
        ControllerModifyVolumeRequest ControllerExpandVolumeRequest CreateSnapshotRequest
        DeleteSnapshotRequest ListSnapshotsRequest GetSnapshotRequest NodeStageVolumeRequest
        NodePublishVolumeRequest NodeGetStorageHealthRequest NodeExpandVolumeRequest
        CreateVolumeGroupSnapshotRequest DeleteVolumeGroupSnapshotRequest
        GetVolumeGroupSnapshotRequest GetMetadataAllocatedRequest GetMetadataDeltaRequest
    ];

    for (name, shown) in &shown {
        assert!(shown.starts_with(name) && shown.contains("secrets: <1 withheld>"), "{shown}");
        assert!(!shown.contains(SECRET), "{shown}");
    }
    // And these are all that there are.
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let option = pool.get_extension_by_name("csi.v1.csi_secret").unwrap();
    let secret: BTreeSet<String> = pool
        .all_messages()
        .filter(|message| message.fields().any(|field| field.options().has_extension(&option)))
        .map(|message| message.name().to_owned())
        .collect();
    assert_eq!(secret, shown.iter().map(|(name, _)| (*name).to_owned()).collect());
}

#[test]
fn contexts_and_mount_flags_are_withheld_wherever_they_lie() {
    let mount = MountVolume {
        fs_type: "ext4".into(),
        mount_flags: vec![format!("password={SECRET}")],
        ..Default::default()
    };
    let capability =
        VolumeCapability { access_type: Some(AccessType::Mount(mount)), access_mode: None };
    let publish = NodePublishVolumeRequest {
        volume_id: "a-volume@7".into(),
        publish_context: secret(),
        volume_context: secret(),
        volume_capability: Some(capability),
        ..Default::default()
    };
    let created = csi_v1::CreateVolumeResponse {
        volume: Some(Volume { volume_context: secret(), ..Default::default() }),
    };
    let validated = ValidateVolumeCapabilitiesResponse {
        confirmed: Some(csi_v1::validate_volume_capabilities_response::Confirmed {
            volume_context: secret(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let attached = ControllerPublishVolumeResponse { publish_context: secret() };

    let shown = format!("{publish:?}");
    assert!(shown.contains("a-volume@7") && shown.contains("ext4"), "the rest is shown: {shown}");
    for shown in [shown, format!("{created:?} {validated:?}"), format!("{attached:?}")] {
        assert!(!shown.contains(SECRET) && shown.contains("withheld"), "{shown}");
    }
}

#[tokio::test]
async fn a_call_that_a_server_does_not_write_out_is_unimplemented() {
    struct Bare;
    impl GroupController for Bare {}

    let request = csi_v1::GetVolumeGroupSnapshotRequest::default();
    let answer = Bare.get_volume_group_snapshot(Request::new(request)).await;

    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
}
