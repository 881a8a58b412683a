//! What the node agent says about a volume: `Healthy` and `Clean`, each with a stable reason and a sentence.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Text;

/// Both conditions of a volume. They are said for people and for `claimable`; each is set from what was seen last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conditions {
    /// Present, the same fingerprint, and readable.
    pub healthy: Condition<HealthReason>,
    /// Known empty and wiped since its latest tenancy.
    pub clean: Condition<CleanReason>,
}

/// One condition: whether it holds, why, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition<R> {
    /// Whether it holds.
    pub status: bool,
    /// The reason, in CamelCase, stable between releases.
    pub reason: R,
    /// One sentence for a person: what is so, where, and what to do about it.
    pub message: Text,
    /// When `status` last changed.
    pub since: Timestamp,
}

impl<R: PartialEq> Condition<R> {
    /// This condition, then `new`: `since` moves only when the status does.
    #[must_use]
    pub fn then(&self, new: Self) -> Self {
        let since = if self.status == new.status { self.since } else { new.since };
        Self { since, ..new }
    }

    /// Whether `new` says anything that this does not: times alone say nothing.
    pub fn says_more(&self, new: &Self) -> bool {
        self.status != new.status || self.reason != new.reason || self.message != new.message
    }
}

/// Why a volume is or is not healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HealthReason {
    /// It is where it was, it is what it was, and it can be read.
    Present,
    /// Nothing is at its path.
    Missing,
    /// Something else is at its path: a lost mount's empty directory, or another disk.
    Replaced,
    /// Its file system turned read-only.
    ReadOnly,
    /// Reading it failed.
    ReadError,
    /// A probe of it did not end in time.
    ProbeTimeout,
    /// Its pool is no longer in the configuration of its node.
    PoolGone,
    /// Its Node is no longer in the cluster.
    NodeGone,
}

impl HealthReason {
    /// The reason as it is written in a condition, an event or a CSI health status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Present => "Present",
            Self::Missing => "Missing",
            Self::Replaced => "Replaced",
            Self::ReadOnly => "ReadOnly",
            Self::ReadError => "ReadError",
            Self::ProbeTimeout => "ProbeTimeout",
            Self::PoolGone => "PoolGone",
            Self::NodeGone => "NodeGone",
        }
    }
}

/// Why a volume is or is not clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CleanReason {
    /// It was empty when it was found.
    FoundEmpty,
    /// It holds data and its pool accepts that.
    Accepted,
    /// It was wiped after its latest tenancy.
    Wiped,
    /// It was not wiped since its pool says `none`; the next tenant finds what the last one left.
    LeftAsIs,
    /// It held data when it was found; a person or the pool's policy decides.
    FoundData,
    /// It was mounted for a tenant when it was found, and nothing was recorded of one; a person decides.
    FoundInUse,
    /// A tenant holds it.
    InUse,
    /// A wipe is due or under way.
    Cleaning,
    /// A wipe is due and waits for the last mount or holder to go.
    StillInUse,
    /// The last wipe failed; it is tried again.
    WipeFailed,
    /// The wipe ended and reading back found data.
    VerifyFailed,
}

impl CleanReason {
    /// The reason as it is written in a condition or an event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FoundEmpty => "FoundEmpty",
            Self::Accepted => "Accepted",
            Self::Wiped => "Wiped",
            Self::LeftAsIs => "LeftAsIs",
            Self::FoundData => "FoundData",
            Self::FoundInUse => "FoundInUse",
            Self::InUse => "InUse",
            Self::Cleaning => "Cleaning",
            Self::StillInUse => "StillInUse",
            Self::WipeFailed => "WipeFailed",
            Self::VerifyFailed => "VerifyFailed",
        }
    }
}
