//! Devices that are ill, of the machine and of the device mapper: none stops what the others are asked for, each says what is
//! wrong with it, and is well again when it is.

use berth::volume::{HealthReason, LocalVolume, Phase};
use tonic::Code;

use super::disk::{Disk, Fault};
use super::machine::{Machine, Rack, Slot};
use super::server::Server;

/// What is going to be ill, each in a pool of its own, and how it then says so.
const ILL: [(&str, HealthReason); 6] = [
    // Answers nothing.
    ("raw-hung", HealthReason::ProbeTimeout),
    // Answers with errors.
    ("raw-failing", HealthReason::ReadError),
    // dm-linear, suspended.
    ("raw-suspended", HealthReason::ProbeTimeout),
    // dm-error.
    ("raw-error", HealthReason::ReadError),
    // dm-delay, with a delay that is longer than anybody waits.
    ("raw-delay", HealthReason::ProbeTimeout),
    // dm-flakey, all down.
    ("raw-flakey", HealthReason::ReadError),
];
/// Which of them are given back while they are ill, and which are kept.
const ENDED: [usize; 4] = [0, 1, 2, 4];
const KEPT: [usize; 2] = [3, 5];
/// Their pools, and one for the well.
const POOLS: &str = "\
    raw-hung: {path: /mnt/raw-hung, mode: Block, clean: {method: zero}}, \
    raw-failing: {path: /mnt/raw-failing, mode: Block, clean: {method: zero}}, \
    raw-suspended: {path: /mnt/raw-suspended, mode: Block, clean: {method: zero}}, \
    raw-error: {path: /mnt/raw-error, mode: Block, clean: {method: zero}}, \
    raw-delay: {path: /mnt/raw-delay, mode: Block, clean: {method: zero}}, \
    raw-flakey: {path: /mnt/raw-flakey, mode: Block, clean: {method: zero}}, \
    raw-well: {path: /mnt/raw-well, mode: Block, clean: {method: zero}}, \
    fast: {path: /mnt/fast, accept: [directory], capacity: 1Mi}";
/// Sectors of each mapped device.
const SECTORS: u64 = 4 << 11;

struct Ward {
    rack: Rack,
    hung: Disk,
    failing: Disk,
    mapped: Disk,
    well: Disk,
}

impl Ward {
    fn new() -> Self {
        let rack = Rack::new();
        let [hung, failing, mapped, well] =
            ["hung", "failing", "mapped", "well"].map(|serial| rack.disk(serial, 16));
        Self { rack, hung, failing, mapped, well }
    }

    fn boot(&self) -> Machine {
        let slots = [
            Slot::Virtio(&self.hung),
            Slot::Nvme(&self.failing),
            Slot::Virtio(&self.mapped),
            Slot::Virtio(&self.well),
        ];
        let machine = self.rack.boot(&slots);
        machine.sh(
            "for disk in hung failing well; do mkdir -p /mnt/raw-$disk; ln -s /dev/$(disk $disk) /mnt/raw-$disk/d; done\n\
             mkdir -p /state/fast/v1; mkdir /mnt/fast; mount --bind /state/fast /mnt/fast",
        );
        for (place, (pool, _)) in ILL[2..].iter().enumerate() {
            let begin = SECTORS * place as u64;
            let name = name(pool);
            machine.sh(&format!(
                "mkdir /mnt/{pool}; ln -s /dev/mapper/{name} /mnt/{pool}/d\n\
                 dmsetup create {name} --uuid TEST-{name} --table \"0 {SECTORS} linear /dev/$(disk mapped) {begin}\"\n\
                 dmsetup mknodes {name}"
            ));
        }
        machine
    }

    fn fall_ill(&self, machine: &Machine) {
        self.hung.set(Fault::Hang);
        self.failing.set(Fault::Fail);
        let on = |place: u64| format!("/dev/$(disk mapped) {}", SECTORS * place);
        let (delay, flakey) = (on(2), on(3));
        machine.sh(&format!(
            "change() {{ dmsetup suspend --noflush --nolockfs $1; dmsetup load $1 --table \"$2\"; dmsetup resume $1; }}\n\
             dmsetup suspend --noflush --nolockfs suspended\n\
             change error '0 {SECTORS} error'\n\
             change delay \"0 {SECTORS} delay {delay} 600000\"\n\
             change flakey \"0 {SECTORS} flakey {flakey} 0 600\""
        ));
    }

    fn recover(&self, machine: &Machine) {
        self.hung.set(Fault::None);
        self.failing.set(Fault::None);
        machine.sh("dmsetup resume suspended");
        for (place, (pool, _)) in ILL.iter().enumerate().skip(3) {
            let (name, begin) = (name(pool), SECTORS * (place as u64 - 2));
            machine.sh(&format!(
                "dmsetup load {name} --table \"0 {SECTORS} linear /dev/$(disk mapped) {begin}\"\n\
                 dmsetup suspend --noflush --nolockfs {name}; dmsetup resume {name}"
            ));
        }
    }
}

fn name(pool: &str) -> &str {
    pool.trim_start_matches("raw-")
}

/// A whole life of volumes, one of which is found only now: everything that the well are asked for.
fn live(machine: &Machine, server: &Server<'_>, entry: &str) {
    machine.sh(&format!("mkdir /mnt/fast/{entry}"));
    server.wait_claimable(&format!("fast/{entry}"));
    server.wait_claimable("raw-well/d");
    for pool in ["fast", "raw-well"] {
        let id = server.create(&format!("pvc-{entry}"), pool).unwrap();
        let target = server.publish(&id).unwrap();
        let file = if pool == "fast" { format!("{target}/file") } else { target };
        machine.sh(&format!("seq 1000 | dd of={file} conv=notrunc,fsync 2>&1"));
        server.unpublish(&id).unwrap();
        server.delete(&id).unwrap();
        server.wait_phase(&id, Phase::Available);
    }
    for path in ["healthz", "readyz"] {
        assert!(server.get(path).is_some(), "{path}");
    }
    assert!(server.get("metrics").unwrap().contains("berth_volumes"));
}

#[test]
fn ill_devices_stop_nothing_of_the_others_say_what_is_wrong_and_are_well_again_when_they_are() {
    let ward = Ward::new();
    let machine = ward.boot();
    let server = Server::start(&machine, POOLS);
    let claim = |(pool, _): (&str, HealthReason)| {
        server.wait_claimable(&format!("{pool}/d"));
        server.create(&format!("pvc-{pool}"), pool).unwrap()
    };
    let ids = ILL.map(claim);

    ward.fall_ill(&machine);
    // Three wipes hang, which are as many as there are places, and one fails, while the others are wiped.
    for id in ENDED.map(|place| &ids[place]) {
        server.delete(id).unwrap();
    }
    live(&machine, &server, "first");
    for (id, (_, reason)) in ids.iter().zip(ILL) {
        let ill = server.wait_phase(id, Phase::Lost);
        let said = &ill.status.conditions.healthy;
        assert_eq!(said.reason, reason, "{said:#?}");
        assert!(said.message.contains(&*ill.status.path), "{}", said.message);
    }
    for id in KEPT.map(|place| &ids[place]) {
        let refused = server.publish(id).unwrap_err();
        assert_eq!(refused.code(), Code::Internal, "{refused}");
        assert!(refused.message().contains("/mnt/raw-"), "{refused}");
    }
    live(&machine, &server, "second");
    ward.recover(&machine);

    for id in KEPT.map(|place| &ids[place]) {
        server.wait_phase(id, Phase::Claimed);
        server.publish(id).unwrap();
        server.unpublish(id).unwrap();
        server.delete(id).unwrap();
    }
    for id in &ids {
        server.wait_phase(id, Phase::Available);
    }
}

#[test]
fn a_server_that_starts_beside_ill_devices_serves_the_others() {
    let ward = Ward::new();
    let machine = ward.boot();
    ward.fall_ill(&machine);

    let server = Server::start(&machine, POOLS);

    live(&machine, &server, "new");
    let is_ill =
        |volume: &LocalVolume| ILL.iter().any(|(pool, _)| volume.spec.pool.as_str() == *pool);
    assert!(!server.volumes().iter().any(|volume| is_ill(volume) && volume.is_claimable()));
    ward.recover(&machine);
    for (pool, _) in ILL {
        server.wait_claimable(&format!("{pool}/d"));
    }
}
