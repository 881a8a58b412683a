//! What is done with a volume's data: how it is wiped after a tenancy, and what becomes of data that was there first.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a volume is wiped, recorded when it is claimed so that a later change of the configuration cannot weaken what
/// the tenant was promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanPolicy {
    /// The way.
    #[serde(flatten)]
    pub method: CleanMethod,
    /// Whether the result is read back, in samples, before the volume is offered again.
    #[serde(default)]
    pub verify: bool,
}

/// The ways to wipe a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum CleanMethod {
    /// Remove everything beneath the root directory, which stays. On a device in a `Filesystem` pool: as `reformat`.
    Delete,
    /// Make a new file system on the same device.
    Reformat,
    /// Leave everything; the next tenant finds it.
    None,
    /// Tell the device that its blocks are unused, and zero what does not read back as zero afterwards.
    Discard,
    /// Overwrite every block with zeros.
    Zero,
    /// Overwrite every block with random data, `passes` times, then with zeros.
    Shred {
        /// How often, from 1 to 32.
        passes: u32,
    },
    /// Run the administrator's program.
    Command {
        /// The program and its arguments; no shell is involved.
        command: Vec<String>,
        /// Seconds that it may take.
        timeout: u64,
    },
}

impl CleanMethod {
    /// The method's name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Reformat => "reformat",
            Self::None => "none",
            Self::Discard => "discard",
            Self::Zero => "zero",
            Self::Shred { .. } => "shred",
            Self::Command { .. } => "command",
        }
    }

    /// Whether the result is read back where nothing else is said. What a program leaves on a device only its
    /// administrator knows: there may be nothing that reads as zeros.
    pub fn is_read_back(&self) -> bool {
        !matches!(self, Self::None | Self::Command { .. })
    }

    /// How long an administrator's program may take.
    pub fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Command { timeout, .. } => Some(Duration::from_secs(*timeout)),
            _ => None,
        }
    }
}

impl fmt::Display for CleanMethod {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What becomes of a newly found volume that holds data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NewVolumes {
    /// It is `Dirty` until a person decides.
    #[default]
    RequireEmpty,
    /// It is wiped.
    Clean,
    /// It is offered as it is.
    Accept,
}
