//! Pools: named sets of like volumes, as an administrator configures them. Data only; [`config`] reads `pools.yaml`,
//! [`storage_class_map`] what the static provisioner was configured with, and [`Sources`] both.

pub mod config;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod sources;
pub mod storage_class_map;

use std::collections::BTreeMap;
use std::path::PathBuf;

use globset::GlobSet;
pub use sources::{Loaded, Sources, Texts};

use crate::volume::{Bytes, CleanPolicy, Fingerprint, Mode, NewVolumes, PoolName};

/// Every pool of this host, by name.
pub type Pools = BTreeMap<PoolName, Pool>;

/// One pool on this host.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Its name, the same on every node.
    pub name: PoolName,
    /// The directory whose entries are candidate volumes; absolute.
    pub path: PathBuf,
    /// What a claim gets.
    pub mode: Mode,
    /// Which entries are candidates, by their names.
    pub entries: GlobSet,
    /// The globs of `entries` as they were written.
    pub globs: Vec<String>,
    /// What may be a volume.
    pub accept: Accept,
    /// What becomes of a newly found volume that holds data.
    pub new_volumes: NewVolumes,
    /// How a volume is wiped after a tenancy.
    pub clean: CleanPolicy,
    /// How a volume that is a device is wiped, where that differs.
    pub clean_devices: Option<CleanPolicy>,
    /// The size that each plain directory counts for, instead of its share of the file system.
    pub capacity: Option<Bytes>,
    /// The file system made on a device that a claim wants mounted and names none for; `ext4` or `xfs`.
    pub fs_type: FsType,
    /// Options that every mount of the pool's volumes gets: any of `nosuid`, `nodev`, `noexec`.
    pub mount_options: Vec<String>,
}

impl Pool {
    /// How the volume of this fingerprint is wiped after a tenancy.
    pub fn clean_of(&self, fingerprint: &Fingerprint) -> &CleanPolicy {
        match fingerprint {
            Fingerprint::Device { .. } => self.clean_devices.as_ref().unwrap_or(&self.clean),
            Fingerprint::Directory { .. } => &self.clean,
        }
    }
}

/// What may be a volume of a pool. A bind mount is a mount; a symlink counts as what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// Mount points, bind mounts among them.
    pub mount: bool,
    /// Plain directories.
    pub directory: bool,
    /// Block devices: always in a `Block` pool; in a `Filesystem` pool they are formatted when a tenant first uses them.
    pub device: bool,
}

/// The file systems that Berth makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FsType {
    /// ext4, by `mkfs.ext4`.
    #[default]
    Ext4,
    /// XFS, by `mkfs.xfs`.
    Xfs,
}

impl FsType {
    /// The kernel's name of the type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// The type that the kernel calls `name`; absent where Berth does not make it.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Ext4, Self::Xfs].into_iter().find(|fs_type| fs_type.name() == name)
    }
}
