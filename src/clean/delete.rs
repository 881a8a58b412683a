//! Empties a directory: everything beneath the volume's root goes, the root stays.
//!
//! Rule 4, never outside the volume: every step is on an open directory ([`Directory`]), which follows no symlink and
//! crosses no mount, whatever another process does meanwhile. Rule 6: it may stop anywhere and begin again anywhere,
//! since what it does is only ever to remove.
//!
//! A tree of any depth takes a bounded number of descriptors: beyond [`DEEPEST`] directories are not entered but moved
//! to the root under a name of their own, where a later pass finds them.

use std::ffi::{CStr, CString};
use std::path::Path;

use super::Error;
use super::progress::Progress;
use crate::host::attributes::{self, Attributes};
use crate::host::beneath::{Directory, Entry, LOST_AND_FOUND, Listing};
use crate::host::{self, Errno};

/// How many directories beneath the root are open at once.
const DEEPEST: usize = 64;
/// How many passes over a directory may remove nothing before it is given up.
const FRUITLESS: usize = 64;

/// Removes everything beneath `root`; `keep_lost_and_found` leaves that directory, empty.
pub(super) fn empty(
    root: &Directory,
    keep_lost_and_found: bool,
    progress: &Progress,
) -> Result<(), Error> {
    let kept = keep_lost_and_found.then_some(LOST_AND_FOUND);
    Walk { root, kept, progress, moved: 0 }.empty(root, 0)
}

/// Gives `lost+found` the looks that mkfs gives it: a tenant may have left a message in its owner, mode or extended
/// attributes, or have made it for all to write in.
pub(super) fn reset_lost_and_found(root: &Directory) -> Result<(), Error> {
    match root.enter(LOST_AND_FOUND) {
        Ok(kept) => Ok(attributes::restore(&kept, &lost_and_found(), kept.path())?),
        Err(host::Error { errno: Errno::NOENT, .. }) => Ok(()),
        Err(error) => Err(in_the_way(error)),
    }
}

/// How mkfs makes `lost+found`.
pub(super) fn lost_and_found() -> Attributes {
    Attributes { mode: 0o700, ..Attributes::default() }
}

struct Walk<'a> {
    root: &'a Directory,
    kept: Option<&'static CStr>,
    progress: &'a Progress,
    moved: u64,
}

/// What came of one pass over a directory.
#[derive(Default)]
struct Pass {
    removed: usize,
    /// An entry that was there and could not be removed.
    left: Option<CString>,
}

impl Walk<'_> {
    /// Empties a directory at `depth` beneath the root: passes over its list, until one from its start finds nothing.
    fn empty(&mut self, directory: &Directory, depth: usize) -> Result<(), Error> {
        let mut listing = directory.list()?;
        let mut fruitless = 0;
        loop {
            let Pass { removed, left } = self.pass(directory, &mut listing, depth)?;
            fruitless = if removed == 0 { fruitless + 1 } else { 0 };
            match left {
                None if removed == 0 => return Ok(()),
                Some(left) if fruitless == FRUITLESS => {
                    let name = String::from_utf8_lossy(left.to_bytes()).into_owned();
                    return Err(Error::Refilled { left: directory.path().join(name) });
                }
                _ => listing.rewind()?,
            }
        }
    }

    /// Removes what a list gives, to its end. Beginning anew after each batch would take the time of all the earlier ones
    /// again: some file systems do not shrink a directory.
    fn pass(
        &mut self,
        directory: &Directory,
        listing: &mut Listing,
        depth: usize,
    ) -> Result<Pass, Error> {
        let mut pass = Pass::default();
        loop {
            let mut batch = listing.next_batch()?;
            if batch.is_empty() {
                return Ok(pass);
            }
            if depth == 0 {
                self.empty_kept(&mut batch)?;
            }
            for entry in batch {
                self.progress.check()?;
                if self.remove(directory, &entry, depth)? {
                    pass.removed += 1;
                } else {
                    pass.left = Some(entry.name);
                }
            }
        }
    }

    /// Takes what is kept out of a batch of the root, and empties it.
    fn empty_kept(&mut self, batch: &mut Vec<Entry>) -> Result<(), Error> {
        let Some(kept) = self.kept else { return Ok(()) };
        let is_kept = |entry: &Entry| entry.is_directory && entry.name.as_c_str() == kept;
        if batch.iter().any(is_kept) {
            self.empty(&self.root.enter(kept).map_err(in_the_way)?, 1)?;
            batch.retain(|entry| !is_kept(entry));
        }
        Ok(())
    }

    /// Removes one entry with everything beneath it; `false` where it turned out to be something else meanwhile.
    fn remove(
        &mut self,
        directory: &Directory,
        entry: &Entry,
        depth: usize,
    ) -> Result<bool, Error> {
        let removed = if entry.is_directory {
            self.remove_directory(directory, &entry.name, depth)
        } else {
            directory.remove_file(&entry.name).map_err(in_the_way)
        };
        match removed {
            Ok(()) => {
                self.progress.removed();
                Ok(true)
            }
            // Another process changed what the name stands for; the next batch says what it is now.
            Err(Error::Host(host::Error {
                errno:
                    Errno::NOTDIR
                    | Errno::ISDIR
                    | Errno::LOOP
                    | Errno::NOENT
                    | Errno::NOTEMPTY
                    | Errno::EXIST
                    | Errno::AGAIN,
                ..
            })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn remove_directory(
        &mut self,
        directory: &Directory,
        name: &CStr,
        depth: usize,
    ) -> Result<(), Error> {
        match directory.remove_directory(name) {
            Err(host::Error { errno: Errno::NOTEMPTY | Errno::EXIST, .. }) => {}
            result => return result.map_err(in_the_way),
        }
        if depth >= DEEPEST {
            return self.move_to_root(directory, name);
        }
        self.empty(&directory.enter(name).map_err(in_the_way)?, depth + 1)?;
        directory.remove_directory(name).map_err(in_the_way)
    }

    /// Moves a directory to the root, under the next name that is free there.
    fn move_to_root(&mut self, directory: &Directory, name: &CStr) -> Result<(), Error> {
        loop {
            self.moved += 1;
            let new = CString::new(format!(".berth-wipe-{}", self.moved)).unwrap_or_default();
            match directory.move_to(name, self.root, &new) {
                Err(host::Error { errno: Errno::EXIST | Errno::NOTEMPTY, .. }) => {}
                result => return result.map_err(in_the_way),
            }
        }
    }
}

/// A mount beneath the volume is somebody's use of it; everything else is the kernel's refusal.
fn in_the_way(error: host::Error) -> Error {
    match error.errno {
        Errno::XDEV | Errno::BUSY => Error::InUse { by: vec![path_of(&error.path)] },
        _ => Error::Host(error),
    }
}

fn path_of(path: &Path) -> String {
    format!("a mount at {}", path.display())
}

#[cfg(test)]
mod tests;
