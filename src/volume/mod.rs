//! What a volume is: a directory, mount point or block device on one node, who holds it, and whether it may be given away.
//!
//! Pure: no I/O, no clock, no async; it knows no other module. Every transition is a function in [`transition`], so
//! that the product, the tests and a model checker run the same ones.

mod adopt;
mod capacity;
mod condition;
mod fingerprint;
mod id;
mod place;
mod policy;
mod schema;
mod text;
mod transition;
mod wipe;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use adopt::Premises;
pub use capacity::{Bytes, CapacityRange, InvalidBytes, share};
pub use condition::{CleanReason, Condition, Conditions, HealthReason};
pub use fingerprint::{DeviceIdentity, FilesystemIdentity, Fingerprint};
pub use id::{
    CLAIM_NAME_MAX, ClaimName, InvalidName, NodeName, PoolName, TOPOLOGY_KEY, Tenancy,
    VOLUME_NAME_MAX, VolumeId, VolumeName,
};
pub use place::{Names, Place};
pub use policy::{CleanMethod, CleanPolicy, NewVolumes};
pub use text::Text;
pub use transition::{ClaimRefused, Ended, ForgetRefused, ReleaseRefused};
pub use wipe::{Verified, Wipe, WipeRecord, WipeResult};

/// One volume of the inventory. `spec` is what was decided about it, `status` is what its node agent saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalVolume {
    /// Its name, unique in the cluster and never reused for another source.
    pub name: VolumeName,
    /// What was decided: by the agent at discovery, then by the controller and by people.
    pub spec: Spec,
    /// What the node agent saw.
    pub status: Status,
}

/// What was decided about a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The node that owns it. Immutable.
    pub node: NodeName,
    /// The pool that it belongs to. Immutable.
    pub pool: PoolName,
    /// What a claim gets from it. Immutable.
    pub mode: Mode,
    /// The number of its latest tenancy. A new record begins at a number that no earlier record of the same volume can
    /// have reached; see `discover::reconcile`.
    pub tenancy: Tenancy,
    /// Who holds it; absent when it is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Box<Claim>>,
    /// The order to wipe it once nobody holds it: the policy that was in force when the latest claim was made, or what
    /// a person or the pool's `newVolumes: clean` said. Absent while nobody has ordered a wipe, as for a newly found
    /// volume that holds data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean: Option<CleanPolicy>,
    /// When a person last ordered that wipe. An order that is given again is another order: what kept the wipe from
    /// succeeding may be mended, and it is tried at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_asked: Option<Timestamp>,
    /// Whether a person said that it is not to be claimed again.
    #[serde(default)]
    pub cordoned: bool,
}

/// What a claim gets from a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// A directory.
    Filesystem,
    /// A raw block device.
    Block,
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Filesystem => "Filesystem",
            Self::Block => "Block",
        })
    }
}

/// Who holds a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The name that the container orchestrator gave, unique among all claims.
    pub name: ClaimName,
    /// The `PersistentVolumeClaim` that it is for, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PersistentVolumeClaim>,
    /// The sizes that it asked for.
    #[serde(default)]
    pub range: CapacityRange,
    /// When it was made.
    pub at: Timestamp,
}

/// The Kubernetes object that a claim is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PersistentVolumeClaim {
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// What the node agent saw of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Where it was last seen: the entry in its pool's directory. Always UTF-8; other names are not offered.
    pub path: Text,
    /// What it is.
    pub fingerprint: Fingerprint,
    /// Where it lies; absent until an agent that records it has seen the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Other entries of pools at which it was seen as a mount or a device. A plain directory there may be what a lost
    /// mount leaves and is not offered.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub other_paths: BTreeSet<String>,
    /// Its size.
    pub capacity: Bytes,
    /// The type of its file system, for example `ext4`; absent for a device without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_type: Option<Text>,
    /// The tenancy after which it was last known empty and wiped; absent while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_for: Option<Tenancy>,
    /// Whether its pool offers it with the data that was on it, which may then be for reading only. It stays so while a
    /// tenant has it.
    #[serde(default)]
    pub accepted: bool,
    /// `Healthy` and `Clean`.
    pub conditions: Conditions,
    /// The wipe under way. Most volumes have none: it is not in the place of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleaning: Option<Box<Cleaning>>,
    /// The latest wipe that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_wipe: Option<Box<Wipe>>,
    /// Where it is mounted for its tenant now: the staging path and every target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// Mount points of this source that were there while it was free, and so are the administrator's and not a tenant's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_mounts: Vec<String>,
    /// The same in the mount namespace of the host, where its agent has one of its own and sees the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_mounts: Vec<String>,
    /// How its root directory looked at discovery, put back by every wipe; absent for a device. Most are alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Arc<RootAttributes>>,
    /// The file system that Berth made on it for a tenancy; only for a device in a `Filesystem` pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Box<Format>>,
    /// The UID of the Kubernetes Node on which it was seen: a Node that comes back under the same name is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_uid: Option<Text>,
}

/// A wipe under way. It survives a crash, so that the next agent knows what was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cleaning {
    /// The tenancy after which it cleans.
    pub tenancy: Tenancy,
    /// How.
    pub method: CleanMethod,
    /// When it was begun.
    pub started: Timestamp,
    /// Directory entries removed so far.
    #[serde(default)]
    pub entries: u64,
    /// Bytes of a device overwritten or discarded so far.
    #[serde(default)]
    pub bytes: Bytes,
    /// What a `reformat` took off its mount point and has to put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remount: Option<Remount>,
}

/// A mount that `reformat` takes away and makes again on the new file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Remount {
    /// The device, as the mount table names it, for example `/dev/sdb`.
    pub source: String,
    /// What the device is.
    pub device: Fingerprint,
    /// The type of the file system.
    pub fs_type: String,
    /// The UUID that the new file system gets: the old one's, so that the volume stays the same volume.
    pub uuid: String,
    /// The label that it gets: the old one's, by which it may be mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Options of the mount and of the file system, comma-separated as in `/proc/self/mountinfo`.
    pub options: String,
}

/// One place at which a volume is mounted for its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The absolute path.
    #[schemars(length(max = 4096), regex(pattern = "^/"))]
    pub path: String,
    /// Whether it is the staging path rather than a target.
    #[serde(default)]
    pub staging: bool,
    /// Whether it is read-only.
    #[serde(default)]
    pub read_only: bool,
    /// How it may be used at the same time.
    pub access: AccessMode,
    /// The mount flags that it was asked for with, in order; absent where that is not known, since the place was found
    /// in the mount table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
}

/// The access modes of the CSI specification that one node can honour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// `SINGLE_NODE_WRITER`.
    SingleNodeWriter,
    /// `SINGLE_NODE_READER_ONLY`.
    SingleNodeReaderOnly,
    /// `SINGLE_NODE_SINGLE_WRITER`.
    SingleNodeSingleWriter,
    /// `SINGLE_NODE_MULTI_WRITER`.
    SingleNodeMultiWriter,
}

/// Owner, mode and extended attributes (ACLs among them) of a volume's root directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RootAttributes {
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Permission bits with set-user-id, set-group-id and sticky: 12 bits.
    #[schemars(range(max = 4095))]
    pub mode: u32,
    /// Extended attributes by name, each value in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
    /// Its inode flags and project; absent where its file system has none, and in records of releases that did not keep
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<RootFlags>,
}

/// Inode flags (chattr(1)) and the project of a volume's root directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RootFlags {
    /// As `FS_IOC_GETFLAGS` gives them, of those that can be changed.
    pub inode: u32,
    /// As `FS_IOC_FSGETXATTR` gives them.
    pub extended: u32,
    /// The project that its blocks count for.
    pub project: u32,
    /// The hint how many bytes are allocated at a time.
    pub extent_size: u32,
    /// The same where blocks are shared.
    pub shared_extent_size: u32,
}

/// The file system that Berth made on a device for a tenancy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Format {
    /// The tenancy for which it was made.
    pub tenancy: Tenancy,
    /// Its type.
    pub fs_type: String,
    /// Whether it was finished. What one that was only begun may have left is nobody's, and it is begun again.
    pub done: bool,
}

/// The phase of a volume, derived for people to read and never decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Phase {
    /// It may be claimed.
    Available,
    /// It is free, clean and not to be claimed: cordoned.
    Cordoned,
    /// A claim holds it.
    Claimed,
    /// It is being wiped or waits for it.
    Cleaning,
    /// It holds data, or may, and nobody ordered a wipe or the wipe failed.
    Dirty,
    /// It is not where it was, not what it was, or not readable.
    Lost,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

impl Spec {
    /// Whether `other` is of the same volume: what is written once, when it is found, is the same.
    pub fn is_of_same_volume(&self, other: &Self) -> bool {
        (&self.node, &self.pool, self.mode) == (&other.node, &other.pool, other.mode)
    }
}

impl LocalVolume {
    /// Whether a claim may be given this volume: nobody holds it, it is known clean since its latest tenancy, it is
    /// mounted for nobody, healthy and not cordoned.
    pub fn is_claimable(&self) -> bool {
        let free = self.spec.claim.is_none() && self.status.published.is_empty();
        free && self.is_clean() && self.is_healthy() && !self.spec.cordoned
    }

    /// Whether it is known empty and wiped since its latest tenancy.
    pub fn is_clean(&self) -> bool {
        self.status.clean_for == Some(self.spec.tenancy)
    }

    /// Whether it was known clean when its tenancy began. A claim needs that; where it is not so, somebody claimed by a
    /// record that its agent did not write.
    pub fn began_clean(&self) -> bool {
        self.status.clean_for.is_some_and(|clean_for| clean_for.next() == self.spec.tenancy)
    }

    /// Whether it was present, itself and readable when it was last looked at.
    pub fn is_healthy(&self) -> bool {
        self.status.conditions.healthy.status
    }

    /// Whether its agent has to wipe it: it is free, not known clean, and a wipe was ordered.
    pub fn needs_cleaning(&self) -> bool {
        self.spec.claim.is_none() && !self.is_clean() && self.spec.clean.is_some()
    }

    /// The CSI id of the current tenancy; absent when nobody holds the volume.
    pub fn id(&self) -> Option<VolumeId> {
        self.spec.claim.as_ref()?;
        Some(VolumeId { volume: self.name.clone(), tenancy: self.spec.tenancy })
    }

    /// Whether its tenancy `id` is under way, and for `claim`, where that is known.
    pub fn is_tenancy(&self, id: &VolumeId, claim: Option<&ClaimName>) -> bool {
        let holds = |held: &Claim| claim.is_none_or(|claim| held.name == *claim);
        self.name == id.volume
            && self.spec.tenancy == id.tenancy
            && self.spec.claim.as_deref().is_some_and(holds)
    }

    /// The phase for a person to read.
    pub fn phase(&self) -> Phase {
        let wiping = self.status.cleaning.is_some() || self.needs_cleaning();
        let failed = matches!(
            self.status.conditions.clean.reason,
            CleanReason::WipeFailed | CleanReason::VerifyFailed
        );
        match () {
            () if !self.is_healthy() => Phase::Lost,
            () if self.spec.claim.is_some() => Phase::Claimed,
            () if wiping && !failed => Phase::Cleaning,
            () if !self.is_clean() || !self.status.published.is_empty() => Phase::Dirty,
            () if self.spec.cordoned => Phase::Cordoned,
            () => Phase::Available,
        }
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
