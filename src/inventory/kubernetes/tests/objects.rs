//! Objects that are no volumes yet, or not any longer, or not for this release; and what others wrote on them.

use kube::api::PostParams;

use super::*;
use crate::inventory::Event;

/// Puts the object of a volume there as an agent does that dies before it writes the status.
async fn begin(place: &Cluster, volume: &LocalVolume) {
    let object = crd::Object::incomplete(volume);
    place.objects().create(&PostParams::default(), &object).await.unwrap();
}

/// Makes the object of a volume one of a release to come.
async fn make_unreadable(place: &Cluster, recorded: &Recorded) {
    let objects = place.objects();
    let name = recorded.volume.name.as_str();
    let change = json!([
        {"op": "replace", "path": "/status/conditions/0/reason", "value": "Glowing"}
    ]);
    let patch = Patch::Json::<()>(serde_json::from_value(change).unwrap());
    objects.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn an_object_that_is_still_being_added_is_no_volume_for_anyone() {
    let (place, store) = cluster!();
    let mut events = store.watch();
    assert_eq!(events.next().await, Some(Event::Reset(Vec::new())));

    begin(&place, &volume(1)).await;
    let whole = store.add(volume(2)).await.unwrap();

    assert_eq!(events.next().await, Some(Event::Applied(Box::new(whole.clone()))));
    assert_eq!(store.list().await.unwrap(), [whole]);
    // That it is not there would be a reason to forget a claim on it.
    let got = store.get(&volume(1).name).await;
    assert!(matches!(got, Err(Error::NotWritten { .. })), "{got:?}");
    let decided = store.decide(&volume(1).name, Version(1), volume(1).spec).await;
    assert!(matches!(decided, Err(Error::NotWritten { .. })), "{decided:?}");
}

#[tokio::test]
async fn an_addition_takes_up_what_an_earlier_one_left() {
    let (place, store) = cluster!();
    let held = {
        let free = volume(1);
        LocalVolume { spec: free.claimed(claim("pvc-1"), delete()).unwrap(), ..free }
    };
    let mut otherwise = volume(2);
    otherwise.spec.tenancy = Tenancy(5);
    begin(&place, &volume(1)).await;
    begin(&place, &otherwise).await;

    let first = store.add(held.clone()).await.unwrap();
    let second = store.add(volume(2)).await.unwrap();

    assert_eq!(*first.volume, held);
    assert_eq!(*second.volume, volume(2));
    assert_eq!(store.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_object_of_a_release_to_come_is_passed_over_and_keeps_what_it_holds() {
    let (place, store) = cluster!();
    let unreadable = store.add(volume(1)).await.unwrap();
    let free = store.add(volume(2)).await.unwrap();
    let spec = held_by("pvc-1", &unreadable);
    let held = store.decide(&unreadable.volume.name, unreadable.version, spec).await.unwrap();
    drop(store);

    make_unreadable(&place, &held).await;

    let store = place.open().await;
    assert_eq!(store.list().await.unwrap(), std::slice::from_ref(&free));
    let got = store.get(&held.volume.name).await;
    assert!(matches!(got, Err(Error::NotWritten { .. })), "{got:?}");
    let again = store.decide(&free.volume.name, free.version, held_by("pvc-1", &free)).await;
    assert!(matches!(again, Err(Error::NotWritten { .. })), "{again:?}");
    assert_eq!(store.get_live(&free.volume.name).await.unwrap(), free);
}

#[tokio::test]
async fn what_became_unreadable_is_removed_for_watchers_and_comes_back_once_it_can_be_read() {
    let (place, store) = cluster!();
    let added = store.add(volume(1)).await.unwrap();
    let mut events = store.watch();
    events.next().await.unwrap();

    make_unreadable(&place, &added).await;
    let removed = events.next().await.unwrap();
    let change = json!([
        {"op": "replace", "path": "/status/conditions/0/reason", "value": "Present"}
    ]);
    let patch = Patch::Json::<()>(serde_json::from_value(change).unwrap());
    let name = added.volume.name.as_str();
    place.objects().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    let back = events.next().await.unwrap();

    assert!(matches!(removed, Event::Removed(gone, version)
        if gone == added.volume.name && version > added.version));
    assert!(matches!(back, Event::Applied(back) if back.volume == added.volume));
}

#[tokio::test]
async fn what_people_wrote_on_an_object_stays() {
    let (place, store) = cluster!();
    let added = store.add(volume(1)).await.unwrap();
    let note = json!({"metadata": {
        "labels": {"rack": "7"}, "annotations": {"note": "slow"}, "finalizers": ["example.org/mine"],
    }});
    place.patch(&added.volume, note).await.unwrap();

    let read = store.get_live(&added.volume.name).await.unwrap();
    let spec = held_by("pvc-1", &read);
    let held = store.decide(&read.volume.name, read.version, spec).await.unwrap();
    let status = added.volume.status.clone();
    store.observe(&held.volume.name, held.version, status).await.unwrap();

    let metadata = place.objects().get(held.volume.name.as_str()).await.unwrap().metadata;
    assert_eq!(metadata.labels.unwrap()["rack"], "7");
    assert_eq!(metadata.annotations.unwrap()["note"], "slow");
    assert_eq!(metadata.finalizers.unwrap(), ["example.org/mine", FINALIZER]);
}

#[tokio::test]
async fn a_change_by_a_person_is_a_conflict_for_who_has_not_read_it_and_is_read_afterwards() {
    let (place, store) = cluster!();
    let mut volumes = Vec::new();
    for number in 0..4 {
        volumes.push(store.add(volume(number)).await.unwrap());
    }
    let store = with_a_dead_watch(&place).await;
    for added in &volumes {
        place.patch(&added.volume, json!({"spec": {"cordoned": true}})).await.unwrap();
    }

    let name = |number: usize| &volumes[number].volume.name;
    let version = volumes[0].version;
    let decided = [
        store.decide(name(0), version, held_by("pvc-1", &volumes[0])).await.map(drop),
        store
            .decide(name(1), volumes[1].version, volumes[1].volume.ordered_clean(delete()))
            .await
            .map(drop),
        store
            .observe(name(2), volumes[2].version, volumes[2].volume.status.clone())
            .await
            .map(drop),
        store.remove(name(3), volumes[3].version).await,
    ];

    for (number, decided) in decided.into_iter().enumerate() {
        assert!(matches!(decided, Err(Error::Conflict(_))), "{number}: {decided:?}");
        let read = store.get(name(number)).await.unwrap();
        assert!(read.volume.spec.cordoned, "{number} is read as it was");
    }
}

#[tokio::test]
async fn an_agent_lists_and_hears_of_its_own_nodes_volumes_only() {
    let (place, all) = cluster!();
    let agent = place.open_in(Scope::Node("node-b".parse().unwrap())).await;
    let mut events = agent.watch();
    events.next().await.unwrap();

    let elsewhere = all.add(volume(1)).await.unwrap();
    let here = all.add(on("node-b", "fast", "v1", Bytes(1 << 30))).await.unwrap();

    assert_eq!(events.next().await, Some(Event::Applied(Box::new(here.clone()))));
    let looked_at = agent.get(&elsewhere.volume.name).await;
    assert!(matches!(looked_at, Err(Error::NotWritten { .. })), "{looked_at:?}");
    assert_eq!(agent.list().await.unwrap(), [here]);
    assert_eq!(all.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_phase_that_people_read_follows_what_was_decided_once_the_agent_writes() {
    let (place, store) = cluster!();
    let added = store.add(volume(1)).await.unwrap();
    let spec = held_by("pvc-1", &added);
    let held = store.decide(&added.volume.name, added.version, spec).await.unwrap();

    store.observe(&held.volume.name, held.version, held.volume.status.clone()).await.unwrap();

    let object = place.objects().get(held.volume.name.as_str()).await.unwrap();
    assert_eq!(object.status.unwrap().phase.as_deref(), Some("Claimed"));
}

#[tokio::test]
async fn an_agent_believes_no_object_of_another_node_that_has_the_name_of_a_volume_of_its_own() {
    let (place, everywhere) = cluster!();
    let own = volume(1);
    let mut squatter = own.clone();
    squatter.spec.node = "node-b".parse().unwrap();
    everywhere.add(squatter).await.unwrap();
    let agent = place.open_in(Scope::Node(own.spec.node.clone())).await;

    let latest = agent.latest(&own.name).await;
    let added = agent.add(own.clone()).await;

    assert!(matches!(latest, Err(Error::NotWritten { .. })), "{latest:?}");
    assert!(matches!(added, Err(Error::Exists(_))), "{added:?}");
    assert_eq!(agent.list().await.unwrap(), []);
}
