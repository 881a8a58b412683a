use tonic::Code;

use super::super::proto::csi_v1 as csi;
use super::super::{controller, node};
use super::world::World;

#[tokio::test]
async fn a_server_that_is_not_ready_says_so_without_an_error() {
    let world = World::of([]).await;
    world.ready.send_replace(false);

    let answer = world.identity().probe(csi::ProbeRequest {}).await.unwrap().into_inner();

    assert_eq!(answer.ready, Some(false));
}

#[tokio::test]
async fn the_name_of_the_driver_is_the_one_it_was_given() {
    let world = World::of([]).await;

    let info = world.identity().get_plugin_info(csi::GetPluginInfoRequest {}).await.unwrap();

    assert_eq!(info.into_inner().name, "berth.dev");
}

/// Calls an RPC with an empty request and gives the code of the answer.
macro_rules! code {
    ($client:expr, $call:ident, $request:ident) => {
        $client.$call(csi::$request::default()).await.map_or_else(|s| s.code(), |_| Code::Ok)
    };
}

#[tokio::test]
async fn every_capability_that_is_advertised_has_an_rpc_behind_it_and_no_other_has() {
    use csi::controller_service_capability::rpc::Type as Controller;
    use csi::node_service_capability::rpc::Type as Node;
    let world = World::of([]).await;
    let (mut controller, mut node) = (world.controller(), world.node());

    let served = [
        (Controller::CreateDeleteVolume, code!(controller, create_volume, CreateVolumeRequest)),
        (Controller::CreateDeleteVolume, code!(controller, delete_volume, DeleteVolumeRequest)),
        (Controller::ListVolumes, code!(controller, list_volumes, ListVolumesRequest)),
        (Controller::GetCapacity, code!(controller, get_capacity, GetCapacityRequest)),
        (
            Controller::GetVolume,
            code!(controller, controller_get_volume, ControllerGetVolumeRequest),
        ),
        (
            Controller::GetVolumeHealth,
            code!(controller, controller_get_volume_health, ControllerGetVolumeHealthRequest),
        ),
        (
            Controller::ListVolumeHealth,
            code!(controller, controller_list_volume_health, ControllerListVolumeHealthRequest),
        ),
        (
            Controller::ExpandVolume,
            code!(controller, controller_expand_volume, ControllerExpandVolumeRequest),
        ),
        (
            Controller::PublishUnpublishVolume,
            code!(controller, controller_publish_volume, ControllerPublishVolumeRequest),
        ),
        (
            Controller::CreateDeleteSnapshot,
            code!(controller, create_snapshot, CreateSnapshotRequest),
        ),
        (Controller::ListSnapshots, code!(controller, list_snapshots, ListSnapshotsRequest)),
        (
            Controller::ModifyVolume,
            code!(controller, controller_modify_volume, ControllerModifyVolumeRequest),
        ),
    ];
    for (capability, code) in served {
        let advertised = controller::CAPABILITIES.contains(&capability);
        assert_eq!(advertised, code != Code::Unimplemented, "{capability:?}: {code:?}");
    }
    let served = [
        (Node::StageUnstageVolume, code!(node, node_stage_volume, NodeStageVolumeRequest)),
        (Node::StageUnstageVolume, code!(node, node_unstage_volume, NodeUnstageVolumeRequest)),
        (Node::GetVolumeStats, code!(node, node_get_volume_stats, NodeGetVolumeStatsRequest)),
        (Node::GetVolumeHealth, code!(node, node_get_volume_health, NodeGetVolumeHealthRequest)),
        (Node::GetStorageHealth, code!(node, node_get_storage_health, NodeGetStorageHealthRequest)),
        (Node::ExpandVolume, code!(node, node_expand_volume, NodeExpandVolumeRequest)),
    ];
    for (capability, code) in served {
        assert!(node::CAPABILITIES.contains(&capability), "{capability:?}");
        assert_ne!(code, Code::Unimplemented, "{capability:?}");
    }
}
