use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Mutex;

use super::super::*;
use super::world::{World, each_kind, in_world, mounted, mounts_at, pool, raw};
use crate::host::mount::fixture::Disk;
use crate::inventory::{Event, Recorded, Version};
use crate::volume::AccessMode::{SingleNodeMultiWriter, SingleNodeWriter};
use crate::volume::{Published, Spec, VolumeName};

#[test]
fn a_staging_whose_tenancy_ended_meanwhile_mounts_nothing() {
    each_kind(async |world, id| {
        let request = world.stage(&id, mounted(SingleNodeWriter));
        let turn = world.publisher.turn(&id, &world.staging()).unwrap();
        let task = Arc::new(world.publisher.staging(request, &turn).await.unwrap());
        let (place, prepare) = match task.examine().unwrap() {
            stage::Next::Record(place) => (place, None),
            stage::Next::Device(place, prepare) => (place, Some(prepare)),
            stage::Next::Done(_) => panic!("nothing to do"),
        };

        world.release(&id).await;
        let error = world.publisher.stage_anew(&task, place, prepare, &turn).await.unwrap_err();

        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        assert!(!world.staging().exists());
        world.publisher.drain().await;
        assert!(world.recorded(&id).await.is_empty());
    });
}

/// An inventory whose reads lag behind, as a cache of another process' writes does. Writes are compared with what is.
#[derive(Clone)]
struct Lagging {
    now: crate::inventory::embedded::Embedded,
    old: Arc<Mutex<Vec<Recorded>>>,
}

impl Lagging {
    fn publisher(&self, world: &World) -> Publisher<Self> {
        let node = "node-a".parse().unwrap();
        Publisher::new(self.clone(), node, world.pools.subscribe(), Vec::new())
    }
}

impl Inventory for Lagging {
    async fn list(&self) -> Result<Vec<Recorded>, inventory::Error> {
        self.now.list().await
    }
    async fn get(&self, name: &VolumeName) -> Result<Recorded, inventory::Error> {
        let old = self.old.lock().unwrap().pop();
        if let Some(old) = old { Ok(old) } else { self.now.get(name).await }
    }
    async fn add(&self, volume: LocalVolume) -> Result<Recorded, inventory::Error> {
        self.now.add(volume).await
    }
    async fn decide(
        &self,
        name: &VolumeName,
        version: Version,
        spec: Spec,
    ) -> Result<Recorded, inventory::Error> {
        self.now.decide(name, version, spec).await
    }
    async fn observe(
        &self,
        name: &VolumeName,
        version: Version,
        status: Status,
    ) -> Result<Recorded, inventory::Error> {
        self.now.observe(name, version, status).await
    }
    async fn remove(&self, name: &VolumeName, version: Version) -> Result<(), inventory::Error> {
        self.now.remove(name, version).await
    }
    fn watch(&self) -> impl futures_util::Stream<Item = Event> + Send + Unpin + 'static {
        self.now.watch()
    }
}

#[test]
fn an_old_record_never_lets_an_ended_tenancy_be_staged_or_published() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let staged = |volume: &LocalVolume| {
            let published = vec![Published {
                path: world.staging().to_str().unwrap().into(),
                staging: true,
                read_only: false,
                access: SingleNodeWriter,
                flags: Some(Vec::new()),
            }];
            Some(Status { published, ..volume.status.clone() })
        };
        let old = world.inventory.modify_status(&id.volume, staged).await.unwrap();
        let unstaged =
            |volume: &LocalVolume| Some(Status { published: Vec::new(), ..volume.status.clone() });
        world.inventory.modify_status(&id.volume, unstaged).await.unwrap();
        world.release(&id).await;
        let lagging = Lagging { now: world.inventory.clone(), old: Arc::default() };
        let publisher = lagging.publisher(world);

        for reads in 1..4 {
            *lagging.old.lock().unwrap() = vec![old.clone(); reads];
            let request = world.stage(&id, mounted(SingleNodeWriter));
            let staged = publisher.stage(request).await;
            assert!(matches!(staged, Err(Error::NotFound { .. })), "{reads}: {staged:?}");
            assert!(!world.staging().exists());
        }
        fs::create_dir(world.staging()).unwrap();
        *lagging.old.lock().unwrap() = vec![old];
        let request = world.publish(&id, "t1", mounted(SingleNodeWriter));
        let late = publisher.publish(request).await;
        assert!(matches!(late, Err(Error::NotStaged { .. })), "{late:?}");

        assert!(!world.target("t1").exists());
        publisher.drain().await;
    });
}

#[test]
fn a_raw_device_that_was_unstaged_is_not_published_by_an_old_record_of_its_staging() {
    in_world(async |world| {
        let disk = Disk::blank(4);
        let id = world.device(&disk, Mode::Block).await;
        fs::create_dir(world.staging()).unwrap();
        let lagging = Lagging { now: world.inventory.clone(), old: Arc::default() };
        let publisher = lagging.publisher(world);
        publisher.stage(world.stage(&id, raw(SingleNodeWriter))).await.unwrap();
        let old = world.inventory.get(&id.volume).await.unwrap();
        publisher.unstage(world.unstage(&id)).await.unwrap();
        world.release(&id).await;

        *lagging.old.lock().unwrap() = vec![old];
        let request = world.publish(&id, "t1", raw(SingleNodeWriter));
        let late = publisher.publish(request).await;

        assert!(matches!(late, Err(Error::NotStaged { .. })), "{late:?}");
        assert!(!world.target("t1").exists());
        publisher.drain().await;
    });
}

#[test]
fn a_late_call_about_an_old_tenancy_finds_no_way_around_by_a_symlink() {
    each_kind(async |world, old| {
        let new = world.next_tenancy(&old).await;
        symlink(&world.base, world.base.join("link")).unwrap();
        world.published(&new, "t1", mounted(SingleNodeWriter)).await;
        world.publisher.record(&new).await.unwrap();
        let before = mounts_at(&world.staging());
        let restarted = world.restarted().await;

        for publisher in [&world.publisher, &restarted] {
            let target = world.base.join("link/pods/t1");
            let unpublished = publisher.unpublish(Unpublish { id: old.clone(), target }).await;
            assert!(matches!(unpublished, Err(Error::Occupied { .. })), "{unpublished:?}");
            let staging = world.base.join("link/staging/volume");
            let unstaged = publisher.unstage(Unstage { id: old.clone(), staging }).await;
            assert!(matches!(unstaged, Err(Error::Occupied { .. })), "{unstaged:?}");
        }

        assert_eq!((mounts_at(&world.target("t1")), mounts_at(&world.staging())), (1, before));
        restarted.drain().await;
        assert_eq!(world.recorded(&new).await.len(), 2);
    });
}

/// Every call at `path` is refused for the path, and what is there stays.
async fn refused(world: &World, id: &VolumeId, path: &Path) {
    let access = || mounted(SingleNodeMultiWriter);
    let stage = Stage { staging: path.to_owned(), ..world.stage(id, access()) };
    let publish = Publish { target: path.to_owned(), ..world.publish(id, "t1", access()) };
    let unpublish = Unpublish { id: id.clone(), target: path.to_owned() };
    let unstage = Unstage { id: id.clone(), staging: path.to_owned() };
    let there = path.exists();

    for result in [
        world.publisher.stage(stage).await,
        world.publisher.publish(publish).await,
        world.publisher.unpublish(unpublish).await,
        world.publisher.unstage(unstage).await,
    ] {
        assert!(matches!(result, Err(Error::Path { .. })), "{}: {result:?}", path.display());
    }
    assert_eq!(path.exists(), there, "{}", path.display());
}

#[test]
fn nothing_is_mounted_or_removed_in_a_pool_or_a_volume_whichever_way_the_path_leads_there() {
    in_world(async |world| {
        let id = world.plain("mine").await;
        let other = world.plain("theirs").await;
        fs::create_dir(world.base.join("elsewhere")).unwrap();
        fs::create_dir(world.base.join("pool/theirs/empty")).unwrap();
        symlink(world.base.join("pool"), world.base.join("link")).unwrap();
        crate::host::mount::fixture::bind(
            &world.base.join("pool/theirs"),
            &world.base.join("elsewhere"),
        );
        world.publisher.stage(world.stage(&id, mounted(SingleNodeMultiWriter))).await.unwrap();
        let staging = world.base.join("staging/other");
        let access = || mounted(SingleNodeMultiWriter);
        let request = Stage { staging: staging.clone(), ..world.stage(&other, access()) };
        world.publisher.stage(request).await.unwrap();
        let request = Publish { staging, ..world.publish(&other, "theirs", access()) };
        world.publisher.publish(request).await.unwrap();

        for path in [
            "pool/theirs",
            "pool/theirs/empty",
            "pool/theirs/new",
            "link/theirs",
            "link/theirs/empty",
            "elsewhere/empty",
            "pods/theirs/empty",
            "pods/theirs/new",
            "pool/mine/new",
        ] {
            // The staged one would be refused for being staged elsewhere, after the path was looked at.
            refused(world, &id, &world.base.join(path)).await;
        }
        world.configure(Pool { path: world.base.join("pods"), ..pool() });
        refused(world, &id, &world.target("t1")).await;
    });
}

#[test]
fn a_staging_directory_is_no_place_for_another_volume() {
    in_world(async |world| {
        let (id, other) = (world.directory("v1").await, world.directory("v2").await);
        let access = || mounted(SingleNodeMultiWriter);
        world.publisher.stage(world.stage(&other, access())).await.unwrap();
        let staging = world.base.join("staging/mine");
        let request = Stage { staging: staging.clone(), ..world.stage(&id, access()) };
        let staged = world.publisher.stage(world.stage(&id, access())).await;
        world.publisher.stage(request).await.unwrap();

        let request = world.publish(&id, "t1", access());
        let request = Publish { staging, target: world.staging(), ..request };
        let published = world.publisher.publish(request).await;
        let unstaged = world.publisher.unstage(world.unstage(&id)).await;

        for result in [staged, published, unstaged] {
            assert!(matches!(result, Err(Error::Occupied { .. })), "{result:?}");
        }
        assert_eq!(mounts_at(&world.staging()), 0);
        world.published(&other, "t1", access()).await;
    });
}

#[test]
fn a_number_that_was_given_to_another_claim_here_mounts_nothing_for_whoever_has_it_now() {
    each_kind(async |world, id| {
        let own = world.volume(&id.volume).await.spec.claim.map(|claim| claim.name);
        let other = Some("pvc-of-another-history".parse().unwrap());
        let stage = |claim| Stage { claim, ..world.stage(&id, mounted(SingleNodeWriter)) };
        let publish =
            |claim| Publish { claim, ..world.publish(&id, "t1", mounted(SingleNodeWriter)) };

        let staged = world.staged(stage(other.clone())).await;
        assert!(matches!(staged, Err(Error::NotFound { .. })), "{staged:?}");
        assert!(!world.staging().exists());
        world.staged(stage(own.clone())).await.unwrap();
        let published = world.publisher.publish(publish(other)).await;
        assert!(matches!(published, Err(Error::NotFound { .. })), "{published:?}");
        assert!(!world.target("t1").exists());

        world.publisher.publish(publish(own)).await.unwrap();
    });
}
