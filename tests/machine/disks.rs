//! Disks that the next boot finds under other names, or does not find, or finds others in their places.

use berth::volume::{HealthReason, LocalVolume, Phase};
use tonic::Code;

use super::disk::Disk;
use super::machine::{Machine, Rack, Slot};
use super::server::Server;

const RAW: &str = "raw: {path: /mnt/raw, mode: Block, clean: {method: zero}}";

/// Boots with every disk but the state's linked in the pool `raw`, under the kernel's name of it.
fn boot(rack: &Rack, slots: &[Slot<'_>]) -> Machine {
    let machine = rack.boot(slots);
    machine.sh(
        "mkdir -p /mnt/raw; for d in /sys/block/vd* /sys/block/nvme*n1; do\n\
         [ -e $d ] && [ ${d##*/} != $(disk state) ] && ln -s /dev/${d##*/} /mnt/raw/${d##*/}; done; true",
    );
    machine
}

/// Claims all `count` volumes that there are, and lets the tenants of `disks` write whose they are; gives these tenants' ids, and
/// the others.
fn claim_all(
    machine: &Machine,
    server: &Server<'_>,
    disks: &[&Disk],
    count: usize,
) -> (Vec<String>, Vec<String>) {
    server.wait_for("every disk", |server| {
        let claimable = server.volumes().iter().filter(|volume| volume.is_claimable()).count();
        (claimable == count).then_some(())
    });
    let mut others: Vec<_> =
        (0..count).map(|number| server.create(&format!("pvc-{number}"), "raw").unwrap()).collect();
    let find = |disk: &&Disk| {
        let name = machine.sh(&format!("disk {}", disk.serial));
        let id = server.at(&format!("raw/{}", name.trim())).unwrap().id().unwrap().to_string();
        let target = server.publish(&id).unwrap();
        machine.sh(&format!("echo {} | dd of={target} conv=notrunc,fsync 2>&1", of(disk)));
        id
    };
    let ids: Vec<_> = disks.iter().map(find).collect();
    others.retain(|id| !ids.contains(id));
    (ids, others)
}

fn of(disk: &Disk) -> String {
    format!("data-of-{}-", disk.serial)
}

fn path_of(server: &Server<'_>, id: &str) -> String {
    server.named(id).unwrap().status.path.to_string()
}

#[test]
fn disks_that_are_renamed_between_two_boots_stay_the_volumes_that_they_were() {
    let rack = Rack::new();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|serial| rack.disk(serial, 16));
    let machine =
        boot(&rack, &[Slot::Virtio(&a), Slot::Virtio(&b), Slot::Nvme(&c), Slot::Nvme(&d)]);
    let server = Server::start(&machine, RAW);
    let (ids, _) = claim_all(&machine, &server, &[&a, &b, &c, &d], 4);
    let held: Vec<_> = [&a, &b, &c, &d].into_iter().zip(&ids).collect();
    let paths: Vec<_> = held.iter().map(|(_, id)| path_of(&server, id)).collect();
    drop(server);
    machine.cut();

    let machine =
        boot(&rack, &[Slot::Nvme(&d), Slot::Nvme(&c), Slot::Virtio(&b), Slot::Virtio(&a)]);
    let server = Server::start(&machine, RAW);

    assert_eq!(server.volumes().len(), 4, "{:#?}", server.volumes());
    for ((disk, id), before) in held.iter().zip(&paths) {
        let volume = server.wait_phase(id, Phase::Claimed);
        assert_ne!(volume.status.path, *before, "nothing was renamed");
        let target = server.publish(id).unwrap();
        let read = machine.sh(&format!("head -c 64 {target} | tr -d '\\0'"));
        assert_eq!(read.trim(), of(disk));
        server.unpublish(id).unwrap();
    }
    // A wipe finds its disk, too.
    for (disk, id) in &held {
        if [&a.serial, &c.serial].contains(&&disk.serial) {
            server.delete(id).unwrap();
            server.wait_phase(id, Phase::Available);
        }
    }
    for disk in [&a, &c] {
        assert_eq!(disk.bytes_left(), 0, "{} was not wiped", disk.serial);
    }
    for disk in [&b, &d] {
        assert!(disk.holds(&of(disk)), "{} was wiped", disk.serial);
    }
}

/// The volume that a disk is now.
fn new_one(server: &Server<'_>, disk: &Disk) -> LocalVolume {
    let is = |volume: &LocalVolume| volume.status.fingerprint.to_string().contains(&disk.serial);
    server.volumes().into_iter().find(is).unwrap()
}

#[test]
fn another_disk_in_the_place_of_a_claimed_one_is_not_touched_and_the_one_that_went_is_lost_until_it_is_back()
 {
    let rack = Rack::new();
    let [kept, ended, fence] = ["kept", "ended", "fence"].map(|serial| rack.disk(serial, 16));
    let [nameless, unknown, other] =
        ["nameless", "unknown", "other"].map(|name| rack.disk(name, 16));
    let slots =
        [Slot::Virtio(&kept), Slot::Anonymous(&nameless), Slot::Virtio(&fence), Slot::Nvme(&ended)];
    let machine = boot(&rack, &slots);
    let server = Server::start(&machine, RAW);
    let (ids, others) = claim_all(&machine, &server, &[&kept, &fence, &ended], 4);
    let ([kept_id, fence_id, ended_id], [nameless_id]) = (&ids[..], &others[..]) else { panic!() };
    drop(server);
    machine.cut();

    // In the place of one that has a serial number, and of one that has none, there are others now; of one there is nothing.
    other.write_at_start(&of(&other));
    let slots = [Slot::Virtio(&other), Slot::Anonymous(&unknown), Slot::Virtio(&fence)];
    let machine = boot(&rack, &slots);
    let server = Server::start(&machine, RAW);
    for (id, reason) in [
        (kept_id, HealthReason::Replaced),
        (nameless_id, HealthReason::Replaced),
        (ended_id, HealthReason::Missing),
    ] {
        let lost = server.wait_phase(id, Phase::Lost);
        assert_eq!(lost.status.conditions.healthy.reason, reason, "{lost:#?}");
        let refused = server.publish(id).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    }
    for id in [ended_id, nameless_id, fence_id] {
        let _ = server.unpublish(id);
        server.delete(id).unwrap();
    }
    // As soon as this one is wiped, whatever was going to be wiped is.
    server.wait_phase(fence_id, Phase::Available);
    assert_eq!(fence.bytes_left(), 0);
    assert!(other.holds(&of(&other)), "a disk was wiped that nobody claimed");
    assert_eq!(unknown.bytes_left(), 0, "a disk was written to that nobody claimed");
    assert_eq!(new_one(&server, &other).phase(), Phase::Dirty);
    drop(server);
    machine.cut();

    // Back, elsewhere.
    let machine = boot(&rack, &[Slot::Virtio(&fence), Slot::Nvme(&ended), Slot::Virtio(&kept)]);
    let server = Server::start(&machine, RAW);
    server.wait_phase(kept_id, Phase::Claimed);
    let target = server.publish(kept_id).unwrap();
    assert_eq!(machine.sh(&format!("head -c 64 {target} | tr -d '\\0'")).trim(), of(&kept));
    server.wait_phase(ended_id, Phase::Available);
    assert_eq!(ended.bytes_left(), 0, "it was offered with what its tenant left");
}
