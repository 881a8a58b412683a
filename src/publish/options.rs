//! Which mount flags a tenant may ask for, and what they become. Pure.
//!
//! An allow-list: a flag that is not on it is refused by name, so that no claim reaches the kernel with words of its own.
//! The specification calls the flags possibly sensitive: no message shows more than the one flag, without its value.

use crate::host::mount::{Attribute, Attributes};

/// What a volume is mounted with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Of the mount.
    pub(super) attributes: Attributes,
    /// Of the file system, where Berth mounts one.
    pub(super) filesystem: Vec<&'static str>,
}

/// Why a flag is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not on the list.
    #[error(
        "mount flag {flag:?} is not allowed: use ro, rw, nosuid, nodev, noexec, noatime, relatime, strictatime, nodiratime, lazytime, sync, dirsync, discard"
    )]
    Unknown {
        /// The flag without its value, cut to 32 characters.
        flag: String,
    },
    /// It says the opposite of another.
    #[error("mount flags {one} and {other} exclude each other")]
    Contradiction {
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// It is one of a whole file system, and the volume is a directory of one that others use too.
    #[error(
        "mount flag {flag} is one of a whole file system and this volume is a directory: ask for a pool of devices"
    )]
    WholeFilesystem {
        /// The flag.
        flag: &'static str,
    },
}

/// Flags of a mount, by name.
const ATTRIBUTES: [(&str, Attribute); 8] = [
    ("ro", Attribute::ReadOnly),
    ("nosuid", Attribute::NoSuid),
    ("nodev", Attribute::NoDev),
    ("noexec", Attribute::NoExec),
    ("nodiratime", Attribute::NoDirAtime),
    ("noatime", Attribute::NoAtime),
    ("relatime", Attribute::RelAtime),
    ("strictatime", Attribute::StrictAtime),
];
/// Flags of a file system that need no value and that ext4 and XFS both have.
const FILESYSTEM: [&str; 4] = ["discard", "lazytime", "sync", "dirsync"];
/// Flags that change nothing.
const NEUTRAL: [&str; 2] = ["rw", "defaults"];
/// Flags that exclude each other.
const OPPOSITES: [[&str; 2]; 4] = [
    ["ro", "rw"],
    ["noatime", "relatime"],
    ["noatime", "strictatime"],
    ["relatime", "strictatime"],
];

/// What `flags`, those of the claim, and `pool`, those of its pool, make of a mount; `whole` says whether the volume is
/// a whole file system that Berth mounts. A flag may be a list with commas.
pub(super) fn parse(flags: &[String], pool: &[String], whole: bool) -> Result<Options, Refused> {
    let mut asked = Vec::new();
    for flag in flags.iter().flat_map(|flag| flag.split(',')).filter(|flag| !flag.is_empty()) {
        asked.push(known(flag)?);
    }
    for [one, other] in OPPOSITES {
        if asked.contains(&one) && asked.contains(&other) {
            return Err(Refused::Contradiction { one, other });
        }
    }
    let filesystem = asked.iter().copied().filter(|flag| FILESYSTEM.contains(flag));
    let filesystem: Vec<_> = filesystem.collect();
    if let (false, Some(flag)) = (whole, filesystem.first()) {
        return Err(Refused::WholeFilesystem { flag });
    }
    let all = asked.iter().copied().chain(pool.iter().map(String::as_str));
    Ok(Options { attributes: all.filter_map(attribute).collect(), filesystem })
}

fn known(flag: &str) -> Result<&'static str, Refused> {
    let names = ATTRIBUTES.iter().map(|(name, _)| *name).chain(FILESYSTEM).chain(NEUTRAL);
    let mut names = names.filter(|name| *name == flag);
    names.next().ok_or_else(|| {
        let name = flag.split('=').next().unwrap_or_default();
        Refused::Unknown { flag: name.chars().take(32).collect() }
    })
}

fn attribute(flag: &str) -> Option<Attribute> {
    ATTRIBUTES.iter().find(|(name, _)| *name == flag).map(|(_, attribute)| *attribute)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(flags: &[&str]) -> Vec<String> {
        flags.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn flags_of_the_claim_and_of_its_pool_add_up() {
        let options = parse(&strings(&["noatime", "ro"]), &strings(&["nosuid"]), false).unwrap();

        let wanted = [Attribute::NoAtime, Attribute::ReadOnly, Attribute::NoSuid];
        assert_eq!(options.attributes, wanted.into_iter().collect());
        assert!(options.filesystem.is_empty());
    }

    #[test]
    fn a_list_in_one_flag_is_taken_apart() {
        let options = parse(&strings(&["nodev,noexec", "", "rw,defaults"]), &[], false).unwrap();

        let wanted = [Attribute::NoDev, Attribute::NoExec];
        assert_eq!(options.attributes, wanted.into_iter().collect());
    }

    #[test]
    fn a_flag_that_is_not_on_the_list_is_refused_by_name_and_without_its_value() {
        for flag in ["suid", "bind", "remount", "loop", "context", "RO", " ro", "data"] {
            let error = parse(&strings(&["ro", flag]), &[], true).unwrap_err();
            assert_eq!(error, Refused::Unknown { flag: flag.into() });
        }
        let error = parse(&strings(&["password=hunter2"]), &[], true).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn flags_of_a_whole_file_system_are_only_for_one_that_berth_mounts() {
        for flag in FILESYSTEM {
            assert_eq!(parse(&strings(&[flag]), &[], true).unwrap().filesystem, [flag]);
            assert_eq!(
                parse(&strings(&[flag]), &[], false),
                Err(Refused::WholeFilesystem { flag })
            );
        }
    }

    #[test]
    fn flags_that_exclude_each_other_are_refused_in_either_order() {
        for [one, other] in OPPOSITES {
            let refused = Err(Refused::Contradiction { one, other });
            assert_eq!(parse(&strings(&[one, other]), &[], true), refused);
            assert_eq!(parse(&strings(&[other, one]), &[], true), refused);
        }
    }

    proptest! {
        #[test]
        fn nothing_outside_the_list_gets_through(flag in "\\PC{0,40}") {
            if let Ok(options) = parse(std::slice::from_ref(&flag), &[], true) {
                let all: Vec<_> = flag.split(',').filter(|part| !part.is_empty()).collect();
                prop_assert!(all.iter().all(|part| known(part).is_ok()));
                prop_assert!(options.filesystem.len() <= all.len());
            }
        }
    }
}
