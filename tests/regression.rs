//! One test for each defect that users of other local-volume drivers met, where it could come up here. Those that another
//! test holds already are named there: late calls, stacked mounts, lost mounts, path traversal, wipes that descend into
//! mounts (`rules.rs`, `hostile.rs`, `crash.rs`).

#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

mod support;

use std::fs;

use berth::csi::proto::csi_v1 as csi;
use berth::csi::proto::operator_v1alpha1 as operator;
use berth::volume::Phase;
use support::{Berth, Host, MIB, requests};
use tonic::Code;

fn config(host: &Host, more: &str) -> String {
    format!("pools: {{fast: {{path: {}, {more}}}}}", host.pool("fast").display())
}

fn capacity(berth: &Berth) -> csi::GetCapacityResponse {
    let request = csi::GetCapacityRequest {
        parameters: [("pool".to_owned(), "fast".to_owned())].into(),
        ..Default::default()
    };
    berth.controller(async |client| client.get_capacity(request).await).unwrap()
}

/// Static provisioner: a check by prefix took `/mnt/disks2` for a part of `/mnt/disks`.
#[test]
fn a_directory_whose_name_begins_with_a_pools_is_not_the_pools() {
    let host = Host::new();
    host.tmpfs("disks", "v1", MIB);
    host.tmpfs("disks2", "v2", MIB);
    let paths =
        ["disks", "disks2"].map(|pool| format!("{pool}: {{path: {}}}", host.pool(pool).display()));
    let berth = Berth::start(&host, &format!("pools: {{{}}}", paths.join(", ")));

    let pools = [("v1", "disks"), ("v2", "disks2")].map(|(entry, pool)| {
        let volume = berth.wait_phase(entry, Phase::Available);
        assert_eq!(volume.spec.pool.as_str(), pool);
        volume.spec.pool
    });

    assert_eq!(berth.volumes().len(), pools.len());
}

/// lvm-localpv and others: the sum of all disks was told as what one claim can get.
#[test]
fn ten_disks_are_not_told_as_one_disk_of_ten_times_the_size() {
    let host = Host::new();
    for number in 0..10 {
        host.tmpfs("fast", &format!("v{number}"), 10 * MIB);
    }
    let berth = Berth::start(&host, &config(&host, ""));
    berth.wait_for("all", |berth| (berth.volumes().len() == 10).then_some(()));

    let capacity = capacity(&berth);

    let mib = i64::try_from(MIB).unwrap();
    assert_eq!(capacity.available_capacity, 100 * mib);
    assert_eq!(capacity.maximum_volume_size, Some(10 * mib));
    assert_eq!(
        berth.create("pvc-1", "fast", 20 * MIB).unwrap_err().code(),
        Code::ResourceExhausted
    );
}

/// Static provisioner: the capacity metric read 0. Here what can be claimed follows each claim at once.
#[test]
fn capacity_follows_every_claim() {
    let host = Host::new();
    host.tmpfs("fast", "v1", 10 * MIB);
    let berth = Berth::start(&host, &config(&host, ""));
    berth.wait_phase("v1", Phase::Available);

    let before = capacity(&berth).available_capacity;
    berth.create("pvc-1", "fast", 1).unwrap();

    assert_eq!(
        (before, capacity(&berth).available_capacity),
        (10 * i64::try_from(MIB).unwrap(), 0)
    );
}

/// Static provisioner: a cleaner that printed a line of more than 64 KiB was blocked for ever.
#[test]
fn a_cleaner_that_prints_a_megabyte_without_a_line_break_ends() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let script = "head -c 1000000 /dev/zero | tr '\\\\0' x";
    let clean = format!("clean: {{method: command, command: [/bin/sh, -c, \"{script}\"]}}");
    let berth = Berth::start(&host, &config(&host, &clean));
    berth.wait_phase("v1", Phase::Available);
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;

    berth.delete(&id).unwrap();

    berth.wait_phase("v1", Phase::Available);
}

/// Static provisioner: a failed cleaning job was stuck for ever and nobody was told.
#[test]
fn a_wipe_that_fails_says_why_and_is_tried_again_until_it_succeeds() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let mended = host.path("outside/mended");
    let script = format!("test -e {} || {{ echo the pump is broken; exit 1; }}", mended.display());
    let clean = format!("clean: {{method: command, command: [/bin/sh, -c, \"{script}\"]}}");
    let berth = Berth::start(&host, &config(&host, &clean));
    berth.wait_phase("v1", Phase::Available);
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
    berth.delete(&id).unwrap();

    let dirty = berth.wait_phase("v1", Phase::Dirty);
    assert!(dirty.status.conditions.clean.message.contains("the pump is broken"), "{dirty:?}");
    fs::write(mended, "").unwrap();

    berth.wait_phase("v1", Phase::Available);
}

/// Static provisioner: mount lost, volume deleted, mounted again: the old data was offered to the next tenant.
#[test]
fn a_mount_that_was_away_while_its_claim_ended_is_wiped_when_it_returns() {
    let mut host = Host::new();
    let source = host.filesystem("ext4", "fast", "v1", 32 * MIB);
    let table = berth::host::mountinfo::MountTable::read().unwrap();
    let device = table.at(&source).unwrap().source.clone();
    let berth = Berth::start(&host, &config(&host, ""));
    berth.wait_phase("v1", Phase::Available);
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
    fs::write(source.join("data"), "a tenant's").unwrap();
    support::unmount(&source);
    berth.delete(&id).unwrap();
    berth.wait_phase("v1", Phase::Lost);

    support::mount(&[device.to_str().unwrap()], &source);

    berth.wait_phase("v1", Phase::Available);
    assert!(!source.join("data").exists());
}

/// DirectPV: an expansion that was repeated took the size twice. Another: RPCs were advertised that always fail.
#[test]
fn an_expansion_may_be_repeated_and_answers_the_same() {
    let host = Host::new();
    let source = host.tmpfs("fast", "v1", 10 * MIB);
    let berth = Berth::start_with(&host, &config(&host, ""), &["--rescan", "1"]);
    berth.wait_phase("v1", Phase::Available);
    let id = berth.create("pvc-1", "fast", 5 * MIB).unwrap().volume_id;
    support::mount(&["-o", "remount,size=20m"], &source);
    berth.wait_for("the growth", |berth| {
        (berth.volume("v1")?.status.capacity.0 == 20 * MIB).then_some(())
    });
    let expand = || {
        let request = csi::ControllerExpandVolumeRequest {
            volume_id: id.clone(),
            capacity_range: requests::create("x", "fast", 15 * MIB).capacity_range,
            ..Default::default()
        };
        berth.controller(async |client| client.controller_expand_volume(request).await).unwrap()
    };

    let before = berth.volume("v1").unwrap();

    let (first, second) = (expand(), expand());

    assert_eq!(first, second);
    assert_eq!(first.capacity_bytes, 20 * i64::try_from(MIB).unwrap());
    let after = berth.volume("v1").unwrap();
    assert_eq!((after.spec, after.status.capacity), (before.spec, before.status.capacity));
}

/// csi-driver-lvm: a volume was formatted anew at every mount.
#[test]
fn a_device_is_formatted_once_for_its_tenant() {
    let mut host = Host::new();
    host.block("fast", "d1", 64 * MIB);
    let berth = Berth::start(&host, &config(&host, "accept: [device], clean: {method: reformat}"));
    berth.wait_phase("d1", Phase::Available);
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
    let target = berth.publish(&host, &id).unwrap();
    fs::write(target.join("data"), "a tenant's").unwrap();
    berth.unpublish(&host, &id).unwrap();

    let target = berth.publish(&host, &id).unwrap();

    assert_eq!(fs::read_to_string(target.join("data")).unwrap(), "a tenant's");
    berth.unpublish(&host, &id).unwrap();
}

/// open-local: the path to delete was taken from attributes that whoever writes a PersistentVolume controls.
#[test]
fn a_volume_context_decides_nothing() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let berth = Berth::start(&host, &config(&host, ""));
    berth.wait_phase("v1", Phase::Available);
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
    let staging = requests::staging_path(&host, &id);
    fs::create_dir_all(&staging).unwrap();
    let mut stage = requests::stage(&id, &staging);
    let target = requests::target_path(&host, &id);
    let mut publish = requests::publish(&id, &staging, &target);
    let outside = host.path("outside").display().to_string();
    for key in ["path", "berth.dev/pool", "berth.dev/path", "volumePath"] {
        stage.volume_context.insert(key.into(), outside.clone());
        publish.volume_context.insert(key.into(), outside.clone());
    }

    berth.node(async |client| client.node_stage_volume(stage).await).unwrap();
    berth.node(async |client| client.node_publish_volume(publish).await).unwrap();

    let table = berth::host::mountinfo::MountTable::read().unwrap();
    assert_eq!(table.at(&target).unwrap().fs_type, "tmpfs");
    assert_eq!(berth.volume("v1").unwrap().spec.pool.as_str(), "fast");
    berth.unpublish(&host, &id).unwrap();
}

/// local-path-provisioner: capacity was ignored.
#[test]
fn a_claim_larger_than_every_volume_is_refused() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let berth = Berth::start(&host, &config(&host, ""));
    berth.wait_phase("v1", Phase::Available);

    assert_eq!(berth.create("pvc-1", "fast", 2 * MIB).unwrap_err().code(), Code::ResourceExhausted);
}

/// A host that is given another name must not find its own claimed volumes anew, for another tenant.
#[test]
fn a_node_under_another_name_does_not_start_on_the_volumes_of_the_old_one() {
    let host = Host::new();
    let source = host.directory("fast", "v1");
    let config = config(&host, "accept: [directory], newVolumes: accept");
    let berth = Berth::start(&host, &config);
    berth.wait_phase("v1", Phase::Available);
    berth.create("pvc-1", "fast", 1).unwrap();
    fs::write(source.join("data"), "a tenant's").unwrap();
    berth.kill();

    let status = Berth::spawn(&host, &config, &["--node", "node-b"]).ended();

    assert_eq!(status.code(), Some(1));
    let said = fs::read_to_string(host.path("berth.log")).unwrap();
    assert!(said.contains("--node node-a"), "{said}");
    Berth::start(&host, &config).wait_phase("v1", Phase::Claimed);
}

/// A device that was wiped for file systems only still has its old tenant's blocks.
#[test]
fn a_device_that_was_erased_for_file_systems_is_not_handed_out_raw() {
    let mut host = Host::new();
    let device = host.block("fast", "d1", 64 * MIB);
    let berth = Berth::start(&host, &config(&host, "accept: [device]"));
    berth.wait_phase("d1", Phase::Available);
    for claim in ["pvc-1", "pvc-2"] {
        let id = berth.create(claim, "fast", 1).unwrap().volume_id;
        let target = berth.publish(&host, &id).unwrap();
        fs::write(target.join("data"), vec![0xA5; 8 << 20]).unwrap();
        berth.unpublish(&host, &id).unwrap();
        berth.delete(&id).unwrap();
        berth.wait_phase("d1", Phase::Available);
    }
    berth.kill();

    let berth = Berth::start(&host, &config(&host, "mode: Block"));

    let dirty = berth.wait_phase("d1", Phase::Dirty);
    let said = &dirty.status.conditions.clean.message;
    assert!(said.contains("old blocks"), "{said}");
    let request = operator::CleanVolumeRequest { name: dirty.name.to_string() };
    berth.operator(async |client| client.clean_volume(request).await).unwrap();
    berth.wait_phase("d1", Phase::Available);
    assert!(fs::read(device).unwrap().iter().all(|byte| *byte == 0));
}
