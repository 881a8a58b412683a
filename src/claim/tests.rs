//! Claims on the real embedded store.

mod behind;
mod crowd;
mod size;
mod storm;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt;
use globset::GlobSet;
use tempfile::TempDir;
use tokio_util::sync::DropGuard;

use super::*;
use crate::inventory::embedded::Embedded;
use crate::pool::{Accept, FsType, Pool};
use crate::volume::fixture::*;
use crate::volume::{
    AccessMode, Bytes, CleanMethod, CleanPolicy, CleanReason, DeviceIdentity, NewVolumes, PoolName,
    Published, Tenancy,
};

/// A store, one controller over it, and the configuration of both.
struct World {
    store: Embedded,
    claims: Claims<Embedded>,
    pools: watch::Sender<Arc<Pools>>,
    _running: DropGuard,
    _state: TempDir,
}

impl World {
    async fn of(volumes: impl IntoIterator<Item = LocalVolume>) -> Self {
        let state = tempfile::tempdir().unwrap();
        let store = Embedded::open(state.path()).unwrap();
        let adding = volumes.into_iter().map(|volume| store.add(volume));
        for added in futures_util::future::join_all(adding).await {
            added.unwrap();
        }
        let pools = [pool("fast", Mode::Filesystem), pool("raw", Mode::Block)];
        let pools = pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect();
        let pools = watch::Sender::new(Arc::new(pools));
        let (claims, running) = controller(&store, &pools).await;
        Self { store, claims, pools, _running: running, _state: state }
    }

    async fn of_sizes(sizes: &[u64]) -> Self {
        let named = |(number, size): (usize, &u64)| named(&format!("v{number}"), Bytes(*size));
        Self::of(sizes.iter().enumerate().map(named)).await
    }

    /// Does the node agent's part of a clean-up.
    async fn clean(&self, name: &VolumeName) {
        let wiped = |volume: &LocalVolume| {
            volume.cleaned(
                volume.spec.tenancy,
                volume.spec.clean.as_ref()?,
                CleanReason::Wiped,
                Timestamp::UNIX_EPOCH,
            )
        };
        self.store.modify_status(name, wiped).await.unwrap();
    }

    async fn claimed(&self) -> Vec<Recorded> {
        let mut all = self.store.list().await.unwrap();
        all.retain(|recorded| recorded.volume.spec.claim.is_some());
        all
    }
}

/// Claims over the store, fed and ready.
async fn controller(
    store: &Embedded,
    pools: &watch::Sender<Arc<Pools>>,
) -> (Claims<Embedded>, DropGuard) {
    let claims = Claims::new(store.clone(), pools.subscribe());
    let cancel = CancellationToken::new();
    let (runner, token) = (claims.clone(), cancel.clone());
    tokio::spawn(async move { runner.run(token).await });
    claims.ready().await;
    (claims, cancel.drop_guard())
}

fn pool(name: &str, mode: Mode) -> Pool {
    Pool {
        name: name.parse().unwrap(),
        path: PathBuf::from("/mnt").join(name),
        mode,
        entries: GlobSet::empty(),
        globs: Vec::new(),
        accept: Accept { mount: true, directory: true, device: true },
        new_volumes: NewVolumes::RequireEmpty,
        clean: delete(),
        clean_devices: None,
        capacity: None,
        fs_type: FsType::Ext4,
        mount_options: Vec::new(),
    }
}

fn of_pool(name: &str) -> CapacityQuery {
    let pool = name.parse().unwrap();
    CapacityQuery { pool, mode: None, filesystem: Filesystem::default(), topology: None }
}

fn device(entry: &str, mode: Mode) -> LocalVolume {
    let mut volume = named(entry, Bytes(10));
    let serial = DeviceIdentity::Serial(entry.into());
    volume.status.fingerprint = Fingerprint::Device { device: serial, size: Bytes(10) };
    volume.spec.mode = mode;
    if mode == Mode::Block {
        volume.spec.pool = "raw".parse().unwrap();
    }
    volume
}

fn request(name: &str, least: u64) -> ClaimRequest {
    ClaimRequest {
        name: name.parse().unwrap(),
        pool: "fast".parse().unwrap(),
        mode: Mode::Filesystem,
        range: CapacityRange::at_least(Bytes(least)),
        topology: Topology::default(),
        filesystem: Filesystem::default(),
        pvc: None,
    }
}

fn id(recorded: &Recorded) -> VolumeId {
    recorded.volume.id().unwrap()
}

/// Waits until `condition` holds.
async fn until(condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("it never came true");
}

#[tokio::test]
async fn a_claim_gets_the_smallest_volume_that_fits_and_its_caller_sees_it_at_once() {
    let world = World::of_sizes(&[100, 20, 5]).await;

    let given = world.claims.claim(request("pvc-1", 10)).await.unwrap();

    assert_eq!(given.volume.status.capacity, Bytes(20));
    assert_eq!(given.volume.spec.tenancy, Tenancy(1));
    assert_eq!(world.claims.list(None, 10).unwrap(), std::slice::from_ref(&given));
    assert_eq!(world.claims.find(&id(&given)).await.unwrap(), given);
    let left = world.claims.capacity(&of_pool("fast")).unwrap();
    assert_eq!((left.available, left.maximum), (Bytes(105), Some(Bytes(100))));
}

#[tokio::test]
async fn before_the_inventory_was_read_nothing_is_answered_from_ignorance() {
    let world = World::of([claimed_by("pvc-1")]).await;
    let held = world.claimed().await.remove(0);
    let fresh = Claims::new(world.store.clone(), world.pools.subscribe());

    assert!(matches!(fresh.claim(request("pvc-2", 1)).await, Err(Error::NotReady)));
    assert!(matches!(fresh.find(&id(&held)).await, Err(Error::NotReady)));
    assert!(matches!(fresh.list(None, 10), Err(Error::NotReady)));
    assert!(matches!(fresh.capacity(&of_pool("fast")), Err(Error::NotReady)));
    assert!(fresh.ready().now_or_never().is_none());
    fresh.release(&id(&held)).await.unwrap();
}

#[tokio::test]
async fn once_the_inventory_has_ended_nothing_is_answered_from_what_it_was() {
    let world = World::of_sizes(&[10]).await;

    world.store.clone().close().await;

    until(async || matches!(world.claims.capacity(&of_pool("fast")), Err(Error::NotReady))).await;
}

#[tokio::test]
async fn the_same_name_again_is_the_same_volume() {
    let world = World::of_sizes(&[10, 10]).await;

    let first = world.claims.claim(request("pvc-1", 10)).await.unwrap();
    let second = world.claims.claim(request("pvc-1", 5)).await.unwrap();

    assert_eq!(first, second);
    assert_eq!(world.claimed().await.len(), 1);
}

#[tokio::test]
async fn the_same_name_for_something_else_is_refused_with_what_differs() {
    let world = World::of_sizes(&[10, 20]).await;
    let held = world.claims.claim(request("pvc-1", 10)).await.unwrap();

    let refused = world.claims.claim(request("pvc-1", 20)).await.unwrap_err();

    let Error::Incompatible { holder, what: Mismatch::Size { held: size, .. }, .. } = &refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!((holder, *size), (&held.volume.name, Bytes(10)));
    assert_eq!(
        refused.to_string(),
        format!(
            "claim pvc-1 holds volume {holder} already, and it has 10, not at least 20: use another name"
        )
    );
}

#[tokio::test]
async fn a_name_whose_pool_is_no_longer_configured_still_gets_what_it_holds() {
    let world = World::of_sizes(&[10]).await;
    let held = world.claims.claim(request("pvc-1", 10)).await.unwrap();

    world.pools.send_replace(Arc::default());

    assert_eq!(world.claims.claim(request("pvc-1", 10)).await.unwrap(), held);
}

#[tokio::test]
async fn a_pool_that_nobody_configured_is_refused_with_those_that_are() {
    let world = World::of([on("node-a", "old", "v", Bytes(10))]).await;
    let query = of_pool("old");

    for name in ["old", "other"] {
        let asked = ClaimRequest { pool: name.parse().unwrap(), ..request("pvc-1", 1) };
        let refused = world.claims.claim(asked).await.unwrap_err();
        let expected = format!("there is no pool {name}; the configuration has fast, raw");
        assert_eq!(refused.to_string(), expected);
    }
    assert_eq!(world.claims.capacity(&query).unwrap(), Capacity::default());
}

#[tokio::test]
async fn a_pool_of_another_mode_is_refused_by_its_mode() {
    let world = World::of_sizes(&[10]).await;

    let asked = ClaimRequest { mode: Mode::Block, ..request("pvc-1", 1) };
    let refused = world.claims.claim(asked).await.unwrap_err();

    assert!(matches!(refused, Error::WrongMode { mode: Mode::Filesystem, .. }), "{refused:?}");
}

#[tokio::test]
async fn a_claim_that_nothing_fits_is_refused_with_the_reason_in_numbers() {
    let world = World::of_sizes(&[10 << 30, 2 << 30, 20 << 30]).await;
    world.claims.claim(request("pvc-1", 10 << 30)).await.unwrap();
    world.claims.claim(request("pvc-2", 10 << 30)).await.unwrap();

    let refused = world.claims.claim(request("pvc-3", 5 << 30)).await.unwrap_err();

    assert_eq!(
        refused.to_string(),
        "pool fast has no volume of at least 5Gi to give: volumes of that size: 2 of 3 (2 claimed); \
         the largest that can be claimed has 2Gi"
    );
}

#[tokio::test]
async fn a_pool_without_volumes_says_so() {
    let world = World::of_sizes(&[]).await;

    let refused = world.claims.claim(request("pvc-1", 1)).await.unwrap_err();

    assert!(
        refused.to_string().ends_with("it has no volumes; check that its nodes have found any")
    );
}

#[tokio::test]
async fn the_policy_in_force_is_recorded_with_the_claim() {
    let world = World::of_sizes(&[10, 10]).await;
    let before = world.claims.claim(request("pvc-1", 1)).await.unwrap();

    let stricter = CleanPolicy { method: CleanMethod::Reformat, verify: true };
    world.pools.send_modify(|pools| {
        let pools = Arc::make_mut(pools);
        pools.get_mut(&"fast".parse::<PoolName>().unwrap()).unwrap().clean = stricter.clone();
    });
    let after = world.claims.claim(request("pvc-2", 1)).await.unwrap();

    assert_eq!(before.volume.spec.clean, Some(delete()));
    assert_eq!(after.volume.spec.clean, Some(stricter));
}

#[tokio::test]
async fn a_device_among_directories_is_claimed_with_the_policy_of_devices() {
    let world = World::of([device("disk", Mode::Filesystem), named("v1", Bytes(20))]).await;
    let shred = CleanPolicy { method: CleanMethod::Shred { passes: 2 }, verify: false };
    world.pools.send_modify(|pools| {
        let pools = Arc::make_mut(pools);
        pools.get_mut(&"fast".parse::<PoolName>().unwrap()).unwrap().clean_devices =
            Some(shred.clone());
    });

    let disk = world.claims.claim(request("pvc-1", 10)).await.unwrap();
    let directory = world.claims.claim(request("pvc-2", 20)).await.unwrap();

    assert_eq!(disk.volume.spec.clean, Some(shred));
    assert_eq!(directory.volume.spec.clean, Some(delete()));
}

#[tokio::test]
async fn a_released_volume_is_offered_again_once_it_was_wiped_and_not_before() {
    let world = World::of_sizes(&[10]).await;
    let first = world.claims.claim(request("pvc-1", 1)).await.unwrap();

    world.claims.release(&id(&first)).await.unwrap();
    let early = world.claims.claim(request("pvc-2", 1)).await.unwrap_err();
    world.clean(&first.volume.name).await;
    until(async || world.claims.claim(request("pvc-2", 1)).await.is_ok()).await;

    assert!(early.to_string().contains("1 not clean"), "{early}");
    assert_eq!(world.claimed().await[0].volume.spec.tenancy, Tenancy(2));
}

#[tokio::test]
async fn a_release_may_be_repeated_and_may_be_of_what_never_was() {
    let world = World::of_sizes(&[10]).await;
    let held = world.claims.claim(request("pvc-1", 1)).await.unwrap();
    let volume = held.volume.name.clone();

    for _ in 0..3 {
        world.claims.release(&id(&held)).await.unwrap();
    }
    world.claims.release(&VolumeId { volume, tenancy: Tenancy(9) }).await.unwrap();
    world.claims.release(&"no-such-volume@1".parse().unwrap()).await.unwrap();

    assert_eq!(world.claimed().await, []);
}

#[tokio::test]
async fn a_late_release_of_an_old_tenancy_leaves_the_new_tenant_alone() {
    let world = World::of_sizes(&[10]).await;
    let old = world.claims.claim(request("pvc-1", 1)).await.unwrap();
    world.claims.release(&id(&old)).await.unwrap();
    world.clean(&old.volume.name).await;
    until(async || world.claims.claim(request("pvc-2", 1)).await.is_ok()).await;
    let new = world.claims.claim(request("pvc-2", 1)).await.unwrap();

    world.claims.release(&id(&old)).await.unwrap();

    assert_eq!(world.claims.find(&id(&new)).await.unwrap(), new);
    assert!(matches!(world.claims.find(&id(&old)).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_volume_that_is_still_mounted_is_released_and_not_given_away() {
    let world = World::of_sizes(&[10]).await;
    let held = world.claims.claim(request("pvc-1", 1)).await.unwrap();
    let mount = |volume: &LocalVolume| {
        let mut status = volume.status.clone();
        status.published.push(Published {
            path: "/pods/1".into(),
            staging: false,
            read_only: false,
            access: AccessMode::SingleNodeWriter,
            flags: None,
        });
        Some(status)
    };
    world.store.modify_status(&held.volume.name, mount).await.unwrap();

    world.claims.release(&id(&held)).await.unwrap();

    assert_eq!(world.claimed().await.len(), 0);
    world.clean(&held.volume.name).await;
    let next = world.claims.claim(request("pvc-2", 1)).await;
    assert!(matches!(next, Err(Error::Exhausted { .. })), "{next:?}");
    assert!(matches!(world.claims.find(&id(&held)).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_claim_that_another_controller_made_is_found_before_the_watch_tells_of_it() {
    let world = World::of_sizes(&[10]).await;
    let (other, _running) = controller(&world.store, &world.pools).await;

    let held = other.claim(request("pvc-1", 1)).await.unwrap();

    assert_eq!(world.claims.find(&id(&held)).await.unwrap(), held);
}

#[tokio::test]
async fn a_claim_that_its_caller_gave_up_half_way_leaves_its_volume_to_its_name() {
    let world = World::of_sizes(&[10, 10]).await;

    assert!(world.claims.claim(request("pvc-1", 1)).now_or_never().is_none());
    let again = world.claims.claim(request("pvc-1", 1)).await.unwrap();
    let other = world.claims.claim(request("pvc-2", 1)).await.unwrap();

    assert_ne!(again.volume.name, other.volume.name);
    assert_eq!(world.claimed().await.len(), 2);
}
