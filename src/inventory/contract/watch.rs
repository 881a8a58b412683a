//! Watches: everything at first, then every change once and in order, or everything again.

use std::collections::BTreeMap;

use futures_util::{Stream, StreamExt};

use super::super::{Event, Inventory, Recorded};
use super::{Place, held_by, numbered, soon, with_volumes};
use crate::volume::VolumeName;

/// What a watcher knows, from the events that it was told.
#[derive(Default)]
struct Watcher {
    volumes: BTreeMap<VolumeName, Recorded>,
}

impl Watcher {
    fn told(&mut self, event: Event) {
        match event {
            Event::Reset(all) => {
                let all = all.into_iter().map(|recorded| (recorded.volume.name.clone(), recorded));
                self.volumes = all.collect();
            }
            Event::Applied(recorded) => {
                let before = self.volumes.insert(recorded.volume.name.clone(), *recorded.clone());
                let before = before.map(|before| before.version);
                assert!(before < Some(recorded.version), "{before:?} came before {recorded:?}");
            }
            Event::Removed(name, version) => {
                let before = self.volumes.remove(&name).expect("what was never there was removed");
                assert!(before.version < version);
            }
        }
    }

    /// Listens until the volume of this number is told of, which is the last that is added.
    async fn listen(mut self, mut events: impl Stream<Item = Event> + Unpin, last: usize) -> Self {
        let last = numbered(last).name;
        while !self.volumes.contains_key(&last) {
            self.told(soon(events.next()).await.expect("the watch ended"));
        }
        self
    }

    fn knows(self) -> Vec<Recorded> {
        self.volumes.into_values().collect()
    }
}

pub(crate) async fn a_watch_begins_with_everything_and_tells_each_change_once_in_order<P: Place>() {
    let (_place, store, volumes) = with_volumes::<P>(2).await;
    let mut events = store.watch();
    assert_eq!(soon(events.next()).await, Some(Event::Reset(volumes.clone())));

    let (one, other) = (&volumes[0], &volumes[1]);
    let spec = held_by("pvc-1", one);
    let claimed = store.decide(&one.volume.name, one.version, spec).await.unwrap();
    let cordoned = other.volume.cordoned(true);
    let cordoned = store.decide(&other.volume.name, other.version, cordoned).await.unwrap();
    let spec = claimed.volume.released(claimed.volume.spec.tenancy).unwrap();
    let released = store.decide(&one.volume.name, claimed.version, spec).await.unwrap();
    store.remove(&other.volume.name, cordoned.version).await.unwrap();

    for expected in [claimed, cordoned, released.clone()] {
        assert_eq!(soon(events.next()).await, Some(Event::Applied(Box::new(expected))));
    }
    let Some(Event::Removed(name, version)) = soon(events.next()).await else {
        panic!("the removal was not told")
    };
    assert_eq!(name, other.volume.name);
    assert!(version > released.version);
}

pub(crate) async fn a_watch_that_begins_amid_changes_misses_none<P: Place>() {
    const COUNT: usize = 300;
    let (_place, store, _) = with_volumes::<P>(0).await;
    let writer = tokio::spawn(storm(store.clone(), COUNT));
    let mut watchers = Vec::new();
    for _ in 0..20 {
        let events = store.watch();
        watchers.push(tokio::spawn(Watcher::default().listen(events, COUNT)));
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();

    let expected = store.list().await.unwrap();
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap().knows(), expected);
    }
}

pub(crate) async fn a_watcher_that_fell_behind_ends_with_everything<P: Place>() {
    let count = P::MANY * 3 / 2;
    let (_place, store, _) = with_volumes::<P>(0).await;
    let mut events = store.watch();
    let mut watcher = Watcher::default();
    watcher.told(soon(events.next()).await.unwrap());

    storm(store.clone(), count).await;

    let watcher = watcher.listen(events, count).await;
    assert_eq!(watcher.knows(), store.list().await.unwrap());
}

/// Adds volumes, claims every third and removes every fifth, and adds the one of number `count` at the end.
async fn storm(store: impl Inventory, count: usize) {
    for number in 0..count {
        let mut recorded = store.add(numbered(number)).await.unwrap();
        if number % 3 == 0 {
            let spec = held_by(&format!("pvc-{number}"), &recorded);
            recorded = store.decide(&recorded.volume.name, recorded.version, spec).await.unwrap();
        }
        if number % 5 == 0 {
            store.remove(&recorded.volume.name, recorded.version).await.unwrap();
        }
    }
    store.add(numbered(count)).await.unwrap();
}
