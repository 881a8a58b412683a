//! Why a volume is not mounted, unmounted, measured or grown. Each variant says which gRPC code it means; the edge maps them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::options;
use crate::host::{self, format};
use crate::inventory;
use crate::source;
use crate::volume::{Bytes, CapacityRange, Mode, PoolName, VolumeId};

/// What went wrong, for which volume, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such tenancy lives on this node. `NOT_FOUND`.
    #[error(
        "volume {id} is not claimed on this node: the id names no tenancy that is under way here"
    )]
    NotFound {
        /// The id that was asked for.
        id: VolumeId,
    },
    /// The volume is not at the path that was named. `NOT_FOUND`.
    #[error("volume {id} is not at {}: it was never published there, or its mount was lost", path.display())]
    NotHere {
        /// The volume.
        id: VolumeId,
        /// The path.
        path: PathBuf,
    },
    /// The path can be nobody's staging or target path. `INVALID_ARGUMENT`.
    #[error("{path:?} is no path for volume {id}: {reason}")]
    Path {
        /// The volume.
        id: VolumeId,
        /// The path, as it was given.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A mount flag is not allowed. `INVALID_ARGUMENT`.
    #[error("volume {id} is not mounted so")]
    Flag {
        /// The volume.
        id: VolumeId,
        /// Which flag, and why not.
        #[source]
        source: options::Refused,
    },
    /// Another operation on the volume has not ended. `ABORTED`.
    #[error("an operation on volume {id} is under way: ask again when it has ended")]
    Pending {
        /// The volume.
        id: VolumeId,
    },
    /// The volume is asked for as what it is not. `FAILED_PRECONDITION`.
    #[error("volume {id} is of mode {mode}: it cannot be {}", match mode {
        Mode::Block => "mounted as a file system; ask for volumeMode Block, or for another pool",
        Mode::Filesystem => "had as a block device; ask for volumeMode Filesystem, or for another pool",
    })]
    AccessType {
        /// The volume.
        id: VolumeId,
        /// What it is.
        mode: Mode,
    },
    /// The volume has, or Berth makes, no file system of the type that was asked for. `FAILED_PRECONDITION`.
    #[error("volume {id} cannot be had with file system type {asked:?}: {}", match has {
        Some(has) => format!("it has {has}; leave the type out, or ask for {has}"),
        None => "Berth makes ext4 and xfs".to_owned(),
    })]
    FsType {
        /// The volume.
        id: VolumeId,
        /// What was asked for.
        asked: String,
        /// What it has; absent where it has none yet.
        has: Option<String>,
    },
    /// It is there already, with other arguments. `ALREADY_EXISTS`.
    #[error("volume {id} is at {} already, with other arguments: take it away there first", path.display())]
    Incompatible {
        /// The volume.
        id: VolumeId,
        /// The path.
        path: PathBuf,
    },
    /// Its access mode allows one place, and it is at another. `FAILED_PRECONDITION`.
    #[error(
        "volume {id} is at {} already and may not be at {} too: its access mode is not SINGLE_NODE_MULTI_WRITER",
        other.display(), path.display()
    )]
    Elsewhere {
        /// The volume.
        id: VolumeId,
        /// Where it was asked for.
        path: PathBuf,
        /// Where it is.
        other: PathBuf,
    },
    /// It is not staged at the path that was named. `FAILED_PRECONDITION`.
    #[error("volume {id} is not staged at {}: stage it there first", staging.display())]
    NotStaged {
        /// The volume.
        id: VolumeId,
        /// The staging path.
        staging: PathBuf,
    },
    /// It is still published. `FAILED_PRECONDITION`.
    #[error("volume {id} is not unstaged: it is still published at {}", Paths(targets))]
    StillPublished {
        /// The volume.
        id: VolumeId,
        /// Where.
        targets: Vec<PathBuf>,
    },
    /// What is at the path is not ours: it is neither mounted over nor taken away. `FAILED_PRECONDITION`.
    #[error("{} is left alone for volume {id}: {found} is there; move it away by hand", path.display())]
    Occupied {
        /// The volume.
        id: VolumeId,
        /// The path.
        path: PathBuf,
        /// What is there.
        found: Found,
    },
    /// The last process to use it has not gone. `FAILED_PRECONDITION`.
    #[error("volume {id} is in use at {}: it is taken away when the last file there is closed", path.display())]
    InUse {
        /// The volume.
        id: VolumeId,
        /// The path.
        path: PathBuf,
    },
    /// Somebody has the device mounted, or has it open for nobody else to use. `FAILED_PRECONDITION`.
    #[error("volume {id}: somebody else has {} mounted or open, and it is not mounted before they let it go", path.display())]
    Held {
        /// The volume.
        id: VolumeId,
        /// The device.
        path: PathBuf,
    },
    /// Beneath the mount that was taken away lies something, which is kept. `FAILED_PRECONDITION`.
    #[error("volume {id} is gone from {} and something else lies there, which is not deleted: move it away by hand", path.display())]
    LeftBehind {
        /// The volume.
        id: VolumeId,
        /// The path.
        path: PathBuf,
    },
    /// The source is missing or another one, or cannot be read. `FAILED_PRECONDITION`; for
    /// [`source::Error::Host`] `INTERNAL`.
    #[error("volume {id} could not be verified")]
    Source {
        /// The volume.
        id: VolumeId,
        /// What is wrong with it.
        #[source]
        source: source::Error,
    },
    /// The kernel does not clone its mount. `FAILED_PRECONDITION`.
    #[error(
        "volume {id}: the kernel refuses a second mount of {}, which is unbindable or has mounts beneath it from outside this user namespace",
        path.display()
    )]
    NoClone {
        /// The volume.
        id: VolumeId,
        /// Its path.
        path: PathBuf,
    },
    /// The device that the kernel mounted is not the one that was checked; it was not attached. `FAILED_PRECONDITION`.
    #[error("volume {id} is on device {expected} and {} led to device {found}: ask again when its links are settled", path.display())]
    WrongDevice {
        /// The volume.
        id: VolumeId,
        /// The device's path.
        path: PathBuf,
        /// The number that was checked.
        expected: host::DeviceNumber,
        /// The number that was mounted.
        found: host::DeviceNumber,
    },
    /// The device holds something that nobody allowed to be overwritten or handed out. `FAILED_PRECONDITION`.
    #[error(
        "volume {id} is not formatted: {} holds {found} that no tenant was given; wipe it (`berth clean`) or have the pool accept it",
        path.display()
    )]
    NotBlank {
        /// The volume.
        id: VolumeId,
        /// The device's path.
        path: PathBuf,
        /// What was found on it.
        found: String,
    },
    /// The file system that this tenancy was given is no longer on the device. `FAILED_PRECONDITION`.
    #[error("volume {id} had {had} on {} and has it no more; its data was destroyed from outside, and it is not formatted again", path.display())]
    FilesystemGone {
        /// The volume.
        id: VolumeId,
        /// The device's path.
        path: PathBuf,
        /// The type that it had.
        had: String,
    },
    /// Nothing says how volumes of its pool are mounted. `FAILED_PRECONDITION`.
    #[error(
        "volume {id} is not mounted anew: its pool {pool} is no longer in this node's configuration; put it back"
    )]
    PoolGone {
        /// The volume.
        id: VolumeId,
        /// The pool.
        pool: PoolName,
    },
    /// There is less, or more, than what was asked for. `OUT_OF_RANGE`.
    #[error(
        "volume {id} has {capacity} and {asked} was asked for: it grows only as far as what lies beneath it has"
    )]
    Size {
        /// The volume.
        id: VolumeId,
        /// What was asked for.
        asked: CapacityRange,
        /// What there is.
        capacity: Bytes,
    },
    /// It was claimed by a record that this node did not write: here it was not known clean. `FAILED_PRECONDITION`.
    #[error(
        "volume {id} is not staged: this node does not know it clean since its last tenancy, and somebody claimed it all the same; delete the claim"
    )]
    NotClean {
        /// The volume.
        id: VolumeId,
    },
    /// It has to be written to and is mounted for reading only. `FAILED_PRECONDITION`.
    #[error(
        "volume {id} is not grown: its file system is mounted read-only at {}; it grows once it is mounted for writing",
        path.display()
    )]
    ReadOnly {
        /// The volume.
        id: VolumeId,
        /// The path.
        path: PathBuf,
    },
    /// The disk did not answer in time; what was begun goes on. `DEADLINE_EXCEEDED`.
    #[error(
        "volume {id} did not answer at {} within {} s: look for a failing disk (`dmesg`), and ask again",
        path.display(), limit.as_secs()
    )]
    TooSlow {
        /// The volume.
        id: VolumeId,
        /// The path.
        path: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// No file system was made. `FAILED_PRECONDITION` for [`format::Error::NotInstalled`], else `INTERNAL`.
    #[error("volume {id} was not formatted")]
    Format {
        /// The volume.
        id: VolumeId,
        /// Why.
        #[source]
        source: format::Error,
    },
    /// The kernel refused. `INTERNAL`.
    #[error("volume {id}: the kernel refused")]
    Host {
        /// The volume.
        id: VolumeId,
        /// What, and where.
        #[source]
        source: host::Error,
    },
    /// The inventory did not answer or did not record. The code is that of the inventory's error.
    #[error("volume {id} could not be looked up or recorded")]
    Inventory {
        /// The volume.
        id: VolumeId,
        /// Why.
        #[source]
        source: inventory::Error,
    },
    /// The process is stopping. `UNAVAILABLE`.
    #[error("volume {id}: the server is stopping; ask again")]
    Stopping {
        /// The volume.
        id: VolumeId,
    },
}

/// What was found where a volume was to be mounted or taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A mount of something else: its source and the type of its file system.
    Mount {
        /// What is mounted, for example `/dev/sdb`.
        source: String,
        /// The type of its file system.
        fs_type: String,
    },
    /// The volume at a place that is the administrator's, or another tenancy's.
    Owned,
    /// A file of a kind on which the volume cannot be mounted.
    Unsuitable(&'static str),
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { source, fs_type } => write!(formatter, "a mount of {source} ({fs_type})"),
            Self::Owned => {
                formatter.write_str("a mount of the administrator's or of another tenancy")
            }
            Self::Unsuitable(kind) => formatter.write_str(kind),
        }
    }
}

/// Paths for a sentence.
struct Paths<'a>(&'a [PathBuf]);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}{}", path.display())?;
        }
        Ok(())
    }
}
