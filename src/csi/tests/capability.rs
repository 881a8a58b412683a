//! What a volume can be had as, asked before and after it is claimed.

use std::collections::HashMap;

use tonic::Code;

use super::super::proto::csi_v1 as csi;
use super::world::{Access, World, create, mounted, raw, with};

#[tokio::test]
async fn capabilities_that_a_volume_has_not_are_an_answer_and_not_an_error() {
    let world = World::of_sizes(&[1]).await;
    let volume = world.create("pvc-1", 1).await.unwrap();
    let ask = |capability| {
        let request = csi::ValidateVolumeCapabilitiesRequest {
            volume_id: volume.volume_id.clone(),
            volume_capabilities: vec![capability],
            ..Default::default()
        };
        let mut client = world.controller();
        async move { client.validate_volume_capabilities(request).await.unwrap().into_inner() }
    };

    assert!(ask(mounted(Access::SingleNodeWriter)).await.confirmed.is_some());
    assert!(ask(with("ext4", &["noexec"])).await.confirmed.is_some());
    for unsupported in [
        raw(),
        mounted(Access::MultiNodeReaderOnly),
        with("btrfs", &[]),
        with("", &["suid"]),
        with("", &["discard"]),
    ] {
        let answer = ask(unsupported).await;
        assert!(answer.confirmed.is_none() && !answer.message.is_empty());
    }
    let request = csi::ValidateVolumeCapabilitiesRequest {
        volume_id: "fake".into(),
        volume_capabilities: vec![raw()],
        ..Default::default()
    };
    let refused = world.controller().validate_volume_capabilities(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn a_volume_is_confirmed_as_what_it_is_and_as_nothing_else() {
    let world = World::of_sizes(&[1]).await;
    let volume = world.create("pvc-1", 1).await.unwrap();
    let request = || csi::ValidateVolumeCapabilitiesRequest {
        volume_id: volume.volume_id.clone(),
        volume_capabilities: vec![mounted(Access::SingleNodeWriter)],
        ..Default::default()
    };
    let ask = async |request: csi::ValidateVolumeCapabilitiesRequest| {
        world
            .controller()
            .validate_volume_capabilities(request)
            .await
            .map(tonic::Response::into_inner)
    };
    let one = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
    let mut context = volume.volume_context.clone();
    assert!(context.contains_key("berth.dev/claim"), "{context:?}");
    context.extend(one("storage.kubernetes.io/csiProvisionerIdentity", "1-berth"));

    let own = ask(csi::ValidateVolumeCapabilitiesRequest {
        volume_context: context.clone(),
        parameters: one("pool", "fast"),
        ..request()
    });
    assert_eq!(own.await.unwrap().confirmed.unwrap().volume_context, context);
    for foreign in [
        csi::ValidateVolumeCapabilitiesRequest { volume_context: one("x", "y"), ..request() },
        csi::ValidateVolumeCapabilitiesRequest {
            volume_context: one("berth.dev/pool", "slow"),
            ..request()
        },
        csi::ValidateVolumeCapabilitiesRequest {
            volume_context: one("berth.dev/claim", "pvc-other"),
            ..request()
        },
        csi::ValidateVolumeCapabilitiesRequest { parameters: one("pool", "raw"), ..request() },
        csi::ValidateVolumeCapabilitiesRequest { mutable_parameters: one("a", "b"), ..request() },
    ] {
        let answer = ask(foreign).await.unwrap();
        assert!(answer.confirmed.is_none() && !answer.message.is_empty());
    }
    let mut mute = mounted(Access::SingleNodeWriter);
    mute.access_mode = None;
    let mute =
        csi::ValidateVolumeCapabilitiesRequest { volume_capabilities: vec![mute], ..request() };
    assert_eq!(ask(mute).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_no_claim_could_be_given_has_no_capacity() {
    let world = World::of_sizes(&[1]).await;
    let pool = |name: &str| HashMap::from([("pool".to_owned(), name.to_owned())]);
    let capable = |capability| csi::GetCapacityRequest {
        parameters: pool("fast"),
        volume_capabilities: vec![capability],
        ..Default::default()
    };

    for (request, has) in [
        (csi::GetCapacityRequest { parameters: pool("fast"), ..Default::default() }, true),
        (capable(with("ext4", &["nosuid"])), true),
        (capable(with("ext4", &["ro"])), false),
        (csi::GetCapacityRequest::default(), false),
        (csi::GetCapacityRequest { parameters: pool("unknown"), ..Default::default() }, false),
        (capable(mounted(Access::MultiNodeMultiWriter)), false),
        (capable(raw()), false),
        (capable(with("xfs", &[])), false),
        (capable(with("", &["discard"])), false),
        (capable(with("", &["suid"])), false),
    ] {
        let told = format!("{request:?}");
        let answer = world.controller().get_capacity(request).await.unwrap().into_inner();
        assert_eq!(answer.available_capacity > 0, has, "{told}");
        assert_eq!(answer.maximum_volume_size, Some(answer.available_capacity));
    }
}

#[tokio::test]
async fn a_volume_is_given_for_what_it_can_be_staged_as() {
    let world = World::of_sizes(&[1]).await;
    let ask = async |name: &str, capability| {
        let request =
            csi::CreateVolumeRequest { volume_capabilities: vec![capability], ..create(name, 1) };
        world.controller().create_volume(request).await
    };

    let none = ask("pvc-1", with("btrfs", &[])).await.unwrap_err();
    assert_eq!(none.code(), Code::ResourceExhausted, "{}", none.message());
    ask("pvc-2", with("ext4", &["noatime"])).await.unwrap();
    let other = ask("pvc-2", with("xfs", &[])).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists, "{}", other.message());
}
