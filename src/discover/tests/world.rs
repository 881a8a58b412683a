//! A node that discovers, in a mount namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use globset::{Glob, GlobSet};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::found::Problem;
use super::super::*;
use crate::host::mount::fixture::{Scratch, scratch};
use crate::host::namespace::isolated;
use crate::inventory::embedded::Embedded;
use crate::pool::{Accept, FsType, Pool};
use crate::volume::{
    CleanMethod, CleanPolicy, CleanReason, HealthReason, LocalVolume, Mode, NewVolumes, Phase,
    PoolName, fixture,
};

/// How long a test waits before it gives up; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) struct World {
    /// Where the directories of the pools are.
    pub(super) base: PathBuf,
    pub(super) inventory: Embedded,
    pub(super) discovery: Discovery<Embedded>,
    pools: watch::Sender<Arc<Pools>>,
    cancel: CancellationToken,
    running: Option<JoinHandle<()>>,
    _base: Scratch,
    _state: tempfile::TempDir,
}

/// Runs `act` on a node with a pool `fast` that accepts everything. Nothing is discovered before [`World::start`].
pub(super) fn in_world(act: impl AsyncFnOnce(&mut World) + Send) {
    isolated(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            act(&mut world).await;
            world.cancel.cancel();
            if let Some(running) = world.running.take() {
                running.await.unwrap();
            }
        });
    });
}

impl World {
    fn new() -> Self {
        let (guard, base) = scratch();
        let state = tempfile::tempdir().unwrap();
        let inventory = Embedded::open(state.path()).unwrap();
        let (pools, receiver) = watch::channel(Arc::new(Pools::new()));
        let node = "node-a".parse().unwrap();
        let discovery = Discovery::new(inventory.clone(), node, receiver, Metrics::default())
            // Whatever is seen is seen since it was told.
            .rescan_every(Duration::from_hours(1));
        let world = Self {
            base,
            inventory,
            discovery,
            pools,
            cancel: CancellationToken::new(),
            running: None,
            _base: guard,
            _state: state,
        };
        world.configure("fast", |_| ());
        fs::create_dir(world.path("fast")).unwrap();
        world
    }

    /// The path of `entry` (`fast/v1`).
    pub(super) fn path(&self, entry: &str) -> PathBuf {
        self.base.join(entry)
    }

    /// Has everything looked at as often as possible, for what nothing tells.
    pub(super) fn rescan_often(&mut self) {
        self.discovery = self.discovery.clone().rescan_every(Duration::from_millis(20));
    }

    /// Gives up on a call soon.
    pub(super) fn be_impatient(&mut self) {
        self.discovery = self.discovery.clone().wait_at_most(Duration::from_millis(500));
    }

    /// Adds the pool `name`, or configures it anew.
    pub(super) fn configure(&self, name: &str, change: impl FnOnce(&mut Pool)) {
        let mut pool = pool(name, self.path(name));
        change(&mut pool);
        self.pools.send_modify(|pools| drop(Arc::make_mut(pools).insert(pool.name.clone(), pool)));
    }

    /// Takes the pool `name` out of the configuration.
    pub(super) fn unconfigure(&self, name: &str) {
        let name: PoolName = name.parse().unwrap();
        self.pools.send_modify(|pools| drop(Arc::make_mut(pools).remove(&name)));
    }

    /// Starts to discover, and waits for the first scan.
    pub(super) async fn start(&mut self) {
        let (discovery, cancel) = (self.discovery.clone(), self.cancel.clone());
        self.running = Some(tokio::spawn(async move { discovery.run(cancel).await }));
        timeout(PATIENCE, self.discovery.ready()).await.expect("the first scan did not end");
    }

    /// Every volume of the inventory.
    pub(super) async fn volumes(&self) -> Vec<LocalVolume> {
        let recorded = self.inventory.list().await.unwrap();
        recorded.into_iter().map(|recorded| LocalVolume::clone(&recorded.volume)).collect()
    }

    /// The volume that was last seen at `entry`.
    pub(super) async fn volume(&self, entry: &str) -> LocalVolume {
        let path = self.path(entry).to_str().unwrap().to_owned();
        let volumes = self.volumes().await;
        let here = volumes.iter().find(|volume| volume.status.path == path);
        here.unwrap_or_else(|| panic!("nothing at {entry}: {volumes:#?}")).clone()
    }

    /// Waits until `condition` holds for the volumes.
    pub(super) async fn wait(&self, what: &str, condition: impl Fn(&[LocalVolume]) -> bool) {
        let mut events = self.inventory.watch();
        let waiting = async {
            while !condition(&self.volumes().await) {
                events.next().await.unwrap();
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "waited in vain for {what}: {:#?}", self.volumes().await);
    }

    /// Waits until the volume last seen at `entry` is in `phase`.
    pub(super) async fn wait_phase(&self, entry: &str, phase: Phase) -> LocalVolume {
        let path = self.path(entry).to_str().unwrap().to_owned();
        let at = |volume: &&LocalVolume| volume.status.path == path;
        self.wait(&format!("{entry} to be {phase}"), |volumes| {
            volumes.iter().filter(at).any(|volume| volume.phase() == phase)
        })
        .await;
        let volumes = self.volumes().await;
        volumes.into_iter().find(|volume| at(&volume) && volume.phase() == phase).unwrap()
    }

    /// Waits until the volume last seen at `entry` is healthy or not for `reason`.
    pub(super) async fn wait_health(&self, entry: &str, reason: HealthReason) {
        let path = self.path(entry).to_str().unwrap().to_owned();
        self.wait(&format!("{entry} to be {}", reason.as_str()), |volumes| {
            volumes.iter().any(|volume| {
                volume.status.path == path && volume.status.conditions.healthy.reason == reason
            })
        })
        .await;
    }

    /// Waits until these are the problems that are reported, and gives them as people read them.
    pub(super) async fn wait_problems(&self, count: usize) -> Vec<String> {
        let mut problems = self.discovery.problems();
        let waiting = problems.wait_for(|problems| problems.len() == count);
        let problems = timeout(PATIENCE, waiting).await.expect("other problems").unwrap();
        problems.iter().map(Problem::to_string).collect()
    }

    /// Waits until a problem is reported that contains `text`.
    pub(super) async fn wait_problem(&self, text: &str) {
        let says = |problem: &Problem| problem.to_string().contains(text);
        let mut problems = self.discovery.problems();
        let waiting = problems.wait_for(|problems| problems.iter().any(says));
        let waited = timeout(PATIENCE, waiting).await.is_ok();
        assert!(waited, "{text}: not among {:?}", self.discovery.problems().borrow());
    }

    /// Ends the claim of the volume at `entry` and records the wipe after it.
    pub(super) async fn release(&self, entry: &str) {
        let name = self.volume(entry).await.name;
        let released = self.inventory.modify_spec(&name, |volume| {
            Ok::<_, inventory::Error>(volume.released(volume.spec.tenancy).unwrap())
        });
        released.await.unwrap();
        let wiped = self.inventory.modify_status(&name, |volume| {
            let order = volume.spec.clean.as_ref()?;
            volume.cleaned(volume.spec.tenancy, order, CleanReason::Wiped, Timestamp::now())
        });
        wiped.await.unwrap();
    }

    /// Gives the volume at `entry` to a claim.
    pub(super) async fn claim(&self, entry: &str) {
        let name = self.volume(entry).await.name;
        let claim = fixture::claim(&format!("pvc-of-{name}"));
        let claimed = self.inventory.modify_spec(&name, |volume| {
            let spec = volume.claimed(claim.clone(), fixture::delete());
            Ok::<_, inventory::Error>(spec.unwrap())
        });
        claimed.await.unwrap();
    }
}

fn pool(name: &str, path: PathBuf) -> Pool {
    Pool {
        name: name.parse().unwrap(),
        path,
        mode: Mode::Filesystem,
        entries: every(),
        globs: vec!["*".into()],
        accept: Accept { mount: true, directory: true, device: true },
        new_volumes: NewVolumes::RequireEmpty,
        clean: CleanPolicy { method: CleanMethod::Delete, verify: false },
        clean_devices: None,
        capacity: None,
        fs_type: FsType::Ext4,
        mount_options: Vec::new(),
    }
}

fn every() -> GlobSet {
    GlobSet::builder().add(Glob::new("*").unwrap()).build().unwrap()
}

/// The name of the last part of `path`.
pub(super) fn entry(path: &str) -> &str {
    Path::new(path).file_name().unwrap().to_str().unwrap()
}
