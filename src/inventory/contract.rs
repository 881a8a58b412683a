//! The contract of every inventory, as tests: what the documentation of [`Inventory`] promises and the rest of Berth
//! relies on. A store passes by `contract!(Place)` in its own tests, where `Place` knows how to open it.

mod claims;
mod records;
mod watch;

pub(crate) use claims::*;
pub(crate) use records::*;
pub(crate) use watch::*;

use std::future::Future;
use std::time::Duration;

use super::{Inventory, Recorded};
use crate::volume::fixture::{claim, delete, named};
use crate::volume::{Bytes, LocalVolume, Spec};

/// Where a store keeps what it remembers: empty when it is made, and gone when it is dropped.
pub(crate) trait Place: Send + Sync {
    /// The store under test.
    type Store: Inventory;

    /// How many volumes a storm is of.
    const MANY: usize = 1000;

    /// An empty place.
    fn new() -> Self;

    /// Why there can be no such place here, if so: then its tests are skipped.
    fn missing() -> Option<String> {
        None
    }

    /// Opens the store that is kept here, at first or again.
    fn open(&self) -> impl Future<Output = Self::Store> + Send;

    /// Ends a store, as the end of its process would.
    fn close(&self, store: Self::Store) -> impl Future<Output = ()> + Send;
}

/// Runs every test of the contract against the store that `$place` opens.
macro_rules! contract {
    ($place:ty) => {
        $crate::inventory::contract::contract!($place:
            what_was_added_is_got_and_listed_in_the_order_of_names,
            a_name_is_added_once,
            a_volume_that_is_not_there_is_not_found,
            what_is_decided_and_what_is_seen_change_apart,
            every_change_has_a_greater_version,
            a_change_at_a_stale_version_is_a_conflict_and_changes_nothing,
            a_removal_at_a_stale_version_is_a_conflict_and_removes_nothing,
            a_removed_name_may_be_added_again_at_a_greater_version,
            what_was_acknowledged_is_there_after_a_reopen,
            versions_go_on_growing_after_a_reopen,
            many_writers_of_one_status_lose_nothing,
            a_change_that_changes_nothing_is_not_written,
            the_latest_wipe_of_each_volume_is_remembered,
            a_change_may_refuse_with_an_error_of_its_own,
            of_many_claims_at_one_version_one_wins,
            fifty_claims_of_one_name_get_one_volume,
            a_volume_cannot_be_added_with_a_claim_that_another_holds,
            a_claim_name_may_be_used_again_once_its_volume_is_released,
            a_claim_name_may_be_used_again_once_its_volume_is_removed,
            a_claim_name_is_still_taken_after_a_reopen,
            as_many_claims_as_volumes_at_once_get_one_each,
            a_watch_begins_with_everything_and_tells_each_change_once_in_order,
            a_watch_that_begins_amid_changes_misses_none,
            a_watcher_that_fell_behind_ends_with_everything,
        );
    };
    ($place:ty: $($test:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                match <$place as $crate::inventory::contract::Place>::missing() {
                    Some(why) => eprintln!("skipped: {why}"),
                    None => $crate::inventory::contract::$test::<$place>().await,
                }
            }
        )*
    };
}
pub(crate) use contract;

/// An empty store. The place must outlive it.
async fn fresh<P: Place>() -> (P, P::Store) {
    let place = P::new();
    let store = place.open().await;
    (place, store)
}

/// A store of so many claimable volumes, in the order of `list`.
async fn with_volumes<P: Place>(count: usize) -> (P, P::Store, Vec<Recorded>) {
    let (place, store) = fresh::<P>().await;
    let adding = (0..count).map(|number| {
        let store = store.clone();
        tokio::spawn(async move { store.add(numbered(number)).await.unwrap() })
    });
    for task in adding.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let volumes = store.list().await.unwrap();
    (place, store, volumes)
}

fn numbered(number: usize) -> LocalVolume {
    named(&format!("v{number}"), Bytes(1 << 30))
}

/// The spec of `recorded` once the claim called `name` holds it.
fn held_by(name: &str, recorded: &Recorded) -> Spec {
    recorded.volume.claimed(claim(name), delete()).unwrap()
}

/// The outcome of `future`, which a correct store never keeps waiting.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), future).await.expect("nothing came for a minute")
}
