//! The rules that always hold, each held against the real server. The numbers are those of docs/concepts.md.
mod support;

use std::collections::BTreeSet;
use std::fs;

use berth::csi::proto::csi_v1 as csi;
use berth::csi::proto::operator_v1alpha1 as operator;
use berth::volume::{Phase, VolumeId};
use support::{Berth, Host, MIB, requests};
use tonic::Code;

fn pools(host: &Host, more: &str) -> String {
    format!("pools: {{fast: {{path: {}, {more}}}}}", host.pool("fast").display())
}

fn plain(host: &Host) -> String {
    pools(host, "accept: [mount, directory]")
}

/// A server with one free volume `v1`, a tmpfs of 64 MiB.
fn one_volume() -> (Host, Berth, std::path::PathBuf) {
    let host = Host::new();
    let source = host.tmpfs("fast", "v1", 64 * MIB);
    let berth = Berth::start(&host, &plain(&host));
    berth.wait_phase("v1", Phase::Available);
    (host, berth, source)
}

mod rule_1_one_tenant_at_a_time {
    use super::*;

    #[test]
    fn one_name_created_fifty_times_at_once_is_one_volume() {
        let host = Host::new();
        for number in 0..20 {
            host.tmpfs("fast", &format!("v{number}"), MIB);
        }
        let berth = Berth::start(&host, &plain(&host));
        berth.wait_for("all volumes", |berth| (berth.volumes().len() == 20).then_some(()));
        let (channel, runtime) = berth.connection();

        let answers = runtime.block_on(async {
            let calls = (0..50).map(|_| {
                let mut client = csi::controller_client::ControllerClient::new(channel.clone());
                async move { client.create_volume(requests::create("pvc-1", "fast", 1)).await }
            });
            futures_util::future::join_all(calls).await
        });

        let refused: BTreeSet<i32> =
            answers.iter().filter_map(|a| a.as_ref().err().map(|s| s.code() as i32)).collect();
        assert!(refused.is_subset(&BTreeSet::from([Code::Aborted as i32])), "{refused:?}");
        let held = berth.volumes().into_iter().filter(|volume| volume.spec.claim.is_some());
        assert_eq!(held.count(), 1);
    }

    #[test]
    fn a_stale_id_of_an_old_tenancy_never_touches_the_new_tenant() {
        let (host, berth, _) = one_volume();
        let old = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
        berth.delete(&old).unwrap();
        berth.wait_phase("v1", Phase::Available);
        let new = berth.create("pvc-2", "fast", 1).unwrap().volume_id;
        let target = berth.publish(&host, &new).unwrap();
        fs::write(target.join("data"), "the new tenant's").unwrap();

        berth.delete(&old).unwrap();
        let refused = berth.publish(&host, &old).unwrap_err();
        let elsewhere = requests::target_path(&host, &old);
        let unpublish = requests::unpublish(&old, &elsewhere);
        berth.node(async |client| client.node_unpublish_volume(unpublish).await).unwrap();

        assert_eq!(refused.code(), Code::NotFound);
        assert_eq!(fs::read_to_string(target.join("data")).unwrap(), "the new tenant's");
        assert_eq!(berth.volume("v1").unwrap().id().unwrap().to_string(), new);
        berth.unpublish(&host, &new).unwrap();
    }
}

mod rule_2_no_tenant_sees_anothers_data {
    use super::*;

    #[test]
    fn a_newly_found_volume_that_holds_data_is_dirty_until_a_person_says_otherwise() {
        let host = Host::new();
        let source = host.tmpfs("fast", "v1", MIB);
        fs::write(source.join("data"), "somebody's").unwrap();
        let berth = Berth::start(&host, &plain(&host));
        let dirty = berth.wait_phase("v1", Phase::Dirty);

        let refused = berth.create("pvc-1", "fast", 1).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(source.join("data").exists());

        let request = operator::CleanVolumeRequest { name: dirty.name.to_string() };
        berth.operator(async |client| client.clean_volume(request).await).unwrap();
        berth.wait_phase("v1", Phase::Available);
        assert!(!source.join("data").exists());
    }

    #[test]
    fn a_pool_may_have_what_it_finds_wiped_or_offered_as_it_is() {
        for (policy, left) in [("clean", false), ("accept", true)] {
            let host = Host::new();
            let source = host.tmpfs("fast", "v1", MIB);
            fs::write(source.join("data"), "somebody's").unwrap();
            let berth = Berth::start(&host, &pools(&host, &format!("newVolumes: {policy}")));

            berth.wait_phase("v1", Phase::Available);

            assert_eq!(source.join("data").exists(), left, "{policy}");
        }
    }

    #[test]
    fn a_device_with_a_signature_on_it_is_dirty() {
        let mut host = Host::new();
        let device = host.device(16 * MIB);
        support::make_filesystem("ext4", &device);
        std::os::unix::fs::symlink(&device, host.pool("fast").join("d1")).unwrap();
        let berth = Berth::start(&host, &pools(&host, "mode: Block"));

        let dirty = berth.wait_phase("d1", Phase::Dirty);

        assert!(dirty.status.conditions.clean.message.contains("ext"), "{dirty:?}");
    }

    #[test]
    fn lost_and_found_alone_is_empty() {
        let mut host = Host::new();
        host.filesystem("ext4", "fast", "v1", 16 * MIB);
        let berth = Berth::start(&host, &plain(&host));

        berth.wait_phase("v1", Phase::Available);
    }
}

mod rule_3_never_the_wrong_disk {
    use super::*;

    #[test]
    fn a_pod_never_writes_to_the_disk_beneath_a_lost_mount() {
        let (host, berth, source) = one_volume();
        let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
        support::unmount(&source);

        let refused = berth.publish(&host, &id).unwrap_err();

        assert_eq!(refused.code(), Code::FailedPrecondition, "{}", refused.message());
        assert!(refused.message().contains(source.to_str().unwrap()), "{}", refused.message());
        assert_eq!(support::mounts_at(&requests::target_path(&host, &id)), 0);
        berth.wait_phase("v1", Phase::Lost);
    }

    #[test]
    fn another_disk_at_the_same_path_is_neither_mounted_nor_wiped() {
        let (host, berth, source) = one_volume();
        let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
        support::unmount(&source);
        support::mount(&["-t", "tmpfs", "tmpfs"], &source);
        fs::write(source.join("data"), "another disk's").unwrap();

        let refused = berth.publish(&host, &id).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        berth.delete(&id).unwrap();
        berth.wait_for("the wipe to be refused", |berth| {
            berth.log().contains("not wiped").then_some(())
        });

        assert_eq!(fs::read_to_string(source.join("data")).unwrap(), "another disk's");
    }

    #[test]
    fn two_paths_to_one_source_are_one_volume_and_the_second_is_reported() {
        let host = Host::new();
        let source = host.path("disks/a");
        fs::create_dir(&source).unwrap();
        support::mount(&["-t", "tmpfs", "tmpfs"], &source);
        host.bind(&source, "fast", "v1");
        host.bind(&source, "fast", "v2");
        let berth = Berth::start(&host, &plain(&host));

        assert_eq!(berth.volumes().len(), 1);
        let said = berth.log();
        assert!(said.contains("fast/v2 is not offered: it leads to the same source as"), "{said}");
    }
}

#[path = "rules/rule_4.rs"]
mod rule_4_never_outside_the_volume;

#[path = "rules/rule_5.rs"]
mod rule_5_never_under_a_running_pod;

mod rule_6_a_crash_loses_nothing {
    use super::*;

    #[test]
    fn a_claim_and_its_mounts_outlive_the_server() {
        let (host, berth, _) = one_volume();
        let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
        let target = berth.publish(&host, &id).unwrap();
        fs::write(target.join("data"), "a tenant's").unwrap();
        berth.kill();

        let berth = Berth::start(&host, &plain(&host));
        berth.publish(&host, &id).unwrap();

        assert_eq!(support::mounts_at(&target), 1);
        assert_eq!(fs::read_to_string(target.join("data")).unwrap(), "a tenant's");
        berth.unpublish(&host, &id).unwrap();
        assert_eq!(support::mounts_at(&target), 0);
    }

    #[test]
    fn a_wipe_that_was_cut_off_is_ended_by_the_next_start_and_never_offered_half_done() {
        let host = Host::new();
        let source = host.tmpfs("fast", "v1", 64 * MIB);
        let gate = host.path("outside/gate");
        // The first run leaves its work to another process, which outlives it; a second run ends at once.
        let script = format!(
            "if mkdir {0}.begun; then (mkdir {0}.orphan; until test -e {0}; do sleep 0.01; done; rm -rf $BERTH_PATH/*) & wait; \
             else rm -rf $BERTH_PATH/*; fi",
            gate.display()
        );
        let config = pools(
            &host,
            &format!("clean: {{method: command, command: [/bin/sh, -c, {script:?}]}}"),
        );
        let berth = Berth::start(&host, &config);
        berth.wait_phase("v1", Phase::Available);
        let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
        fs::write(source.join("data"), "a tenant's").unwrap();
        berth.delete(&id).unwrap();
        berth.wait_for("the wipe to run", |_| fs::metadata(host.path("outside/gate.orphan")).ok());
        berth.kill();

        let berth = Berth::start(&host, &config);
        berth.wait_for("the orphan to be noticed", |berth| {
            let volume = berth.volume("v1")?;
            assert!(!volume.is_claimable());
            volume.status.conditions.clean.message.contains("an earlier wipe").then_some(())
        });
        assert_eq!(berth.create("pvc-2", "fast", 1).unwrap_err().code(), Code::ResourceExhausted);
        fs::write(gate, "").unwrap();

        berth.wait_phase("v1", Phase::Available);
        assert_eq!(fs::read_dir(source).unwrap().count(), 0);
    }

    #[test]
    fn a_server_that_is_asked_to_end_stops_its_wipe_and_ends_in_order() {
        let host = Host::new();
        host.tmpfs("fast", "v1", MIB);
        let config = pools(&host, "clean: {method: command, command: [/bin/sleep, '600']}");
        let berth = Berth::start(&host, &config);
        berth.wait_phase("v1", Phase::Available);
        let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
        berth.delete(&id).unwrap();
        berth.wait_for("the wipe to run", |berth| berth.volume("v1")?.status.cleaning.map(drop));

        let status = berth.stop();

        assert!(status.success());
        assert!(!host.path("run/csi.sock").exists());
        assert!(
            fs::read_to_string(host.path("berth.log"))
                .unwrap()
                .contains("it is resumed by the next start")
        );
    }
}

mod rule_7_losing_the_inventory_loses_no_data {
    use super::*;

    #[test]
    fn a_volume_that_is_found_again_without_its_record_is_dirty_and_not_wiped() {
        let (host, berth, source) = one_volume();
        let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
        fs::write(source.join("data"), "a tenant's").unwrap();
        berth.kill();
        fs::remove_file(host.path("state/inventory.redb")).unwrap();

        let berth = Berth::start(&host, &plain(&host));
        berth.wait_phase("v1", Phase::Dirty);
        let late: VolumeId = id.parse().unwrap();

        assert!(source.join("data").exists());
        assert!(
            berth.volume("v1").unwrap().spec.tenancy > late.tenancy,
            "an old id could be given again"
        );
    }

    #[test]
    fn a_volume_that_is_mounted_for_a_tenant_is_neither_offered_nor_wiped_though_its_record_is_lost()
     {
        let host = Host::new();
        let source = host.tmpfs("fast", "v1", 64 * MIB);
        let wiping = pools(&host, "newVolumes: clean");
        let kubelet = requests::text(&host.path("kubelet"));
        let start = || Berth::start_with(&host, &wiping, &["--mount-root", &kubelet]);
        let berth = start();
        berth.wait_phase("v1", Phase::Available);
        let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
        let target = berth.publish(&host, &id).unwrap();
        fs::write(target.join("data"), "a tenant's").unwrap();
        berth.kill();
        fs::remove_file(host.path("state/inventory.redb")).unwrap();

        let berth = start();
        berth.wait_phase("v1", Phase::Dirty);

        assert_eq!(
            berth.volume("v1").unwrap().status.conditions.clean.reason.as_str(),
            "FoundInUse"
        );
        assert_eq!(berth.create("pvc-2", "fast", 1).unwrap_err().code(), Code::ResourceExhausted);
        // Once the tenant is gone, it is still a person's to decide.
        berth.unpublish(&host, &id).unwrap();
        berth.wait_for("a look without the mount", |berth| {
            berth.volume("v1").unwrap().status.published.is_empty().then_some(())
        });
        assert!(source.join("data").exists());
        assert_eq!(berth.volume("v1").unwrap().phase(), Phase::Dirty);
    }

    #[test]
    fn a_damaged_state_file_is_refused_with_the_way_out_and_never_reset() {
        let (host, berth, _) = one_volume();
        berth.kill();
        let file = host.path("state/inventory.redb");
        let damaged = vec![0x5A; 4096];
        fs::write(&file, &damaged).unwrap();

        let status = Berth::spawn(&host, &plain(&host), &[]).ended();

        assert_eq!(status.code(), Some(1));
        assert_eq!(fs::read(&file).unwrap(), damaged);
        let said = fs::read_to_string(host.path("berth.log")).unwrap();
        assert!(said.contains("inventory.redb"), "{said}");
    }
}

mod rule_8_what_cannot_be_done_says_so {
    use super::*;

    #[test]
    fn a_refusal_names_the_volume_the_path_and_what_to_do() {
        let (host, berth, source) = one_volume();
        let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
        support::unmount(&source);

        let refused = berth.publish(&host, &id).unwrap_err();

        for part in [&id, source.to_str().unwrap(), "mount the right disk there"] {
            assert!(refused.message().contains(part), "{part}: {}", refused.message());
        }
        assert!(refused.details().is_empty());
    }

    #[test]
    fn secrets_tokens_and_mount_flags_never_reach_the_log() {
        let host = Host::new();
        host.tmpfs("fast", "v1", MIB);
        let berth = Berth::start_with(&host, &plain(&host), &["--log-level", "trace"]);
        berth.wait_phase("v1", Phase::Available);
        let secret = [("token".to_owned(), "hunter2".to_owned())];
        let mut create = requests::create("pvc-1", "fast", 1);
        create.secrets = secret.clone().into();
        let created = berth.controller(async |client| client.create_volume(create).await).unwrap();
        let id = created.volume.unwrap().volume_id;
        let staging = requests::staging_path(&host, &id);
        fs::create_dir_all(&staging).unwrap();
        let mut stage = requests::stage(&id, &staging);
        stage.secrets = secret.clone().into();
        stage.volume_context = secret.clone().into();
        stage.publish_context = secret.into();
        let mut flagged = stage.clone();
        let capability = flagged.volume_capability.as_mut().unwrap();
        if let Some(csi::volume_capability::AccessType::Mount(mount)) = &mut capability.access_type
        {
            mount.mount_flags = vec!["hunter2".into(), "password=hunter2".into()];
        }

        berth.node(async |client| client.node_stage_volume(flagged).await).unwrap_err();
        berth.node(async |client| client.node_stage_volume(stage).await).unwrap();

        assert!(berth.log().contains("NodeStageVolume"));
        let ours: Vec<_> =
            berth.log().lines().filter(|l| l.contains("hunter2")).map(str::to_owned).collect();
        assert_eq!(ours, [""; 0]);
        let unstage = requests::unstage(&id, &staging);
        berth.node(async |client| client.node_unstage_volume(unstage).await).unwrap();
    }
}
