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
//!
//! Nearly all of the time is the kernel's, which removes files of one directory by two threads nearly twice as fast as by
//! one on some file systems: so a batch is shared between two, wherever in the tree it is and as long as no more than two
//! are at work ([`Hands`]).

mod chain;
mod hands;

use std::ffi::{CStr, CString};
use std::slice::Chunks;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use self::chain::Chain;
use self::hands::Hands;
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
/// How much may be met that was made since the wipe began: so many entries, of which a batch counts for [`YOUNG_BATCH`] at
/// least.
const YOUNG: usize = 10_000;
const YOUNG_BATCH: usize = 10;
/// How many files at most are removed between two looks at where their directory lies.
const PORTION: usize = 128;
/// How many files are worth another thread: to start one takes as long as to remove two or three. Two directories are.
const WORTHWHILE: usize = 32;
/// How many files of a directory are gathered, and how many directories, before they are removed. The list of these is kept
/// while what is beneath them is removed, once for each level of the tree.
const FILES: usize = 32 << 10;
const DIRECTORIES: usize = 1 << 10;

/// Removes everything beneath `root`, by so many threads; `keep_lost_and_found` leaves that directory, empty.
pub(super) fn empty(
    root: &Directory,
    keep_lost_and_found: bool,
    threads: usize,
    progress: &Progress,
) -> Result<(), Error> {
    let walk = Walk {
        kept: keep_lost_and_found.then_some(LOST_AND_FOUND),
        progress,
        began: SystemTime::now(),
        young: AtomicUsize::new(0),
        moved: AtomicU64::new(0),
        hands: Hands::of(threads),
    };
    walk.empty(&Chain::of(root), Then::Stays)
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

struct Walk<'a> {
    kept: Option<&'static CStr>,
    progress: &'a Progress,
    began: SystemTime,
    young: AtomicUsize,
    moved: AtomicU64,
    hands: Hands,
}

/// What happens to a directory once it is empty.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Stays,
    /// It is removed, which the kernel refuses while something is in it: nobody has to look once more before.
    Goes,
}

/// What became of an entry.
enum Outcome {
    Gone,
    /// It stays, and is to: or it is elsewhere in the volume now, where it will be met again.
    Settled,
    /// It was something else than listed, or is full again.
    Left,
}

/// What came of one pass over a directory, or of a part of it.
#[derive(Default)]
struct Pass {
    removed: usize,
    /// An entry that was there and is not gone.
    left: Option<CString>,
    /// Why one could not be removed: what else is removed may change that.
    refused: Option<Error>,
}

impl Pass {
    fn add(&mut self, other: Self) {
        self.removed += other.removed;
        self.left = other.left.or(self.left.take());
        self.refused = other.refused.or(self.refused.take());
    }
}

impl Walk<'_> {
    /// Empties a directory: passes over its list, until one from its start finds nothing, or has left nothing of what is
    /// to go.
    fn empty(&self, at: &Chain<'_>, then: Then) -> Result<(), Error> {
        let mut listing = at.directory.list()?;
        let mut again = 0;
        loop {
            let pass = self.pass(at, &mut listing)?;
            let received = at.has_received();
            let all = pass.left.is_none() && !received;
            match (pass.removed, pass.refused) {
                (0, Some(refused)) => return Err(refused),
                (0, None) if all => return Ok(()),
                (1.., None) if all && then == Then::Goes => return Ok(()),
                // What this walk has put here itself is no refill.
                (1.., _) if received => {}
                _ => again += 1,
            }
            if again == PASSES {
                let left = pass.left.unwrap_or_default();
                let name = String::from_utf8_lossy(left.to_bytes()).into_owned();
                return Err(Error::Refilled { left: at.directory.path().join(name) });
            }
            listing.rewind()?;
        }
    }

    /// Removes what a list gives, to its end. Beginning anew after each batch would take the time of all the earlier ones
    /// again: some file systems do not shrink a directory.
    fn pass(&self, at: &Chain<'_>, listing: &mut Listing<'_>) -> Result<Pass, Error> {
        let mut pass = Pass::default();
        loop {
            let (mut files, mut directories) = self.gather(at.directory, listing)?;
            if files.is_empty() && directories.is_empty() {
                return Ok(pass);
            }
            // Each block of inodes is read once then, and lies next to the one before.
            files.sort_unstable_by_key(|entry| entry.inode);
            if let [_] = directories[..]
                && files.len() < PORTION
            {
                // One link of a chain: where it lies is looked up once for all of it.
                files.append(&mut directories);
            }
            pass.add(self.share(at, &files, PORTION)?);
            // What lies beneath the directories may be as much again.
            drop(files);
            pass.add(self.share(at, &directories, 1)?);
        }
    }

    /// The next files and directories of a list.
    fn gather(
        &self,
        directory: &Directory,
        listing: &mut Listing<'_>,
    ) -> Result<(Vec<Entry>, Vec<Entry>), Error> {
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        while files.len() < FILES && directories.len() < DIRECTORIES {
            let batch = listing.next_batch()?;
            let ([first, .., last] | [first @ last]) = &batch[..] else { break };
            self.require_old(directory, [first, last], batch.len())?;
            for entry in batch {
                if entry.is_directory { directories.push(entry) } else { files.push(entry) }
            }
        }
        Ok((files, directories))
    }

    /// Removes entries, by another thread too where that may and is worth its while.
    fn share(&self, at: &Chain<'_>, entries: &[Entry], most: usize) -> Result<Pass, Error> {
        let shared = entries.len() >= WORTHWHILE.min(2 * most) && self.hands.take();
        let size = if shared { entries.len().div_ceil(2).min(most) } else { most };
        let portions = Mutex::new(entries.chunks(size));
        let work = || self.remove_portions(at, &portions);
        if !shared {
            return work();
        }
        let [one, other] = self.hands.both(work);
        let mut pass = one?;
        pass.add(other?);
        Ok(pass)
    }

    /// Removes portions of what is to go, as long as there are any.
    fn remove_portions(
        &self,
        at: &Chain<'_>,
        portions: &Mutex<Chunks<'_, Entry>>,
    ) -> Result<Pass, Error> {
        let mut pass = Pass::default();
        let all = || portions.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(portion) = all().next() else { return Ok(pass) };
            if let Err(error) = self.remove_portion(at, portion, &mut pass) {
                // Whoever shares the work has no more to do either.
                *all() = [].chunks(1);
                return Err(error);
            }
        }
    }

    fn remove_portion(
        &self,
        at: &Chain<'_>,
        portion: &[Entry],
        pass: &mut Pass,
    ) -> Result<(), Error> {
        // What was removed before may have taken a while.
        at.holds()?;
        for entry in portion {
            self.progress.check()?;
            match self.remove(at, entry) {
                Ok(Outcome::Gone) => pass.removed += 1,
                Ok(Outcome::Settled) => {}
                Ok(Outcome::Left) => pass.left = Some(entry.name.clone()),
                Err(error) if may_pass(&error) => pass.refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives up where too much is met that was made since the wipe began: then somebody makes it faster than it is removed,
    /// and a list that grows meanwhile may never end. A batch, of which these are the first and the last, is taken for young
    /// where both are.
    fn require_old(
        &self,
        directory: &Directory,
        [entry, last]: [&Entry; 2],
        count: usize,
    ) -> Result<(), Error> {
        // What was made before the clock was set back seems to come from the time to come.
        let since = |born: SystemTime| self.began < born && born <= SystemTime::now();
        let is_young = |entry: &Entry| directory.born(&entry.name).is_some_and(since);
        let met = match is_young(entry) {
            true if is_young(last) => count.max(YOUNG_BATCH),
            true => YOUNG_BATCH,
            false => 0,
        };
        if self.young.fetch_add(met, Ordering::Relaxed) + met < YOUNG {
            return Ok(());
        }
        let name = String::from_utf8_lossy(entry.name.to_bytes()).into_owned();
        Err(Error::Refilled { left: directory.path().join(name) })
    }

    /// Removes one entry with everything beneath it.
    fn remove(&self, at: &Chain<'_>, entry: &Entry) -> Result<Outcome, Error> {
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
    fn empty_kept(&self, at: &Chain<'_>, kept: &CStr) -> Result<Outcome, Error> {
        let kept = at.directory.enter(kept).map_err(in_the_way)?;
        self.empty(&at.within(&kept), Then::Stays).map(|()| Outcome::Settled)
    }

    fn remove_directory(&self, at: &Chain<'_>, name: &CStr) -> Result<Outcome, Error> {
        // Elsewhere it is entered first: most directories are not empty.
        if at.depth >= DEEPEST {
            match at.directory.remove_directory(name) {
                Err(host::Error { errno: Errno::NOTEMPTY | Errno::EXIST, .. }) => {}
                result => return result.map(|()| Outcome::Gone).map_err(in_the_way),
            }
            match self.move_up(at, name) {
                Err(Error::Host(host::Error { errno: Errno::XDEV | Errno::NOKEY, .. }))
                    if at.depth < DEEPEST_UNMOVED => {}
                result => return result.map(|()| Outcome::Settled),
            }
        }
        let within = at.directory.enter(name).map_err(in_the_way)?;
        self.empty(&at.within(&within), Then::Goes)?;
        at.directory.remove_directory(name).map(|()| Outcome::Gone).map_err(in_the_way)
    }

    /// Moves a directory to the root, or where that is of another subvolume as far up as it can be.
    fn move_up(&self, at: &Chain<'_>, name: &CStr) -> Result<(), Error> {
        let mut refused = Ok(());
        for outer in at.outer() {
            refused = self.move_to(at.directory, name, outer.directory);
            if refused.is_ok() {
                outer.receive();
            }
            if !matches!(refused, Err(Error::Host(host::Error { errno: Errno::XDEV, .. }))) {
                break;
            }
        }
        refused
    }

    /// Moves a directory to another, under the next name that is free there.
    fn move_to(&self, from: &Directory, name: &CStr, to: &Directory) -> Result<(), Error> {
        loop {
            self.progress.check()?;
            let number = self.moved.fetch_add(1, Ordering::Relaxed) + 1;
            let new = CString::new(format!(".berth-wipe-{number}")).unwrap_or_default();
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
        Errno::XDEV | Errno::BUSY => {
            Error::InUse { by: vec![format!("a mount at {}", error.path.display())] }
        }
        _ => Error::Host(error),
    }
}

#[cfg(test)]
mod tests;
