//! Power cuts while volumes are claimed and given back.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

use berth::volume::LocalVolume;
use tonic::{Code, Status};

use super::machine::{Machine, Rack, Slot};
use super::rounds;
use super::server::Server;

const POOLS: &str = "fast: {path: /mnt/fast/volumes, accept: [directory], capacity: 1Mi}";
/// Volumes that there are.
const VOLUMES: usize = 12;
/// Callers at a time.
const CALLERS: usize = 3;

/// What the callers were told: the id of each claim that they hold for certain.
#[derive(Default)]
struct Told {
    held: BTreeMap<String, String>,
    /// Every name that was ever asked for.
    asked: BTreeSet<String>,
}

fn boot(rack: &Rack, disk: &super::disk::Disk) -> Machine {
    let machine = rack.boot(&[Slot::Virtio(disk)]);
    machine.sh(&format!(
        "mkdir -p /mnt/fast; disk=/dev/$(disk volumes)\n\
         mount $disk /mnt/fast 2>/dev/null || {{ mkfs.ext4 -q $disk && mount $disk /mnt/fast; }}\n\
         for v in $(seq {VOLUMES}); do mkdir -p /mnt/fast/volumes/v$v; done; sync"
    ));
    machine
}

/// Claims and gives back until the power is gone.
fn live(server: &Server<'_>, caller: usize, round: u32, told: &Mutex<Told>) {
    for number in 0.. {
        let name = format!("pvc-{caller}-{round}-{number}");
        told.lock().unwrap().asked.insert(name.clone());
        match server.create(&name, "fast") {
            Ok(id) => {
                told.lock().unwrap().held.insert(name, id);
            }
            Err(status) if status.code() == Code::ResourceExhausted => {}
            Err(status) => return allow(&status),
        }
        let own = format!("pvc-{caller}-");
        let oldest = |told: &Told| {
            let mut own = told.held.iter().filter(|(name, _)| name.starts_with(&own));
            own.next().map(|(name, id)| (name.clone(), id.clone()))
        };
        if number % 3 == 2 {
            let mut told = told.lock().unwrap();
            let Some((name, id)) = oldest(&told) else { continue };
            // Whether it is heard is not known before it is answered, so that it is held by nobody for certain.
            told.held.remove(&name);
            drop(told);
            if let Err(status) = server.delete(&id) {
                return allow(&status);
            }
        }
    }
}

/// What a caller may be told when the machine goes away under it.
fn allow(status: &Status) {
    let allowed = [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Aborted];
    assert!(allowed.contains(&status.code()), "{status:?}");
}

/// Ends the machine also where a wait is in vain: the callers go on until it has.
struct Off<'a>(&'a Machine);

impl Drop for Off<'_> {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Claims whose answer was lost would hold every volume after some rounds, and then nothing would be written any more.
fn give_back_what_nobody_was_told_of(server: &Server<'_>, told: &Told) {
    for volume in server.volumes() {
        let is_held = |claim: &berth::volume::Claim| told.held.contains_key(claim.name.as_str());
        if let Some(id) = volume.id().filter(|_| !volume.spec.claim.as_deref().is_some_and(is_held))
        {
            server.delete(&id.to_string()).unwrap();
        }
    }
}

fn check(server: &Server<'_>, told: &Told) {
    let volumes = server.volumes();
    let claims: Vec<_> =
        volumes.iter().filter_map(|volume| Some((volume.spec.claim.as_ref()?, volume))).collect();
    let names: BTreeSet<_> = claims.iter().map(|(claim, _)| claim.name.to_string()).collect();

    assert_eq!(volumes.len(), VOLUMES, "a volume was lost or made");
    assert_eq!(names.len(), claims.len(), "a name has two volumes");
    assert!(names.is_subset(&told.asked), "nobody asked for one of {names:?}");
    for (name, id) in &told.held {
        let held = |(_, volume): &&(_, &LocalVolume)| volume.id().unwrap().to_string() == *id;
        let (claim, _) = claims.iter().find(held).unwrap_or_else(|| panic!("{name} lost {id}"));
        assert_eq!(claim.name.as_str(), name);
        assert_eq!(server.create(name, "fast").unwrap(), *id, "{name} was given another volume");
    }
}

#[test]
fn power_cuts_among_claims_lose_none_that_was_acknowledged_and_give_no_name_two_volumes() {
    let rack = Rack::new();
    let disk = rack.disk("volumes", 32);
    let told = Mutex::new(Told::default());
    let chance = RandomState::new();

    for round in 0..rounds(2, 20) {
        let machine = boot(&rack, &disk);
        let server = Server::start(&machine, POOLS);
        server.wait_for("every volume", |server| (server.volumes().len() == VOLUMES).then_some(()));
        check(&server, &told.lock().unwrap());
        give_back_what_nobody_was_told_of(&server, &told.lock().unwrap());
        rack.state().hang_after((32 << 10) + chance.hash_one(round) % (512 << 10));
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let (machine, told) = (&machine, &told);
                scope.spawn(move || live(&Server::connect(machine), caller, round, told));
            }
            let _off = Off(&machine);
            rack.state().wait_for_fault();
        });
        drop(server);
        machine.cut();
    }

    assert!(!told.lock().unwrap().held.is_empty(), "nothing was held: the storm was none");
    let machine = boot(&rack, &disk);
    let server = Server::start(&machine, POOLS);
    check(&server, &told.lock().unwrap());
    // Whatever else a claim holds, its caller asks again and gives it back; in the end all is free.
    for volume in server.volumes() {
        if let Some(id) = volume.id() {
            server.delete(&id.to_string()).unwrap();
        }
    }
    server.wait_for("every volume to be claimable", |server| {
        server.volumes().iter().all(LocalVolume::is_claimable).then_some(())
    });
}
