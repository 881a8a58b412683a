//! What the store does while the API server is away, and what it knows when it is back.

use super::proxy::{Proxy, Way};
use super::*;
use crate::inventory::Event;

/// A store whose way to the API server can be cut, and one that always gets through.
async fn behind_a_proxy(place: &Cluster) -> (Proxy, Kubernetes) {
    let server = place.server().await;
    let proxy = Proxy::to(server.port()).await;
    let config = Server::config_at(proxy.port());
    let store = Kubernetes::open(config, NAMESPACE, Scope::All).unwrap();
    store.list().await.unwrap();
    (proxy, store)
}

async fn cordon(store: &Kubernetes, recorded: &Recorded) -> Result<Recorded, Error> {
    let spec = recorded.volume.cordoned(true);
    store.decide(&recorded.volume.name, recorded.version, spec).await
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_when_its_connection_is_cut() {
    let (place, direct) = cluster!();
    let (proxy, store) = behind_a_proxy(&place).await;
    let added = direct.add(volume(1)).await.unwrap();
    listed(&store, |all| all.len() == 1).await;
    let mut events = store.watch();
    events.next().await.unwrap();

    proxy.set(Way::Cut);
    let cordoned = cordon(&direct, &added).await.unwrap();
    direct.remove(&added.volume.name, cordoned.version).await.unwrap();
    proxy.set(Way::Open);

    assert_eq!(events.next().await, Some(Event::Applied(Box::new(cordoned.clone()))));
    let removed = events.next().await;
    assert!(matches!(removed, Some(Event::Removed(_, version)) if version > cordoned.version));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_survives_a_restart_of_the_api_server_that_has_forgotten_what_it_missed() {
    let (place, direct) = cluster!();
    let (proxy, store) = behind_a_proxy(&place).await;
    let mut volumes = Vec::new();
    for number in 0..3 {
        volumes.push(direct.add(volume(number)).await.unwrap());
    }
    listed(&store, |all| all.len() == 3).await;
    let mut events = store.watch();
    events.next().await.unwrap();

    proxy.set(Way::Cut);
    let spec = held_by("pvc-1", &volumes[0]);
    direct.decide(&volumes[0].volume.name, volumes[0].version, spec).await.unwrap();
    direct.remove(&volumes[1].volume.name, volumes[1].version).await.unwrap();
    direct.add(volume(7)).await.unwrap();
    let server = place.server().await;
    server.kill_api_server();
    server.compact().await;
    server.start_api_server().await;
    proxy.set(Way::Open);

    // 410 Gone: what was missed cannot be told change by change.
    let Some(Event::Reset(all)) = events.next().await else { panic!("there was no new beginning") };
    assert_eq!(all, direct.list().await.unwrap());
    assert_eq!(store.list().await.unwrap(), all);
    let cordoned = cordon(&direct, &all[0]).await.unwrap();
    assert_eq!(events.next().await, Some(Event::Applied(Box::new(cordoned))));
}

#[tokio::test]
async fn what_is_known_is_read_while_the_api_server_is_away_and_nothing_is_claimed() {
    let (place, _direct) = cluster!();
    let (proxy, store) = behind_a_proxy(&place).await;
    let added = store.add(volume(1)).await.unwrap();

    proxy.set(Way::Cut);
    let read = store.get(&added.volume.name).await.unwrap();
    let listed = store.list().await.unwrap();
    let claimed = store.decide(&added.volume.name, added.version, held_by("pvc-1", &added)).await;
    let unknown = store.get(&volume(2).name).await;

    assert_eq!(read, added);
    assert_eq!(listed, std::slice::from_ref(&added));
    assert!(matches!(claimed, Err(Error::NotWritten { .. })), "{claimed:?}");
    // Nobody knows that it is not there.
    assert!(matches!(unknown, Err(Error::NotWritten { .. })), "{unknown:?}");
    proxy.set(Way::Open);
    assert_eq!(store.get_live(&added.volume.name).await.unwrap(), added);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_told_as_unknown_and_then_read_as_it_is() {
    let (place, _direct) = cluster!();
    let (proxy, store) = behind_a_proxy(&place).await;
    let added = store.add(volume(1)).await.unwrap();

    proxy.set(Way::Mute);
    let outcome = cordon(&store, &added).await;
    proxy.set(Way::Open);

    assert!(matches!(outcome, Err(Error::OutcomeUnknown { .. })), "{outcome:?}");
    let now = listed(&store, |all| all[0].version > added.version).await;
    assert!(now[0].volume.spec.cordoned);
}

#[tokio::test]
async fn a_store_that_is_opened_while_the_api_server_is_away_is_filled_when_it_is_back() {
    let (place, direct) = cluster!();
    let added = direct.add(volume(1)).await.unwrap();
    let server = place.server().await;
    let proxy = Proxy::to(server.port()).await;
    proxy.set(Way::Cut);
    let config = Server::config_at(proxy.port());

    let store = Kubernetes::open(config, NAMESPACE, Scope::All).unwrap();
    let mut events = store.watch();
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), events.next()).await;
    proxy.set(Way::Open);

    assert!(early.is_err(), "{early:?} came from nowhere");
    assert_eq!(events.next().await, Some(Event::Reset(vec![added])));
}

#[tokio::test]
async fn watches_end_with_the_last_clone_of_the_store() {
    let (_place, store) = cluster!();
    let mut events = store.watch();
    events.next().await.unwrap();
    let clone = store.clone();
    drop(store);
    let added = clone.add(volume(1)).await.unwrap();
    assert_eq!(events.next().await, Some(Event::Applied(Box::new(added))));

    drop(clone);

    assert_eq!(events.next().await, None);
}
