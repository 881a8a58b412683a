//! What only the embedded store promises, after the contract of all of them.

mod altered;
mod crash;
mod failing;
mod refusal;
mod wipes;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use futures_util::StreamExt;
use tempfile::TempDir;

use super::*;
use crate::inventory::contract::{Place, contract};
use crate::volume::Bytes;
use crate::volume::fixture::*;

/// A state directory of its own.
struct Directory(TempDir);

impl Place for Directory {
    type Store = Embedded;

    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Embedded {
        Embedded::open(self.0.path()).unwrap()
    }

    async fn close(&self, store: Embedded) {
        store.close().await;
    }
}

contract!(Directory);

fn volume(number: usize) -> LocalVolume {
    named(&format!("v{number}"), Bytes(1 << 30))
}

/// Waits until what was answered is in the file a second time: that is so before a call is taken up that comes after one
/// that changes nothing.
async fn until_twice(store: &Embedded) {
    for _ in 0..2 {
        let none = store.remove(&volume(1000).name, Version(1)).await;
        assert!(matches!(none, Err(Error::NotFound(_))), "{none:?}");
    }
}

/// A state directory whose inventory has so many volumes and is closed.
async fn directory_of(count: usize) -> TempDir {
    let state = tempfile::tempdir().unwrap();
    let store = Embedded::open(state.path()).unwrap();
    for number in 0..count {
        store.add(volume(number)).await.unwrap();
    }
    store.close().await;
    state
}

#[tokio::test]
async fn the_last_clone_to_be_dropped_frees_the_directory_at_once() {
    let state = tempfile::tempdir().unwrap();

    for number in 0..20 {
        let store = Embedded::open(state.path()).unwrap();
        let clone = store.clone();
        drop(store);
        let adding = tokio::spawn(async move { clone.add(volume(number)).await });
        adding.await.unwrap().unwrap();
    }

    assert_eq!(Embedded::open(state.path()).unwrap().list().await.unwrap().len(), 20);
}

#[tokio::test]
async fn closing_ends_every_clone_and_every_watch_and_frees_the_directory() {
    let state = tempfile::tempdir().unwrap();
    let store = Embedded::open(state.path()).unwrap();
    let added = store.add(available()).await.unwrap();
    let clone = store.clone();
    let mut events = store.watch();
    events.next().await.unwrap();

    store.close().await;

    let refused = clone.add(volume(2)).await;
    assert!(matches!(refused, Err(Error::NotWritten { .. })), "{refused:?}");
    assert_eq!(events.next().await, None);
    clone.close().await;
    assert_eq!(Embedded::open(state.path()).unwrap().list().await.unwrap(), [added]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_races_with_closing_is_either_there_or_refused() {
    let state = tempfile::tempdir().unwrap();
    let store = Embedded::open(state.path()).unwrap();
    let adding: Vec<_> = (0..200)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { store.add(volume(number)).await })
        })
        .collect();
    store.close().await;

    let mut there = Vec::new();
    for task in adding {
        match task.await.unwrap() {
            Ok(recorded) => there.push(recorded),
            Err(error) => assert!(matches!(error, Error::NotWritten { .. }), "{error:?}"),
        }
    }
    there.sort_by(|one, other| one.volume.name.cmp(&other.volume.name));
    assert_eq!(Embedded::open(state.path()).unwrap().list().await.unwrap(), there);
}

#[tokio::test]
async fn a_watcher_that_is_behind_by_more_than_the_news_kept_is_told_everything_again() {
    let state = tempfile::tempdir().unwrap();
    let store = Embedded::open(state.path()).unwrap();
    let mut events = store.watch();
    assert_eq!(events.next().await, Some(Event::Reset(Vec::new())));
    let name = store.add(available()).await.unwrap().volume.name.clone();
    for number in 0..1100 {
        let turn = |volume: &LocalVolume| Ok::<_, Error>(volume.cordoned(number % 2 == 0));
        store.modify_spec(&name, turn).await.unwrap();
    }

    let now = store.list().await.unwrap();
    assert_eq!(events.next().await, Some(Event::Reset(now)));
}

#[tokio::test]
async fn a_request_that_is_refused_does_not_fail_those_that_wait_with_it() {
    let state = tempfile::tempdir().unwrap();
    let store = Embedded::open(state.path()).unwrap();

    let adding = (0..100).map(|number| store.add(volume(number / 2)));
    let outcomes = futures_util::future::join_all(adding).await;

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 50);
    assert_eq!(store.list().await.unwrap().len(), 50);
}

#[tokio::test]
async fn the_directory_and_the_file_are_their_owners_alone() {
    let state = tempfile::tempdir().unwrap();
    let missing = state.path().join("var/lib/berth");
    let made_for_all = state.path().join("made-by-the-kubelet");
    fs::create_dir(&made_for_all).unwrap();
    fs::set_permissions(&made_for_all, fs::Permissions::from_mode(0o755)).unwrap();

    for directory in [missing, made_for_all] {
        let _store = Embedded::open(&directory).unwrap();

        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("inventory.redb")), 0o600);
    }
}
