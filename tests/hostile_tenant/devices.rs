//! A tenant of a raw device that is still there when it is to be wiped.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth::csi::proto::csi_v1 as csi;
use berth::host::loopback::LoopDevice;
use berth::volume::{CleanReason, LocalVolume, Phase};

use crate::held::Container;
use crate::support::{self, Berth, Host, MIB, requests};

const SIZE: u64 = 16 * MIB;

/// A tenant that has written all of its raw device, and a neighbour's that must not change.
struct Raw {
    host: Host,
    berth: Berth,
    id: String,
    target: PathBuf,
    device: PathBuf,
    neighbour: PathBuf,
}

impl Raw {
    fn new(method: &str) -> Self {
        let mut host = Host::new();
        let device = host.block("raw", "d1", SIZE);
        let neighbour = host.device(SIZE);
        write_all(&neighbour, 0x5A);
        let config = format!(
            "pools: {{raw: {{path: {}, mode: Block, clean: {{method: {method}}}}}}}",
            host.pool("raw").display()
        );
        let berth = Berth::start(&host, &config);
        berth.wait_phase("d1", Phase::Available);
        let (id, target) = take(&host, &berth, "pvc-1");
        write_all(&target, 0xA5);
        Self { host, berth, id, target, device, neighbour }
    }

    fn release(&self) {
        give_back(&self.host, &self.berth, &self.id);
    }

    fn volume(&self) -> LocalVolume {
        self.berth.volume("d1").unwrap()
    }

    fn wait_said(&self, words: &str) {
        self.berth.wait_for(words, |_| {
            let clean = self.volume().status.conditions.clean;
            let said = clean.reason == CleanReason::StillInUse && clean.message.contains(words);
            said.then_some(())
        });
        // Nothing was wiped under whoever has it.
        assert!(is_all(&self.device, 0xA5));
    }

    /// Compares every byte, and gives the device to the next tenant.
    fn require_clean(&self) {
        self.berth.wait_phase("d1", Phase::Available);
        assert!(is_all(&self.device, 0));
        assert!(is_all(&self.neighbour, 0x5A));
        let (next, target) = take(&self.host, &self.berth, "pvc-next");
        assert!(is_all(&target, 0));
        give_back(&self.host, &self.berth, &next);
    }
}

fn write_all(device: &Path, byte: u8) {
    let open = File::options().write(true).open(device).unwrap();
    open.write_all_at(&vec![byte; usize::try_from(SIZE).unwrap()], 0).unwrap();
    open.sync_all().unwrap();
}

fn is_all(device: &Path, byte: u8) -> bool {
    let whole = fs::read(device).unwrap();
    whole.len() as u64 == SIZE && whole.iter().all(|found| *found == byte)
}

fn take(host: &Host, berth: &Berth, name: &str) -> (String, PathBuf) {
    let create = csi::CreateVolumeRequest {
        volume_capabilities: vec![requests::raw()],
        ..requests::create(name, "raw", 1)
    };
    let created = berth.controller(async |client| client.create_volume(create).await).unwrap();
    let id = created.volume.unwrap().volume_id;
    let (staging, target) = (requests::staging_path(host, &id), requests::target_path(host, &id));
    fs::create_dir_all(&staging).unwrap();
    let stage = csi::NodeStageVolumeRequest {
        volume_capability: Some(requests::raw()),
        ..requests::stage(&id, &staging)
    };
    berth.node(async |client| client.node_stage_volume(stage).await).unwrap();
    let publish = csi::NodePublishVolumeRequest {
        volume_capability: Some(requests::raw()),
        ..requests::publish(&id, &staging, &target)
    };
    berth.node(async |client| client.node_publish_volume(publish).await).unwrap();
    (id, target)
}

fn give_back(host: &Host, berth: &Berth, id: &str) {
    berth.unpublish(host, id).unwrap();
    berth.delete(id).unwrap();
}

/// An exclusive open (`O_EXCL`) sees other exclusive ones and mounts, and nothing of a plain descriptor, through which
/// the tenant would write during the wipe and read what the next one writes.
#[test]
fn a_descriptor_that_was_kept_from_before_is_waited_for_though_it_is_not_exclusive() {
    let raw = Raw::new("zero");
    let target = raw.target.display();
    // As a container runtime does, by a node of its own.
    let node = raw.host.path("node").display().to_string();
    let numbers =
        Command::new("stat").args(["-Lc", "0x%t 0x%T"]).arg(&raw.device).output().unwrap();
    let numbers = String::from_utf8(numbers.stdout).unwrap();
    let mut container = Container::that(&format!(
        "mknod {node} b {}; exec 3<> {node}; umount -l {target}",
        numbers.trim()
    ));
    let exclusive = berth::host::device::Access::WriteExclusive;
    raw.release();

    raw.wait_said(&format!("process {}", container.id()));

    assert!(berth::host::device::open(&raw.device, exclusive).is_ok(), "O_EXCL sees nothing");
    container.go_on("echo mine >&3");
    write_all(&raw.device, 0xA5);
    drop(container);
    raw.require_clean();
}

#[test]
fn a_loop_device_over_a_raw_device_is_waited_for() {
    let raw = Raw::new("discard");
    let open = File::options().read(true).write(true).open(&raw.device).unwrap();
    let above = LoopDevice::attach(&open).unwrap();
    drop(open);
    raw.release();

    raw.wait_said(above.path().to_str().unwrap());

    drop(above);
    raw.require_clean();
}

#[test]
fn a_file_system_that_a_tenant_mounted_of_its_raw_device_is_waited_for() {
    let raw = Raw::new("zero");
    support::run(Command::new("mkfs.ext4").args(["-F", "-q"]).arg(&raw.device));
    let place = raw.host.path("outside").display().to_string();
    let container = Container::that(&format!("mount -t ext4 {} {place}", raw.device.display()));
    raw.release();
    raw.berth.wait_for("the mount to be seen", |_| {
        let clean = raw.volume().status.conditions.clean;
        (clean.reason == CleanReason::StillInUse && clean.message.contains(&place)).then_some(())
    });

    drop(container);

    raw.require_clean();
}

/// Partitions that the kernel was told of (`BLKPG`) outlast the table that described them.
#[test]
fn partitions_that_a_tenant_made_go_and_one_that_is_open_is_waited_for() {
    let raw = Raw::new("zero");
    support::run(Command::new("addpart").arg(&raw.device).args(["1", "2048", "4096"]));
    let name = raw.device.file_name().unwrap().to_str().unwrap();
    let part = Path::new("/sys/class/block").join(name).join(format!("{name}p1"));
    let number = fs::read_to_string(part.join("dev")).unwrap();
    let (major, minor) = number.trim().split_once(':').unwrap();
    let node = raw.host.path("node").display().to_string();
    let container = Container::that(&format!("mknod {node} b {major} {minor}; exec 3<> {node}"));
    raw.release();

    raw.wait_said(&format!("process {}", container.id()));

    assert!(part.exists());
    drop(container);
    raw.require_clean();
    assert!(!part.exists(), "the kernel has a partition of a device that was wiped");
}
