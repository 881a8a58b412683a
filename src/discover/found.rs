//! What a scan found, as data: the candidates of every pool, what is at the recorded paths that are none, and what is
//! wrong and cannot be offered.

use std::collections::BTreeMap;
use std::fmt;

use crate::source::Facts;
use crate::volume::{Bytes, HealthReason, Mode, PoolName, RootAttributes, VolumeName};

/// Everything that one scan of a host found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Every entry of a pool's directory that the pool selects, in the order of paths.
    pub candidates: Vec<Candidate>,
    /// What is at each recorded path that is no candidate (any more).
    pub elsewhere: BTreeMap<String, Sight>,
    /// Pools whose directory could not be listed, with the reason: nothing is known of their entries.
    pub unreadable: BTreeMap<PoolName, String>,
    /// What was wrong with entries that are no candidates.
    pub problems: Vec<Problem>,
}

/// An entry of a pool's directory.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The pool that selects it.
    pub pool: PoolName,
    /// Its name in the directory.
    pub entry: String,
    /// Its path.
    pub path: String,
    /// What is there.
    pub sight: Sight,
}

/// What is at a path.
#[derive(Debug, Clone)]
pub enum Sight {
    /// A directory or a block device.
    Source(Box<Seen>),
    /// Nothing: no entry, or a symlink that leads nowhere.
    Nothing,
    /// Something that is neither a directory nor a block device.
    Unsuitable,
    /// It is not known: so many looks at other paths have not come back that this one was not made.
    Untried,
    /// It is not known: looking failed.
    Failed {
        /// The reason for a condition.
        reason: HealthReason,
        /// What failed and what to do.
        message: String,
    },
}

/// A source that was looked at.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What it is.
    pub facts: Facts,
    /// Every mount point at which it, or a part of it, is mounted; those whose names are UTF-8.
    pub mounts: Vec<String>,
    /// The same in the mount namespace of the host, where that is another one; absent where it is not known.
    pub host_mounts: Option<Vec<String>>,
    /// Whether the directory of the pool that selects it lies within it.
    pub holds_its_pool: bool,
    /// What it holds, where that was asked.
    pub contents: Option<Contents>,
    /// How its root directory looks, where its contents were asked; absent for a device.
    pub root: Option<RootAttributes>,
}

/// What a source holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Nothing; `lost+found` alone counts as nothing.
    Empty,
    /// No file system any more, and old blocks: a wipe for a file system's next tenant leaves this.
    Erased,
    /// Something, in words: `files`, `signatures of xfs`.
    Holds(String),
}

impl Contents {
    /// What a tenant would find, in words: one that gets files, or the device itself. Absent where that is nothing.
    pub fn shown_as(&self, mode: Mode) -> Option<&str> {
        match (self, mode) {
            (Self::Empty, _) | (Self::Erased, Mode::Filesystem) => None,
            (Self::Erased, Mode::Block) => Some("the old blocks of an erased file system"),
            (Self::Holds(what), _) => Some(what),
        }
    }
}

/// How closely it is to be looked at what a source holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Not at all: it is settled.
    None,
    /// Whether anybody has begun to use it. Costs little, so that a free volume can be looked at again and again.
    Glance,
    /// As well as can be done in a few seconds, before it is offered for the first time. For a directory no more than a
    /// glance.
    Search,
}

/// Something that a person may expect to be offered and that is not, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The pool.
    pub pool: PoolName,
    /// The path; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// What is wrong.
    pub defect: Defect,
}

/// Why something is not offered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// Its name is not UTF-8.
    NotUtf8,
    /// It is a symlink that leads nowhere.
    Nothing,
    /// It is neither a directory nor a block device.
    Unsuitable,
    /// The pool does not accept what it is.
    NotAccepted(&'static str),
    /// It is what another path leads to already.
    Duplicate {
        /// The other path.
        of: String,
    },
    /// It contains, or lies within, what another path leads to.
    Overlaps {
        /// The other path.
        with: String,
    },
    /// The pool's own directory lies within it.
    HoldsItsPool,
    /// It is a plain directory where the source of a volume is missing.
    Beneath {
        /// The volume.
        volume: VolumeName,
    },
    /// It is a plain directory where the source of a volume, which is offered by another path, was mounted as well.
    Left {
        /// The volume.
        volume: VolumeName,
    },
    /// Everything that its file system has is promised to holders, or declared by pools for others.
    NoSpace,
    /// It is offered, but smaller than its pool declares.
    Smaller {
        /// With how much.
        given: Bytes,
        /// What the pool declares.
        declared: Bytes,
    },
    /// Looking at it failed.
    Failed(String),
    /// It was not looked at, since too many others hang.
    Untried,
    /// The pool's directory is not there.
    NoDirectory,
    /// The pool's directory cannot be listed.
    Unreadable(String),
}

impl Defect {
    /// Its name, stable between releases, for metrics and for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "NotUtf8",
            Self::Nothing => "Nothing",
            Self::Unsuitable => "Unsuitable",
            Self::NotAccepted(_) => "NotAccepted",
            Self::Duplicate { .. } => "Duplicate",
            Self::Overlaps { .. } => "Overlaps",
            Self::HoldsItsPool => "HoldsItsPool",
            Self::Beneath { .. } => "Beneath",
            Self::Left { .. } => "Left",
            Self::NoSpace => "NoSpace",
            Self::Smaller { .. } => "Smaller",
            Self::Failed(_) => "Failed",
            Self::Untried => "Untried",
            Self::NoDirectory => "NoDirectory",
            Self::Unreadable(_) => "Unreadable",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.path)?;
        match &self.defect {
            Defect::NotUtf8 => {
                formatter.write_str("is not offered: its name is not UTF-8; rename it")
            }
            Defect::Nothing => formatter
                .write_str("is not offered: it is a symlink that leads nowhere; mend or remove it"),
            Defect::Unsuitable => {
                formatter.write_str("is not offered: it is neither a directory nor a block device")
            }
            Defect::NotAccepted(what) => write!(
                formatter,
                "is not offered: it is {what}, which pool {} does not accept",
                self.pool
            ),
            Defect::Duplicate { of } => write!(
                formatter,
                "is not offered: it leads to the same source as {of}; remove one of the two"
            ),
            Defect::Overlaps { with } => write!(
                formatter,
                "is not offered: {with} is a part of it, or it a part of that; remove one of the two"
            ),
            Defect::HoldsItsPool => formatter.write_str(
                "is not offered: the pool's own directory lies within it; remove it from the pool",
            ),
            Defect::Beneath { volume } => write!(
                formatter,
                "is not offered: volume {volume} belongs there and this may be its empty mount point; mount it, or \
                 forget the volume"
            ),
            Defect::Left { volume } => write!(
                formatter,
                "is not offered: volume {volume} was mounted there too and this may be its empty mount point; mount it \
                 there again, or remove the directory"
            ),
            Defect::Failed(why) => write!(formatter, "is not offered: {why}"),
            Defect::NoSpace => formatter.write_str(
                "is not offered: nothing of its file system is left, beside what claims were promised and pools declare; \
                 enlarge it, or lower the pools' capacity",
            ),
            Defect::Smaller { given, declared } => write!(
                formatter,
                "is offered with {given} and not with the {declared} that pool {} declares: its file system does not have \
                 that much for each; enlarge it, or lower the pool's capacity",
                self.pool
            ),
            Defect::Untried => formatter.write_str(
                "is not offered: it was not looked at, since too many others have had no answer yet; check those",
            ),
            Defect::NoDirectory => {
                formatter.write_str("does not exist, so its pool has no volumes; make it")
            }
            Defect::Unreadable(why) => write!(
                formatter,
                "cannot be listed, so nothing is known of its pool's volumes: {why}"
            ),
        }
    }
}
