//! Calls of any kind: sequences of requests in which everything may be anything.

use std::collections::HashMap;

use berth::csi::proto::csi_v1 as csi;
use csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use proptest::collection::{hash_map, vec};
use proptest::option;
use proptest::prelude::*;
use tonic::Status;

use super::Scene;
use super::support::requests;

/// A sequence of calls.
pub(super) fn calls() -> impl Strategy<Value = Vec<Call>> {
    vec(prop_oneof![1 => controllers(), 2 => nodes()], 40..60)
}

/// Something of a request, with `~` in place of the host's directory and `!` for the id of the live volume.
fn text() -> impl Strategy<Value = String> {
    let odd = [
        "",
        "!",
        "~",
        "/",
        "..",
        "../../etc/passwd",
        "a\0b",
        "%2e%2e%2f",
        "%2Fetc%2Fpasswd",
        "etc%00",
        "v1@1",
        "v1@18446744073709551616",
        "/etc@1",
        "..@1",
        "🦀@1",
        "node-a-fast-v1@1",
        "é",
        "e\u{301}",
        "／etc",
        "‥/‥",
        "$(id)",
        "`id`",
        "\n",
        "ext4",
        "xfs",
        "ro",
        "rw,suid",
        "bind",
        "fast",
        "raw",
        "pool",
        "-1",
        "\u{202e}",
    ];
    prop_oneof![
        6 => prop::sample::select(odd.to_vec()).prop_map(str::to_owned),
        2 => "\\PC{0,140}",
        1 => (1..300_usize).prop_map(|times| "x".repeat(times)),
        1 => Just("x".repeat(1 << 20)),
    ]
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just("!".to_owned()), 1 => Just("!0".to_owned()), 2 => text()]
}

fn path() -> impl Strategy<Value = String> {
    let places = [
        "~/kubelet/staging",
        "~/kubelet/t1",
        "~/kubelet/pods/real/t2",
        "~/kubelet",
        "~/kubelet/",
        "~/kubelet/.",
        "~/kubelet//t1/",
        "~/kubelet/./t1/.",
        "~/kubelet/../outside/empty",
        "~/kubelet/link/empty",
        "~/kubelet/link",
        "~/kubelet/link/new",
        "~/kubelet/loop/x",
        "~/kubelet/pods/bound/empty",
        "~/kubelet/pods/bound/new",
        "~/kubelet/pods/bound",
        "~/kubelet/pool/v0",
        "~/kubelet/pool/new",
        "~/kubelet/foreign",
        "~/kubelet/foreign/file",
        "~/kubelet/foreign/file/x",
        "~/outside",
        "~/outside/empty",
        "~/outside/none",
        "~/outside/new",
        "~/pools/fast/v0",
        "~/pools/fast/plain",
        "~/pools/fast/new",
        "~/pools/raw/disk",
        "~/state/inventory.redb",
        "~/run/csi.sock",
        "/",
        "//",
        "/.",
        "/etc",
        "/proc/self/root/tmp",
        "/proc/self/fd/3",
        "/dev/null",
        "relative",
        "~/kubelet/%2e%2e/outside",
        "~/kubelet/%2Foutside",
        "~/kubelet/é",
        "~/kubelet/e\u{301}",
        "~/ｋubelet/t1",
        "~/kubelet\0/t1",
        "~/kubelet2/t1",
    ];
    prop_oneof![
        8 => prop::sample::select(places.to_vec()).prop_map(str::to_owned),
        1 => text(),
        1 => text().prop_map(|name| format!("~/kubelet/{name}")),
        1 => text().prop_map(|name| format!("~/kubelet/t1/{name}")),
    ]
}

fn strings() -> impl Strategy<Value = HashMap<String, String>> {
    hash_map(prop_oneof![Just("pool".to_owned()), text()], text(), 0..3)
}

fn capability() -> impl Strategy<Value = csi::VolumeCapability> {
    let good = prop_oneof![Just(requests::mounted()), Just(requests::raw())];
    let flags = vec(text(), 0..3);
    let kind = prop_oneof![
        Just(Some(AccessType::Block(BlockVolume {}))),
        Just(None),
        (text(), flags, text()).prop_map(|(fs_type, mount_flags, volume_mount_group)| {
            Some(AccessType::Mount(MountVolume { fs_type, mount_flags, volume_mount_group }))
        }),
    ];
    let mode = option::of((-1..12_i32).prop_map(|mode| AccessMode { mode }));
    let odd = (kind, mode)
        .prop_map(|(access_type, access_mode)| csi::VolumeCapability { access_type, access_mode });
    prop_oneof![3 => good, 1 => odd]
}

fn range() -> impl Strategy<Value = Option<csi::CapacityRange>> {
    let bytes = || prop_oneof![Just(0), Just(1), any::<i64>()];
    option::of((bytes(), bytes()).prop_map(|(required_bytes, limit_bytes)| csi::CapacityRange {
        required_bytes,
        limit_bytes,
    }))
}

#[derive(Debug, Clone)]
pub(super) enum Call {
    Create(csi::CreateVolumeRequest),
    Delete(csi::DeleteVolumeRequest),
    Validate(csi::ValidateVolumeCapabilitiesRequest),
    List(csi::ListVolumesRequest),
    Capacity(csi::GetCapacityRequest),
    Grow(csi::ControllerExpandVolumeRequest),
    Stage(csi::NodeStageVolumeRequest),
    Unstage(csi::NodeUnstageVolumeRequest),
    Publish(csi::NodePublishVolumeRequest),
    Unpublish(csi::NodeUnpublishVolumeRequest),
    Stats(csi::NodeGetVolumeStatsRequest),
    Health(csi::NodeGetVolumeHealthRequest),
    Expand(csi::NodeExpandVolumeRequest),
}

fn controllers() -> impl Strategy<Value = Call> {
    let topology = vec(strings().prop_map(|segments| csi::Topology { segments }), 0..2);
    let create = (text(), range(), vec(capability(), 0..2), strings(), option::of(topology))
        .prop_map(|(name, capacity_range, volume_capabilities, parameters, terms)| {
            Call::Create(csi::CreateVolumeRequest {
                name,
                capacity_range,
                volume_capabilities,
                parameters,
                accessibility_requirements: terms.map(|terms| csi::TopologyRequirement {
                    requisite: terms.clone(),
                    preferred: terms,
                }),
                ..Default::default()
            })
        });
    let validate = (id(), vec(capability(), 0..2), strings(), strings()).prop_map(
        |(volume_id, volume_capabilities, volume_context, parameters)| {
            Call::Validate(csi::ValidateVolumeCapabilitiesRequest {
                volume_id,
                volume_capabilities,
                volume_context,
                parameters,
                ..Default::default()
            })
        },
    );
    let delete =
        text().prop_filter("the live volume stays", |id| id != "!").prop_map(|volume_id| {
            Call::Delete(csi::DeleteVolumeRequest { volume_id, ..Default::default() })
        });
    let list = (any::<i32>(), text()).prop_map(|(max_entries, starting_token)| {
        Call::List(csi::ListVolumesRequest { max_entries, starting_token })
    });
    let capacity =
        (vec(capability(), 0..2), strings()).prop_map(|(volume_capabilities, parameters)| {
            Call::Capacity(csi::GetCapacityRequest {
                volume_capabilities,
                parameters,
                ..Default::default()
            })
        });
    let grow = (id(), range()).prop_map(|(volume_id, capacity_range)| {
        Call::Grow(csi::ControllerExpandVolumeRequest {
            volume_id,
            capacity_range,
            ..Default::default()
        })
    });
    prop_oneof![create, validate, delete, list, capacity, grow]
}

fn nodes() -> impl Strategy<Value = Call> {
    let stage = (id(), path(), option::of(capability()), strings()).prop_map(
        |(volume_id, staging_target_path, volume_capability, volume_context)| {
            Call::Stage(csi::NodeStageVolumeRequest {
                volume_id,
                staging_target_path,
                volume_capability,
                volume_context,
                ..Default::default()
            })
        },
    );
    let publish = (id(), path(), path(), option::of(capability()), strings(), any::<bool>())
        .prop_map(
            |(
                volume_id,
                staging_target_path,
                target_path,
                volume_capability,
                volume_context,
                readonly,
            )| {
                Call::Publish(csi::NodePublishVolumeRequest {
                    volume_id,
                    staging_target_path,
                    target_path,
                    volume_capability,
                    volume_context,
                    readonly,
                    ..Default::default()
                })
            },
        );
    let place = || (id(), path());
    prop_oneof![
        3 => stage,
        4 => publish,
        2 => place().prop_map(|(volume_id, staging_target_path)| {
            Call::Unstage(csi::NodeUnstageVolumeRequest { volume_id, staging_target_path })
        }),
        3 => place().prop_map(|(volume_id, target_path)| {
            Call::Unpublish(csi::NodeUnpublishVolumeRequest { volume_id, target_path })
        }),
        1 => place().prop_map(|(volume_id, volume_path)| {
            Call::Stats(csi::NodeGetVolumeStatsRequest { volume_id, volume_path, ..Default::default() })
        }),
        1 => place().prop_map(|(volume_id, volume_publish_path)| {
            Call::Health(csi::NodeGetVolumeHealthRequest { volume_id, volume_publish_path, ..Default::default() })
        }),
        1 => (place(), range()).prop_map(|((volume_id, volume_path), capacity_range)| {
            Call::Expand(csi::NodeExpandVolumeRequest { volume_id, volume_path, capacity_range, ..Default::default() })
        }),
    ]
}

impl Scene {
    pub(super) fn here(&self, text: &str) -> String {
        let text = text.replace('~', self.host.path("").to_str().unwrap().trim_end_matches('/'));
        text.replace('!', &self.id)
    }

    pub(super) fn make(&self, call: Call) -> Result<(), Status> {
        macro_rules! call {
            ($service:ident . $method:ident, $request:ident, $($field:ident),*) => {{
                #[allow(unused_mut, reason = "not every request names a place")]
                let mut request = $request;
                $(request.$field = self.here(&request.$field);)*
                self.berth.$service(async |client| client.$method(request).await).map(drop)
            }};
        }
        match call {
            Call::Create(request) => call!(controller.create_volume, request,),
            Call::Delete(request) => call!(controller.delete_volume, request,),
            Call::Validate(request) => {
                call!(controller.validate_volume_capabilities, request, volume_id)
            }
            Call::List(request) => call!(controller.list_volumes, request,),
            Call::Capacity(request) => call!(controller.get_capacity, request,),
            Call::Grow(request) => call!(controller.controller_expand_volume, request, volume_id),
            Call::Stage(request) => {
                call!(node.node_stage_volume, request, volume_id, staging_target_path)
            }
            Call::Unstage(request) => {
                call!(node.node_unstage_volume, request, volume_id, staging_target_path)
            }
            Call::Publish(request) => {
                call!(
                    node.node_publish_volume,
                    request,
                    volume_id,
                    staging_target_path,
                    target_path
                )
            }
            Call::Unpublish(request) => {
                call!(node.node_unpublish_volume, request, volume_id, target_path)
            }
            Call::Stats(request) => {
                call!(node.node_get_volume_stats, request, volume_id, volume_path)
            }
            Call::Health(request) => {
                call!(node.node_get_volume_health, request, volume_id, volume_publish_path)
            }
            Call::Expand(request) => {
                call!(node.node_expand_volume, request, volume_id, volume_path)
            }
        }
    }
}
