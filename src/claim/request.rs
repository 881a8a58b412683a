//! What is asked of claims, and what they answer. Data only.

use crate::volume::{Bytes, CapacityRange, ClaimName, Mode, PersistentVolumeClaim, PoolName};

/// A claim for a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The name that makes a repeat of the request known as such.
    pub name: ClaimName,
    /// The pool to take it from.
    pub pool: PoolName,
    /// What it has to be.
    pub mode: Mode,
    /// How large it may be.
    pub range: CapacityRange,
    /// What its file system has to be; nothing of a device.
    pub filesystem: Filesystem,
    /// Where it may be.
    pub topology: Topology,
    /// The Kubernetes object that it is for, recorded for people to read.
    pub pvc: Option<PersistentVolumeClaim>,
}

/// What is asked of a volume's file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// Its type; any if there is none.
    pub fs_type: Option<String>,
    /// Whether it has to be one that Berth mounts for this claim alone, since flags of the whole file system are asked for.
    pub own: bool,
}

impl Filesystem {
    /// Whether anything will do.
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a volume may be (CSI specification, `TopologyRequirement`), as values of the topology key; see
/// [`crate::volume::NodeName::topology_value`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Where it has to be: one of these, tried in this order after the preferred. Empty for anywhere.
    pub requisite: Vec<String>,
    /// Where it should be, the best first.
    pub preferred: Vec<String>,
}

impl Topology {
    /// Whether a volume may be there.
    pub fn admits(&self, value: &str) -> bool {
        self.requisite.is_empty() || self.requisite.iter().any(|requisite| requisite == value)
    }
}

/// Of what the capacity is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapacityQuery {
    /// Volumes of this pool.
    pub pool: PoolName,
    /// Volumes of this mode; of the pool's if there is none.
    pub mode: Option<Mode>,
    /// Volumes that can be had with this file system.
    pub filesystem: Filesystem,
    /// Volumes at this value of the topology key.
    pub topology: Option<String>,
}

/// What could be claimed at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    /// All of it together, in bytes.
    pub available: Bytes,
    /// The largest volume: what one claim can get. Absent when there is none at all.
    pub maximum: Option<Bytes>,
    /// The smallest volume: the least limit with which a claim can succeed. Absent when there is none at all.
    pub minimum: Option<Bytes>,
}

/// A volume after an expansion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expanded {
    /// Its capacity now.
    pub capacity: Bytes,
    /// Whether its node has to grow a file system that Berth made on it.
    pub node_expansion_required: bool,
}
