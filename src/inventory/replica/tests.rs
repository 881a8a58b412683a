//! A replica of an embedded store, which stands for the one that all nodes share: the contract, and what happens when one of
//! the two is away, lost or set back.

mod edited;
mod storm;

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::inventory::contract::{Place, contract};
use crate::volume::fixture::{available, claim, claimed_by, delete, holds, named};
use crate::volume::{Bytes, HealthReason, Tenancy};

/// A remote store that can be out of reach.
#[derive(Debug, Clone)]
struct Remote {
    store: Embedded,
    away: Arc<AtomicBool>,
}

impl Remote {
    fn open(state: &TempDir) -> Self {
        Self { store: Embedded::open(state.path()).unwrap(), away: Arc::default() }
    }

    fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn store(&self) -> Result<&Embedded, Error> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::OutcomeUnknown { context: "a test", source: "out of reach".into() });
        }
        Ok(&self.store)
    }
}

impl Inventory for Remote {
    async fn list(&self) -> Result<Vec<Recorded>, Error> {
        self.store()?.list().await
    }

    async fn get(&self, name: &VolumeName) -> Result<Recorded, Error> {
        self.store()?.get(name).await
    }

    async fn add(&self, volume: LocalVolume) -> Result<Recorded, Error> {
        self.store()?.add(volume).await
    }

    async fn decide(&self, name: &VolumeName, at: Version, spec: Spec) -> Result<Recorded, Error> {
        self.store()?.decide(name, at, spec).await
    }

    async fn observe(&self, name: &VolumeName, at: Version, to: Status) -> Result<Recorded, Error> {
        self.store()?.observe(name, at, to).await
    }

    async fn remove(&self, name: &VolumeName, at: Version) -> Result<(), Error> {
        self.store()?.remove(name, at).await
    }

    fn watch(&self) -> impl Stream<Item = Event> + Send + Unpin + 'static {
        self.store.watch()
    }
}

/// The state directories of a ledger and of the remote store, and the tasks that keep stores in them equal.
struct Directories {
    ledger: TempDir,
    remote: TempDir,
    running: CancellationToken,
}

impl Directories {
    /// Opens both and keeps them equal.
    fn start(&self) -> (Replica<Remote>, CancellationToken) {
        let ledger = Embedded::open(self.ledger.path()).unwrap();
        let replica = Replica::new(ledger, Remote::open(&self.remote));
        let (running, token) = (replica.clone(), self.running.child_token());
        let cancel = token.clone();
        tokio::spawn(async move { running.run(cancel).await });
        (replica, token)
    }

    /// Loses what is beneath `state`.
    fn lose(state: &TempDir) {
        for entry in std::fs::read_dir(state.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        self.running.cancel();
    }
}

impl Place for Directories {
    type Store = Replica<Remote>;

    fn new() -> Self {
        Self {
            ledger: tempfile::tempdir().unwrap(),
            remote: tempfile::tempdir().unwrap(),
            running: CancellationToken::new(),
        }
    }

    async fn open(&self) -> Replica<Remote> {
        self.start().0
    }

    async fn close(&self, replica: Replica<Remote>) {
        stop(replica).await;
    }
}

contract!(Directories);

async fn stop(replica: Replica<Remote>) {
    replica.remote.store.clone().close().await;
    replica.ledger.clone().close().await;
}

fn of(all: Result<Vec<Recorded>, Error>) -> Vec<LocalVolume> {
    all.unwrap().into_iter().map(|one| Arc::unwrap_or_clone(one.volume)).collect()
}

/// Waits until both stores have exactly the same volumes, and gives them.
async fn equal(replica: &Replica<Remote>) -> Vec<LocalVolume> {
    let wait = async {
        let mut ledger = of(replica.ledger.list().await);
        while ledger != of(replica.remote.store.list().await) {
            tokio::time::sleep(Duration::from_millis(2)).await;
            ledger = of(replica.ledger.list().await);
        }
        ledger
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.expect("they never became equal")
}

#[expect(clippy::unnecessary_wraps, reason = "it is what `modify_status` takes")]
fn lost(volume: &LocalVolume) -> Option<Status> {
    let mut status = volume.status.clone();
    status.conditions.healthy = holds(false, HealthReason::Missing);
    Some(status)
}

#[tokio::test]
async fn what_is_seen_while_the_remote_store_is_away_is_durable_and_told_later() {
    let directories = Directories::new();
    let (replica, _) = directories.start();
    let added = replica.add(available()).await.unwrap();
    equal(&replica).await;
    replica.remote.go_away(true);

    replica.modify_status(&added.volume.name, lost).await.unwrap();

    assert!(!replica.get(&added.volume.name).await.unwrap().volume.is_healthy());
    assert!(!replica.latest(&added.volume.name).await.unwrap().volume.is_healthy());
    assert!(replica.remote.store.list().await.unwrap()[0].volume.is_healthy());
    replica.remote.go_away(false);
    assert!(!equal(&replica).await[0].is_healthy());
}

#[tokio::test]
async fn nothing_is_decided_while_the_remote_store_is_away() {
    let directories = Directories::new();
    let (replica, _) = directories.start();
    let added = replica.add(available()).await.unwrap();
    equal(&replica).await;
    replica.remote.go_away(true);

    let decided =
        replica.decide(&added.volume.name, added.version, added.volume.cordoned(true)).await;

    assert!(matches!(decided, Err(Error::OutcomeUnknown { .. })), "{decided:?}");
    assert_eq!(replica.list().await.unwrap(), [added]);
}

#[tokio::test]
async fn a_claim_that_the_ledger_has_not_heard_of_is_known_to_whoever_asks_for_the_latest() {
    let directories = Directories::new();
    let (replica, running) = directories.start();
    let name = replica.add(available()).await.unwrap().volume.name.clone();
    equal(&replica).await;
    running.cancel();
    let claimed =
        |volume: &LocalVolume| Ok::<_, Error>(volume.claimed(claim("pvc-1"), delete()).unwrap());
    replica.remote.store.modify_spec(&name, claimed).await.unwrap();

    let latest = replica.latest(&name).await.unwrap();

    assert!(latest.volume.spec.claim.is_some());
    assert_eq!(replica.get(&name).await.unwrap(), latest);
}

#[tokio::test]
async fn volumes_whose_objects_are_all_deleted_come_back_with_their_claims() {
    let directories = Directories::new();
    let (replica, _) = directories.start();
    replica.add(claimed_by("pvc-1")).await.unwrap();
    replica.add(named("v2", Bytes(1 << 30))).await.unwrap();
    let before = equal(&replica).await;

    for recorded in replica.remote.store.list().await.unwrap() {
        replica.remote.store.remove(&recorded.volume.name, recorded.version).await.unwrap();
    }

    assert_eq!(equal(&replica).await, before);
}

#[tokio::test]
async fn a_remote_store_that_was_lost_while_the_agent_was_down_is_written_anew() {
    let directories = Directories::new();
    let (replica, _) = directories.start();
    replica.add(claimed_by("pvc-1")).await.unwrap();
    let before = equal(&replica).await;
    stop(replica).await;
    Directories::lose(&directories.remote);

    let (replica, _) = directories.start();

    replica.ready().await;
    assert_eq!(equal(&replica).await, before);
}

#[tokio::test]
async fn a_ledger_that_was_lost_is_taken_from_the_remote_store_before_the_replica_is_ready() {
    let directories = Directories::new();
    let (replica, _) = directories.start();
    replica.add(claimed_by("pvc-1")).await.unwrap();
    let before = equal(&replica).await;
    stop(replica).await;
    Directories::lose(&directories.ledger);

    let (replica, _) = directories.start();
    replica.ready().await;

    assert_eq!(of(replica.list().await), before);
}

#[tokio::test]
async fn a_replica_is_not_ready_while_the_remote_store_is_away() {
    let directories = Directories::new();
    let (replica, _) = directories.start();
    replica.remote.go_away(true);
    replica.add(available()).await.unwrap();

    let early = tokio::time::timeout(Duration::from_millis(50), async {
        equal(&replica).await;
    });

    assert!(early.await.is_err(), "the remote store was told while it was away");
    replica.remote.go_away(false);
    replica.ready().await;
    equal(&replica).await;
}

#[tokio::test]
async fn a_tenancy_never_goes_back_when_the_remote_store_is_set_back() {
    let directories = Directories::new();
    let (replica, _) = directories.start();
    let name = replica.add(available()).await.unwrap().volume.name.clone();
    equal(&replica).await;
    let (mut ahead, old) = (replica.get(&name).await.unwrap(), available());
    Arc::make_mut(&mut ahead.volume).spec.tenancy = Tenancy(5);
    replica.decide(&name, ahead.version, ahead.volume.spec.clone()).await.unwrap();
    let ahead = equal(&replica).await;

    let now = replica.remote.store.get(&name).await.unwrap();
    replica.remote.store.decide(&name, now.version, old.spec).await.unwrap();

    assert_eq!(equal(&replica).await, ahead);
}

#[tokio::test]
async fn old_news_of_the_remote_store_is_not_taken_for_new() {
    let directories = Directories::new();
    let (replica, running) = directories.start();
    let name = replica.add(available()).await.unwrap().volume.name.clone();
    equal(&replica).await;
    running.cancel();
    let claimed =
        |volume: &LocalVolume| Ok::<_, Error>(volume.claimed(claim("pvc-1"), delete()).unwrap());
    let claimed = replica.remote.store.modify_spec(&name, claimed).await.unwrap();
    let release =
        |volume: &LocalVolume| Ok::<_, Error>(volume.released(volume.spec.tenancy).unwrap());
    let released = replica.remote.store.modify_spec(&name, release).await.unwrap();

    replica.take(&released).await.unwrap();
    let now = replica.take(&claimed).await.unwrap();

    assert_eq!(now.volume.spec, released.volume.spec);
}

#[tokio::test]
async fn a_volume_that_is_removed_leaves_both_and_stays_away() {
    let directories = Directories::new();
    let (replica, _) = directories.start();
    for _ in 0..50 {
        let added = replica.add(available()).await.unwrap();
        equal(&replica).await;

        replica.remove(&added.volume.name, added.version).await.unwrap();

        assert_eq!(equal(&replica).await, []);
    }
}

fn refused() -> Error {
    Error::NotWritten { context: "a test", source: "refused".into() }
}
