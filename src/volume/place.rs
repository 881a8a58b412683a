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
    pub on: Names,
    /// Its path on that; `/` for the whole. Bytes that are not UTF-8 are replaced, which at worst takes two directories
    /// for one.
    pub root: String,
    /// Every name of the whole disk of which it is a partition, or lies on one.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub disk: Names,
    /// Whether it is a mount point or a device rather than a plain directory: when it goes away, a plain directory may
    /// appear where it stood.
    #[serde(default)]
    pub attached: bool,
}

/// A few names, each once and in order. Every record of a volume has some for as long as it is held, and a tree takes many
/// times the memory of so few.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeSet<String>")]
pub struct Names(Box<[Box<str>]>);

impl Names {
    /// The names, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `name` is one of them.
    pub fn contains(&self, name: &str) -> bool {
        self.iter().any(|one| one == name)
    }
}

impl From<BTreeSet<String>> for Names {
    fn from(names: BTreeSet<String>) -> Self {
        Self(names.into_iter().map(String::into_boxed_str).collect())
    }
}

impl<const COUNT: usize> From<[String; COUNT]> for Names {
    fn from(names: [String; COUNT]) -> Self {
        BTreeSet::from(names).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_in_order_and_once_however_they_were_written() {
        let read: Names = serde_json::from_str(r#"["b", "a", "b"]"#).unwrap();

        assert_eq!(serde_json::to_string(&read).unwrap(), r#"["a","b"]"#);
        assert_eq!(read, ["a".to_owned(), "b".to_owned()].into());
        assert!(read.contains("b") && !read.contains("c"));
    }
}
