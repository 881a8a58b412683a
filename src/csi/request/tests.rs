use std::collections::HashMap;

use proptest::collection::{hash_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::claim::ClaimRequest;
use crate::csi::TOPOLOGY_KEY;
use crate::publish::{Publish, Stage};
use proto::volume_capability::access_mode::Mode as Asked;
use proto::volume_capability::{
    AccessMode as AskedMode, AccessType as AskedType, BlockVolume, MountVolume,
};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "\\PC{0,140}",
        2 => "[a-z0-9.-]{0,70}(@[0-9]{0,3})?",
        1 => Just(String::new()),
        1 => Just("\0".to_owned()),
        1 => Just("../../etc/passwd".to_owned()),
        1 => Just("x".repeat(1 << 20)),
    ]
}

fn strings() -> impl Strategy<Value = HashMap<String, String>> {
    let key = prop_oneof![
        Just("pool".to_owned()),
        Just("csi.storage.k8s.io/pvc/name".to_owned()),
        Just(TOPOLOGY_KEY.to_owned()),
        text(),
    ];
    hash_map(key, text(), 0..4)
}

fn capability() -> impl Strategy<Value = proto::VolumeCapability> {
    let kind = prop_oneof![
        Just(Some(AskedType::Block(BlockVolume {}))),
        Just(None),
        (text(), vec(text(), 0..3), text()).prop_map(
            |(fs_type, mount_flags, volume_mount_group)| {
                Some(AskedType::Mount(MountVolume { fs_type, mount_flags, volume_mount_group }))
            }
        ),
    ];
    let mode = option::of((-1..12_i32).prop_map(|mode| AskedMode { mode }));
    (kind, mode)
        .prop_map(|(access_type, access_mode)| proto::VolumeCapability { access_type, access_mode })
}

prop_compose! {
    fn create()(
        name in text(),
        range in option::of((any::<i64>(), any::<i64>())),
        volume_capabilities in vec(capability(), 0..3),
        parameters in strings(),
        mutable_parameters in strings(),
        terms in option::of((vec(strings(), 0..3), vec(strings(), 0..3))),
    ) -> proto::CreateVolumeRequest {
        let topologies = |terms: Vec<HashMap<String, String>>| {
            terms.into_iter().map(|segments| proto::Topology { segments }).collect()
        };
        proto::CreateVolumeRequest {
            name,
            capacity_range: range.map(|(required_bytes, limit_bytes)| {
                proto::CapacityRange { required_bytes, limit_bytes }
            }),
            volume_capabilities,
            parameters,
            mutable_parameters,
            accessibility_requirements: terms.map(|(requisite, preferred)| {
                proto::TopologyRequirement {
                    requisite: topologies(requisite),
                    preferred: topologies(preferred),
                }
            }),
            ..Default::default()
        }
    }
}

proptest! {
    #[test]
    fn any_create_request_is_understood_or_refused(request in create()) {
        let (pool, length) = (request.parameters.get("pool").cloned(), request.name.len());
        if let Ok(claim) = ClaimRequest::try_from(request) {
            prop_assert!(length <= 128);
            prop_assert_eq!(Some(claim.pool.to_string()), pool);
            let range = claim.range;
            prop_assert!(range.required.zip(range.limit).is_none_or(|(least, most)| least <= most));
        }
    }

    #[test]
    fn any_publish_request_is_understood_or_refused(
        (volume_id, staging_target_path, target_path) in (text(), text(), text()),
        capability in option::of(capability()),
        volume_context in strings(),
        readonly: bool,
    ) {
        let request = proto::NodePublishVolumeRequest {
            volume_id: volume_id.clone(),
            staging_target_path,
            target_path: target_path.clone(),
            volume_capability: capability,
            volume_context,
            readonly,
            ..Default::default()
        };
        if let Ok(publish) = Publish::try_from(request) {
            prop_assert_eq!(publish.id.to_string(), volume_id);
            prop_assert_eq!(publish.target.to_str(), Some(target_path.as_str()));
        }
    }

    #[test]
    fn any_token_is_one_of_ours_or_refused(token in text(), most in any::<i32>()) {
        let request = proto::ListVolumesRequest { max_entries: most, starting_token: token.clone() };
        match Listing::try_from(request) {
            Ok(Listing { after: Some(name), .. }) => prop_assert_eq!(Listing::token(&name), token),
            Ok(Listing { after: None, .. }) => prop_assert_eq!(token, ""),
            Err(error) => {
                let expected = matches!(error, Error::Token(_) | Error::Number { .. });
                prop_assert!(expected, "{}", error);
            }
        }
    }
}

#[test]
fn a_megabyte_of_text_is_not_repeated_in_what_is_said_of_it() {
    let long = "x".repeat(1 << 20);
    let request = proto::CreateVolumeRequest {
        name: "n".into(),
        volume_capabilities: vec![proto::VolumeCapability {
            access_type: Some(AskedType::Block(BlockVolume {})),
            access_mode: Some(AskedMode { mode: Asked::SingleNodeWriter.into() }),
        }],
        parameters: HashMap::from([(long.clone(), String::new())]),
        ..Default::default()
    };

    for said in [
        ClaimRequest::try_from(request).unwrap_err().to_string(),
        volume_id(&long).unwrap_err().to_string(),
    ] {
        assert!(said.len() < 400, "{}", said.len());
    }
}

#[test]
fn what_a_context_says_of_the_claim_is_a_claims_name_or_refused() {
    let request = |claim: &str| proto::NodeStageVolumeRequest {
        volume_id: "v1@1".into(),
        staging_target_path: "/staging".into(),
        volume_capability: Some(proto::VolumeCapability {
            access_type: Some(AskedType::Block(BlockVolume {})),
            access_mode: Some(AskedMode { mode: Asked::SingleNodeWriter.into() }),
        }),
        volume_context: HashMap::from([("berth.dev/claim".to_owned(), claim.to_owned())]),
        ..Default::default()
    };

    let known = Stage::try_from(request("pvc-1")).unwrap();
    assert_eq!(known.claim, Some("pvc-1".parse().unwrap()));
    for wrong in ["", "a\0b", &"x".repeat(129)] {
        let refused = Stage::try_from(request(wrong));
        assert!(matches!(refused, Err(Error::Name { .. })), "{wrong:?}: {refused:?}");
    }
}
