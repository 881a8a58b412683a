//! A node with released volumes, an inventory and a cleaner that runs.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_util::sync::CancellationToken;

use super::super::*;
use crate::host::attributes;
use crate::host::mount::fixture::{Scratch, scratch};
use crate::host::namespace::{HostNamespace, isolated};
use crate::inventory::embedded::Embedded;
use crate::source::Source;
use crate::volume::{
    CleanMethod, CleanReason, Fingerprint, LocalVolume, Mode, RootAttributes, RootFlags,
    VolumeName, fixture,
};

/// How long a test waits for something that has to happen before it fails.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) struct World {
    pub(super) base: PathBuf,
    pub(super) inventory: Embedded,
    pub(super) locks: tempfile::TempDir,
    /// Whose namespace the cleaner takes for the host's.
    pub(super) host: Cell<HostNamespace>,
    /// How long its cleaner lets a wipe get nowhere.
    pub(super) patience: Cell<Duration>,
    _guards: (Scratch, tempfile::TempDir),
}

/// Runs `act` in a new world, all of it in a mount namespace of its own.
pub(super) fn in_world(act: impl AsyncFnOnce(&World) + Send) {
    isolated(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (base_guard, base) = scratch();
            let state = tempfile::tempdir().unwrap();
            let inventory = Embedded::open(state.path()).unwrap();
            let locks = tempfile::tempdir().unwrap();
            let (host, patience) = (Cell::default(), Cell::new(PATIENCE));
            let guards = (base_guard, state);
            let world = World { base, inventory, locks, host, patience, _guards: guards };
            act(&world).await;
        });
    });
}

impl World {
    /// A volume whose first tenancy has just ended, to be wiped by `method`.
    pub(super) async fn released(
        &self,
        path: &Path,
        mode: Mode,
        method: CleanMethod,
    ) -> VolumeName {
        let policy = CleanPolicy { method, verify: true };
        self.released_by(path, mode, policy).await
    }

    pub(super) async fn released_by(
        &self,
        path: &Path,
        mode: Mode,
        policy: CleanPolicy,
    ) -> VolumeName {
        let volume = recorded(path, mode);
        let name = volume.name.clone();
        let spec = volume.claimed(fixture::claim(name.as_str()), policy).unwrap();
        let claimed = LocalVolume { spec, ..volume };
        let spec = claimed.released(claimed.spec.tenancy).unwrap();
        self.inventory.add(LocalVolume { spec, ..claimed }).await.unwrap();
        name
    }

    pub(super) async fn volume(&self, name: &VolumeName) -> LocalVolume {
        LocalVolume::clone(&self.inventory.get(name).await.unwrap().volume)
    }

    /// Orders another way to wipe.
    pub(super) async fn order(&self, name: &VolumeName, method: CleanMethod) {
        let policy = CleanPolicy { method, verify: true };
        let order = |volume: &LocalVolume| {
            Ok::<_, crate::inventory::Error>(volume.ordered_clean(policy.clone()))
        };
        self.inventory.modify_spec(name, order).await.unwrap();
    }

    /// Starts a cleaner; it ends with the token.
    pub(super) fn clean(&self) -> (CancellationToken, tokio::task::JoinHandle<()>) {
        let cancel = CancellationToken::new();
        let cleaner = self.cleaner();
        let token = cancel.clone();
        (cancel, tokio::spawn(async move { cleaner.run(token).await }))
    }

    pub(super) fn cleaner(&self) -> Cleaner<Embedded> {
        let cleaner = Cleaner::new(
            self.inventory.clone(),
            "node-a".parse().unwrap(),
            Metrics::default(),
            CleanerOptions {
                concurrency: 2,
                patience: self.patience.get(),
                locks: self.locks.path().to_owned(),
            },
        );
        cleaner.on_host(self.host.get())
    }

    /// Waits until `condition` holds of a volume.
    pub(super) async fn until(
        &self,
        name: &VolumeName,
        condition: impl Fn(&LocalVolume) -> bool,
    ) -> LocalVolume {
        let mut events = self.inventory.watch();
        loop {
            let volume = self.volume(name).await;
            if condition(&volume) {
                return volume;
            }
            let event = tokio::time::timeout(PATIENCE, events.next()).await;
            assert!(matches!(event, Ok(Some(_))), "waited in vain: {:?}", volume.status);
        }
    }

    /// Runs a cleaner until the volume is claimable again.
    pub(super) async fn cleaned(&self, name: &VolumeName) -> LocalVolume {
        let (cancel, running) = self.clean();
        let volume = self.until(name, LocalVolume::is_claimable).await;
        cancel.cancel();
        running.await.unwrap();
        volume
    }

    /// Runs a cleaner until the volume's condition has this reason.
    pub(super) async fn refused(&self, name: &VolumeName, reason: CleanReason) -> String {
        let (cancel, running) = self.clean();
        let volume = self.until(name, |v| v.status.conditions.clean.reason == reason).await;
        cancel.cancel();
        running.await.unwrap();
        volume.status.conditions.clean.message.to_string()
    }
}

/// The record of what is at `path`, as discovery would have made it while the volume was free.
fn recorded(path: &Path, mode: Mode) -> LocalVolume {
    let entry = path.file_name().unwrap().to_str().unwrap();
    let facts = Source::look(path).unwrap().facts().clone();
    let mut volume = fixture::named(entry, facts.size);
    if let Fingerprint::Directory { .. } = &facts.fingerprint {
        let seen = attributes::read(std::fs::File::open(path).unwrap(), path).unwrap();
        let xattrs = seen.xattrs.into_iter();
        let xattrs =
            xattrs.map(|(name, value)| (name.into_string().unwrap(), STANDARD.encode(value)));
        let root = RootAttributes {
            uid: seen.uid,
            gid: seen.gid,
            mode: seen.mode,
            xattrs: xattrs.collect(),
            flags: seen.flags.map(|flags| RootFlags {
                inode: flags.inode,
                extended: flags.extended,
                project: flags.project,
                extent_size: flags.extent,
                shared_extent_size: flags.shared_extent,
            }),
        };
        volume.status.root = Some(root.into());
    }
    volume.status.path = path.to_str().unwrap().into();
    volume.status.fingerprint = facts.fingerprint;
    volume.status.fs_type = facts.fs_type.map(Into::into);
    volume.spec.mode = mode;
    volume
}
