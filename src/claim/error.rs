//! Why a claim was not made, ended, found or expanded: each with the numbers and names that a person needs.

use std::fmt;

use crate::inventory;
use crate::volume::{
    Bytes, CapacityRange, ClaimName, ClaimRefused, Mode, NodeName, PoolName, VolumeId, VolumeName,
};

/// Why claims did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The index is not filled yet. Nothing was written; ask again.
    #[error("the inventory has not been read yet; ask again in a moment")]
    NotReady,
    /// The name holds a volume that this request does not describe.
    #[error("claim {claim} holds volume {holder} already, and {what}: use another name")]
    Incompatible {
        /// The claim's name.
        claim: ClaimName,
        /// What it holds.
        holder: VolumeName,
        /// What differs.
        what: Mismatch,
    },
    /// No such pool is configured.
    #[error("there is no pool {pool}; {}", Known(known))]
    UnknownPool {
        /// What was asked for.
        pool: PoolName,
        /// What there is.
        known: Vec<PoolName>,
    },
    /// The pool's volumes are of another mode.
    #[error(
        "pool {pool} is of mode {mode} and the claim asks for {asked}: use a pool of that mode"
    )]
    WrongMode {
        /// The pool.
        pool: PoolName,
        /// Its mode.
        mode: Mode,
        /// What was asked for.
        asked: Mode,
    },
    /// No volume of the pool can be had so, now or later.
    #[error("pool {pool} offers no volume with {what}: {instead}")]
    NotOffered {
        /// The pool.
        pool: PoolName,
        /// What was asked for.
        what: String,
        /// What to ask for instead.
        instead: &'static str,
    },
    /// Nothing fits now.
    #[error("pool {pool} has no volume of {range} to give: {shortage}")]
    Exhausted {
        /// The pool.
        pool: PoolName,
        /// The sizes that were asked for.
        range: CapacityRange,
        /// What there is, and why it is not to be had.
        shortage: Box<Shortage>,
    },
    /// The volume that was chosen is not to be claimed.
    #[error("volume {volume} cannot be claimed")]
    Refused {
        /// The volume.
        volume: VolumeName,
        /// Why.
        #[source]
        source: ClaimRefused,
    },
    /// There is no such tenancy, or it has ended.
    #[error("there is no volume {0}: nobody holds it, or another tenancy of it is under way")]
    NotFound(VolumeId),
    /// The volume is not of the size that was asked for, and Berth cannot make it so.
    #[error(
        "volume {id} has {capacity} and {asked} was asked for: a local volume is as large as its device or directory; \
         grow that first, or copy to a volume of another size"
    )]
    OutOfRange {
        /// The tenancy.
        id: VolumeId,
        /// The sizes that were asked for.
        asked: CapacityRange,
        /// What there is.
        capacity: Bytes,
    },
    /// The inventory did not do it.
    #[error(transparent)]
    Inventory(#[from] inventory::Error),
}

/// How a volume differs from what is asked under the name of its claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It is of another pool.
    #[error("it is of pool {held}, not {asked}")]
    Pool {
        /// The pool of the volume.
        held: PoolName,
        /// The pool that is asked for.
        asked: PoolName,
    },
    /// It is of another mode.
    #[error("it is of mode {held}, not {asked}")]
    Mode {
        /// The mode of the volume.
        held: Mode,
        /// The mode that is asked for.
        asked: Mode,
    },
    /// It is of another size.
    #[error("it has {held}, not {asked}")]
    Size {
        /// The volume's capacity.
        held: Bytes,
        /// The sizes that are asked for.
        asked: CapacityRange,
    },
    /// Its file system is of another type.
    #[error("it has {}, not {asked}", held.as_deref().unwrap_or("no such file system"))]
    Filesystem {
        /// The type that it has; absent where it has none yet.
        held: Option<String>,
        /// The type that is asked for.
        asked: String,
    },
    /// It is a directory, and flags of a whole file system are asked for.
    #[error("it is a directory, for which there are no mount flags of a whole file system")]
    Shared,
    /// It is elsewhere.
    #[error("it is on node {held}, not on {}", asked.join(" or "))]
    Topology {
        /// The volume's node.
        held: NodeName,
        /// The requisite values.
        asked: Vec<String>,
    },
}

/// What a pool has of the mode asked for, and why none of it is to be had: each volume of the right size is counted
/// under the first of these that is so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shortage {
    /// Volumes in all.
    pub volumes: usize,
    /// Of these, the ones of the right size.
    pub fitting: usize,
    /// Of these, the ones that lie where the claim must not be.
    pub elsewhere: usize,
    /// Of the others, the ones that cannot be had with the file system that is asked for.
    pub unsuited: usize,
    /// Of the others, the ones that a claim holds.
    pub claimed: usize,
    /// Of the others, the ones that are missing, replaced or unreadable.
    pub unhealthy: usize,
    /// Of the others, the ones that hold data or wait for their wipe.
    pub unclean: usize,
    /// Of the others, the ones that a person has cordoned.
    pub cordoned: usize,
    /// The largest that can be claimed, of any size, where the claim may be.
    pub largest: Option<Bytes>,
}

impl fmt::Display for Shortage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.volumes == 0 {
            return formatter.write_str("it has no volumes; check that its nodes have found any");
        }
        write!(formatter, "volumes of that size: {} of {}", self.fitting, self.volumes)?;
        let reasons = [
            (self.elsewhere, "on other nodes"),
            (self.unsuited, "of another file system"),
            (self.claimed, "claimed"),
            (self.unhealthy, "not healthy"),
            (self.unclean, "not clean"),
            (self.cordoned, "cordoned"),
        ];
        let mut separator = " (";
        for (count, reason) in reasons.into_iter().filter(|(count, _)| *count > 0) {
            write!(formatter, "{separator}{count} {reason}")?;
            separator = ", ";
        }
        if self.fitting > 0 {
            formatter.write_str(")")?;
        }
        match self.largest {
            Some(largest) => write!(formatter, "; the largest that can be claimed has {largest}"),
            None => formatter.write_str("; none of any size can be claimed now"),
        }
    }
}

/// Names of pools for the end of a sentence.
struct Known<'a>(&'a [PoolName]);

impl fmt::Display for Known<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(PoolName::as_str).collect();
        match &names[..] {
            [] => formatter.write_str("none is configured"),
            names => write!(formatter, "the configuration has {}", names.join(", ")),
        }
    }
}
