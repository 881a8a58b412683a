//! Records, versions and durability.

use super::super::{Error, Inventory, Version};
use super::{Place, fresh, held_by, numbered, with_volumes};
use crate::volume::fixture::{available, holds};
use crate::volume::{CleanMethod, HealthReason, LocalVolume, Spec, Tenancy, Wipe, WipeResult};

pub(crate) async fn what_was_added_is_got_and_listed_in_the_order_of_names<P: Place>() {
    let (_place, store) = fresh::<P>().await;
    let mut added = Vec::new();
    for number in [3, 1, 2] {
        added.push(store.add(numbered(number)).await.unwrap());
    }

    added.sort_by(|one, other| one.volume.name.cmp(&other.volume.name));
    assert_eq!(store.list().await.unwrap(), added);
    for recorded in added {
        assert_eq!(store.get(&recorded.volume.name).await.unwrap(), recorded);
    }
}

pub(crate) async fn a_name_is_added_once<P: Place>() {
    let (_place, store) = fresh::<P>().await;
    let first = store.add(available()).await.unwrap();
    let mut other = available();
    other.spec.cordoned = true;

    let again = store.add(other).await;

    assert!(matches!(again, Err(Error::Exists(name)) if name == first.volume.name));
    assert_eq!(store.list().await.unwrap(), [first]);
}

pub(crate) async fn a_volume_that_is_not_there_is_not_found<P: Place>() {
    let (_place, store) = fresh::<P>().await;
    let LocalVolume { name, spec, status } = available();

    assert!(matches!(store.get(&name).await, Err(Error::NotFound(_))));
    assert!(matches!(store.decide(&name, Version(1), spec).await, Err(Error::NotFound(_))));
    assert!(matches!(store.observe(&name, Version(1), status).await, Err(Error::NotFound(_))));
    assert!(matches!(store.remove(&name, Version(1)).await, Err(Error::NotFound(_))));
    assert_eq!(store.list().await.unwrap(), []);
}

pub(crate) async fn what_is_decided_and_what_is_seen_change_apart<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(1).await;
    let LocalVolume { name, spec, status } = LocalVolume::clone(&volumes[0].volume);
    let cordoned = Spec { cordoned: true, ..spec };
    let mut lost = status.clone();
    lost.conditions.healthy = holds(false, HealthReason::Missing);

    let decided = store.decide(&name, volumes[0].version, cordoned.clone()).await.unwrap();
    let observed = store.observe(&name, decided.version, lost.clone()).await.unwrap();

    assert_eq!(*decided.volume, LocalVolume { name: name.clone(), spec: cordoned.clone(), status });
    assert_eq!(*observed.volume, LocalVolume { name, spec: cordoned, status: lost });
}

pub(crate) async fn every_change_has_a_greater_version<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(2).await;
    let mut newest = volumes.iter().map(|recorded| recorded.version).max().unwrap();

    for number in [0, 1, 0, 1] {
        let now = store.get(&volumes[number].volume.name).await.unwrap();
        let spec = now.volume.cordoned(!now.volume.spec.cordoned);
        let changed = store.decide(&now.volume.name, now.version, spec).await.unwrap();
        assert!(changed.version > newest, "{changed:?} follows {newest:?}");
        newest = changed.version;
    }
}

pub(crate) async fn a_change_at_a_stale_version_is_a_conflict_and_changes_nothing<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(1).await;
    let read = &volumes[0];
    let name = &read.volume.name;
    let newer = store.decide(name, read.version, read.volume.cordoned(true)).await.unwrap();

    let decided = store.decide(name, read.version, held_by("pvc-1", read)).await;
    let observed = store.observe(name, read.version, read.volume.status.clone()).await;

    assert!(matches!(decided, Err(Error::Conflict(_))), "{decided:?}");
    assert!(matches!(observed, Err(Error::Conflict(_))), "{observed:?}");
    assert_eq!(store.get(name).await.unwrap(), newer);
}

pub(crate) async fn a_removal_at_a_stale_version_is_a_conflict_and_removes_nothing<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(1).await;
    let read = &volumes[0];
    let name = &read.volume.name;
    let claimed = store.decide(name, read.version, held_by("pvc-1", read)).await.unwrap();

    let removed = store.remove(name, read.version).await;

    assert!(matches!(removed, Err(Error::Conflict(_))), "{removed:?}");
    assert_eq!(store.get(name).await.unwrap(), claimed);
    store.remove(name, claimed.version).await.unwrap();
    assert!(matches!(store.get(name).await, Err(Error::NotFound(_))));
}

pub(crate) async fn a_removed_name_may_be_added_again_at_a_greater_version<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(1).await;
    let first = &volumes[0];
    store.remove(&first.volume.name, first.version).await.unwrap();

    let second = store.add(LocalVolume::clone(&first.volume)).await.unwrap();

    assert!(second.version > first.version);
    let stale = store.remove(&first.volume.name, first.version).await;
    assert!(matches!(stale, Err(Error::Conflict(_))), "{stale:?}");
}

pub(crate) async fn what_was_acknowledged_is_there_after_a_reopen<P: Place>() {
    let (place, store, volumes) = with_volumes::<P>(3).await;
    let [claimed, removed, _] = &volumes[..] else { unreachable!() };
    let name = &claimed.volume.name;
    store.decide(name, claimed.version, held_by("pvc-1", claimed)).await.unwrap();
    store.remove(&removed.volume.name, removed.version).await.unwrap();
    let before = store.list().await.unwrap();
    place.close(store).await;

    let store = place.open().await;

    assert_eq!(store.list().await.unwrap(), before);
}

pub(crate) async fn versions_go_on_growing_after_a_reopen<P: Place>() {
    let (place, store, volumes) = with_volumes::<P>(2).await;
    let newest = volumes.iter().max_by_key(|recorded| recorded.version).unwrap();
    store.remove(&newest.volume.name, newest.version).await.unwrap();
    place.close(store).await;

    let store = place.open().await;
    let added = store.add(LocalVolume::clone(&newest.volume)).await.unwrap();

    assert!(added.version > newest.version);
}

pub(crate) async fn many_writers_of_one_status_lose_nothing<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(1).await;
    let writers = (0..20).map(|number| {
        let (store, name) = (store.clone(), volumes[0].volume.name.clone());
        tokio::spawn(async move {
            let add = |volume: &LocalVolume| {
                let mut status = volume.status.clone();
                status.own_mounts.push(number.to_string());
                Some(status)
            };
            store.modify_status(&name, add).await.unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }

    let mut numbers =
        store.get(&volumes[0].volume.name).await.unwrap().volume.status.own_mounts.clone();
    numbers.sort_by_key(|number| number.parse::<u32>().unwrap());
    assert_eq!(numbers, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
}

pub(crate) async fn a_change_that_changes_nothing_is_not_written<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(1).await;
    let (name, spec) = (&volumes[0].volume.name, volumes[0].volume.spec.clone());

    let spec_left = store.modify_spec(name, |volume| Ok::<_, Error>(volume.spec.clone())).await;
    let status_left = store.modify_status(name, |_| None).await;
    let decided = store.decide(name, volumes[0].version, spec).await;

    assert_eq!(spec_left.unwrap(), volumes[0]);
    assert_eq!(status_left.unwrap(), volumes[0]);
    assert_eq!(decided.unwrap(), volumes[0]);
}

pub(crate) async fn a_change_may_refuse_with_an_error_of_its_own<P: Place>() {
    #[derive(Debug, thiserror::Error)]
    enum Mine {
        #[error("refused")]
        Refused,
        #[error(transparent)]
        Inventory(#[from] Error),
    }
    let (_place, store, volumes) = with_volumes::<P>(1).await;

    let refused = store.modify_spec(&volumes[0].volume.name, |_| Err(Mine::Refused)).await;

    assert!(matches!(refused, Err(Mine::Refused)), "{refused:?}");
    assert_eq!(store.list().await.unwrap(), volumes);
}

pub(crate) async fn the_latest_wipe_of_each_volume_is_remembered<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(2).await;
    let begun = Wipe::begun(Tenancy(0), &CleanMethod::Delete, jiff::Timestamp::UNIX_EPOCH);
    let wipe = Wipe { result: WipeResult::Wiped, entries: 3, ..begun };
    let status = volumes[1].volume.status.clone().remembering(wipe.clone());

    store.observe(&volumes[1].volume.name, volumes[1].version, status).await.unwrap();

    assert_eq!(store.wipes().await.unwrap(), [volumes[1].volume.record_of(wipe)]);
}
