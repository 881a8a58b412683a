//! Wipes that the power, or a disk, leaves in the middle.

use berth::volume::{CleanReason, Phase};
use tonic::Code;

use super::disk::Disk;
use super::machine::{Machine, Rack, Slot};
use super::server::Server;

/// A disk that the kernel zeroes block by block, one that is shredded, and a file system whose files are deleted.
const POOLS: &str = "\
    raw-zero: {path: /mnt/raw-zero, mode: Block, clean: {method: zero}}, \
    raw-shred: {path: /mnt/raw-shred, mode: Block, clean: {method: shred, passes: 1}}, \
    fast: {path: /mnt/fast, clean: {method: delete}}";
/// Where its one volume is, by pool.
const PLACES: [(&str, &str); 3] =
    [("raw-zero", "raw-zero/d"), ("raw-shred", "raw-shred/d"), ("fast", "fast/d")];
/// How much of a wipe is done when it is cut off.
const INTO_IT: u64 = 8 << 20;

struct Disks {
    rack: Rack,
    zero: Disk,
    shred: Disk,
    files: Disk,
}

impl Disks {
    fn new() -> Self {
        let rack = Rack::new();
        let (zero, shred) = (rack.disk("zero", 32), rack.disk("shred", 32));
        Self { zero, shred, files: rack.disk("files", 64), rack }
    }

    fn boot(&self) -> Machine {
        let slots = [Slot::Plain(&self.zero), Slot::Nvme(&self.shred), Slot::Virtio(&self.files)];
        let machine = self.rack.boot(&slots);
        machine.sh(
            "mkdir -p /mnt/raw-zero /mnt/raw-shred /mnt/fast/d\n\
             ln -s /dev/$(disk zero) /mnt/raw-zero/d\n\
             ln -s /dev/$(disk shred) /mnt/raw-shred/d\n\
             files=/dev/$(disk files)\n\
             mount $files /mnt/fast/d 2>/dev/null || { mkfs.ext4 -q -N 8192 $files && mount $files /mnt/fast/d; }",
        );
        machine
    }

    fn raw(&self) -> [&Disk; 2] {
        [&self.zero, &self.shred]
    }

    /// Claims every volume and fills it; gives their ids.
    fn filled(&self, machine: &Machine, server: &Server<'_>) -> Vec<String> {
        let claim = |(pool, place): (&str, &str)| {
            server.wait_claimable(place);
            server.create(&format!("pvc-{pool}"), pool).unwrap()
        };
        let ids: Vec<_> = PLACES.map(claim).into();
        for disk in self.raw() {
            disk.fill(0xA5);
        }
        let target = server.publish(&ids[2]).unwrap();
        machine.sh(&format!(
            "cd {target}; for d in $(seq 40); do mkdir $d; for f in $(seq 75); do echo secret >$d/$f; done; done; sync"
        ));
        server.unpublish(&ids[2]).unwrap();
        ids
    }
}

fn files_on(machine: &Machine) -> String {
    machine.sh("find /mnt/fast/d -mindepth 1 | grep -v '/lost+found$' | wc -l").trim().to_owned()
}

fn refuse_claims(server: &Server<'_>) {
    for (pool, place) in PLACES {
        let refused = server.create("pvc-next", pool).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{place}: {refused}");
    }
}

#[test]
fn a_power_cut_in_the_middle_of_a_wipe_leaves_a_volume_that_nobody_gets_before_it_is_clean() {
    let disks = Disks::new();
    let machine = disks.boot();
    let server = Server::start(&machine, POOLS);
    let ids = disks.filled(&machine, &server);
    assert_eq!(files_on(&machine), "3040");
    for disk in disks.raw() {
        disk.hang_after(INTO_IT);
    }
    // Of a directory's wipe only the journal is written.
    disks.files.hang_after(64 << 10);
    for id in &ids {
        server.delete(id).unwrap();
    }
    for disk in [&disks.zero, &disks.shred, &disks.files] {
        disk.wait_for_fault();
    }
    drop(server);
    machine.cut();
    for disk in disks.raw() {
        assert!(disk.bytes_left() > 0, "the wipe had ended before the power was cut");
    }

    // Nor is it given to anybody while the next wipe is in its middle.
    let machine = disks.boot();
    for disk in disks.raw() {
        disk.hang_after(INTO_IT);
    }
    disks.files.hang_after(0);
    let server = Server::start(&machine, POOLS);
    refuse_claims(&server);
    for disk in disks.raw() {
        disk.wait_for_fault();
    }
    refuse_claims(&server);
    for disk in [&disks.zero, &disks.shred, &disks.files] {
        disk.set(super::disk::Fault::None);
    }

    for (_, place) in PLACES {
        server.wait_claimable(place);
    }
    assert_eq!(files_on(&machine), "0");
    // What is recorded as wiped is on the medium: the power may go again at once.
    drop(server);
    machine.cut();
    for disk in disks.raw() {
        assert_eq!(disk.bytes_left(), 0, "{} was offered with data on it", disk.serial);
    }
    let machine = disks.boot();
    assert_eq!(files_on(&machine), "0");
}

#[test]
fn errors_in_the_middle_of_a_wipe_keep_a_volume_from_everybody_until_it_is_clean() {
    let disks = Disks::new();
    let machine = disks.boot();
    let server = Server::start(&machine, POOLS);
    let ids = disks.filled(&machine, &server);
    for disk in disks.raw() {
        disk.fail_writes_after(INTO_IT);
    }
    for id in &ids[..2] {
        server.delete(id).unwrap();
    }

    for id in &ids[..2] {
        let failed = server.wait_for("the wipe to fail", |server| {
            let volume = server.named(id).unwrap();
            assert!(!volume.is_claimable(), "{volume:#?}");
            (volume.status.conditions.clean.reason == CleanReason::WipeFailed).then_some(volume)
        });
        let said = &failed.status.conditions.clean.message;
        assert!(
            said.contains(&*failed.status.path) && said.contains("Input/output error"),
            "{said}"
        );
    }
    for (pool, _) in &PLACES[..2] {
        let refused = server.create("pvc-next", pool).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    }
    for disk in disks.raw() {
        disk.set(super::disk::Fault::None);
    }

    for id in &ids[..2] {
        server.wait_phase(id, Phase::Available);
    }
    for disk in disks.raw() {
        assert_eq!(disk.bytes_left(), 0, "{} was offered with data on it", disk.serial);
    }
}
