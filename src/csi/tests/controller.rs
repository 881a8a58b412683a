use std::collections::{BTreeSet, HashMap};

use futures_util::future::join_all;
use tonic::Code;

use super::super::proto::csi_v1 as csi;
use super::world::{MIB, World, create, terms};
use super::wrong::wrong;
use crate::volume::fixture::{holds, on};
use crate::volume::{Bytes, HealthReason};

#[tokio::test]
async fn a_create_request_that_is_wrong_is_refused_by_the_name_of_what_is_wrong() {
    let world = World::of_sizes(&[1]).await;

    for (request, word) in wrong() {
        let refused = world.controller().create_volume(request).await.unwrap_err();

        assert_eq!(refused.code(), Code::InvalidArgument, "{}", refused.message());
        assert!(refused.message().contains(word), "{word}: {}", refused.message());
        assert!(refused.details().is_empty());
    }
}

#[tokio::test]
async fn what_the_provisioner_adds_to_the_parameters_is_taken_and_names_the_claim() {
    let world = World::of_sizes(&[1]).await;
    let mut request = create("pvc-1", 1);
    for (key, value) in
        [("pvc/name", "data"), ("pvc/namespace", "db"), ("pv/name", "pv-1"), ("fstype", "xfs")]
    {
        request.parameters.insert(format!("csi.storage.k8s.io/{key}"), value.into());
    }

    let volume =
        world.controller().create_volume(request).await.unwrap().into_inner().volume.unwrap();

    let all = crate::inventory::Inventory::list(&world.store).await.unwrap();
    let pvc = all[0].volume.spec.claim.clone().unwrap().pvc.unwrap();
    assert_eq!((pvc.namespace.as_str(), pvc.name.as_str()), ("db", "data"));
    assert_eq!(volume.accessible_topology, terms(&["node-a"]));
}

#[tokio::test]
async fn a_name_of_128_bytes_is_a_name() {
    let world = World::of_sizes(&[1]).await;

    assert!(world.create(&"x".repeat(128), 1).await.is_ok());
}

#[tokio::test]
async fn fifty_calls_with_one_name_end_with_one_volume() {
    let world = World::of_sizes(&[1; 50]).await;

    let answers = join_all((0..50).map(|_| world.create("pvc-1", 1))).await;

    let codes: BTreeSet<_> = answers
        .iter()
        .filter_map(|answer| answer.as_ref().err())
        .map(|s| s.code() as i32)
        .collect();
    assert!(codes.is_subset(&BTreeSet::from([Code::Aborted as i32])), "{codes:?}");
    let ids: BTreeSet<_> = answers.into_iter().flatten().map(|volume| volume.volume_id).collect();
    assert_eq!(ids.len(), 1);
    let listed = world.controller().list_volumes(csi::ListVolumesRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().entries.len(), 1);
}

#[tokio::test]
async fn the_same_name_for_another_size_is_refused_as_existing() {
    let world = World::of_sizes(&[1, 8]).await;
    world.create("pvc-1", 1).await.unwrap();

    let refused = world.create("pvc-1", 8).await.unwrap_err();

    assert_eq!(refused.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_claim_that_nothing_fits_lets_the_scheduler_try_elsewhere() {
    let world = World::of_sizes(&[1]).await;
    let mut elsewhere = create("pvc-1", 1);
    elsewhere.accessibility_requirements =
        Some(csi::TopologyRequirement { requisite: terms(&["node-b"]), preferred: vec![] });
    let mut other_key = create("pvc-2", 1);
    other_key.accessibility_requirements = Some(csi::TopologyRequirement {
        requisite: vec![csi::Topology { segments: HashMap::from([("zone".into(), "a".into())]) }],
        preferred: vec![],
    });

    for request in [create("pvc-3", 100), elsewhere, other_key] {
        let refused = world.controller().create_volume(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{}", refused.message());
    }
}

#[tokio::test]
async fn preferred_topologies_are_tried_in_their_order_before_the_requisite() {
    let nodes = ["node-a", "node-b", "node-c"];
    let world = World::of(nodes.map(|node| on(node, "fast", "v", Bytes(MIB)))).await;
    let mut given = Vec::new();
    for name in ["pvc-1", "pvc-2", "pvc-3"] {
        let mut request = create(name, 1);
        request.accessibility_requirements = Some(csi::TopologyRequirement {
            requisite: terms(&nodes),
            preferred: terms(&["node-c", "node-b"]),
        });
        let volume =
            world.controller().create_volume(request).await.unwrap().into_inner().volume.unwrap();
        given.extend(volume.accessible_topology);
    }

    assert_eq!(given, terms(&["node-c", "node-b", "node-a"]));
}

#[tokio::test]
async fn an_operation_that_has_not_ended_aborts_a_second_one_on_its_volume() {
    let world = World::of_sizes(&[1, 1]).await;
    let volume = world.create("pvc-1", 1).await.unwrap();
    let name = volume.volume_id.split('@').next().unwrap().to_owned();
    let turn = world.operations.begin("volume", &name).unwrap();
    let request =
        || csi::DeleteVolumeRequest { volume_id: volume.volume_id.clone(), ..Default::default() };

    let refused = world.controller().delete_volume(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);

    drop(turn);
    world.controller().delete_volume(request()).await.unwrap();
}

#[tokio::test]
async fn deleting_what_is_gone_or_never_was_succeeds_and_a_missing_id_does_not() {
    let world = World::of_sizes(&[1]).await;

    for id in ["fake-vol-id", "../etc@1", "node-a-fast-v0-0123456789abcdef@7"] {
        let request = csi::DeleteVolumeRequest { volume_id: id.into(), ..Default::default() };
        world.controller().delete_volume(request).await.unwrap();
    }
    let refused =
        world.controller().delete_volume(csi::DeleteVolumeRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_late_delete_of_an_old_tenancy_leaves_the_new_tenant_alone() {
    let world = World::of_sizes(&[1]).await;
    let volume = world.create("pvc-1", 1).await.unwrap();
    let late = volume.volume_id.replace("@1", "@0").replace("@0", "@2");
    let request = csi::DeleteVolumeRequest { volume_id: late, ..Default::default() };

    world.controller().delete_volume(request).await.unwrap();

    let request = csi::ControllerGetVolumeRequest { volume_id: volume.volume_id.clone() };
    let found = world.controller().controller_get_volume(request).await.unwrap().into_inner();
    assert_eq!(found.volume.unwrap(), volume);
}

#[tokio::test]
async fn pages_follow_each_other_though_the_volume_at_their_seam_was_deleted() {
    let world = World::of_sizes(&[1; 5]).await;
    for number in 0..5 {
        world.create(&format!("pvc-{number}"), 1).await.unwrap();
    }
    let page = |token: String| {
        let request = csi::ListVolumesRequest { max_entries: 2, starting_token: token };
        let mut client = world.controller();
        async move { client.list_volumes(request).await.unwrap().into_inner() }
    };

    let first = page(String::new()).await;
    let seam = first.entries[1].volume.clone().unwrap().volume_id;
    let request = csi::DeleteVolumeRequest { volume_id: seam, ..Default::default() };
    world.controller().delete_volume(request).await.unwrap();
    let second = page(first.next_token).await;
    let third = page(second.next_token).await;

    assert_eq!((first.entries.len(), second.entries.len(), third.entries.len()), (2, 2, 1));
    assert_eq!(third.next_token, "");
}

#[tokio::test]
async fn a_token_that_was_not_given_is_refused_as_the_specification_says() {
    let world = World::of_sizes(&[1]).await;

    for token in ["invalid-token", "2:v1", "1:../x"] {
        let request =
            csi::ListVolumesRequest { starting_token: token.into(), ..Default::default() };
        assert_eq!(
            world.controller().list_volumes(request).await.unwrap_err().code(),
            Code::Aborted
        );
    }
    let request = csi::ListVolumesRequest { max_entries: -1, ..Default::default() };
    assert_eq!(
        world.controller().list_volumes(request).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn capacity_is_what_can_be_claimed_and_the_maximum_is_one_volume() {
    let world = World::of_sizes(&[1, 2, 4]).await;
    world.create("pvc-1", 4).await.unwrap();
    let mut request = csi::GetCapacityRequest {
        parameters: HashMap::from([
            ("pool".into(), "fast".into()),
            ("csi.storage.k8s.io/fstype".into(), "ext4".into()),
        ]),
        accessible_topology: terms(&["node-a"]).pop(),
        ..Default::default()
    };

    let here = world.controller().get_capacity(request.clone()).await.unwrap().into_inner();
    request.accessible_topology = terms(&["node-b"]).pop();
    let there = world.controller().get_capacity(request).await.unwrap().into_inner();

    let mib = i64::try_from(MIB).unwrap();
    assert_eq!(here.available_capacity, 3 * mib);
    assert_eq!(here.maximum_volume_size, Some(2 * mib));
    assert_eq!(here.minimum_volume_size, Some(mib));
    assert_eq!((there.available_capacity, there.maximum_volume_size), (0, Some(0)));
}

#[tokio::test]
async fn an_expansion_to_no_size_is_refused() {
    let world = World::of_sizes(&[4]).await;
    let volume = world.create("pvc-1", 1).await.unwrap();

    for capacity_range in [None, Some(csi::CapacityRange::default())] {
        let request = csi::ControllerExpandVolumeRequest {
            volume_id: volume.volume_id.clone(),
            capacity_range,
            ..Default::default()
        };
        let refused = world.controller().controller_expand_volume(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_volume_that_is_lost_is_listed_with_its_reason_and_healthy_ones_are_not() {
    let world = World::of_sizes(&[1, 1]).await;
    let (gone, well) =
        (world.create("pvc-1", 1).await.unwrap(), world.create("pvc-2", 1).await.unwrap());
    let name = gone.volume_id.split('@').next().unwrap().parse().unwrap();
    let lose = |volume: &crate::volume::LocalVolume| {
        let mut status = volume.status.clone();
        status.conditions.healthy = holds(false, HealthReason::Missing);
        Some(status)
    };
    crate::inventory::Inventory::modify_status(&world.store, &name, lose).await.unwrap();
    let list = || async {
        let request = csi::ControllerListVolumeHealthRequest::default();
        world
            .controller()
            .controller_list_volume_health(request)
            .await
            .unwrap()
            .into_inner()
            .entries
    };
    while list().await.is_empty() {
        tokio::task::yield_now().await;
    }

    let listed = list().await;
    let of = |id: &str| csi::ControllerGetVolumeHealthRequest {
        volume_id: id.into(),
        ..Default::default()
    };
    let healthy =
        world.controller().controller_get_volume_health(of(&well.volume_id)).await.unwrap();

    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].volume_id, gone.volume_id);
    assert_eq!(listed[0].health_statuses[0].reason, "Missing");
    assert!(healthy.into_inner().volume_health.unwrap().health_statuses.is_empty());
}

#[tokio::test]
async fn an_expansion_beyond_what_there_is_is_out_of_range_and_one_within_gives_what_there_is() {
    let world = World::of_sizes(&[4]).await;
    let volume = world.create("pvc-1", 1).await.unwrap();
    let expand = |mebibytes: u64| csi::ControllerExpandVolumeRequest {
        volume_id: volume.volume_id.clone(),
        capacity_range: create("x", mebibytes).capacity_range,
        ..Default::default()
    };

    let within = world.controller().controller_expand_volume(expand(3)).await.unwrap().into_inner();
    let beyond = world.controller().controller_expand_volume(expand(5)).await.unwrap_err();

    assert_eq!(within.capacity_bytes, 4 * i64::try_from(MIB).unwrap());
    assert_eq!(beyond.code(), Code::OutOfRange);
}
