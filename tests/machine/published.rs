//! Power cuts while volumes are staged and published, and while they are formatted for that.

use super::machine::{Machine, Rack, Slot};
use super::server::Server;

const POOLS: &str = "\
    ready: {path: /mnt/ready, accept: [device]}, half: {path: /mnt/half, accept: [device]}";

fn boot(rack: &Rack, slots: &[Slot<'_>]) -> Machine {
    let machine = rack.boot(slots);
    machine.sh("mkdir -p /mnt/ready /mnt/half\n\
         ln -s /dev/$(disk ready) /mnt/ready/d\n\
         ln -s /dev/$(disk half) /mnt/half/d");
    machine
}

#[test]
fn after_a_power_cut_the_repeated_calls_of_a_kubelet_bring_back_what_a_tenant_had_synced() {
    let rack = Rack::new();
    let (ready, half) = (rack.disk("ready", 64), rack.disk("half", 64));
    let slots = [Slot::Virtio(&ready), Slot::Nvme(&half)];
    let machine = boot(&rack, &slots);
    let server = Server::start(&machine, POOLS);
    server.wait_claimable("ready/d");
    server.wait_claimable("half/d");
    let kept = server.create("pvc-kept", "ready").unwrap();
    let begun = server.create("pvc-begun", "half").unwrap();
    let target = server.publish(&kept).unwrap();
    machine.sh(&format!("cd {target}; seq 20000 >synced; sync synced; seq 20000 >written"));
    // The other is cut off while its file system is made.
    half.hang_after(128 << 10);
    std::thread::scope(|scope| {
        let (machine, begun) = (&machine, &begun);
        let call = scope.spawn(move || Server::connect(machine).publish(begun));
        half.wait_for_fault();
        machine.kill();
        assert!(call.join().unwrap().is_err());
    });
    drop(server);
    machine.cut();

    let machine = boot(&rack, &slots);
    let server = Server::start(&machine, POOLS);
    for _ in 0..2 {
        assert_eq!(server.publish(&kept).unwrap(), target);
        server.publish(&begun).unwrap();
    }

    machine.sh(&format!("seq 20000 | cmp - {target}/synced"));
    let mounts = machine.sh(&format!("grep -c ' {target} ' /proc/mounts"));
    assert_eq!(mounts.trim(), "1");
    let other = server.publish(&begun).unwrap();
    assert_eq!(machine.sh(&format!("ls {other}")).trim(), "lost+found");
    for id in [&kept, &begun] {
        server.unpublish(id).unwrap();
        server.delete(id).unwrap();
    }
    server.wait_claimable("ready/d");
    server.wait_claimable("half/d");
}
