//! A volume's source, verified and open, and how a mount of it is told from every other.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::{Error, Found};
use super::plan::{Shape, There};
use crate::host::mount::{Detached, Kind, Seen, Spot};
use crate::host::mountinfo::Mount;
use crate::host::{self, DeviceNumber, Errno};
use crate::source::{self, Source};
use crate::volume::{Fingerprint, LocalVolume, Mode, VolumeId};

/// What a mount of a volume shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// Nothing: it is not mounted there.
    Nothing,
    /// This directory, or device node, of the file system on this device.
    Mount {
        /// The number that the mount table has.
        device: DeviceNumber,
        /// The path within the file system.
        root: PathBuf,
    },
    /// The node of this block device, whichever file system the node is on.
    Node(DeviceNumber),
}

/// What a volume is to its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A directory that is there.
    Directory,
    /// The file system on a device.
    Filesystem,
    /// A device.
    Node,
}

/// A volume whose source is open and the recorded one.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) source: Source,
    pub(super) form: Form,
    pub(super) shown: Shown,
    /// The source as the kernel sees it.
    pub(super) seen: Seen,
}

impl Form {
    /// What `volume` is to its tenant, by its record.
    pub(super) fn of(volume: &LocalVolume) -> Self {
        match (volume.spec.mode, &volume.status.fingerprint) {
            (Mode::Block, _) => Self::Node,
            (Mode::Filesystem, Fingerprint::Device { .. }) => Self::Filesystem,
            (Mode::Filesystem, Fingerprint::Directory { .. }) => Self::Directory,
        }
    }

    /// Whether it is mounted at its staging path. Only the file system on a device is. A directory and a device's node are
    /// bound from their verified source to each target, and at the staging path the caller's directory stands for them.
    ///
    /// The kubelet unstages no volume that it finds mounted outside of its own directory too (`GetDeviceMountRefs`), and
    /// a directory is, at its source: were it bound to the staging path, it would never be taken away from there.
    pub(super) fn is_mounted_when_staged(self) -> bool {
        self == Self::Filesystem
    }
}

impl Subject {
    /// Opens the source of `volume` and verifies it: rule 3, never the wrong disk.
    pub(super) fn open(id: &VolumeId, volume: &LocalVolume) -> Result<Self, Error> {
        let failed = |source| Error::Source { id: id.clone(), source };
        let source = Source::open(volume).map_err(failed)?;
        let facts = source.facts();
        let form = Form::of(volume);
        if (form == Form::Directory) == source.is_device() {
            return Err(failed(source::Error::Unsuitable { path: source.path().to_owned() }));
        }
        let shown = match form {
            Form::Directory => Shown::Mount { device: facts.device, root: facts.root.clone() },
            Form::Filesystem => Shown::Mount { device: facts.device, root: PathBuf::from("/") },
            Form::Node => Shown::Node(facts.device),
        };
        let seen = Seen::of(source.as_fd(), source.path());
        let seen = seen.map_err(|source| Error::Host { id: id.clone(), source })?;
        Ok(Self { source, form, shown, seen })
    }

    /// Whether `seen` is this volume, mounted there.
    pub(super) fn is_mounted_at(&self, seen: &Seen) -> Result<bool, host::Error> {
        Ok(self.own(seen)?.is_some())
    }

    /// Whether `seen`, at the recorded staging path, is this volume staged: mounted, or stood for by a bare directory.
    pub(super) fn is_staged_at(&self, seen: &Seen) -> Result<bool, host::Error> {
        let is_bare = seen.kind == Kind::Directory && !seen.is_mount;
        Ok(is_bare && !self.form.is_mounted_when_staged() || self.is_mounted_at(seen)?)
    }

    /// `seen` as a plan sees it, if it is this volume, mounted there.
    fn own(&self, seen: &Seen) -> Result<Option<There>, host::Error> {
        if !seen.is_mount {
            return Ok(None);
        }
        let own = |fs_type| There::Own { attributes: seen.attributes, fs_type };
        match (&self.shown, self.form) {
            (Shown::Node(number), _) => {
                Ok((seen.kind == Kind::BlockDevice(*number)).then(|| own(None)))
            }
            // The very directory that was verified, by its number.
            (_, Form::Directory) if seen.id == self.seen.id => {
                Ok(Some(own(self.source.facts().fs_type.clone())))
            }
            (shown, _) => {
                let mount = Mount::of(seen.as_fd(), self.source.path())?;
                let fs_type = || mount.fs_type.to_str().map(str::to_owned);
                Ok(shown.is_table_entry(&mount).then(|| own(fs_type())))
            }
        }
    }

    /// What is at `spot` as a plan sees it, and the descriptor of it.
    pub(super) fn look_at(&self, spot: &Spot) -> Result<(There, Option<Seen>), host::Error> {
        let Some(seen) = spot.look()? else { return Ok((There::Nothing, None)) };
        if let Some(own) = self.own(&seen)? {
            return Ok((own, Some(seen)));
        }
        let there = match seen.kind {
            _ if seen.is_mount => There::Foreign(found_at(spot)?),
            Kind::Directory => There::Bare(Shape::Directory),
            Kind::File(_) => There::Bare(Shape::File),
            Kind::Symlink => There::Foreign(Found::Unsuitable("a symlink")),
            Kind::BlockDevice(_) => There::Foreign(Found::Unsuitable("a device node")),
            Kind::Other => There::Foreign(Found::Unsuitable("a socket, pipe or device")),
        };
        Ok((there, Some(seen)))
    }

    /// Clones the mount of `root`: of the source, or of a mount of it. It is attached nowhere yet.
    pub(super) fn clone_of(&self, id: &VolumeId, root: &Seen) -> Result<Detached, Error> {
        let path = self.source.path();
        Detached::clone_of(root.as_fd(), path).map_err(|error| match error.errno {
            Errno::INVAL => Error::NoClone { id: id.clone(), path: path.to_owned() },
            _ => Error::Host { id: id.clone(), source: error },
        })
    }

    /// What this volume is mounted on.
    pub(super) fn shape(&self) -> Shape {
        if self.form == Form::Node { Shape::File } else { Shape::Directory }
    }
}

impl Shown {
    /// What `mount` shows.
    pub(super) fn by(mount: &Mount) -> Self {
        Self::Mount { device: mount.device, root: mount.root.clone() }
    }

    /// Whether `mount`, an entry of the mount table, shows it. A device node's cannot be told from the table alone.
    pub(super) fn is_table_entry(&self, mount: &Mount) -> bool {
        let Self::Mount { device, root } = self else { return false };
        // The kernel marks the root of a mount whose directory was removed since.
        let seen = mount.root.as_os_str().as_bytes();
        let seen = seen.strip_suffix(b"//deleted").unwrap_or(seen);
        mount.device == *device && root.as_os_str().as_bytes() == seen
    }

    /// Whether `mount`, the topmost at its mount point, shows it.
    ///
    /// The mount point of a device node is looked at, which touches the file system of the node and never the device.
    /// One of a volume is not: the disk beneath may be dead, and its mount has to go all the same.
    pub(super) fn is_shown_by(&self, mount: &Mount) -> bool {
        match self {
            Self::Nothing => false,
            Self::Mount { .. } => self.is_table_entry(mount),
            Self::Node(number) => {
                mount.root != Path::new("/")
                    && Seen::at(&mount.mount_point)
                        .is_ok_and(|seen| seen.kind == Kind::BlockDevice(*number))
            }
        }
    }
}

/// What is mounted at `spot`, for a sentence.
pub(super) fn found_at(spot: &Spot) -> Result<Found, host::Error> {
    let mount = spot.mount()?;
    Ok(mount.as_ref().map_or(Found::Unsuitable("another mount"), Found::from))
}

impl From<&Mount> for Found {
    fn from(mount: &Mount) -> Self {
        Self::Mount {
            source: mount.source.to_string_lossy().into_owned(),
            fs_type: mount.fs_type.to_string_lossy().into_owned(),
        }
    }
}
