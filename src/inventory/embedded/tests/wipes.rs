//! The wipes of the past: there after whatever the volumes' records are, and of an older release's file there are none.

use super::*;
use crate::volume::{CleanMethod, Cleaning, Tenancy, Wipe, WipeResult};
use jiff::Timestamp;
use redb::{Database, TableDefinition};
use std::sync::atomic::{AtomicUsize, Ordering};

fn wiped(volume: &LocalVolume, tenancy: u64) -> Status {
    let begun = Wipe::begun(Tenancy(tenancy), &CleanMethod::Delete, Timestamp::UNIX_EPOCH);
    volume.status.clone().remembering(Wipe { result: WipeResult::Wiped, ..begun })
}

async fn tenancies(store: &Embedded) -> Vec<(u64, WipeResult)> {
    let wipes = store.wipes().await.unwrap();
    wipes.iter().map(|wipe| (wipe.wipe.tenancy.0, wipe.wipe.result)).collect()
}

#[tokio::test]
async fn each_wipe_is_kept_over_a_reopen_and_the_removal_of_its_volume() {
    let state = directory_of(1).await;
    let store = Embedded::open(state.path()).unwrap();
    let name = volume(0).name;
    for tenancy in 1..=3 {
        store.modify_status(&name, |volume| Some(wiped(volume, tenancy))).await.unwrap();
    }
    let begun = |volume: &LocalVolume| {
        let started = Timestamp::from_second(9).unwrap();
        let (tenancy, method) = (Tenancy(4), CleanMethod::Delete);
        let cleaning =
            Cleaning { tenancy, method, started, entries: 0, bytes: Bytes(0), remount: None };
        Some(Status { cleaning: Some(Box::new(cleaning)), ..volume.status.clone() })
    };
    let last = store.modify_status(&name, begun).await.unwrap();
    store.remove(&name, last.version).await.unwrap();
    store.close().await;

    let store = Embedded::open(state.path()).unwrap();

    let done = |tenancy| (tenancy, WipeResult::Wiped);
    let all = [done(1), done(2), done(3), (4, WipeResult::Interrupted)];
    assert_eq!(tenancies(&store).await, all);
    assert_eq!(store.list().await.unwrap(), []);
}

#[tokio::test]
async fn what_changes_beside_a_wipe_is_not_another_wipe() {
    let state = directory_of(1).await;
    let store = Embedded::open(state.path()).unwrap();
    let name = volume(0).name;
    store.modify_status(&name, |volume| Some(wiped(volume, 1))).await.unwrap();

    let other = |volume: &LocalVolume| {
        Some(Status { capacity: Bytes(volume.status.capacity.0 + 1), ..volume.status.clone() })
    };
    store.modify_status(&name, other).await.unwrap();

    assert_eq!(tenancies(&store).await, [(1, WipeResult::Wiped)]);
}

#[tokio::test]
async fn a_file_that_is_written_anew_has_the_wipes_too_and_of_a_failed_write_there_is_none() {
    let state = tempfile::tempdir().unwrap();
    let left = Arc::new(AtomicUsize::new(failing::HEALTHY));
    let store = Embedded::open_on(failing::disk(&state, &left, false)).unwrap();
    let name = store.add(volume(0)).await.unwrap().volume.name.clone();
    store.modify_status(&name, |volume| Some(wiped(volume, 1))).await.unwrap();
    until_twice(&store).await;

    left.store(0, Ordering::SeqCst);
    store.modify_status(&name, |volume| Some(wiped(volume, 2))).await.unwrap_err();

    assert_eq!(tenancies(&store).await, [(1, WipeResult::Wiped)]);
    store.close().await;
    let store = Embedded::open(state.path()).unwrap();
    assert_eq!(tenancies(&store).await, [(1, WipeResult::Wiped)]);
}

#[tokio::test]
async fn a_file_of_a_release_that_remembered_no_wipes_is_read_and_gets_them() {
    let state = directory_of(1).await;
    let table: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("wipes");
    let database = Database::open(state.path().join("inventory.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.delete_table(table).unwrap());
    transaction.commit().unwrap();
    drop(database);

    let store = Embedded::open(state.path()).unwrap();
    assert_eq!(tenancies(&store).await, []);
    store.modify_status(&volume(0).name, |volume| Some(wiped(volume, 1))).await.unwrap();

    assert_eq!(tenancies(&store).await, [(1, WipeResult::Wiped)]);
}
