//! Where a source lies: what it shares with everything that overlaps it.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::Text;

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
    #[schemars(with = "String")]
    pub root: Text,
    /// Every name of the whole disk of which it is a partition, or lies on one.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub disk: Names,
    /// Whether it is a mount point or a device rather than a plain directory: when it goes away, a plain directory may
    /// appear where it stood.
    #[serde(default)]
    pub attached: bool,
}

/// A few names, each once and in order. Every record of a volume has some for as long as it is held: they are one text, in
/// which each ends with a zero byte, that no name has.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeSet<String>")]
pub struct Names(Box<str>);

impl Names {
    /// The names, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator('\0')
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
        // No name from the kernel has a zero byte; a record may, which then is as what is not UTF-8 is.
        let ended = |name: String| name.replace('\0', "\u{fffd}") + "\0";
        let in_order: BTreeSet<_> = names.into_iter().map(ended).collect();
        Self(in_order.into_iter().collect::<String>().into())
    }
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
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

    #[test]
    fn an_empty_name_is_a_name_and_a_zero_byte_does_not_make_two_of_one() {
        let read: Names = serde_json::from_str(r#"["", "a\u0000b"]"#).unwrap();

        assert_eq!(read.iter().collect::<Vec<_>>(), ["", "a\u{fffd}b"]);
        assert!(!read.is_empty() && Names::default().is_empty());
        let again: Names = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, read);
    }
}
