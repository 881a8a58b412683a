use proptest::prelude::*;

use super::super::index::Index;
use super::super::{Choice, ClaimRequest, Topology};
use super::*;
use crate::inventory::{Recorded, Version};
use crate::volume::fixture::{claim, delete, on};
use crate::volume::{Bytes, CapacityRange, LocalVolume, Mode};

fn request(range: CapacityRange, requisite: &[&str], preferred: &[&str]) -> ClaimRequest {
    let owned = |values: &[&str]| values.iter().map(ToString::to_string).collect();
    ClaimRequest {
        name: "pvc-1".parse().unwrap(),
        pool: "fast".parse().unwrap(),
        mode: Mode::Filesystem,
        range,
        topology: Topology { requisite: owned(requisite), preferred: owned(preferred) },
        filesystem: Filesystem::default(),
        pvc: None,
    }
}

fn at_least(bytes: u64) -> CapacityRange {
    CapacityRange::at_least(Bytes(bytes))
}

/// The volume of `volumes` that the request is given.
fn given(volumes: &[LocalVolume], request: &ClaimRequest) -> Option<LocalVolume> {
    let mut index = Index::default();
    let record = |volume: &LocalVolume| Recorded::new(volume.clone(), Version(1));
    index.reset(volumes.iter().map(record).collect());
    match index.choose(request) {
        Choice::SetAside(recorded) => Some(LocalVolume::clone(&recorded.volume)),
        _ => None,
    }
}

fn node_a(entry: &str, capacity: u64) -> LocalVolume {
    on("a", "fast", entry, Bytes(capacity))
}

fn node_b(entry: &str, capacity: u64) -> LocalVolume {
    on("b", "fast", entry, Bytes(capacity))
}

#[test]
fn a_small_claim_does_not_eat_a_large_disk() {
    let volumes = [node_a("large", 100), node_a("fitting", 12), node_a("small", 9)];

    assert_eq!(given(&volumes, &request(at_least(10), &[], &[])), Some(volumes[1].clone()));
}

#[test]
fn a_limit_refuses_what_is_larger() {
    let range = CapacityRange { required: Some(Bytes(10)), limit: Some(Bytes(20)) };

    assert_eq!(given(&[node_a("v", 21)], &request(range, &[], &[])), None);
    assert!(given(&[node_a("v", 20)], &request(range, &[], &[])).is_some());
}

#[test]
fn a_limit_below_the_least_refuses_everything() {
    let range = CapacityRange { required: Some(Bytes(20)), limit: Some(Bytes(10)) };

    assert_eq!(given(&[node_a("v", 15), node_a("w", 25)], &request(range, &[], &[])), None);
}

#[test]
fn the_first_preferred_node_that_has_one_wins_over_a_better_fit_elsewhere() {
    let volumes = [node_a("v", 10), node_b("w", 100)];
    let asked = request(at_least(10), &["a", "b", "c"], &["c", "b", "a"]);

    assert_eq!(given(&volumes, &asked), Some(volumes[1].clone()));
}

#[test]
fn requisite_nodes_are_tried_in_order_once_no_preferred_one_has_any() {
    let volumes = [node_a("v", 10), node_b("w", 100)];

    let asked = request(at_least(10), &["b", "a"], &["c"]);

    assert_eq!(given(&volumes, &asked), Some(volumes[1].clone()));
}

#[test]
fn never_a_node_that_is_not_requisite_even_if_it_is_preferred() {
    let volumes = [node_a("v", 10)];

    assert_eq!(given(&volumes, &request(at_least(1), &["b"], &["a"])), None);
}

#[test]
fn a_preference_alone_does_not_refuse_other_nodes() {
    let volumes = [node_a("v", 10)];

    assert_eq!(given(&volumes, &request(at_least(1), &[], &["b"])), Some(volumes[0].clone()));
}

#[test]
fn a_node_of_a_long_name_is_found_by_its_topology_value() {
    let node = "n".repeat(200);
    let volume = on(&node, "fast", "v", Bytes(10));
    let value = volume.spec.node.topology_value();

    let asked = request(at_least(1), &[&value], &[]);
    assert_eq!(given(std::slice::from_ref(&volume), &asked), Some(volume));
}

#[test]
fn neither_another_pool_nor_another_mode_is_given() {
    let mut block = node_a("v", 10);
    block.spec.mode = Mode::Block;
    let elsewhere = on("a", "slow", "w", Bytes(10));

    assert_eq!(given(&[block, elsewhere], &request(at_least(1), &[], &[])), None);
}

#[test]
fn the_request_that_a_claim_was_made_with_describes_it_after_its_volume_has_grown() {
    let exactly = CapacityRange { required: Some(Bytes(10)), limit: Some(Bytes(10)) };
    let mut volume = node_a("v", 10);
    let holder = crate::volume::Claim { range: exactly, ..claim("pvc-1") };
    volume.spec = volume.claimed(holder, delete()).unwrap();
    volume.status.capacity = Bytes(20);

    assert_eq!(mismatch(&volume, &request(exactly, &[], &[])), None);
    assert_eq!(mismatch(&volume, &request(at_least(20), &[], &[])), None);
    let other = CapacityRange { required: Some(Bytes(5)), limit: Some(Bytes(10)) };
    assert!(matches!(
        mismatch(&volume, &request(other, &[], &[])),
        Some(Mismatch::Size { held: Bytes(20), .. })
    ));
}

#[test]
fn a_request_for_another_pool_mode_or_node_does_not_describe_a_claim() {
    let mut volume = node_a("v", 10);
    volume.spec = volume.claimed(claim("pvc-1"), delete()).unwrap();
    let good = request(at_least(1), &["a"], &[]);

    assert_eq!(mismatch(&volume, &good), None);
    let pool = ClaimRequest { pool: "slow".parse().unwrap(), ..good.clone() };
    assert!(matches!(mismatch(&volume, &pool), Some(Mismatch::Pool { .. })));
    let mode = ClaimRequest { mode: Mode::Block, ..good.clone() };
    assert!(matches!(mismatch(&volume, &mode), Some(Mismatch::Mode { .. })));
    let topology = request(at_least(1), &["b"], &["a"]);
    assert!(matches!(mismatch(&volume, &topology), Some(Mismatch::Topology { .. })));
}

/// The documented rule, word by word, over a list.
fn by_brute_force(volumes: &[LocalVolume], request: &ClaimRequest) -> Option<LocalVolume> {
    let Topology { requisite, preferred } = &request.topology;
    let smallest = |place: Option<&String>| {
        volumes
            .iter()
            .filter(|volume| volume.is_claimable())
            .filter(|volume| request.range.admits(volume.status.capacity))
            .filter(|volume| place.is_none_or(|place| volume.spec.node.as_str() == place))
            .min_by_key(|volume| (volume.status.capacity, volume.name.clone()))
            .cloned()
    };
    for place in preferred {
        if (requisite.is_empty() || requisite.contains(place)) && smallest(Some(place)).is_some() {
            return smallest(Some(place));
        }
    }
    for place in requisite {
        if smallest(Some(place)).is_some() {
            return smallest(Some(place));
        }
    }
    if requisite.is_empty() { smallest(None) } else { None }
}

fn volumes() -> impl Strategy<Value = Vec<LocalVolume>> {
    let one = ("[a-d]", 0_u64..8, any::<bool>(), prop::bool::weighted(0.8));
    proptest::collection::vec(one, 0..25).prop_map(|volumes| {
        let volume = |(number, (node, capacity, cordoned, clean)): (usize, (String, u64, _, _))| {
            let mut volume = on(&node, "fast", &format!("v{number}"), Bytes(capacity));
            volume.spec.cordoned = cordoned && number % 3 == 0;
            volume.status.clean_for = volume.status.clean_for.filter(|_| clean);
            volume
        };
        volumes.into_iter().enumerate().map(volume).collect()
    })
}

fn places() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[a-e]", 0..4)
}

proptest! {
    #[test]
    fn the_volume_given_is_the_one_that_the_rule_names(
        volumes in volumes(),
        required in proptest::option::of(0_u64..9),
        limit in proptest::option::of(0_u64..9),
        requisite in places(),
        preferred in places(),
    ) {
        let range = CapacityRange { required: required.map(Bytes), limit: limit.map(Bytes) };
        let mut asked = request(range, &[], &[]);
        asked.topology = Topology { requisite, preferred };

        prop_assert_eq!(given(&volumes, &asked), by_brute_force(&volumes, &asked));
    }
}
