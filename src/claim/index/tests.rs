use proptest::prelude::*;

use super::*;
use crate::claim::{Filesystem, Topology};
use crate::volume::fixture::{claim, delete, holds, named, on};
use crate::volume::{CleanReason, HealthReason, Tenancy};

const FAST: &str = "fast";

fn at(version: u64, volume: &LocalVolume) -> Recorded {
    Recorded::new(volume.clone(), Version(version))
}

fn held_by(name: &str, volume: &LocalVolume) -> LocalVolume {
    let spec = volume.claimed(claim(name), delete()).unwrap();
    LocalVolume { spec, ..volume.clone() }
}

fn request(name: &str, bytes: u64) -> ClaimRequest {
    ClaimRequest {
        name: name.parse().unwrap(),
        pool: FAST.parse().unwrap(),
        mode: Mode::Filesystem,
        range: CapacityRange::at_least(Bytes(bytes)),
        topology: Topology::default(),
        filesystem: Filesystem::default(),
        pvc: None,
    }
}

fn capacity(index: &Index, topology: Option<&str>) -> Capacity {
    let query = CapacityQuery {
        pool: FAST.parse().unwrap(),
        mode: None,
        filesystem: Filesystem::default(),
        topology: topology.map(str::to_owned),
    };
    index.capacity(&query, Mode::Filesystem)
}

fn set_aside(choice: Choice) -> VolumeName {
    match choice {
        Choice::SetAside(recorded) => recorded.volume.name.clone(),
        Choice::Held(_) | Choice::Wait | Choice::Nothing(_) => panic!("nothing was set aside"),
    }
}

#[test]
fn what_was_refused_gives_way_to_what_a_store_that_was_set_back_has_now() {
    let free = named("v", Bytes(10));
    let mut index = Index::default();
    index.apply(at(9, &free));
    assert_eq!(set_aside(index.choose(&request("pvc-1", 1))), free.name);

    index.correct(Version(9), at(2, &held_by("pvc-2", &free)));
    index.put_back(&free.name);

    assert!(matches!(index.choose(&request("pvc-1", 1)), Choice::Nothing(_)));
    index.correct(Version(9), at(1, &free));
    assert_eq!(index.holder(&"pvc-2".parse().unwrap()), Some(&free.name));
}

#[test]
fn an_event_on_its_way_does_not_undo_what_a_claim_has_done() {
    let free = named("v", Bytes(10));
    let mut index = Index::default();
    index.apply(at(1, &free));

    index.update(at(3, &held_by("pvc-1", &free)));
    index.apply(at(2, &free));

    assert_eq!(index.holder(&"pvc-1".parse().unwrap()), Some(&free.name));
    assert_eq!(capacity(&index, None), Capacity::default());
}

#[test]
fn what_a_claim_has_done_does_not_bring_back_a_volume_that_was_removed_meanwhile() {
    let free = named("v", Bytes(10));
    let mut index = Index::default();
    index.apply(at(1, &free));

    index.remove(&free.name, Version(3));
    index.update(at(2, &held_by("pvc-1", &free)));

    assert_eq!(index, Index::default());
}

#[test]
fn a_removal_on_its_way_does_not_take_a_volume_that_was_added_again() {
    let volume = named("v", Bytes(10));
    let mut index = Index::default();
    index.apply(at(3, &volume));

    index.remove(&volume.name, Version(2));

    assert!(index.get(&volume.name).is_some());
}

#[test]
fn a_reset_drops_what_is_no_more_and_keeps_what_is_newer() {
    let (gone, stays) = (named("gone", Bytes(10)), named("stays", Bytes(20)));
    let mut index = Index::default();
    index.reset(vec![at(1, &gone), at(2, &stays)]);
    index.update(at(4, &held_by("pvc-1", &stays)));

    index.reset(vec![at(2, &stays)]);

    assert!(index.get(&gone.name).is_none());
    assert_eq!(index.get(&stays.name).unwrap().version, Version(4));
    assert_eq!(capacity(&index, None), Capacity::default());
}

#[test]
fn a_name_that_moved_to_another_volume_is_not_lost_by_late_news_of_the_first() {
    let (first, second) = (named("v1", Bytes(10)), named("v2", Bytes(10)));
    let mut index = Index::default();
    index.reset(vec![at(1, &first), at(2, &second)]);

    index.update(at(5, &held_by("pvc-1", &second)));
    index.apply(at(3, &held_by("pvc-1", &first)));
    index.apply(at(4, &first));

    assert_eq!(index.holder(&"pvc-1".parse().unwrap()), Some(&second.name));
}

#[test]
fn the_capacity_of_a_node_is_its_claimable_volumes_and_its_maximum_the_largest_of_them() {
    let mut index = Index::default();
    let mut dirty = on("node-a", FAST, "dirty", Bytes(1000));
    dirty.status.clean_for = None;
    let claimed = held_by("pvc-1", &on("node-a", FAST, "claimed", Bytes(2000)));
    let volumes = [
        on("node-a", FAST, "v1", Bytes(10)),
        on("node-a", FAST, "v2", Bytes(30)),
        on("node-b", FAST, "v3", Bytes(100)),
        on("node-a", "slow", "v4", Bytes(5000)),
        dirty,
        claimed,
    ];
    index.reset(volumes.iter().map(|volume| at(1, volume)).collect());

    let sizes = |maximum, minimum| (Some(Bytes(maximum)), Some(Bytes(minimum)));
    let (maximum, minimum) = sizes(30, 10);
    let node_a = Capacity { available: Bytes(40), maximum, minimum };
    assert_eq!(capacity(&index, Some("node-a")), node_a);
    let (maximum, minimum) = sizes(100, 10);
    let all = Capacity { available: Bytes(140), maximum, minimum };
    assert_eq!(capacity(&index, None), all);
    assert_eq!(capacity(&index, Some("node-c")), Capacity::default());
}

#[test]
fn a_capacity_that_no_number_holds_is_the_greatest_number() {
    let mut index = Index::default();
    for number in 0..3 {
        index.apply(at(1, &named(&format!("v{number}"), Bytes(u64::MAX))));
    }

    assert_eq!(capacity(&index, None).available, Bytes(u64::MAX));
}

#[test]
fn a_volume_that_is_set_aside_is_offered_to_nobody_else_until_it_is_put_back() {
    let volume = named("v", Bytes(10));
    let mut index = Index::default();
    index.apply(at(1, &volume));

    assert_eq!(set_aside(index.choose(&request("pvc-1", 1))), volume.name);
    assert!(matches!(index.choose(&request("pvc-2", 1)), Choice::Wait));
    assert!(matches!(index.choose(&request("pvc-3", 11)), Choice::Nothing(_)));
    index.put_back(&volume.name);
    assert_eq!(set_aside(index.choose(&request("pvc-2", 1))), volume.name);
}

#[test]
fn news_of_a_volume_that_is_set_aside_do_not_offer_it() {
    let volume = named("v", Bytes(10));
    let mut index = Index::default();
    index.apply(at(1, &volume));
    set_aside(index.choose(&request("pvc-1", 1)));

    index.apply(at(2, &volume));
    index.reset(vec![at(3, &volume)]);

    assert!(matches!(index.choose(&request("pvc-2", 1)), Choice::Wait));
    index.put_back(&volume.name);
    assert_eq!(capacity(&index, None).available, Bytes(10));
}

#[test]
fn a_volume_that_was_removed_while_it_was_set_aside_is_not_put_back() {
    let volume = named("v", Bytes(10));
    let mut index = Index::default();
    index.apply(at(1, &volume));
    set_aside(index.choose(&request("pvc-1", 1)));

    index.remove(&volume.name, Version(2));
    index.put_back(&volume.name);

    assert_eq!(index, Index::default());
}

#[test]
fn pages_of_claimed_volumes_follow_the_order_of_names_and_hold_no_free_one() {
    let mut index = Index::default();
    let mut names = Vec::new();
    for number in 0..10 {
        let volume = named(&format!("v{number}"), Bytes(10));
        let held = held_by(&format!("pvc-{number}"), &volume);
        index.apply(at(1, if number % 2 == 0 { &held } else { &volume }));
        names.extend((number % 2 == 0).then_some(volume.name));
    }

    let mut listed: Vec<VolumeName> = Vec::new();
    loop {
        let page = index.claimed(listed.last(), 2);
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        listed.extend(page.iter().map(|recorded| recorded.volume.name.clone()));
    }
    assert_eq!(listed, names);
}

#[test]
fn a_refusal_counts_why_each_volume_of_the_right_size_is_not_to_be_had() {
    let base = |entry: &str| on("node-a", FAST, entry, Bytes(10 << 30));
    let (mut sick, mut dirty, mut cordoned) = (base("sick"), base("dirty"), base("cordoned"));
    sick.status.conditions.healthy = holds(false, HealthReason::Missing);
    dirty.status.clean_for = None;
    dirty.status.conditions.clean = holds(false, CleanReason::FoundData);
    cordoned.spec.cordoned = true;
    let mut released = held_by("pvc-0", &base("released"));
    released.spec = released.released(Tenancy(1)).unwrap();
    let held = held_by("pvc-1", &base("held"));
    let small = on("node-a", FAST, "small", Bytes(2 << 30));
    let elsewhere = on("node-b", FAST, "elsewhere", Bytes(20 << 30));
    let other_pool = on("node-a", "slow", "other", Bytes(20 << 30));
    let volumes = [sick, dirty, cordoned, released, held, small, elsewhere, other_pool];
    let mut index = Index::default();
    index.reset(volumes.iter().map(|volume| at(1, volume)).collect());
    let mut asked = request("pvc-2", 10 << 30);
    asked.topology.requisite = vec!["node-a".into()];

    let Choice::Nothing(shortage) = index.choose(&asked) else { panic!("something was given") };

    assert_eq!(
        shortage.to_string(),
        "volumes of that size: 6 of 7 (1 on other nodes, 1 claimed, 1 not healthy, 2 not clean, 1 cordoned); \
         the largest that can be claimed has 2Gi"
    );
}

#[test]
fn an_index_of_a_hundred_thousand_volumes_has_room_in_two_hundred_megabytes() {
    // Per volume: the record, its texts, and a pointer with its share of a tree's node in each place that names it.
    let volume = named("a-name-of-usual-length", Bytes(1 << 40));
    let texts = serde_json::to_string(&volume).unwrap().len();

    let bytes = size_of::<Recorded>() + texts + 8 * size_of::<VolumeName>();

    assert!(bytes < 2048, "{bytes} bytes for each volume");
}

/// A step of a store's history: which volume, and what becomes of it.
#[derive(Debug, Clone, Copy)]
enum Step {
    Add,
    Claim(u8),
    Release,
    Clean,
    Lose,
    Grow,
    Remove,
}

fn history() -> impl Strategy<Value = Vec<(usize, Step, bool)>> {
    let step = prop_oneof![
        3 => Just(Step::Add),
        4 => (0_u8..4).prop_map(Step::Claim),
        3 => Just(Step::Release),
        3 => Just(Step::Clean),
        1 => Just(Step::Lose),
        1 => Just(Step::Grow),
        1 => Just(Step::Remove),
    ];
    proptest::collection::vec((0_usize..5, step, any::<bool>()), 0..80)
}

/// What the step makes of the volume; absent when it makes nothing of it.
fn after(volume: Option<&LocalVolume>, number: usize, step: Step) -> Option<LocalVolume> {
    let Some(volume) = volume else {
        let added = || named(&format!("v{number}"), Bytes(10 + number as u64 / 2));
        return matches!(step, Step::Add).then(added);
    };
    let mut next = volume.clone();
    match step {
        Step::Add | Step::Remove => return None,
        Step::Claim(name) => {
            next.spec = volume.claimed(claim(&format!("pvc-{name}")), delete()).ok()?;
        }
        Step::Release => next.spec = volume.released(volume.spec.tenancy).ok()?,
        Step::Clean => {
            let (tenancy, now) = (volume.spec.tenancy, jiff::Timestamp::UNIX_EPOCH);
            next.status =
                volume.cleaned(tenancy, volume.spec.clean.as_ref()?, CleanReason::Wiped, now)?;
        }
        Step::Lose => next.status.conditions.healthy = holds(false, HealthReason::Missing),
        Step::Grow => next.status.capacity = Bytes(volume.status.capacity.0 + 1),
    }
    Some(next)
}

proptest! {
    /// A store makes a history; its watch tells it in order and late, and some of it is known before, as a claim's own
    /// writes are.
    #[test]
    fn an_index_that_was_fed_change_by_change_is_the_one_that_is_filled_at_once(
        history in history(), late in 0_usize..10
    ) {
        let mut now: BTreeMap<usize, Recorded> = BTreeMap::new();
        let (mut index, mut events) = (Index::default(), Vec::new());
        let mut told = 0;
        for (number, step, own) in history {
            let version = Version(events.len() as u64 + 1);
            let before = now.get(&number).map(|recorded| &*recorded.volume);
            let taken = |name: &ClaimName| now.values().any(|other| {
                other.volume.spec.claim.as_ref().is_some_and(|claim| claim.name == *name)
            });
            if let Step::Claim(name) = step && taken(&format!("pvc-{name}").parse().unwrap()) {
                continue;
            }
            if let Step::Remove = step {
                let Some(removed) = now.remove(&number) else { continue };
                events.push(Event::Removed(removed.volume.name.clone(), version));
            } else {
                let Some(volume) = after(before, number, step) else { continue };
                let recorded = Recorded::new(volume, version);
                if own {
                    index.update(recorded.clone());
                }
                events.push(Event::Applied(Box::new(recorded.clone())));
                now.insert(number, recorded);
            }
            while told + late < events.len() {
                index.take(events[told].clone());
                told += 1;
            }
        }
        events.drain(told..).for_each(|event| index.take(event));

        let mut rebuilt = Index::default();
        rebuilt.reset(now.into_values().collect());
        prop_assert_eq!(index, rebuilt);
    }
}
