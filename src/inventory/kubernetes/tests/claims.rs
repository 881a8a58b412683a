//! One name, one volume: with two stores at once, after a crash at any step, and when people delete what they should not.

use std::collections::{BTreeMap, HashSet};

use kube::api::DeleteParams;

use super::super::reservation::{Wish, lease_name};
use super::*;
use crate::inventory::Event;
use crate::volume::{Claim, ClaimName, CleanReason};

/// So many volumes.
async fn volumes(store: &Kubernetes, count: usize) -> Vec<Recorded> {
    let mut volumes = Vec::new();
    for number in 0..count {
        volumes.push(store.add(volume(number)).await.unwrap());
    }
    volumes
}

/// What a claim of this name on `recorded` wants.
fn wish(name: &str, recorded: &Recorded) -> Wish {
    Wish {
        claim: name.parse().unwrap(),
        volume: recorded.volume.name.clone(),
        version: recorded.version,
        spec: held_by(name, recorded),
    }
}

async fn claim_on(store: &Kubernetes, name: &str, read: &Recorded) -> Result<Recorded, Error> {
    store.decide(&read.volume.name, read.version, held_by(name, read)).await
}

async fn release(store: &Kubernetes, held: &Recorded) -> Recorded {
    let spec = held.volume.released(held.volume.spec.tenancy).unwrap();
    store.decide(&held.volume.name, held.version, spec).await.unwrap()
}

async fn reservations(store: &Kubernetes) -> Vec<ClaimName> {
    let all = store.running.api.list_reservations(None).await.unwrap().0;
    all.into_iter().map(|reservation| reservation.wish.claim).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_at_once_never_give_one_name_two_volumes() {
    let (place, one) = cluster!();
    let other = place.open().await;
    let witness = place.open().await;
    let names: Vec<_> = volumes(&one, 6).await.into_iter().map(|r| r.volume.name.clone()).collect();
    let mut events = witness.watch();
    events.next().await.unwrap();

    let workers = (0..12).map(|number| {
        let store = if number % 2 == 0 { one.clone() } else { other.clone() };
        let mut names = names.clone();
        names.rotate_left(usize::try_from(number / 2).unwrap());
        // Four workers ask for each name.
        // No two claims of a name are the same: no worker is given what another was.
        let claim = Claim {
            at: jiff::Timestamp::from_second(number).unwrap(),
            ..claim(&format!("pvc-{}", number / 4))
        };
        tokio::spawn(claim_and_release(store, claim, names))
    });
    let workers: Vec<_> = workers.collect();
    let mut given = 0;
    for worker in workers {
        given += worker.await.unwrap();
    }
    one.add(volume(99)).await.unwrap();

    let begun = count_claims(&mut events, &volume(99).name).await;
    assert_eq!(begun, given, "claims that were begun, and claims that were answered");
    assert!(given >= 12, "only {given} claims were given");
    let listed = |all: &[Recorded]| all.len() == 7;
    assert_eq!(super::listed(&one, listed).await, super::listed(&other, listed).await);
    assert_eq!(reservations(&one).await, []);
}

/// Makes a claim again and again, and releases it and wipes its volume whenever it is given. How often
/// it was.
async fn claim_and_release(store: Kubernetes, claim: Claim, volumes: Vec<VolumeName>) -> usize {
    let mut given = 0;
    for volume in volumes.iter().cycle().take(6 * volumes.len()) {
        let read = store.get(volume).await.unwrap();
        if !read.volume.is_claimable() {
            continue;
        }
        let spec = read.volume.claimed(claim.clone(), delete()).unwrap();
        match store.decide(volume, read.version, spec).await {
            Ok(held) => {
                given += 1;
                release(&store, &held).await;
                let wipe = |volume: &LocalVolume| {
                    let tenancy = volume.spec.tenancy;
                    volume.cleaned(
                        tenancy,
                        &delete(),
                        CleanReason::Wiped,
                        jiff::Timestamp::UNIX_EPOCH,
                    )
                };
                store.modify_status(volume, wipe).await.unwrap();
            }
            Err(Error::Conflict(_) | Error::ClaimNameTaken { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    given
}

/// Follows every state that there was, up to the addition of `last`: no name is ever held twice. How many claims began.
async fn count_claims(
    events: &mut (impl futures_util::Stream<Item = Event> + Unpin),
    last: &VolumeName,
) -> usize {
    let mut held: BTreeMap<VolumeName, ClaimName> = BTreeMap::new();
    let mut begun = 0;
    loop {
        let Some(Event::Applied(recorded)) = events.next().await else { panic!("no event") };
        let volume = recorded.volume;
        if volume.name == *last {
            return begun;
        }
        match volume.spec.claim.as_ref().map(|claim| claim.name.clone()) {
            None => {
                held.remove(&volume.name);
            }
            Some(claim) => {
                let twice =
                    held.iter().find(|(holder, name)| **name == claim && **holder != volume.name);
                assert_eq!(twice, None, "{claim} is held by {} as well", volume.name);
                begun += usize::from(held.insert(volume.name.clone(), claim).is_none());
            }
        }
    }
}

#[tokio::test]
async fn a_claim_that_crashed_after_its_reservation_is_finished_by_the_next_caller() {
    let (place, store) = cluster!();
    let volumes = volumes(&store, 2).await;
    store.running.api.reserve(&wish("pvc-1", &volumes[0])).await.unwrap();
    drop(store);

    let next = with_a_dead_watch(&place).await;
    let claimed = claim_on(&next, "pvc-1", &volumes[1]).await;

    let holder = volumes[0].volume.name.clone();
    assert!(
        matches!(&claimed, Err(Error::ClaimNameTaken { holder: held, .. }) if *held == holder),
        "{claimed:?}"
    );
    // What is said of the holder is there to be read, whatever the watch has brought so far.
    assert_eq!(next.get(&holder).await.unwrap().volume.spec, held_by("pvc-1", &volumes[0]));
    assert_eq!(next.get_live(&volumes[1].volume.name).await.unwrap(), volumes[1]);
}

#[tokio::test]
async fn a_claim_that_crashed_after_its_reservation_may_be_made_again_by_itself() {
    let (_place, store) = cluster!();
    let volumes = volumes(&store, 1).await;
    store.running.api.reserve(&wish("pvc-1", &volumes[0])).await.unwrap();

    let claimed = claim_on(&store, "pvc-1", &volumes[0]).await.unwrap();

    assert_eq!(claimed.volume.spec, held_by("pvc-1", &volumes[0]));
}

#[tokio::test]
async fn a_reservation_whose_volume_has_moved_on_gives_way() {
    let (_place, store) = cluster!();
    let volumes = volumes(&store, 2).await;
    let [changed, free] = &volumes[..] else { unreachable!() };
    store.running.api.reserve(&wish("pvc-1", changed)).await.unwrap();
    let cordoned = changed.volume.cordoned(true);
    store.decide(&changed.volume.name, changed.version, cordoned).await.unwrap();

    let first = claim_on(&store, "pvc-1", free).await.unwrap();

    let freed = release(&store, &first).await;
    assert_eq!(freed.volume.spec.claim, None);
}

/// Deletes an object and takes every finalizer off, as a person does who should not.
async fn tear_out(place: &Cluster, torn: &Recorded) {
    let name = torn.volume.name.as_str();
    place.patch(&torn.volume, json!({"metadata": {"finalizers": null}})).await.unwrap();
    place.objects().delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_claim_whose_volume_is_missing_gets_no_other_and_has_it_again_once_that_is_back() {
    let (place, store) = cluster!();
    let volumes = volumes(&store, 2).await;
    let [held, free] = &volumes[..] else { unreachable!() };
    let held = claim_on(&store, "pvc-1", held).await.unwrap();
    tear_out(&place, &held).await;
    listed(&store, |all| all.len() == 1).await;

    let elsewhere = claim_on(&store, "pvc-1", free).await;
    let holder = store.holder(&"pvc-1".parse().unwrap()).await;
    let read = store.get(&held.volume.name).await;
    let back = store.add(LocalVolume::clone(&held.volume)).await.unwrap();
    let again = claim_on(&store, "pvc-1", free).await;

    for unsure in [elsewhere.map(drop), holder.map(drop), read.map(drop)] {
        assert!(matches!(unsure, Err(Error::NotWritten { .. })), "{unsure:?}");
    }
    assert_eq!(back.volume, held.volume);
    assert!(matches!(again, Err(Error::ClaimNameTaken { .. })), "{again:?}");
    assert_eq!(
        store.holder(&"pvc-1".parse().unwrap()).await.unwrap(),
        Some(held.volume.name.clone())
    );
}

#[tokio::test]
async fn a_reservation_of_a_volume_that_stays_away_is_deleted_by_the_second_sweep() {
    let (place, store) = cluster!();
    let volumes = volumes(&store, 1).await;
    let held = claim_on(&store, "pvc-1", &volumes[0]).await.unwrap();
    tear_out(&place, &held).await;
    listed(&store, <[Recorded]>::is_empty).await;
    let mut missing = HashSet::new();

    let first = store.sweep(&mut missing).await.unwrap();
    let second = store.sweep(&mut missing).await.unwrap();

    assert_eq!(first, Swept::default());
    assert_eq!(second, Swept { deleted: 1, made: 0 });
    assert!(matches!(store.get(&held.volume.name).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_claim_that_an_agent_ends_leaves_no_reservation_beside_a_controller() {
    let (place, store) = cluster!();
    let volumes = volumes(&store, 2).await;
    let first = claim_on(&store, "pvc-1", &volumes[0]).await.unwrap();
    let second = claim_on(&store, "pvc-2", &volumes[1]).await.unwrap();
    let keeper = store.clone();
    let keeping = tokio::spawn(async move { keeper.keep_reservations().await });
    let agent = place.open_in(Scope::Node("node-a".parse().unwrap())).await;

    release(&agent, &first).await;
    agent.remove(&second.volume.name, second.version).await.unwrap();

    let tidied = async {
        while !reservations(&store).await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), tidied).await.expect("they lie about");
    keeping.abort();
}

#[tokio::test]
async fn a_reservation_that_the_api_server_refuses_to_fulfil_gives_way() {
    let (_place, store) = cluster!();
    let volumes = volumes(&store, 2).await;
    let mut wish = wish("pvc-1", &volumes[0]);
    wish.spec.tenancy = wish.spec.tenancy.next();
    store.running.api.reserve(&wish).await.unwrap();

    let claimed = claim_on(&store, "pvc-1", &volumes[1]).await;

    assert!(claimed.is_ok(), "{claimed:?}");
    assert_eq!(store.get_live(&volumes[0].volume.name).await.unwrap(), volumes[0]);
}

#[tokio::test]
async fn a_claim_that_ended_leaves_no_reservation() {
    let (_place, store) = cluster!();
    let volumes = volumes(&store, 2).await;
    let first = claim_on(&store, "pvc-1", &volumes[0]).await.unwrap();
    let second = claim_on(&store, "pvc-2", &volumes[1]).await.unwrap();
    assert_eq!(reservations(&store).await.len(), 2);

    release(&store, &first).await;
    store.remove(&second.volume.name, second.version).await.unwrap();

    assert_eq!(reservations(&store).await, []);
}

#[tokio::test]
async fn a_sweep_deletes_dead_reservations_and_makes_those_that_are_missing() {
    let (place, store) = cluster!();
    let volumes = volumes(&store, 4).await;
    let [held, lacking, pending, moved] = &volumes[..] else { unreachable!() };
    claim_on(&store, "held", held).await.unwrap();
    claim_on(&store, "lacking", lacking).await.unwrap();
    let lease = lease_name(&"lacking".parse().unwrap());
    store.running.api.reservations.delete(&lease, &DeleteParams::default()).await.unwrap();
    store.running.api.reserve(&wish("pending", pending)).await.unwrap();
    store.running.api.reserve(&wish("dead", moved)).await.unwrap();
    let cordoned = moved.volume.cordoned(true);
    store.decide(&moved.volume.name, moved.version, cordoned).await.unwrap();

    let swept = place.open().await.sweep(&mut HashSet::new()).await.unwrap();

    assert_eq!(swept, Swept { deleted: 1, made: 1 });
    let mut left = reservations(&store).await;
    left.sort();
    assert_eq!(
        left.iter().map(ClaimName::as_str).collect::<Vec<_>>(),
        ["held", "lacking", "pending"]
    );
    assert_eq!(store.sweep(&mut HashSet::new()).await.unwrap(), Swept::default());
}

#[tokio::test]
async fn a_name_stays_taken_when_its_reservation_was_deleted_by_hand() {
    let (_place, store) = cluster!();
    let volumes = volumes(&store, 2).await;
    claim_on(&store, "pvc-1", &volumes[0]).await.unwrap();
    let lease = lease_name(&"pvc-1".parse().unwrap());
    store.running.api.reservations.delete(&lease, &DeleteParams::default()).await.unwrap();

    let again = claim_on(&store, "pvc-1", &volumes[1]).await;

    assert!(matches!(again, Err(Error::ClaimNameTaken { .. })), "{again:?}");
}

#[tokio::test]
async fn a_held_volume_that_was_deleted_waits_for_who_knows_its_claim_and_is_made_anew_by_them() {
    let (place, store) = cluster!();
    let volumes = volumes(&store, 1).await;
    let held = claim_on(&store, "pvc-1", &volumes[0]).await.unwrap();
    let name = held.volume.name.clone();
    let agent = place.open_in(Scope::Node("node-a".parse().unwrap())).await;

    place.objects().delete(name.as_str(), &DeleteParams::default()).await.unwrap();
    let kept = store.get_live(&name).await.unwrap();
    let old = place.objects().get(name.as_str()).await.unwrap().metadata.uid;
    // Who has yet to learn of the claim changes nothing.
    let unaware = agent.add(LocalVolume::clone(&volumes[0].volume)).await;
    let anew = agent.add(LocalVolume::clone(&held.volume)).await.unwrap();

    assert_eq!(kept.volume, held.volume);
    assert!(kept.deleting && !anew.deleting);
    assert!(matches!(unaware, Err(Error::Exists(_))), "{unaware:?}");
    assert_eq!(anew.volume, held.volume);
    assert_ne!(place.objects().get(name.as_str()).await.unwrap().metadata.uid, old);
    assert_eq!(reservations(&store).await, ["pvc-1".parse().unwrap()]);
}

#[tokio::test]
async fn a_claim_that_ends_on_a_deleted_object_leaves_it_for_its_agent_to_learn_of_that() {
    let (place, store) = cluster!();
    let volumes = volumes(&store, 1).await;
    let held = claim_on(&store, "pvc-1", &volumes[0]).await.unwrap();
    let name = held.volume.name.clone();
    place.objects().delete(name.as_str(), &DeleteParams::default()).await.unwrap();
    let kept = store.get_live(&name).await.unwrap();

    let released = release(&store, &kept).await;
    let stale = store.add(LocalVolume::clone(&held.volume)).await;
    let anew = store.add(LocalVolume::clone(&released.volume)).await.unwrap();

    assert!(released.deleting);
    assert!(matches!(stale, Err(Error::Exists(_))), "{stale:?}");
    assert_eq!(anew.volume, released.volume);
    assert_eq!(reservations(&store).await, []);
}
