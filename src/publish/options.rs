//! Which mount flags a tenant may ask for, and what they become. Pure.
//!
//! An allow-list: a flag that is not on it is refused, so that no claim reaches the kernel with words of its own. The
//! specification calls the flags possibly sensitive: a message repeats a word only if it is one that mounts are known
//! to have, and never its value.

use std::collections::BTreeSet;

use crate::host::mount::{Attribute, Attributes};

/// Mount flags that may be had; one that exists holds known words only, and none that excludes another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountFlags(BTreeSet<&'static str>);

/// What a volume is mounted with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// What was asked for, and is asked for again by every repeat.
    pub(super) flags: MountFlags,
    /// What the volume's pool adds to every new mount.
    pub(super) pool: Attributes,
}

/// Why a flag is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not on the list.
    #[error(
        "mount flag number {position}{} is not allowed: use ro, rw, nosuid, nodev, noexec, noatime, relatime, strictatime, nodiratime, lazytime, sync, dirsync, discard",
        word.map(|word| format!(" ({word})")).unwrap_or_default()
    )]
    Unknown {
        /// Which one, counted from 1 with those in lists.
        position: usize,
        /// The flag without its value, where that is a word of mount(8).
        word: Option<&'static str>,
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
        "mount flag {flag} is one of a whole file system and this volume is a directory: ask for a pool of devices{}",
        if *flag == READ_ONLY { ", or for `readOnly` in the pod" } else { "" }
    )]
    WholeFilesystem {
        /// The flag.
        flag: &'static str,
    },
}

/// Flags of a mount, by name.
const ATTRIBUTES: [(&str, Attribute); 8] = [
    (READ_ONLY, Attribute::ReadOnly),
    ("nosuid", Attribute::NoSuid),
    ("nodev", Attribute::NoDev),
    ("noexec", Attribute::NoExec),
    ("nodiratime", Attribute::NoDirAtime),
    ("noatime", Attribute::NoAtime),
    ("relatime", Attribute::RelAtime),
    ("strictatime", Attribute::StrictAtime),
];
/// Flags of a file system that need no value and that ext4 and XFS both have. `ro` is one: as a flag of a mount alone it
/// would be gone from every mount that a container runtime makes of it.
const FILESYSTEM: [&str; 5] = [READ_ONLY, "discard", "lazytime", "sync", "dirsync"];
/// The flag that says so of a mount and of a file system.
pub(super) const READ_ONLY: &str = "ro";
/// Flags that change nothing.
const NEUTRAL: [&str; 2] = ["rw", "defaults"];
/// Flags that exclude each other.
const OPPOSITES: [[&str; 2]; 4] = [
    ["ro", "rw"],
    ["noatime", "relatime"],
    ["noatime", "strictatime"],
    ["relatime", "strictatime"],
];
/// Words that people write and that are not allowed. They may be repeated in a message, as a password may not.
#[rustfmt::skip]
const FAMILIAR: [&str; 50] = [
    "suid", "dev", "exec", "atime", "diratime", "async", "nodiscard", "nolazytime", "bind", "rbind", "move", "remount",
    "loop", "offset", "sizelimit", "user", "users", "owner", "group", "nouser", "auto", "noauto", "nofail", "_netdev",
    "context", "fscontext", "defcontext", "rootcontext", "shared", "private", "slave", "unbindable", "mand", "nomand",
    "iversion", "acl", "noacl", "user_xattr", "data", "errors", "commit", "barrier", "nobarrier", "quota", "usrquota",
    "grpquota", "prjquota", "uid", "gid", "size",
];

impl MountFlags {
    /// The flags of a request, one or several with commas each.
    pub fn parse(flags: &[String]) -> Result<Self, Refused> {
        let words = flags.iter().flat_map(|flag| flag.split(',')).filter(|flag| !flag.is_empty());
        let known = words.enumerate().map(|(index, flag)| known(flag, index + 1));
        let asked = known.collect::<Result<BTreeSet<_>, _>>()?;
        for [one, other] in OPPOSITES {
            if asked.contains(one) && asked.contains(other) {
                return Err(Refused::Contradiction { one, other });
            }
        }
        Ok(Self(asked.into_iter().filter(|flag| !NEUTRAL.contains(flag)).collect()))
    }

    /// Makes sure that a volume can be had with them; `whole` says whether it is a whole file system that Berth mounts.
    pub fn check(&self, whole: bool) -> Result<(), Refused> {
        match self.filesystem().first() {
            Some(flag) if !whole => Err(Refused::WholeFilesystem { flag }),
            _ => Ok(()),
        }
    }

    /// Those of a whole file system.
    pub fn filesystem(&self) -> Vec<&'static str> {
        self.0.iter().copied().filter(|flag| FILESYSTEM.contains(flag)).collect()
    }

    /// What they make of a mount.
    pub(super) fn attributes(&self) -> Attributes {
        self.0.iter().filter_map(|flag| attribute(flag)).collect()
    }

    /// As they are recorded: two requests for the same say the same, in whatever order.
    pub(super) fn recorded(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

/// What the options of a pool make of a mount.
pub(super) fn of_pool(options: &[String]) -> Attributes {
    options.iter().filter_map(|option| attribute(option)).collect()
}

/// Whether two records of flags agree in those of the whole file system.
pub(super) fn same_filesystem(one: &[String], other: &[String]) -> bool {
    let of = |flags: &[String]| -> BTreeSet<String> {
        flags.iter().filter(|flag| FILESYSTEM.contains(&flag.as_str())).cloned().collect()
    };
    of(one) == of(other)
}

fn known(flag: &str, position: usize) -> Result<&'static str, Refused> {
    let names = ATTRIBUTES.iter().map(|(name, _)| *name).chain(FILESYSTEM).chain(NEUTRAL);
    let found = names.clone().find(|name| *name == flag);
    found.ok_or_else(|| {
        let name = flag.split('=').next().unwrap_or_default();
        let word = FAMILIAR.into_iter().chain(names).find(|word| *word == name);
        Refused::Unknown { position, word }
    })
}

fn attribute(flag: &str) -> Option<Attribute> {
    ATTRIBUTES.iter().find(|(name, _)| *name == flag).map(|(_, attribute)| *attribute)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(flags: &[&str]) -> Result<MountFlags, Refused> {
        MountFlags::parse(&flags.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_list_in_one_flag_is_taken_apart_and_what_changes_nothing_is_left_out() {
        let flags = parse(&["nodev,noexec", "", "rw,defaults", "nodev"]).unwrap();

        let wanted = [Attribute::NoDev, Attribute::NoExec];
        assert_eq!(flags.attributes(), wanted.into_iter().collect());
        assert_eq!(flags, parse(&["noexec", "nodev"]).unwrap());
        assert_eq!(flags.recorded(), ["nodev", "noexec"]);
    }

    #[test]
    fn a_flag_that_is_not_on_the_list_is_refused_by_its_place_and_by_a_known_word_only() {
        for flag in ["suid", "bind", "remount", "loop", "context=a:b", "data"] {
            let word = flag.split('=').next().unwrap();
            let error = parse(&["ro", flag]).unwrap_err();
            let Refused::Unknown { position: 2, word: Some(told) } = error else {
                panic!("{error}")
            };
            assert_eq!(told, word);
        }
        for flag in ["RO", " ro", "hunter2", "password=hunter2", "hunter2=ro"] {
            let error = parse(&["ro,nodev", flag]).unwrap_err();
            assert_eq!(error, Refused::Unknown { position: 3, word: None });
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn flags_of_a_whole_file_system_are_only_for_one_that_berth_mounts() {
        for flag in FILESYSTEM {
            let flags = parse(&[flag]).unwrap();
            assert_eq!((flags.filesystem(), flags.check(true)), (vec![flag], Ok(())));
            assert_eq!(flags.check(false), Err(Refused::WholeFilesystem { flag }));
        }
    }

    #[test]
    fn flags_that_exclude_each_other_are_refused_in_either_order() {
        for [one, other] in OPPOSITES {
            let refused = Err(Refused::Contradiction { one, other });
            assert_eq!(parse(&[one, other]), refused);
            assert_eq!(parse(&[other, one]), refused);
        }
    }

    proptest! {
        #[test]
        fn nothing_outside_the_list_gets_through(flag in "\\PC{0,40}") {
            if let Ok(flags) = parse(&[&flag]) {
                let mut all = flag.split(',').filter(|part| !part.is_empty());
                prop_assert!(all.all(|part| known(part, 1).is_ok()));
                prop_assert!(flags.filesystem().len() <= flag.split(',').count());
            }
        }
    }
}
