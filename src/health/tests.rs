use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::runtime::Runtime;

use super::*;
use crate::host::loopback::LoopDevice;
use crate::host::mount::fixture::{Disk, mount, scratch, tmpfs, unmount};
use crate::host::namespace::isolated;
use crate::host::{format, mountinfo};
use crate::source::Source;
use crate::volume::{Bytes, fixture};

/// A volume recorded as what is at `path` now.
fn recorded(path: &Path) -> LocalVolume {
    let mut volume = fixture::available();
    volume.status.path = path.to_str().unwrap().into();
    volume.status.fingerprint = Source::look(path).unwrap().facts().fingerprint.clone();
    volume
}

fn probe(volume: &LocalVolume) -> Finding {
    Runtime::new().unwrap().block_on(Prober::default().probe(volume))
}

#[test]
fn a_directory_that_is_there_is_healthy_and_one_whose_mount_is_lost_is_not() {
    isolated(|| {
        let (_base, base) = scratch();
        let path = base.join("v1");
        tmpfs(&path);
        let volume = recorded(&path);
        assert!(probe(&volume).is_healthy());

        unmount(&path);
        let beneath = probe(&volume);
        fs::remove_dir(&path).unwrap();
        let gone = probe(&volume);

        assert_eq!(beneath.reason, HealthReason::Replaced);
        assert_eq!(gone.reason, HealthReason::Missing);
        assert!(gone.message.contains(path.to_str().unwrap()), "{}", gone.message);
    });
}

#[test]
fn a_file_system_that_turned_read_only_after_an_error_is_told_from_one_meant_to_be() {
    isolated(|| {
        let (_base, base) = scratch();
        let disk = Disk::blank(32);
        let arguments = ["-q", "-e", "remount-ro", disk.path().to_str().unwrap()];
        assert!(Command::new("mkfs.ext4").args(arguments).status().unwrap().success());
        let path = base.join("v1");
        mount("ext4", disk.path(), &path);
        let mut volume = recorded(&path);
        assert!(probe(&volume).is_healthy());

        let name = disk.path().file_name().unwrap().to_str().unwrap();
        let trigger = PathBuf::from(format!("/sys/fs/ext4/{name}/trigger_fs_error"));
        fs::write(trigger, "berth's own test").unwrap();
        volume.status.accepted = true;
        let broken = probe(&volume);
        unmount(&path);

        assert_eq!(broken.reason, HealthReason::ReadOnly, "{}", broken.message);
        assert!(broken.message.contains("fsck"), "{}", broken.message);
    });
}

#[test]
fn a_mount_that_is_read_only_by_choice_serves_only_data_that_was_accepted() {
    isolated(|| {
        let (_base, base) = scratch();
        let path = base.join("v1");
        tmpfs(&path);
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&path).status();
        assert!(status.unwrap().success());
        let mut volume = recorded(&path);

        assert_eq!(probe(&volume).reason, HealthReason::ReadOnly);
        volume.spec = volume.claimed(fixture::claim("pvc-1"), fixture::delete()).unwrap();
        assert_eq!(probe(&volume).reason, HealthReason::ReadOnly);
        volume.status.accepted = true;
        assert!(probe(&volume).is_healthy());
    });
}

#[test]
fn a_device_is_read_at_both_ends_and_one_that_lost_its_end_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let file = tempfile::tempfile_in(directory.path()).unwrap();
    file.set_len(4 << 20).unwrap();
    let device = LoopDevice::attach(&file).unwrap();
    let volume = recorded(device.path());
    assert!(probe(&volume).is_healthy());

    file.set_len(1 << 20).unwrap();
    let finding = probe(&volume);

    assert_eq!(finding.reason, HealthReason::ReadError, "{}", finding.message);
}

#[test]
fn a_device_that_refuses_writes_is_reported() {
    let disk = Disk::blank(4);
    let volume = recorded(disk.path());
    let set = |flag| Command::new("blockdev").arg(flag).arg(disk.path()).status().unwrap();
    assert!(set("--setro").success());

    let finding = probe(&volume);
    let held = LocalVolume {
        spec: volume.claimed(fixture::claim("pvc-1"), fixture::delete()).unwrap(),
        ..volume
    };
    assert_eq!(probe(&held), finding);

    assert!(set("--setrw").success());
    assert_eq!(finding.reason, HealthReason::ReadOnly, "{}", finding.message);
}

#[test]
fn the_device_beneath_a_mount_is_read_and_not_only_what_the_file_system_remembers() {
    isolated(|| {
        let (_base, base) = scratch();
        let file = tempfile::tempfile().unwrap();
        file.set_len(32 << 20).unwrap();
        let device = LoopDevice::attach(&file).unwrap();
        let open = fs::File::options().read(true).write(true).open(device.path()).unwrap();
        format::make(&open, device.path(), "ext4", None).unwrap();
        drop(open);
        let path = base.join("v1");
        mount("ext4", device.path(), &path);
        let volume = recorded(&path);
        assert!(probe(&volume).is_healthy());

        file.set_len(1 << 20).unwrap();
        let finding = probe(&volume);

        file.set_len(32 << 20).unwrap();
        unmount(&path);
        assert_eq!(finding.reason, HealthReason::ReadError, "{}", finding.message);
    });
}

#[test]
fn a_round_of_probes_reads_no_mount_table_of_its_own() {
    isolated(|| {
        let (_base, base) = scratch();
        let disk = Disk::formatted("ext4", 32);
        let path = base.join("v1");
        mount("ext4", disk.path(), &path);
        let volume = recorded(&path);
        let round = Round::new(Arc::new(MountTable::read().unwrap()));
        let before = mountinfo::tests::reads();

        assert!(look::at(&volume, &round).is_healthy());

        assert_eq!(mountinfo::tests::reads(), before);
        unmount(&path);
    });
}

#[tokio::test]
async fn a_volume_whose_probe_hangs_is_reported_and_not_probed_again() {
    let prober = Prober::new(Duration::from_millis(20));
    let volume = fixture::available();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let path = PathBuf::from(&volume.status.path);
    let hangs = prober
        .attempts
        .run(About::path(&path), move || {
            let _ = wait.recv();
        })
        .await;
    assert!(hangs.is_err());

    let finding = prober.probe(&volume).await;

    assert_eq!(finding.reason, HealthReason::ProbeTimeout);
    assert!(finding.message.contains("earlier"), "{}", finding.message);
    drop(release);
}

#[test]
fn the_health_of_a_nodes_storage_names_each_ill_once_with_its_pools() {
    let ill = |pool: &str, entry: &str, reason| {
        let mut volume = fixture::on("node-a", pool, entry, Bytes(1));
        volume.status.conditions.healthy = fixture::holds(false, reason);
        volume
    };
    let volumes = [
        fixture::on("node-a", "fast", "v1", Bytes(1)),
        ill("fast", "v2", HealthReason::Missing),
        ill("slow", "v1", HealthReason::Missing),
        ill("slow", "v2", HealthReason::ReadError),
        fixture::on("node-a", "well", "v1", Bytes(1)),
    ];

    let summary = storage(&volumes);

    let said: Vec<_> = summary.iter().map(|ailment| (ailment.extent, ailment.reason)).collect();
    assert_eq!(
        said,
        [
            (Extent::Part, HealthReason::Missing),
            (Extent::Whole, HealthReason::Missing),
            (Extent::Whole, HealthReason::ReadError),
        ]
    );
    assert!(summary[0].message.contains("1 of the 2 volumes of pool fast"));
    assert!(!format!("{summary:?}").contains("well"));
}
