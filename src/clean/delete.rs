//! Empties a directory: everything beneath the volume's root goes, the root stays.
//!
//! Rule 4, never outside the volume: every step is on an open directory ([`Directory`]), which follows no symlink and
//! crosses no mount, whatever another process does meanwhile; and what is removed lay beneath the root when it was listed
//! ([`Chain::holds`]), though somebody moves its directory out of the volume. Rule 6: it may stop anywhere and begin again
//! anywhere, since what it does is only ever to remove.
//!
//! It ends, whatever somebody does who still reaches the directory: what was there when it began is finite, what is made
//! since is told by its birth where the file system knows that, and passes that find a directory full again are counted.
//!
//! A tree of any depth takes a bounded number of descriptors: beyond [`DEEPEST`] directories are not entered but moved
//! to the root under a name of their own, where a later pass finds them.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::time::SystemTime;

use super::Error;
use super::progress::Progress;
use crate::host::attributes::{self, Attributes, Flags};
use crate::host::beneath::{Directory, Entry, LOST_AND_FOUND, Listing};
use crate::host::{self, Errno};

/// How many directories beneath the root are open at once.
const DEEPEST: usize = 64;
/// How many are where none of them can be moved, as in one that a tenant encrypted and took the key of.
const DEEPEST_UNMOVED: usize = 256;
/// How many passes over a directory may find it full again, or remove nothing, before it is given up.
const PASSES: usize = 64;
/// How many batches may begin with what was made since the wipe began.
const YOUNG: usize = 1000;

/// Removes everything beneath `root`; `keep_lost_and_found` leaves that directory, empty.
pub(super) fn empty(
    root: &Directory,
    keep_lost_and_found: bool,
    progress: &Progress,
) -> Result<(), Error> {
    let kept = keep_lost_and_found.then_some(LOST_AND_FOUND);
    let mut walk = Walk { kept, progress, began: SystemTime::now(), young: 0, moved: 0 };
    walk.empty(Chain { directory: root, around: None, depth: 0 })
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
    Attributes { mode: 0o700, flags: Some(Flags::default()), ..Attributes::default() }
}

/// An open directory and those around it, up to the root.
#[derive(Clone, Copy)]
struct Chain<'a> {
    directory: &'a Directory,
    around: Option<&'a Chain<'a>>,
    depth: usize,
}

impl<'a> Chain<'a> {
    fn within(&'a self, directory: &'a Directory) -> Self {
        Self { directory, around: Some(self), depth: self.depth + 1 }
    }

    /// Makes sure that the directory still lies where it was entered, up to the root; `ENOENT` says that it does not.
    fn holds(&self) -> Result<(), Error> {
        let Some(around) = self.around else { return Ok(()) };
        if !self.directory.lies_in(around.directory)? {
            return Err(host::Error::of("find", self.directory.path())(Errno::NOENT).into());
        }
        around.holds()
    }

    /// The directories around, the root first.
    fn outer(&self) -> Vec<&'a Directory> {
        let around = std::iter::successors(self.around, |chain| chain.around);
        let mut outer: Vec<_> = around.map(|chain| chain.directory).collect();
        outer.reverse();
        outer
    }
}

struct Walk<'a> {
    kept: Option<&'static CStr>,
    progress: &'a Progress,
    began: SystemTime,
    young: usize,
    moved: u64,
}

/// What became of an entry.
enum Outcome {
    Gone,
    /// It stays, and is to: or it is elsewhere in the volume now, where it will be met again.
    Settled,
    /// It was something else than listed, or is full again.
    Left,
}

/// What came of one pass over a directory.
#[derive(Default)]
struct Pass {
    removed: usize,
    /// An entry that was there and is not gone.
    left: Option<CString>,
    /// Why one could not be removed: what else is removed may change that.
    refused: Option<Error>,
}

impl Walk<'_> {
    /// Empties a directory: passes over its list, until one from its start finds nothing.
    fn empty(&mut self, at: Chain<'_>) -> Result<(), Error> {
        let mut listing = at.directory.list()?;
        let mut again = 0;
        loop {
            let moved = self.moved;
            let Pass { removed, left, refused } = self.pass(at, &mut listing)?;
            let moved = moved != self.moved;
            match (removed, refused) {
                (0, Some(refused)) => return Err(refused),
                (0, None) if left.is_none() && !moved => return Ok(()),
                // What this walk has put here itself is no refill.
                (1.., _) if moved => {}
                _ => again += 1,
            }
            if again == PASSES {
                let left = left.unwrap_or_default();
                let name = String::from_utf8_lossy(left.to_bytes()).into_owned();
                return Err(Error::Refilled { left: at.directory.path().join(name) });
            }
            listing.rewind()?;
        }
    }

    /// Removes what a list gives, to its end. Beginning anew after each batch would take the time of all the earlier ones
    /// again: some file systems do not shrink a directory.
    fn pass(&mut self, at: Chain<'_>, listing: &mut Listing) -> Result<Pass, Error> {
        let mut pass = Pass::default();
        loop {
            let batch = listing.next_batch()?;
            let Some(first) = batch.first() else { return Ok(pass) };
            self.require_old(at.directory, first)?;
            at.holds()?;
            for entry in batch {
                self.progress.check()?;
                match self.remove(at, &entry) {
                    Ok(Outcome::Gone) => pass.removed += 1,
                    Ok(Outcome::Settled) => {}
                    Ok(Outcome::Left) => pass.left = Some(entry.name),
                    Err(error) if may_pass(&error) => pass.refused = Some(error),
                    Err(error) => return Err(error),
                }
                // That took a while.
                if entry.is_directory {
                    at.holds()?;
                }
            }
        }
    }

    /// Gives up where too much is met that was made since the wipe began: then somebody makes it faster than it is removed,
    /// and a list that grows meanwhile may never end.
    fn require_old(&mut self, directory: &Directory, entry: &Entry) -> Result<(), Error> {
        // What was made before the clock was set back seems to come from the time to come.
        let since = |born: SystemTime| self.began < born && born <= SystemTime::now();
        if directory.born(&entry.name).is_some_and(since) {
            self.young += 1;
        }
        if self.young < YOUNG {
            return Ok(());
        }
        let name = String::from_utf8_lossy(entry.name.to_bytes()).into_owned();
        Err(Error::Refilled { left: directory.path().join(name) })
    }

    /// Removes one entry with everything beneath it.
    fn remove(&mut self, at: Chain<'_>, entry: &Entry) -> Result<Outcome, Error> {
        let is_kept = |kept| entry.name.as_c_str() == kept;
        let outcome = match (entry.is_directory, self.kept) {
            (true, Some(kept)) if at.depth == 0 && is_kept(kept) => self.empty_kept(at, kept),
            (true, _) => self.remove_directory(at, &entry.name),
            (false, _) => remove_file(at.directory, &entry.name),
        };
        match outcome {
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
            })) => Ok(Outcome::Left),
            Ok(Outcome::Gone) => {
                self.progress.removed();
                Ok(Outcome::Gone)
            }
            outcome => outcome,
        }
    }

    /// Empties what is to stay.
    fn empty_kept(&mut self, at: Chain<'_>, kept: &CStr) -> Result<Outcome, Error> {
        let kept = at.directory.enter(kept).map_err(in_the_way)?;
        self.empty(at.within(&kept)).map(|()| Outcome::Settled)
    }

    fn remove_directory(&mut self, at: Chain<'_>, name: &CStr) -> Result<Outcome, Error> {
        match at.directory.remove_directory(name) {
            Err(host::Error { errno: Errno::NOTEMPTY | Errno::EXIST, .. }) => {}
            result => return result.map(|()| Outcome::Gone).map_err(in_the_way),
        }
        if at.depth >= DEEPEST {
            match self.move_up(at, name) {
                Err(Error::Host(host::Error { errno: Errno::XDEV | Errno::NOKEY, .. }))
                    if at.depth < DEEPEST_UNMOVED => {}
                result => return result.map(|()| Outcome::Settled),
            }
        }
        let within = at.directory.enter(name).map_err(in_the_way)?;
        self.empty(at.within(&within))?;
        at.directory.remove_directory(name).map(|()| Outcome::Gone).map_err(in_the_way)
    }

    /// Moves a directory to the root, or where that is of another subvolume as far up as it can be.
    fn move_up(&mut self, at: Chain<'_>, name: &CStr) -> Result<(), Error> {
        let mut refused = Ok(());
        for outer in at.outer() {
            refused = self.move_to(at.directory, name, outer);
            if !matches!(refused, Err(Error::Host(host::Error { errno: Errno::XDEV, .. }))) {
                break;
            }
        }
        refused
    }

    /// Moves a directory to another, under the next name that is free there.
    fn move_to(&mut self, from: &Directory, name: &CStr, to: &Directory) -> Result<(), Error> {
        loop {
            self.progress.check()?;
            self.moved += 1;
            let new = CString::new(format!(".berth-wipe-{}", self.moved)).unwrap_or_default();
            match from.move_to(name, to, &new) {
                Err(host::Error { errno: Errno::EXIST | Errno::NOTEMPTY, .. }) => {}
                // Only a mount point is busy; that it cannot be moved there says nothing of mounts.
                Err(busy @ host::Error { errno: Errno::BUSY, .. }) => return Err(in_the_way(busy)),
                result => return Ok(result?),
            }
        }
    }
}

fn remove_file(directory: &Directory, name: &CStr) -> Result<Outcome, Error> {
    match directory.remove_file(name) {
        Ok(()) => Ok(Outcome::Gone),
        // No flag is left that forbids it. The kernel removes no file that it swaps to.
        Err(host::Error { errno: Errno::PERM, path, .. }) => Err(Error::Kept { path }),
        Err(error) => Err(in_the_way(error)),
    }
}

/// Whether the other entries may be removed all the same: a file system that is full has room for a move then, and what
/// one entry is kept by does not keep the others.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Kept { .. } => true,
        Error::Host(error) => matches!(
            error.errno,
            Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::DQUOT | Errno::NOKEY
        ),
        _ => false,
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
