//! Where a source lies: what it shares with everything that overlaps it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a source lies on what holds it. It is recorded, so that what overlaps a volume is known also while the volume
/// itself cannot be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Every name of what it lies on, or is: of the file system, of the device. Two places that share a name are on the
    /// same. A name that is good for one boot of the host only says which.
    #[schemars(with = "Vec<String>")]
    pub on: BTreeSet<String>,
    /// Its path on that; `/` for the whole. Bytes that are not UTF-8 are replaced, which at worst takes two directories
    /// for one.
    pub root: String,
    /// Every name of the whole disk of which it is a partition, or lies on one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub disk: BTreeSet<String>,
    /// Whether it is a mount point or a device rather than a plain directory: when it goes away, a plain directory may
    /// appear where it stood.
    #[serde(default)]
    pub attached: bool,
}
