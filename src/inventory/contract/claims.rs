//! Claims: one volume for one name, one name for one volume, however many ask at once.

use std::collections::BTreeSet;

use super::super::{Error, Inventory, Recorded};
use super::{Place, held_by, numbered, with_volumes};
use crate::volume::fixture::{claim, delete};
use crate::volume::{LocalVolume, VolumeName};

/// The outcomes of so many tasks that run at once.
async fn at_once<T: Send + 'static>(
    tasks: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = tasks.map(tokio::spawn).collect();
    let mut outcomes = Vec::with_capacity(tasks.len());
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

pub(crate) async fn of_many_claims_at_one_version_one_wins<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(1).await;

    let outcomes = at_once((0..50).map(|number| {
        let (store, read) = (store.clone(), volumes[0].clone());
        let spec = held_by(&format!("pvc-{number}"), &read);
        async move { store.decide(&read.volume.name, read.version, spec).await }
    }))
    .await;

    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|lost| matches!(lost, Err(Error::Conflict(_)))), "{lost:?}");
    assert_eq!(store.list().await.unwrap(), [won.into_iter().next().unwrap().unwrap()]);
}

pub(crate) async fn fifty_claims_of_one_name_get_one_volume<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(50).await;

    let outcomes = at_once(volumes.into_iter().map(|read| {
        let (store, spec) = (store.clone(), held_by("pvc-1", &read));
        async move { store.decide(&read.volume.name, read.version, spec).await }
    }))
    .await;

    let won: Vec<_> = outcomes.iter().flatten().map(|won| won.volume.name.clone()).collect();
    assert_eq!(won.len(), 1);
    for lost in outcomes.into_iter().filter_map(Result::err) {
        assert!(
            matches!(&lost, Error::ClaimNameTaken { holder, .. } if *holder == won[0]),
            "{lost:?}"
        );
    }
    assert_eq!(held(&store.list().await.unwrap()), BTreeSet::from([won[0].clone()]));
}

pub(crate) async fn a_volume_cannot_be_added_with_a_claim_that_another_holds<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(1).await;
    let holder = &volumes[0];
    let spec = held_by("pvc-1", holder);
    store.decide(&holder.volume.name, holder.version, spec).await.unwrap();
    let other = numbered(7);
    let spec = other.claimed(claim("pvc-1"), delete()).unwrap();

    let added = store.add(LocalVolume { spec, ..other }).await;

    assert!(matches!(added, Err(Error::ClaimNameTaken { .. })), "{added:?}");
    assert_eq!(store.list().await.unwrap().len(), 1);
}

pub(crate) async fn a_claim_name_may_be_used_again_once_its_volume_is_released<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(2).await;
    let (first, second) = (&volumes[0], &volumes[1]);
    let spec = held_by("pvc-1", first);
    let claimed = store.decide(&first.volume.name, first.version, spec).await.unwrap();
    let spec = claimed.volume.released(claimed.volume.spec.tenancy).unwrap();
    store.decide(&first.volume.name, claimed.version, spec).await.unwrap();

    let again =
        store.decide(&second.volume.name, second.version, held_by("pvc-1", second)).await.unwrap();

    assert_eq!(held(&store.list().await.unwrap()), BTreeSet::from([again.volume.name.clone()]));
}

pub(crate) async fn a_claim_name_may_be_used_again_once_its_volume_is_removed<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(2).await;
    let (first, second) = (&volumes[0], &volumes[1]);
    let spec = held_by("pvc-1", first);
    let claimed = store.decide(&first.volume.name, first.version, spec).await.unwrap();
    store.remove(&first.volume.name, claimed.version).await.unwrap();

    let again = store.decide(&second.volume.name, second.version, held_by("pvc-1", second)).await;

    assert_eq!(store.list().await.unwrap(), [again.unwrap()]);
}

pub(crate) async fn a_claim_name_is_still_taken_after_a_reopen<P: Place>() {
    let (place, store, volumes) = with_volumes::<P>(2).await;
    let (first, second) = (&volumes[0], &volumes[1]);
    let spec = held_by("pvc-1", first);
    store.decide(&first.volume.name, first.version, spec).await.unwrap();
    place.close(store).await;

    let store = place.open().await;
    let second = store.get(&second.volume.name).await.unwrap();
    let spec = held_by("pvc-1", &second);
    let again = store.decide(&second.volume.name, second.version, spec).await;

    assert!(
        matches!(&again, Err(Error::ClaimNameTaken { holder, .. }) if *holder == first.volume.name),
        "{again:?}"
    );
}

pub(crate) async fn as_many_claims_as_volumes_at_once_get_one_each<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(P::MANY).await;

    let outcomes = at_once((0..P::MANY).map(|number| {
        let store = store.clone();
        // Ten claims set out from one volume, so that most of them meet others on their way.
        let start = number / 10 * 10;
        let names: Vec<_> = volumes[start..].iter().chain(&volumes[..start]).cloned().collect();
        async move { first_free(&store, &format!("pvc-{number}"), names).await }
    }))
    .await;

    assert_eq!(outcomes.iter().collect::<BTreeSet<_>>().len(), P::MANY);
    assert_eq!(held(&store.list().await.unwrap()).len(), P::MANY);
}

/// Claims the first of `volumes` that nobody else has claimed meanwhile.
async fn first_free(store: &impl Inventory, name: &str, volumes: Vec<Recorded>) -> VolumeName {
    for read in volumes {
        let spec = held_by(name, &read);
        match store.decide(&read.volume.name, read.version, spec).await {
            Ok(recorded) => return recorded.volume.name.clone(),
            Err(Error::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nothing left for {name}");
}

fn held(volumes: &[Recorded]) -> BTreeSet<VolumeName> {
    let held = volumes.iter().filter(|recorded| recorded.volume.spec.claim.is_some());
    held.map(|recorded| recorded.volume.name.clone()).collect()
}
