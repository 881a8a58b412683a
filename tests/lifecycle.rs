//! A volume's whole life through the real server: discover, claim, publish, release, clean, offered again.

#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

mod support;

use std::fs;

use berth::csi::proto::csi_v1 as csi;
use berth::volume::Phase;
use support::{Berth, Host, MIB, requests};
use tonic::Code;

const DIRECTORIES: &str = "
pools:
  fast:
    path: POOLS/fast
    mode: Filesystem
";

const DEVICES: &str = "
pools:
  raw:
    path: POOLS/raw
    mode: Block
    clean: {method: zero, verify: true}
";

fn config(host: &Host, text: &str) -> String {
    text.replace("POOLS", host.path("pools").to_str().unwrap())
}

#[test]
fn a_directory_is_found_claimed_written_to_released_wiped_and_offered_again() {
    let host = Host::new();
    let source = host.tmpfs("fast", "v1", 64 * MIB);
    let berth = Berth::start(&host, &config(&host, DIRECTORIES));
    berth.wait_phase("v1", Phase::Available);

    let volume = berth.create("pvc-1", "fast", 10 * MIB).unwrap();
    let target = berth.publish(&host, &volume.volume_id).unwrap();
    fs::write(target.join("data"), "a tenant's").unwrap();
    assert_eq!(fs::read_to_string(source.join("data")).unwrap(), "a tenant's");

    berth.unpublish(&host, &volume.volume_id).unwrap();
    assert!(!target.exists());
    assert!(source.join("data").exists(), "data went before the claim did");
    berth.delete(&volume.volume_id).unwrap();

    berth.wait_phase("v1", Phase::Available);
    assert_eq!(fs::read_dir(&source).unwrap().count(), 0);
    assert!(berth.stop().success());
}

#[test]
fn the_smallest_volume_that_fits_is_given_and_a_claim_that_nothing_fits_is_told_why() {
    let host = Host::new();
    for (entry, size) in [("v1", 256), ("v2", 64), ("v3", 128)] {
        host.tmpfs("fast", entry, size * MIB);
    }
    let berth = Berth::start(&host, &config(&host, DIRECTORIES));
    berth.wait_phase("v3", Phase::Available);

    let volume = berth.create("pvc-1", "fast", 100 * MIB).unwrap();
    let refused = berth.create("pvc-2", "fast", 1024 * MIB).unwrap_err();

    assert_eq!(volume.capacity_bytes, 128 * i64::try_from(MIB).unwrap());
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("256Mi"), "{}", refused.message());
    assert!(refused.details().is_empty());
}

#[test]
fn a_raw_device_is_published_as_a_device_and_reads_zero_when_it_is_offered_again() {
    let mut host = Host::new();
    let device = host.block("raw", "d1", 8 * MIB);
    let berth = Berth::start(&host, &config(&host, DEVICES));
    berth.wait_phase("d1", Phase::Available);

    let mut request = requests::create("pvc-1", "raw", MIB);
    request.volume_capabilities = vec![requests::raw()];
    let volume = berth.controller(async |client| client.create_volume(request).await).unwrap();
    let volume = volume.volume.unwrap();
    let target = publish_raw(&berth, &host, &volume.volume_id);
    fs::write(&target, vec![0xA5; 4096]).unwrap();
    berth.unpublish(&host, &volume.volume_id).unwrap();
    berth.delete(&volume.volume_id).unwrap();

    berth.wait_phase("d1", Phase::Available);
    assert!(fs::read(&device).unwrap().iter().all(|byte| *byte == 0));
}

fn publish_raw(berth: &Berth, host: &Host, volume_id: &str) -> std::path::PathBuf {
    let staging = requests::staging_path(host, volume_id);
    fs::create_dir_all(&staging).unwrap();
    let mut stage = requests::stage(volume_id, &staging);
    stage.volume_capability = Some(requests::raw());
    berth.node(async |client| client.node_stage_volume(stage).await).unwrap();
    let target = requests::target_path(host, volume_id);
    let mut publish = requests::publish(volume_id, &staging, &target);
    publish.volume_capability = Some(requests::raw());
    berth.node(async |client| client.node_publish_volume(publish).await).unwrap();
    target
}

#[test]
fn a_volume_that_appears_while_the_server_runs_is_offered_without_a_restart() {
    let host = Host::new();
    host.pool("fast");
    let berth = Berth::start_with(&host, &config(&host, DIRECTORIES), &["--rescan", "3600"]);
    assert!(berth.volumes().is_empty());

    host.tmpfs("fast", "late", 16 * MIB);

    berth.wait_phase("late", Phase::Available);
}

#[test]
fn a_free_volume_that_vanishes_leaves_the_inventory_and_a_claimed_one_is_lost_until_it_returns() {
    let mut host = Host::new();
    let free = host.tmpfs("fast", "free", 16 * MIB);
    let held = host.filesystem("ext4", "fast", "held", 32 * MIB);
    let device =
        berth::host::mountinfo::MountTable::read().unwrap().at(&held).unwrap().source.clone();
    let berth = Berth::start_with(&host, &config(&host, DIRECTORIES), &["--rescan", "3600"]);
    berth.wait_phase("held", Phase::Available);
    let volume = berth.create("pvc-1", "fast", 20 * MIB).unwrap();

    support::unmount(&free);
    support::unmount(&held);

    berth.wait_phase("held", Phase::Lost);
    berth.wait_for("the free volume to be gone", |berth| {
        berth.volume("free").is_none().then_some(())
    });
    support::mount(&[device.to_str().unwrap()], &held);
    let back = berth.wait_phase("held", Phase::Claimed);
    assert_eq!(back.id().unwrap().to_string(), volume.volume_id);
}

#[test]
fn a_file_system_is_made_on_a_blank_device_for_the_tenant_who_asks_for_one() {
    let mut host = Host::new();
    host.block("disks", "d1", 64 * MIB);
    let config = config(
        &host,
        "
pools:
  disks:
    path: POOLS/disks
    mode: Filesystem
    accept: [device]
    fsType: ext4
    clean: {method: reformat}
",
    );
    let berth = Berth::start(&host, &config);
    berth.wait_phase("d1", Phase::Available);

    let volume = berth.create("pvc-1", "disks", MIB).unwrap();
    let target = berth.publish(&host, &volume.volume_id).unwrap();
    fs::write(target.join("data"), "a tenant's").unwrap();
    let table = berth::host::mountinfo::MountTable::read().unwrap();
    assert_eq!(table.at(&target).unwrap().fs_type, "ext4");
    berth.unpublish(&host, &volume.volume_id).unwrap();
    berth.delete(&volume.volume_id).unwrap();
    berth.wait_phase("d1", Phase::Available);

    let next = berth.create("pvc-2", "disks", MIB).unwrap();
    let target = berth.publish(&host, &next.volume_id).unwrap();
    assert!(!target.join("data").exists());
    berth.unpublish(&host, &next.volume_id).unwrap();
}

#[test]
fn every_node_has_its_topology_and_no_limit_but_its_disks() {
    let host = Host::new();
    host.tmpfs("fast", "v1", 16 * MIB);
    let berth = Berth::start(&host, &config(&host, DIRECTORIES));

    let info =
        berth.node(async |client| client.node_get_info(csi::NodeGetInfoRequest {}).await).unwrap();

    assert_eq!(info.node_id, "node-a");
    assert_eq!(info.accessible_topology.unwrap().segments["topology.berth.dev/node"], "node-a");
    assert_eq!(info.max_volumes_per_node, 0);
}

#[test]
fn directories_of_one_file_system_do_not_each_claim_all_of_it() {
    let host = Host::new();
    let disk = host.path("disks/a");
    fs::create_dir(&disk).unwrap();
    support::mount(&["-t", "tmpfs", "-o", "size=64m", "tmpfs"], &disk);
    for entry in ["v1", "v2", "v3", "v4"] {
        fs::create_dir(disk.join(entry)).unwrap();
        host.bind(&disk.join(entry), "fast", entry);
    }
    let berth = Berth::start(&host, &config(&host, DIRECTORIES));

    let capacities: Vec<u64> =
        berth.volumes().iter().map(|volume| volume.status.capacity.0).collect();

    assert_eq!(capacities, [16 * MIB; 4]);
}

#[test]
fn the_root_of_a_volume_has_its_acl_and_attributes_again_after_a_tenant_changed_them() {
    use berth::host::attributes::{self, Attributes};

    let host = Host::new();
    let source = host.tmpfs("fast", "v1", 64 * MIB);
    let root = || fs::File::open(&source).unwrap();
    // Version 2 and the entries: owner rwx, user 1000 rw, group r-x, mask rwx, others nothing.
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, !0), (2, 6, 1000), (4, 5, !0), (0x10, 7, !0), (0x20, 0, !0)];
    let entries = entries.map(|(tag, permissions, id)| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    });
    let acl = [&2_u32.to_le_bytes()[..], &entries.concat()].concat();
    let given = Attributes {
        uid: 7,
        gid: 8,
        mode: 0o2770,
        xattrs: [
            ("system.posix_acl_access".into(), acl.clone()),
            ("system.posix_acl_default".into(), acl),
            ("trusted.note".into(), b"the administrator's".to_vec()),
        ]
        .into(),
        flags: None,
    };
    attributes::restore(root(), &given, &source).unwrap();
    assert!(attributes::read(root(), &source).unwrap().agree_with(&given));
    let berth = Berth::start(&host, &config(&host, DIRECTORIES));
    berth.wait_phase("v1", Phase::Available);
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;

    let message = [("trusted.message".into(), b"a tenant's".to_vec())].into();
    let changed = Attributes { uid: 1, gid: 1, mode: 0o777, xattrs: message, flags: None };
    attributes::restore(root(), &changed, &source).unwrap();
    berth.delete(&id).unwrap();
    berth.wait_phase("v1", Phase::Available);

    assert!(attributes::read(root(), &source).unwrap().agree_with(&given));
}
