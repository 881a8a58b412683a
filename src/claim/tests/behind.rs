//! A controller whose memory is behind what another one did.

use std::sync::Mutex;

use futures_util::{Stream, stream};

use super::*;
use crate::inventory::{Error as StoreError, Version};
use crate::volume::{Spec, Status};

/// A store whose memory, and whose watch, have stopped at one record.
#[derive(Debug, Clone)]
struct Behind {
    store: Embedded,
    memory: Arc<Mutex<Recorded>>,
}

impl Inventory for Behind {
    async fn list(&self) -> Result<Vec<Recorded>, StoreError> {
        Ok(vec![self.memory.lock().unwrap().clone()])
    }

    async fn get(&self, _: &VolumeName) -> Result<Recorded, StoreError> {
        Ok(self.memory.lock().unwrap().clone())
    }

    async fn latest(&self, name: &VolumeName) -> Result<Recorded, StoreError> {
        let latest = self.store.get(name).await?;
        *self.memory.lock().unwrap() = latest.clone();
        Ok(latest)
    }

    async fn add(&self, volume: LocalVolume) -> Result<Recorded, StoreError> {
        self.store.add(volume).await
    }

    async fn decide(
        &self,
        name: &VolumeName,
        at: Version,
        spec: Spec,
    ) -> Result<Recorded, StoreError> {
        self.store.decide(name, at, spec).await
    }

    async fn observe(
        &self,
        name: &VolumeName,
        at: Version,
        status: Status,
    ) -> Result<Recorded, StoreError> {
        self.store.observe(name, at, status).await
    }

    async fn remove(&self, name: &VolumeName, at: Version) -> Result<(), StoreError> {
        self.store.remove(name, at).await
    }

    fn watch(&self) -> impl Stream<Item = Event> + Send + Unpin + 'static {
        let known = self.memory.lock().unwrap().clone();
        Box::pin(stream::iter([Event::Reset(vec![known])]).chain(stream::pending()))
    }
}

/// A controller beside `world`'s, which knows no more than what is so now.
async fn behind(world: &World) -> (Claims<Behind>, DropGuard) {
    let known = world.store.list().await.unwrap().remove(0);
    let store = Behind { store: world.store.clone(), memory: Arc::new(Mutex::new(known)) };
    let claims = Claims::new(store, world.pools.subscribe());
    let cancel = CancellationToken::new();
    let (runner, token) = (claims.clone(), cancel.clone());
    tokio::spawn(async move { runner.run(token).await });
    claims.ready().await;
    (claims, cancel.drop_guard())
}

#[tokio::test]
async fn a_claim_that_memory_has_not_heard_of_is_ended_by_its_release() {
    let world = World::of_sizes(&[10]).await;
    let (behind, _running) = behind(&world).await;
    let held = world.claims.claim(request("pvc-1", 1)).await.unwrap();

    behind.release(&id(&held)).await.unwrap();

    assert!(world.claimed().await.is_empty());
}

#[tokio::test]
async fn a_tenancy_that_memory_has_not_heard_of_is_found() {
    let world = World::of_sizes(&[10]).await;
    let (behind, _running) = behind(&world).await;
    let held = world.claims.claim(request("pvc-1", 1)).await.unwrap();

    assert_eq!(behind.find(&id(&held)).await.unwrap(), held);
}

#[tokio::test]
async fn a_claim_that_has_ended_is_not_answered_with_by_a_memory_that_still_has_it() {
    let world = World::of_sizes(&[10]).await;
    let held = world.claims.claim(request("pvc-1", 1)).await.unwrap();
    let (behind, _running) = behind(&world).await;
    world.claims.release(&id(&held)).await.unwrap();
    world.clean(&held.volume.name).await;

    let again = behind.claim(request("pvc-1", 1)).await.unwrap();

    assert_eq!(again.volume.spec.tenancy, held.volume.spec.tenancy.next());
}
