//! A node with a pool of volumes, an inventory and a publisher, in a mount namespace of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::GlobSet;
use tokio::sync::watch;

use super::super::*;
use crate::host::mount::fixture::{Disk, Scratch, scratch, tmpfs};
use crate::host::mountinfo::MountTable;
use crate::host::namespace::isolated;
use crate::inventory::embedded::Embedded;
use crate::pool::{Accept, FsType};
use crate::source::Source;
use crate::volume::{AccessMode, CleanPolicy, NewVolumes, Published, Tenancy, VolumeName, fixture};

pub(super) struct World {
    pub(super) base: PathBuf,
    pub(super) publisher: Publisher<Embedded>,
    pub(super) inventory: Embedded,
    pub(super) pools: watch::Sender<Arc<Pools>>,
    _base: Scratch,
    _state: tempfile::TempDir,
}

/// Runs `act` in a new world. Its runtime, and so every thread that blocks, is in the world's namespace.
pub(super) fn in_world(act: impl AsyncFnOnce(&World) + Send) {
    on(tokio::runtime::Builder::new_current_thread().enable_all(), act);
}

/// As [`in_world`], with one thread for everything that blocks.
pub(super) fn in_world_of_one_thread(act: impl AsyncFnOnce(&World) + Send) {
    on(tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1), act);
}

fn on(runtime: &mut tokio::runtime::Builder, act: impl AsyncFnOnce(&World) + Send) {
    isolated(|| {
        let runtime = runtime.build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            act(&world).await;
            world.publisher.drain().await;
        });
    });
}

/// As [`in_world`], for a volume that is a directory, and for one that is mounted when it is staged: the file system on a
/// device.
pub(super) fn each_kind(act: impl AsyncFn(&World, VolumeId) + Send + Sync) {
    in_world(async |world| {
        let id = world.directory("v1").await;
        act(world, id).await;
    });
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 16);
        let id = world.device(&disk, Mode::Filesystem).await;
        act(world, id).await;
    });
}

pub(super) fn pool() -> Pool {
    Pool {
        name: "fast".parse().unwrap(),
        path: "/mnt/fast".into(),
        mode: Mode::Filesystem,
        entries: GlobSet::empty(),
        globs: Vec::new(),
        accept: Accept { mount: true, directory: true, device: true },
        new_volumes: NewVolumes::RequireEmpty,
        clean: CleanPolicy { method: crate::volume::CleanMethod::Delete, verify: false },
        clean_devices: None,
        capacity: None,
        fs_type: FsType::Ext4,
        mount_options: vec!["nosuid".into()],
    }
}

impl World {
    fn new() -> Self {
        let (guard, base) = scratch();
        for directory in ["pool", "staging", "pods"] {
            fs::create_dir(base.join(directory)).unwrap();
        }
        let state = tempfile::tempdir().unwrap();
        let inventory = Embedded::open(state.path()).unwrap();
        let (pools, _) = watch::channel(Arc::new(Pools::new()));
        let publisher = publisher(&inventory, &pools, Vec::new());
        let world = Self { base, publisher, inventory, pools, _base: guard, _state: state };
        world.configure(pool());
        world
    }

    pub(super) fn configure(&self, pool: Pool) {
        self.pools.send_replace(Arc::new(BTreeMap::from([(pool.name.clone(), pool)])));
    }

    /// Another publisher on the same inventory, as after a restart of the process.
    pub(super) async fn restarted(&self) -> Publisher<Embedded> {
        let publisher = publisher(&self.inventory, &self.pools, Vec::new());
        publisher.restore().await.unwrap();
        publisher
    }

    pub(super) fn limited_to(&self, root: &str) -> Publisher<Embedded> {
        publisher(&self.inventory, &self.pools, vec![self.base.join(root)])
    }

    /// A claimed volume: a tmpfs mounted in the pool's directory.
    pub(super) async fn directory(&self, entry: &str) -> VolumeId {
        let path = self.base.join("pool").join(entry);
        tmpfs(&path);
        self.claimed(&path, Mode::Filesystem).await
    }

    /// A claimed volume: a plain directory in the pool's.
    pub(super) async fn plain(&self, entry: &str) -> VolumeId {
        let path = self.base.join("pool").join(entry);
        fs::create_dir(&path).unwrap();
        self.claimed(&path, Mode::Filesystem).await
    }

    /// A claimed volume: a disk that the pool's directory has a link to.
    pub(super) async fn device(&self, disk: &Disk, mode: Mode) -> VolumeId {
        let path = self.base.join("pool/disk");
        std::os::unix::fs::symlink(disk.path(), &path).unwrap();
        self.claimed(&path, mode).await
    }

    /// A volume in the pool's directory, as discovery records it, whose disk is mounted there already.
    pub(super) async fn recorded_volume(&self, entry: &str) -> VolumeId {
        self.claimed(&self.base.join("pool").join(entry), Mode::Filesystem).await
    }

    async fn claimed(&self, path: &Path, mode: Mode) -> VolumeId {
        let entry = path.file_name().unwrap().to_str().unwrap();
        let facts = Source::look(path).unwrap().facts().clone();
        let mut volume = fixture::named(entry, facts.size);
        volume.status.path = path.to_str().unwrap().into();
        volume.status.fingerprint = facts.fingerprint;
        volume.status.place = Some(facts.place);
        volume.status.fs_type = facts.fs_type.map(Into::into);
        volume.spec.mode = mode;
        volume.spec = volume.claimed(fixture::claim(entry), fixture::delete()).unwrap();
        let id = volume.id().unwrap();
        self.inventory.add(volume).await.unwrap();
        id
    }

    pub(super) async fn volume(&self, name: &VolumeName) -> LocalVolume {
        LocalVolume::clone(&self.inventory.get(name).await.unwrap().volume)
    }

    /// What is recorded of where `id` is.
    pub(super) async fn recorded(&self, id: &VolumeId) -> Vec<Published> {
        self.volume(&id.volume).await.status.published
    }

    /// Ends the tenancy of `id` and begins the next, as if it had been wiped in between.
    pub(super) async fn next_tenancy(&self, id: &VolumeId) -> VolumeId {
        let tenancy = Tenancy(id.tenancy.0 + 1);
        let decided = self.inventory.modify_spec(&id.volume, |volume| {
            Ok::<_, inventory::Error>(crate::volume::Spec { tenancy, ..volume.spec.clone() })
        });
        decided.await.unwrap();
        let wiped = self.inventory.modify_status(&id.volume, |volume| {
            Some(Status { clean_for: Some(id.tenancy), ..volume.status.clone() })
        });
        wiped.await.unwrap();
        VolumeId { tenancy, ..id.clone() }
    }

    /// Ends the tenancy of `id`, as a controller in another process does.
    pub(super) async fn release(&self, id: &VolumeId) {
        let ended = self.inventory.modify_spec(&id.volume, |volume| {
            Ok::<_, inventory::Error>(volume.released(id.tenancy).unwrap())
        });
        ended.await.unwrap();
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.base.join("staging/volume")
    }

    pub(super) fn target(&self, name: &str) -> PathBuf {
        self.base.join("pods").join(name)
    }

    pub(super) fn stage(&self, id: &VolumeId, access: Access) -> Stage {
        Stage { id: id.clone(), claim: None, staging: self.staging(), access }
    }

    pub(super) fn unstage(&self, id: &VolumeId) -> Unstage {
        Unstage { id: id.clone(), staging: self.staging() }
    }

    pub(super) fn publish(&self, id: &VolumeId, target: &str, access: Access) -> Publish {
        Publish {
            id: id.clone(),
            claim: None,
            staging: self.staging(),
            target: self.target(target),
            access,
            read_only: false,
        }
    }

    pub(super) fn unpublish(&self, id: &VolumeId, target: &str) -> Unpublish {
        Unpublish { id: id.clone(), target: self.target(target) }
    }

    /// Stages. A process that another test is just starting keeps a mount or a descriptor of a moment ago until it is another
    /// program, and with it a device.
    pub(super) async fn staged(&self, request: Stage) -> Result<(), Error> {
        loop {
            match self.publisher.stage(request.clone()).await {
                Err(Error::Held { .. }) => tokio::task::yield_now().await,
                staged => return staged,
            }
        }
    }

    /// Stages `id` and publishes it at `target`.
    pub(super) async fn published(&self, id: &VolumeId, target: &str, access: Access) {
        self.staged(self.stage(id, access.clone())).await.unwrap();
        self.publisher.publish(self.publish(id, target, access)).await.unwrap();
    }
}

fn publisher(
    inventory: &Embedded,
    pools: &watch::Sender<Arc<Pools>>,
    roots: Vec<PathBuf>,
) -> Publisher<Embedded> {
    Publisher::new(inventory.clone(), "node-a".parse().unwrap(), pools.subscribe(), roots)
}

/// How many mounts there are at `path`, one upon the other.
pub(super) fn mounts_at(path: &Path) -> usize {
    MountTable::read().unwrap().iter().filter(|mount| mount.mount_point == path).count()
}

pub(super) fn mounted(mode: AccessMode) -> Access {
    with_flags(mode, &[])
}

pub(super) fn with_flags(mode: AccessMode, flags: &[&str]) -> Access {
    let flags: Vec<_> = flags.iter().map(ToString::to_string).collect();
    let flags = MountFlags::parse(&flags).unwrap();
    Access { mode, kind: AccessType::Mount { fs_type: None, flags } }
}

pub(super) fn with_type(mode: AccessMode, fs_type: &str) -> Access {
    Access {
        mode,
        kind: AccessType::Mount { fs_type: Some(fs_type.into()), flags: MountFlags::default() },
    }
}

pub(super) fn raw(mode: AccessMode) -> Access {
    Access { mode, kind: AccessType::Block }
}
