//! An unmount that is refused since the mount is busy, for a moment or for longer.

use berth::volume::Phase;
use rustix::io::Errno;
use tonic::Code;

use crate::support::inject::{Armed, Fault, Injector};
use crate::support::{Berth, Host, MIB, mounts_at};

/// A server behind an injector with a volume that is published, its id and its target.
fn published(host: &Host) -> (Berth, Injector, String, std::path::PathBuf) {
    host.tmpfs("fast", "v1", 16 * MIB);
    let config = format!("pools: {{fast: {{path: {}}}}}", host.pool("fast").display());
    let mut injector = None;
    let berth = Berth::spawn_by(host, &config, &[], |command| {
        let (child, one) = Injector::launch(command, None);
        injector = Some(one);
        child
    });
    berth.wait_ready();
    berth.wait_phase("v1", Phase::Available);
    let id = berth.create("pvc-1", "fast", MIB).unwrap().volume_id;
    let target = berth.publish(host, &id).unwrap();
    (berth, injector.unwrap(), id, target)
}

fn busy(times: u32) -> Armed {
    Armed { after: 0, only: Some("umount2"), fault: Fault::Fail { errno: Errno::BUSY, times } }
}

#[test]
fn a_mount_that_is_busy_for_a_moment_is_unmounted_by_the_same_call() {
    let host = Host::new();
    let (berth, injector, id, target) = published(&host);
    injector.arm(busy(5));

    berth.unpublish(&host, &id).unwrap();

    assert_eq!(injector.met().len(), 5, "the unmount was not refused");
    assert!(!target.exists());
}

#[test]
fn a_mount_that_stays_busy_is_told_of_kept_and_unmounted_by_a_later_call() {
    let host = Host::new();
    let (berth, injector, id, target) = published(&host);
    injector.arm(busy(u32::MAX));

    let refused = berth.unpublish(&host, &id).unwrap_err();

    assert!(matches!(refused.code(), Code::Internal | Code::FailedPrecondition), "{refused:?}");
    assert!(refused.message().contains(target.to_str().unwrap()), "{}", refused.message());
    assert_eq!(mounts_at(&target), 1);
    injector.heal();
    berth.unpublish(&host, &id).unwrap();
    assert!(!target.exists());
}
