//! Rules of single values that more than one kind of file has.

use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::pool::Pool;
use crate::volume::PoolName;

/// Seconds that an administrator's program may take where nothing else is said.
pub(in crate::pool) const COMMAND_TIMEOUT: u64 = 600;
/// The most that can be said.
const COMMAND_TIMEOUT_MOST: u64 = 30 * 24 * 3600;
/// Passes of `shred` where nothing else is said.
pub(in crate::pool) const DEFAULT_SHRED_PASSES: u32 = 3;
/// Passes that `shred` may have.
pub(in crate::pool) const SHRED_PASSES: RangeInclusive<u32> = 1..=32;

/// The directory of a pool, without `.`, doubled and trailing slashes, so that paths can be compared.
pub(in crate::pool) fn directory(text: &str) -> Result<PathBuf, String> {
    let plain = Path::new(text);
    if !plain.is_absolute() {
        Err(format!("{text:?} is not an absolute path"))
    } else if plain.components().any(|part| part == Component::ParentDir) {
        Err(format!("{text:?} has '..' in it"))
    } else if text.contains('\0') {
        Err(format!("{text:?} has a NUL character"))
    } else if plain == Path::new("/") {
        Err("the root directory cannot be a pool".to_owned())
    } else {
        Ok(plain.components().filter(|part| *part != Component::CurDir).collect())
    }
}

/// A glob on entries' names.
pub(in crate::pool) fn glob(text: &str) -> Result<Glob, String> {
    if text.contains('/') {
        return Err(format!("{text:?} has a '/', which no entry's name has"));
    }
    let glob =
        Glob::new(text).map_err(|error| format!("{text:?} is not a glob: {}", error.kind()))?;
    // What can be read as a glob may still be too large to match with.
    let usable = GlobSetBuilder::new().add(glob.clone()).build();
    usable.map_err(|error| format!("{text:?} cannot be matched with: {}", error.kind()))?;
    Ok(glob)
}

/// The set that has every name, and how it is written.
pub(in crate::pool) fn every_entry() -> (GlobSet, Vec<String>) {
    let set = Glob::new("*").and_then(|glob| GlobSetBuilder::new().add(glob).build());
    (set.unwrap_or_default(), vec!["*".to_owned()])
}

/// Each pool that has a directory with an earlier one, or one inside the other's, and what to say of it: both would find
/// the same volumes.
pub(in crate::pool) fn overlapping<'a>(pools: &[&'a Pool]) -> Vec<(&'a PoolName, String)> {
    let mut found = Vec::new();
    for (position, one) in pools.iter().enumerate() {
        for other in &pools[position + 1..] {
            if one.path.starts_with(&other.path) || other.path.starts_with(&one.path) {
                let message = format!(
                    "{} and {} of pool {} overlap; give each pool a directory of its own",
                    other.path.display(),
                    one.path.display(),
                    one.name
                );
                found.push((&other.name, message));
            }
        }
    }
    found
}

/// `30s`, `10m`, `2h` in seconds; nothing for anything else, for no time at all or for more than any wipe takes.
pub(in crate::pool) fn seconds(text: &str) -> Option<u64> {
    let unit = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let number: u64 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    number.checked_mul(unit).filter(|seconds| (1..=COMMAND_TIMEOUT_MOST).contains(seconds))
}
