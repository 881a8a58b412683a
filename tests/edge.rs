//! What the specification's tables say of each call, seen by a caller of the real server.

#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use berth::csi::proto::csi_v1 as csi;
use berth::volume::Phase;
use csi::volume_capability::access_mode::Mode;
use csi::volume_capability::{AccessType, MountVolume};
use support::{Berth, Host, MIB, requests};
use tonic::Code;

fn config(host: &Host, more: &str) -> String {
    format!("pools: {{fast: {{path: {}, {more}}}}}", host.pool("fast").display())
}

/// A server with so many volumes of a mebibyte, the first of them claimed and its staging directory made.
fn claimed(volumes: usize, arguments: &[&str]) -> (Host, Berth, String, PathBuf) {
    let host = Host::new();
    for number in 0..volumes {
        host.tmpfs("fast", &format!("v{number}"), MIB);
    }
    let berth = Berth::start_with(&host, &config(&host, ""), arguments);
    berth.wait_for("all", |berth| (berth.volumes().len() == volumes).then_some(()));
    let id = berth.create("pvc-0", "fast", 1).unwrap().volume_id;
    let staging = requests::staging_path(&host, &id);
    fs::create_dir_all(&staging).unwrap();
    (host, berth, id, staging)
}

fn with(mode: Mode, fs_type: &str, flags: &[&str]) -> csi::VolumeCapability {
    let mount = MountVolume {
        fs_type: fs_type.into(),
        mount_flags: flags.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    requests::capability(AccessType::Mount(mount), mode)
}

fn stage(berth: &Berth, request: csi::NodeStageVolumeRequest) -> Code {
    let answer = berth.node(async |client| client.node_stage_volume(request).await);
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

fn publish(berth: &Berth, request: csi::NodePublishVolumeRequest) -> Code {
    let answer = berth.node(async |client| client.node_publish_volume(request).await);
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[test]
fn a_second_stage_and_a_second_publish_are_answered_by_the_tables() {
    let (host, berth, id, staging) = claimed(1, &[]);
    let target = requests::target_path(&host, &id);
    let staged = |capability| csi::NodeStageVolumeRequest {
        volume_capability: Some(capability),
        ..requests::stage(&id, &staging)
    };
    let published = |target: &Path, capability| csi::NodePublishVolumeRequest {
        volume_capability: Some(capability),
        ..requests::publish(&id, &staging, target)
    };
    let one = || with(Mode::SingleNodeSingleWriter, "", &[]);

    assert_eq!(publish(&berth, published(&target, one())), Code::FailedPrecondition, "not staged");
    assert_eq!([stage(&berth, staged(one())), stage(&berth, staged(one()))], [Code::Ok; 2]);
    for other in [
        with(Mode::SingleNodeMultiWriter, "", &[]),
        with(Mode::SingleNodeSingleWriter, "xfs", &[]),
        with(Mode::SingleNodeSingleWriter, "", &["noexec"]),
    ] {
        assert_eq!(stage(&berth, staged(other)), Code::AlreadyExists);
    }
    let elsewhere = requests::stage(&id, &host.path("kubelet/elsewhere"));
    assert_eq!(stage(&berth, elsewhere), Code::FailedPrecondition);

    assert_eq!(
        [publish(&berth, published(&target, one())), publish(&berth, published(&target, one()))],
        [Code::Ok; 2]
    );
    let read_only = csi::NodePublishVolumeRequest { readonly: true, ..published(&target, one()) };
    assert_eq!(publish(&berth, read_only), Code::AlreadyExists);
    assert_eq!(
        publish(&berth, published(&target, with(Mode::SingleNodeWriter, "", &[]))),
        Code::AlreadyExists
    );
    assert_eq!(
        publish(&berth, published(&host.path("kubelet/second"), one())),
        Code::FailedPrecondition
    );
    berth.unpublish(&host, &id).unwrap();
}

#[test]
fn a_name_that_no_file_can_have_is_no_target_and_nothing_is_there() {
    let (host, berth, id, staging) = claimed(1, &[]);
    let long = host.path("kubelet").join("x".repeat(300));
    assert_eq!(stage(&berth, requests::stage(&id, &staging)), Code::Ok);

    assert_eq!(publish(&berth, requests::publish(&id, &staging, &long)), Code::InvalidArgument);
    let stats = csi::NodeGetVolumeStatsRequest {
        volume_id: id.clone(),
        volume_path: requests::text(&long),
        ..Default::default()
    };
    let stats = berth.node(async |client| client.node_get_volume_stats(stats).await);
    assert_eq!(stats.unwrap_err().code(), Code::NotFound);
    let unpublish = requests::unpublish(&id, &long);
    berth.node(async |client| client.node_unpublish_volume(unpublish).await).unwrap();
    berth.unpublish(&host, &id).unwrap();
}

#[test]
fn nothing_is_mounted_outside_the_directories_that_were_named_for_it() {
    let host = Host::new();
    host.tmpfs("fast", "v0", MIB);
    let kubelet = requests::text(&host.path("kubelet"));
    let berth = Berth::start_with(&host, &config(&host, ""), &["--mount-root", &kubelet]);
    berth.wait_phase("v0", Phase::Available);
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;

    let outside = requests::stage(&id, &host.path("outside/staging"));
    assert_eq!(stage(&berth, outside), Code::InvalidArgument);
    let unpublish = requests::unpublish(&id, &host.path("outside"));
    let refused = berth.node(async |client| client.node_unpublish_volume(unpublish).await);

    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    assert!(host.path("outside").exists());
    berth.publish(&host, &id).unwrap();
    berth.unpublish(&host, &id).unwrap();
}

#[test]
fn unpublishing_never_takes_away_a_volume_that_is_a_plain_directory() {
    let host = Host::new();
    let (mine, free) = (host.directory("fast", "mine"), host.directory("fast", "free"));
    let berth = Berth::start(&host, &config(&host, "accept: [directory]"));
    berth.wait_phase("free", Phase::Available);
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;

    for path in [mine, free] {
        let unpublish = requests::unpublish(&id, &path);
        let refused = berth.node(async |client| client.node_unpublish_volume(unpublish).await);
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
        assert!(path.exists());
    }
}

/// A staging whose caller gives up goes on; the claim ends meanwhile, and the volume is wiped and given away.
#[test]
fn a_staging_that_was_given_up_never_mounts_after_its_claim_has_ended() {
    let host = Host::new();
    host.tmpfs("fast", "v0", MIB);
    let berth = Berth::start(&host, &config(&host, ""));
    berth.wait_phase("v0", Phase::Available);
    let (channel, runtime) = berth.connection();

    for round in 0..60_u32 {
        let create = |berth: &Berth| berth.create(&format!("pvc-{round}"), "fast", 1).ok();
        let id = berth.wait_for("a volume", create).volume_id;
        let staging = requests::staging_path(&host, &id);
        fs::create_dir_all(&staging).unwrap();
        let mut client = csi::node_client::NodeClient::new(channel.clone());
        let request = requests::stage(&id, &staging);
        let given_up = tokio::time::Duration::from_micros(u64::from(round) * 50);
        let _ = runtime.block_on(async {
            tokio::time::timeout(given_up, client.node_stage_volume(request)).await
        });
        berth.delete(&id).unwrap();
        // It was staged first, and is wiped when it no longer is; or it is not staged any more.
        berth.wait_for("the volume to be free", |berth| {
            if berth.volume("v0")?.phase() == Phase::Available {
                return Some(());
            }
            let unstage = requests::unstage(&id, &staging);
            let _ = berth.node(async |client| client.node_unstage_volume(unstage).await);
            None
        });
        let publish = requests::publish(&id, &staging, &host.path("kubelet/late"));
        let late = berth.node(async |client| client.node_publish_volume(publish).await);
        assert_eq!(late.unwrap_err().code(), Code::NotFound, "round {round}");
        assert!(berth.volume("v0").unwrap().status.published.is_empty(), "round {round}");
    }
}

#[test]
fn a_list_goes_on_after_a_restart_where_it_stopped() {
    let host = Host::new();
    for number in 0..5 {
        host.tmpfs("fast", &format!("v{number}"), MIB);
    }
    let text = config(&host, "");
    let berth = Berth::start(&host, &text);
    berth.wait_for("all", |berth| (berth.volumes().len() == 5).then_some(()));
    let mut ids: Vec<_> = (0..5)
        .map(|number| berth.create(&format!("pvc-{number}"), "fast", 1).unwrap().volume_id)
        .collect();
    ids.sort();
    let page = |berth: &Berth, token: &str| {
        let request = csi::ListVolumesRequest { max_entries: 3, starting_token: token.into() };
        let page = berth.controller(async |client| client.list_volumes(request).await).unwrap();
        let ids = page.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id);
        (ids.collect::<Vec<_>>(), page.next_token)
    };

    let (first, token) = page(&berth, "");
    assert!(berth.stop().success());
    let berth = Berth::start(&host, &text);
    let (second, end) = page(&berth, &token);

    assert_eq!(([first, second].concat(), end.as_str()), (ids, ""));
}

/// XFS, since growing ext4 needs CAP_SYS_RESOURCE, which a container may lack.
#[test]
fn a_formatted_device_grows_from_beneath_up_to_its_tenant() {
    let mut host = Host::new();
    let device = host.block("fast", "d1", 320 * MIB);
    let text = config(&host, "accept: [device], fsType: xfs, clean: {method: reformat}");
    let berth = Berth::start_with(&host, &text, &["--rescan", "1"]);
    berth.wait_phase("d1", Phase::Available);
    let id = berth.create("pvc-1", "fast", MIB).unwrap().volume_id;
    let target = berth.publish(&host, &id).unwrap();
    let size = || fs::read(target.join("kept")).map(|_| total(&berth, &id, &target)).unwrap();
    fs::write(target.join("kept"), "a tenant's").unwrap();
    let before = size();
    let range = || requests::create("x", "fast", 640 * MIB).capacity_range;
    let controller = || {
        let request = csi::ControllerExpandVolumeRequest {
            volume_id: id.clone(),
            capacity_range: range(),
            ..Default::default()
        };
        berth.controller(async |client| client.controller_expand_volume(request).await)
    };
    let node = || {
        let request = csi::NodeExpandVolumeRequest {
            volume_id: id.clone(),
            volume_path: requests::text(&target),
            capacity_range: range(),
            ..Default::default()
        };
        berth.node(async |client| client.node_expand_volume(request).await)
    };

    assert_eq!(controller().unwrap_err().code(), Code::OutOfRange);
    assert_eq!(node().unwrap_err().code(), Code::OutOfRange);
    host.grow(&device, 640 * MIB);
    let expanded = berth.wait_for("the growth", |_| controller().ok());
    assert!(expanded.node_expansion_required);
    assert_eq!(size(), before, "the file system grows on its node");
    let bytes = i64::try_from(640 * MIB).unwrap();
    assert_eq!((expanded.capacity_bytes, node().unwrap().capacity_bytes), (bytes, bytes));

    assert!(size() > before + 300 * i64::try_from(MIB).unwrap(), "{before}");
    berth.unpublish(&host, &id).unwrap();
}

/// The bytes of the file system that a volume has.
fn total(berth: &Berth, id: &str, path: &Path) -> i64 {
    let request = csi::NodeGetVolumeStatsRequest {
        volume_id: id.into(),
        volume_path: requests::text(path),
        ..Default::default()
    };
    let answer = berth.node(async |client| client.node_get_volume_stats(request).await).unwrap();
    answer.usage[0].total
}

#[test]
fn a_volume_that_is_well_and_not_where_it_should_be_is_told_as_inaccessible() {
    let (host, berth, id, staging) = claimed(1, &[]);
    let target = berth.publish(&host, &id).unwrap();
    let health = |target: &Path, staging: &Path| {
        let request = csi::NodeGetVolumeHealthRequest {
            volume_id: id.clone(),
            volume_publish_path: requests::text(target),
            staging_target_path: requests::text(staging),
        };
        let answer = berth.node(async |client| client.node_get_volume_health(request).await);
        let entries = answer.unwrap().volume_health.unwrap().health_statuses;
        entries.into_iter().map(|entry| (entry.status(), entry.reason)).collect::<Vec<_>>()
    };
    let none = Path::new("");
    let absent = (csi::VolumeHealthErrorType::Inaccessible, "NotMounted".to_owned());

    assert_eq!([health(none, none), health(&target, &staging)], [[], []]);
    assert_eq!(health(&host.path("kubelet/never"), none), std::slice::from_ref(&absent));
    support::unmount(&target);
    assert_eq!([health(none, none), health(&target, &staging)], [[absent.clone()], [absent]]);
    berth.unpublish(&host, &id).unwrap();
}

#[test]
fn many_callers_may_ask_for_the_statistics_of_one_volume_at_once() {
    let (host, berth, id, _) = claimed(1, &[]);
    let target = berth.publish(&host, &id).unwrap();
    let (channel, runtime) = berth.connection();

    let answers = runtime.block_on(async {
        let calls = (0..16).map(|_| {
            let mut client = csi::node_client::NodeClient::new(channel.clone());
            let request = csi::NodeGetVolumeStatsRequest {
                volume_id: id.clone(),
                volume_path: requests::text(&target),
                ..Default::default()
            };
            async move { client.node_get_volume_stats(request).await.map(drop) }
        });
        futures_util::future::join_all(calls).await
    });

    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    berth.unpublish(&host, &id).unwrap();
}
