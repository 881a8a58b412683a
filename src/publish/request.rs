//! What the edge asks for, one type for each call. A volume's id is valid once it exists; paths and flags are checked by
//! the operation, which knows what may be mounted where.

use std::fmt;
use std::path::PathBuf;

use super::options::MountFlags;
use crate::volume::{AccessMode, CapacityRange, ClaimName, VolumeId};

/// How a volume is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// By how many at a time.
    pub mode: AccessMode,
    /// As what.
    pub kind: AccessType,
}

/// As what a volume is to be had.
#[derive(Clone, PartialEq, Eq)]
pub enum AccessType {
    /// A raw device.
    Block,
    /// A directory.
    Mount {
        /// The type of its file system; `None` or empty for any.
        fs_type: Option<String>,
        /// Mount flags.
        flags: MountFlags,
    },
}

impl AccessType {
    /// The type of file system that is asked for, if any.
    pub fn fs_type(&self) -> Option<&str> {
        match self {
            Self::Mount { fs_type, .. } => fs_type.as_deref().filter(|name| !name.is_empty()),
            Self::Block => None,
        }
    }
}

impl fmt::Debug for AccessType {
    /// Leaves the flags out: the specification calls them possibly sensitive.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block => formatter.write_str("Block"),
            Self::Mount { fs_type, .. } => {
                formatter.debug_struct("Mount").field("fs_type", fs_type).finish_non_exhaustive()
            }
        }
    }
}

/// `NodeStageVolume`.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The volume.
    pub id: VolumeId,
    /// The claim that the caller has it for, where the caller knows. An API server that was set back to an older state may
    /// give a tenancy's number again: it is then not the tenancy that this node knows by that number.
    pub claim: Option<ClaimName>,
    /// The staging path; a directory, made if its parent is there.
    pub staging: PathBuf,
    /// How it is to be used.
    pub access: Access,
}

/// `NodeUnstageVolume`.
#[derive(Debug, Clone)]
pub struct Unstage {
    /// The volume.
    pub id: VolumeId,
    /// The staging path.
    pub staging: PathBuf,
}

/// `NodePublishVolume`.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The volume.
    pub id: VolumeId,
    /// As in [`Stage`].
    pub claim: Option<ClaimName>,
    /// Where it was staged; empty where the caller named none, which is refused as not staged.
    pub staging: PathBuf,
    /// The target path, made by this call; its parent is there.
    pub target: PathBuf,
    /// How it is to be used.
    pub access: Access,
    /// Whether it is to be read-only there. On a raw device this is told to the container runtime and not enforced by
    /// the mount: the kernel lets devices be written through read-only mounts.
    pub read_only: bool,
}

/// `NodeUnpublishVolume`.
#[derive(Debug, Clone)]
pub struct Unpublish {
    /// The volume.
    pub id: VolumeId,
    /// The target path.
    pub target: PathBuf,
}

/// `NodeExpandVolume`.
#[derive(Debug, Clone)]
pub struct ExpandNode {
    /// The volume.
    pub id: VolumeId,
    /// Where it is staged or published.
    pub path: PathBuf,
    /// The sizes that are accepted.
    pub range: CapacityRange,
}
