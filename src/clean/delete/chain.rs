//! Where in the volume a directory is that is being emptied.

use super::Error;
use crate::host::beneath::Directory;
use crate::host::{self, Errno};

/// An open directory and those around it, up to the root.
#[derive(Clone, Copy)]
pub(super) struct Chain<'a> {
    pub(super) directory: &'a Directory,
    around: Option<&'a Chain<'a>>,
    pub(super) depth: usize,
}

impl<'a> Chain<'a> {
    /// The root.
    pub(super) fn of(directory: &'a Directory) -> Self {
        Self { directory, around: None, depth: 0 }
    }

    /// A directory right beneath.
    pub(super) fn within(&'a self, directory: &'a Directory) -> Self {
        Self { directory, around: Some(self), depth: self.depth + 1 }
    }

    /// Makes sure that the directory still lies where it was entered, up to the root; `ENOENT` says that it does not.
    pub(super) fn holds(&self) -> Result<(), Error> {
        let Some(around) = self.around else { return Ok(()) };
        if !self.directory.lies_in(around.directory)? {
            return Err(host::Error::of("find", self.directory.path())(Errno::NOENT).into());
        }
        around.holds()
    }

    /// The directories around, the root first.
    pub(super) fn outer(&self) -> Vec<&'a Directory> {
        let around = std::iter::successors(self.around, |chain| chain.around);
        let mut outer: Vec<_> = around.map(|chain| chain.directory).collect();
        outer.reverse();
        outer
    }
}
