//! The Kubernetes store against a real API server: the contract of all stores, and what only this one promises.

mod claims;
mod events;
mod objects;
mod outage;
mod proxy;
mod schema;
mod server;

use futures_util::StreamExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::{MutexGuard, OnceCell};

use self::server::Server;
use super::*;
use crate::inventory::contract::{Place, contract};
use crate::inventory::crd;
use crate::volume::fixture::*;
use crate::volume::{Bytes, Tenancy};

/// Where reservations are kept.
const NAMESPACE: &str = "default";

/// The API server of this process, for one test at a time.
pub(super) struct Cluster {
    turn: OnceCell<MutexGuard<'static, ()>>,
}

impl Cluster {
    /// The server, emptied for this test.
    async fn server(&self) -> &'static Server {
        let server = Server::get().await;
        let turn = || async {
            let turn = server.turn().await;
            server.empty().await;
            turn
        };
        self.turn.get_or_init(turn).await;
        server
    }

    fn objects(&self) -> kube::Api<crd::Object> {
        assert!(self.turn.initialized(), "the server is not this test's");
        kube::Api::all(Server::now().client())
    }

    async fn open_in(&self, scope: Scope) -> Kubernetes {
        Kubernetes::open(self.server().await.config(), NAMESPACE, scope).unwrap()
    }

    /// Changes an object as a person would, by a merge patch.
    async fn patch(&self, volume: &LocalVolume, patch: Value) -> kube::Result<crd::Object> {
        let (plain, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.objects().patch(volume.name.as_str(), &plain, &patch).await
    }
}

impl Place for Cluster {
    type Store = Kubernetes;

    // As many as keep a debug build and a small API server busy for seconds, not minutes.
    const MANY: usize = 200;

    fn new() -> Self {
        Self { turn: OnceCell::new() }
    }

    fn missing() -> Option<String> {
        server::missing()
    }

    async fn open(&self) -> Kubernetes {
        self.open_in(Scope::All).await
    }

    async fn close(&self, store: Kubernetes) {
        drop(store);
    }
}

contract!(Cluster);

/// An empty place with one store on it; or the end of the test, where there is no cluster to be had.
macro_rules! cluster {
    () => {{
        if let Some(why) = server::missing() {
            eprintln!("skipped: {why}");
            return;
        }
        let place = Cluster::new();
        let store = place.open().await;
        (place, store)
    }};
}
use cluster;

/// A store of which memory has been filled and whose watch brings nothing any longer.
async fn with_a_dead_watch(place: &Cluster) -> Kubernetes {
    let store = place.open().await;
    store.list().await.unwrap();
    store.running.following.abort();
    store
}

fn volume(number: usize) -> LocalVolume {
    named(&format!("v{number}"), Bytes(1 << 30))
}

/// The spec of `recorded` once the claim called `name` holds it.
fn held_by(name: &str, recorded: &Recorded) -> Spec {
    recorded.volume.claimed(claim(name), delete()).unwrap()
}

/// The next state in which the store lists what `wanted` asks for, which comes soon.
async fn listed(store: &Kubernetes, wanted: impl Fn(&[Recorded]) -> bool) -> Vec<Recorded> {
    let mut events = store.watch();
    let come = async {
        loop {
            events.next().await.expect("the watch ended");
            let all = store.list().await.unwrap();
            if wanted(&all) {
                return all;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), come).await.expect("it never came")
}
