//! Where in the volume a directory is that is being emptied.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Error;
use crate::host::beneath::Directory;
use crate::host::{self, Errno};

/// How deep a directory may lie that is asked what it lies in, one by one: that is as cheap.
const NEAR: usize = 3;

/// An open directory and those around it, up to the root.
pub(super) struct Chain<'a> {
    pub(super) directory: &'a Directory,
    around: Option<&'a Chain<'a>>,
    pub(super) depth: usize,
    /// Whether this walk has moved something into it, from beneath it, that is to be met again here.
    received: AtomicBool,
}

impl<'a> Chain<'a> {
    /// The root.
    pub(super) fn of(directory: &'a Directory) -> Self {
        Self { directory, around: None, depth: 0, received: AtomicBool::new(false) }
    }

    /// A directory right beneath.
    pub(super) fn within(&'a self, directory: &'a Directory) -> Self {
        Self { around: Some(self), depth: self.depth + 1, ..Self::of(directory) }
    }

    /// Notes that something was moved into it.
    pub(super) fn receive(&self) {
        self.received.store(true, Ordering::Relaxed);
    }

    /// Whether something was moved into it since this was asked last.
    pub(super) fn has_received(&self) -> bool {
        self.received.swap(false, Ordering::Relaxed)
    }

    /// Makes sure that the directory lies beneath the root still; `ENOENT` says that it does not.
    pub(super) fn holds(&self) -> Result<(), Error> {
        if self.depth > NEAR && self.is_where_it_was() { Ok(()) } else { self.lies_in_all_around() }
    }

    /// Whether the path by which it was entered leads to it still, which is one walk of the kernel. One whose names were
    /// changed, or are too long together, may lie beneath the root all the same.
    fn is_where_it_was(&self) -> bool {
        let Some(root) = std::iter::successors(self.around, |chain| chain.around).last() else {
            return true;
        };
        let (root, path) = (root.directory, self.directory.path());
        path.strip_prefix(root.path()).is_ok_and(|beneath| root.leads_to(beneath, self.directory))
    }

    /// Makes sure that each directory lies where it was entered, up to the root.
    fn lies_in_all_around(&self) -> Result<(), Error> {
        let Some(around) = self.around else { return Ok(()) };
        if !self.directory.lies_in(around.directory)? {
            return Err(host::Error::of("find", self.directory.path())(Errno::NOENT).into());
        }
        around.lies_in_all_around()
    }

    /// The directories around, the root first.
    pub(super) fn outer(&self) -> Vec<&'a Chain<'a>> {
        let mut outer: Vec<_> = std::iter::successors(self.around, |chain| chain.around).collect();
        outer.reverse();
        outer
    }
}
