//! The source behind a volume: opened once, told by its fingerprint, and used through that descriptor only.
//!
//! Rule 3, never the wrong disk: discovery, publishing, cleaning and health all reach a volume's data through
//! [`Source::open`], which fails closed unless the fingerprint is the recorded one. It reads; it changes nothing.

mod facts;
mod name;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::host;
use crate::host::identify::Kind;
use crate::host::mountinfo::{Mount, MountTable};
use crate::volume::{Bytes, Fingerprint, LocalVolume, Place, VolumeName};

/// What stands at a path, held open.
#[derive(Debug)]
pub struct Source {
    descriptor: OwnedFd,
    path: PathBuf,
    facts: Facts,
    mount: Option<Mount>,
}

/// What the kernel says of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What makes it the same source next time.
    pub fingerprint: Fingerprint,
    /// For a directory the number of its file system's device, for a block device its own.
    pub device: host::DeviceNumber,
    /// For a directory: its path within its file system, so that bind mounts of it and of what lies beneath can be
    /// recognised; `/` for a whole file system.
    pub root: PathBuf,
    /// Where it lies, in names that outlast a boot where there are some.
    pub place: Place,
    /// Whether a mount point (bind mounts among them) stands exactly here.
    pub is_mount: bool,
    /// For a directory the size of the whole file system (`f_blocks * f_frsize`), for a device its own.
    pub size: Bytes,
    /// The type of the file system; for a device that of the file system on it, if any.
    pub fs_type: Option<String>,
}

/// Where a directory lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The number of its file system's device.
    pub device: host::DeviceNumber,
    /// Its path within its file system.
    pub root: PathBuf,
    /// What its file system is called in a [`Place`].
    pub filesystem: String,
    /// Where the mount through which it was reached is.
    pub mount_point: PathBuf,
}

impl Location {
    /// Where `directory`, an open descriptor, lies; `path` is for messages.
    pub fn of(directory: BorrowedFd<'_>, path: &Path) -> host::Result<Self> {
        facts::location(directory, path)
    }
}

/// Where facts about mounts come from.
#[derive(Debug, Clone, Copy)]
enum Mounts<'a> {
    /// A table that was read, for as long as it is current.
    Read(&'a MountTable),
    /// The kernel, for each mount by itself.
    Asked,
}

/// Why a source is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is at the path.
    #[error("nothing is at {}", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// What is at the path is neither a directory nor a block device.
    #[error("{} is neither a directory nor a block device", path.display())]
    Unsuitable {
        /// The path.
        path: PathBuf,
    },
    /// Something else than the recorded source is at the path.
    #[error(
        "volume {volume} is not what is at {}: recorded {recorded}, found {found}; mount the right disk there",
        path.display()
    )]
    Replaced {
        /// The volume.
        volume: VolumeName,
        /// The path.
        path: PathBuf,
        /// What was recorded.
        recorded: Box<Fingerprint>,
        /// What is there.
        found: Box<Fingerprint>,
    },
    /// The kernel refused.
    #[error("the source cannot be read")]
    Host(#[from] host::Error),
}

impl Source {
    /// Opens what is at `path`, following a symlink to it, and reads its facts.
    pub fn look(path: &Path) -> Result<Self, Error> {
        Self::look_with(path, Mounts::Asked)
    }

    /// As [`Source::look`] with a mount table read already, for whoever looks at many paths. Where it is not current any
    /// more, the kernel is asked.
    pub fn look_in(path: &Path, mounts: &MountTable) -> Result<Self, Error> {
        Self::look_with(path, Mounts::Read(mounts))
    }

    fn look_with(path: &Path, mounts: Mounts<'_>) -> Result<Self, Error> {
        let descriptor = host::identify::open(path).map_err(|error| match error.errno {
            host::Errno::NOENT | host::Errno::NOTDIR => Error::Missing { path: path.to_owned() },
            _ => error.into(),
        })?;
        let node = host::identify::node(descriptor.as_fd(), path)?;
        let (facts, mount) = match node.kind {
            _ if node.is_deleted => return Err(Error::Missing { path: path.to_owned() }),
            Kind::Directory => {
                let found = facts::of_directory(descriptor.as_fd(), path, &node, mounts)?;
                (found.0, Some(found.1))
            }
            Kind::BlockDevice => (facts::of_device(descriptor.as_fd(), path, &node, mounts)?, None),
            Kind::Other => return Err(Error::Unsuitable { path: path.to_owned() }),
        };
        Ok(Self { descriptor, path: path.to_owned(), facts, mount })
    }

    /// Opens the source of `volume`; fails closed unless it is the recorded one.
    pub fn open(volume: &LocalVolume) -> Result<Self, Error> {
        Self::open_with(volume, Mounts::Asked)
    }

    /// As [`Source::open`] with a mount table read already.
    pub fn open_in(volume: &LocalVolume, mounts: &MountTable) -> Result<Self, Error> {
        Self::open_with(volume, Mounts::Read(mounts))
    }

    fn open_with(volume: &LocalVolume, mounts: Mounts<'_>) -> Result<Self, Error> {
        let path = Path::new(&volume.status.path);
        let source = Self::look_with(path, mounts)?;
        if !volume.status.fingerprint.is_same_source(&source.facts.fingerprint) {
            return Err(Error::Replaced {
                volume: volume.name.clone(),
                path: path.to_owned(),
                recorded: Box::new(volume.status.fingerprint.clone()),
                found: Box::new(source.facts.fingerprint),
            });
        }
        Ok(source)
    }

    /// What the kernel said when it was opened.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The mount that a directory lies on, as the table has it; absent for a device.
    pub fn mount(&self) -> Option<&Mount> {
        self.mount.as_ref()
    }

    /// The path by which it was opened; for messages only.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a block device.
    pub fn is_device(&self) -> bool {
        matches!(self.facts.fingerprint, Fingerprint::Device { .. })
    }
}

impl AsFd for Source {
    /// The descriptor, opened with `O_PATH`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests;
