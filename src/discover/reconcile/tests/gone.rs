use super::super::super::found::Found;
use super::world::*;
use crate::volume::HealthReason;

/// A host whose claimed volume at `fast/v1` was on the Node `uid-1`, which is gone.
fn gone() -> Host {
    let mut host = Host::new();
    host.node_uid = Some("uid-1".into());
    host.settle(&v1(mounted(1)));
    host.claim("fast/v1");
    let volume = host.at("fast/v1");
    volume.status = volume.node_gone(jiff::Timestamp::UNIX_EPOCH).unwrap();
    host
}

#[test]
fn a_volume_whose_node_is_gone_stays_lost_until_it_is_seen_on_another() {
    let mut host = gone();

    for (uid, found, expected) in [
        (None, v1(mounted(1)), HealthReason::NodeGone),
        (Some("uid-1"), v1(mounted(1)), HealthReason::NodeGone),
        (Some("uid-2"), Found::default(), HealthReason::NodeGone),
        (Some("uid-2"), v1(mounted(2)), HealthReason::NodeGone),
        (Some("uid-2"), v1(mounted(1)), HealthReason::Present),
    ] {
        host.node_uid = uid.map(str::to_owned);
        host.settle(&found);
        assert_eq!(health(&mut host, "fast/v1"), expected, "{uid:?} {found:?}");
    }
}

#[test]
fn what_a_tenant_left_on_a_node_that_is_gone_is_forgotten_once_he_has_gone_too() {
    let mut host = gone();
    let volume = host.at("fast/v1");
    volume.spec = volume.released(volume.spec.tenancy).unwrap();
    host.node_uid = Some("uid-2".into());

    host.settle(&Found::default());

    assert_eq!(host.recorded, []);
}
