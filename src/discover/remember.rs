//! What the last look at each entry found, so that the next one asks only whether that is still so.
//!
//! Only of directories whose path no symlink is at the end of, and only where the kernel tells a mount from every other
//! that ever was. What then may change unseen (the UUID of a file system that is mounted, its size) is seen when everything
//! is looked at; and whoever mounts or wipes a source verifies it anew in any case.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::found::{Depth, Seen};
use crate::host::glimpse::Glimpse;
use crate::host::mountinfo::{Mount, MountTable};
use crate::source::Source;

/// What was found by the paths of entries.
#[derive(Debug, Default)]
pub(super) struct Memory(HashMap<String, Arc<Remembered>>);

/// What was found at a path, and what is so as long as that is still true.
#[derive(Debug)]
pub(super) struct Remembered {
    mark: Mark,
    /// Of the pool's directory, resolved: where the entry lies if nothing of its path is a symlink.
    directory: Arc<PathBuf>,
    identity: Vec<u8>,
    seen: Seen,
}

/// What a source looked like before anything else was asked of it.
#[derive(Debug)]
pub(super) struct Mark {
    glimpse: Glimpse,
    mount: Mount,
}

impl Mark {
    /// Of a source that is open. Absent where a change might not show.
    pub(super) fn of(source: &Source) -> Option<Self> {
        let now = SystemTime::now();
        let glimpse = Glimpse::of(source.as_fd(), source.path()).ok()??;
        glimpse.is_settled(now).then_some(())?;
        Some(Self { glimpse, mount: source.mount()?.clone() })
    }

    /// Whether what is at `path` still looks like that, and lies where it did. A mount keeps its id as long as it lives,
    /// and this one was there before `mounts` was read and is there now.
    fn is_true(&self, path: &Path, mounts: &MountTable) -> bool {
        let same = |now: Option<Glimpse>| now.is_some_and(|now| now == self.glimpse);
        mounts.by_id(self.mount.id) == Some(&self.mount) && Glimpse::at(path).is_ok_and(same)
    }
}

impl Remembered {
    pub(super) fn new(mark: Mark, directory: Arc<PathBuf>, seen: Seen) -> Self {
        let identity = seen.facts.fingerprint.identity();
        Self { mark, directory, identity, seen }
    }

    /// What is at `path`, an entry of `directory`, if that is what was there before and if as much is known of it as
    /// `depth` (by its identity) asks for.
    pub(super) fn still(
        &self,
        path: &Path,
        directory: &Arc<PathBuf>,
        mounts: &MountTable,
        depth: impl FnOnce(&[u8]) -> Depth,
    ) -> Option<Seen> {
        let asked = depth(&self.identity) != Depth::None;
        if (asked && self.seen.contents.is_none()) || self.directory != *directory {
            return None;
        }
        self.mark.is_true(path, mounts).then(|| {
            let mut seen = self.seen.clone();
            if !asked {
                (seen.contents, seen.root) = (None, None);
            }
            seen
        })
    }
}

impl Memory {
    pub(super) fn of(&self, path: &str) -> Option<Arc<Remembered>> {
        self.0.get(path).cloned()
    }

    /// Keeps these and nothing else.
    pub(super) fn keep(&mut self, found: impl Iterator<Item = (String, Arc<Remembered>)>) {
        self.0 = found.collect();
    }

    /// Has everything looked at anew.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}
