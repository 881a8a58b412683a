//! Mounts made, changed and attached by descriptor, so that what was checked is what is mounted.
//!
//! A mount is made detached ([`Detached`]), restricted while nobody can reach it, and only then attached to a descriptor
//! of its target ([`Spot`]). Needs Linux 5.12 (mount_setattr(2)) and `CAP_SYS_ADMIN` over the mount namespace.
//!
//! Clones are never recursive: a mount that somebody put beneath a volume does not come along. In a user namespace
//! the kernel refuses (`EINVAL`) to clone a directory with mounts beneath it that were inherited from outside, since that
//! would uncover what they hide; a recursive clone would bring them along and is no answer.

mod spot;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    move_mount, open_tree,
};

pub use spot::{FileId, Fullness, Kind, Seen, Spot, canonical, is_mount_point, usage};

use super::{Errno, Error, Result};

/// What a mount does beyond showing a file system; each can be set and none is ever taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// `ro`.
    ReadOnly,
    /// `nosuid`.
    NoSuid,
    /// `nodev`.
    NoDev,
    /// `noexec`.
    NoExec,
    /// `nodiratime`.
    NoDirAtime,
    /// `noatime`; at most one of the three.
    NoAtime,
    /// `relatime`; at most one of the three.
    RelAtime,
    /// `strictatime`; at most one of the three.
    StrictAtime,
}

/// A set of [`Attribute`]s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Attributes(u8);

impl Attributes {
    /// These and `attribute`.
    #[must_use]
    pub fn with(self, attribute: Attribute) -> Self {
        Self(self.0 | 1 << attribute as u8)
    }

    /// These and `others`.
    #[must_use]
    pub fn with_all(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether `attribute` is among them.
    pub fn has(self, attribute: Attribute) -> bool {
        self.0 & (1 << attribute as u8) != 0
    }

    /// Those that keep a tenant from something: `ro`, `nosuid`, `nodev`, `noexec`.
    #[must_use]
    pub fn restrictions(self) -> Self {
        use Attribute::{NoDev, NoExec, NoSuid, ReadOnly};
        let restrictions = [ReadOnly, NoSuid, NoDev, NoExec].into_iter().collect::<Self>();
        Self(self.0 & restrictions.0)
    }

    /// Whether every attribute of `others` is among them.
    pub fn has_all(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether they choose when access times are written.
    fn choose_atime(self) -> bool {
        use Attribute::{NoAtime, RelAtime, StrictAtime};
        [NoAtime, RelAtime, StrictAtime].into_iter().any(|attribute| self.has(attribute))
    }

    fn kernel_flags(self) -> MountAttrFlags {
        const FLAGS: [(Attribute, MountAttrFlags); 7] = [
            (Attribute::ReadOnly, MountAttrFlags::MOUNT_ATTR_RDONLY),
            (Attribute::NoSuid, MountAttrFlags::MOUNT_ATTR_NOSUID),
            (Attribute::NoDev, MountAttrFlags::MOUNT_ATTR_NODEV),
            (Attribute::NoExec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
            (Attribute::NoDirAtime, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
            (Attribute::NoAtime, MountAttrFlags::MOUNT_ATTR_NOATIME),
            // `relatime` is what the kernel does with none of the others: the value 0 of its field.
            (Attribute::StrictAtime, MountAttrFlags::MOUNT_ATTR_STRICTATIME),
        ];
        let chosen = FLAGS.into_iter().filter(|(attribute, _)| self.has(*attribute));
        chosen.map(|(_, flag)| flag).collect()
    }
}

impl FromIterator<Attribute> for Attributes {
    fn from_iter<T: IntoIterator<Item = Attribute>>(attributes: T) -> Self {
        attributes.into_iter().fold(Self::default(), Self::with)
    }
}

/// A mount that is attached nowhere yet. Dropping it takes it away.
#[derive(Debug)]
pub struct Detached {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl Detached {
    /// Clones the mount behind `source`, an open (`O_PATH`) directory or device node that becomes its root, without
    /// the mounts beneath it. `path` is for messages.
    pub fn clone_of(source: BorrowedFd<'_>, path: &Path) -> Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let descriptor =
            open_tree(source, c"", flags).map_err(Error::of::<Errno>("open_tree", path))?;
        Ok(Self { descriptor, path: path.to_owned() })
    }

    /// Mounts the file system of type `fs_type` on `device`, with `options` of the file system (`discard`, `commit=5`).
    ///
    /// The kernel opens the device by its path: compare [`Seen::id`] of [`Detached::look`] with the number of the device
    /// that was checked before attaching it.
    pub fn filesystem(fs_type: &str, device: &Path, options: &[&str]) -> Result<Self> {
        let context = begin(fs_type, device)?;
        for option in options {
            set_option(&context, option).map_err(Error::of("fsconfig(option)", device))?;
        }
        Self::finish(&context, device)
    }

    /// As [`Detached::filesystem`] with the options that a mount table shows, of which some kernels print more than they
    /// take; gives those that were not taken.
    pub fn filesystem_again<'a>(
        fs_type: &str,
        device: &Path,
        options: &[&'a str],
    ) -> Result<(Self, Vec<&'a str>)> {
        let context = begin(fs_type, device)?;
        let refused = options.iter().filter(|option| set_option(&context, option).is_err());
        let refused = refused.copied().collect();
        Ok((Self::finish(&context, device)?, refused))
    }

    fn finish(context: &OwnedFd, device: &Path) -> Result<Self> {
        let failed = |call| Error::of::<Errno>(call, device);
        fsconfig_create(context).map_err(failed("fsconfig(create)"))?;
        let descriptor = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            .map_err(failed("fsmount"))?;
        Ok(Self { descriptor, path: device.to_owned() })
    }

    /// Sets `attributes`, beside those that the mount has, and cuts it off from what is mounted or unmounted elsewhere.
    pub fn restrict(&self, attributes: Attributes) -> Result<()> {
        // Access time is one field of the kernel's with three values: it is cleared before it is set.
        let clear = if attributes.choose_atime() {
            MountAttrFlags::MOUNT_ATTR__ATIME
        } else {
            MountAttrFlags::empty()
        };
        let change = libc::mount_attr {
            attr_set: attributes.kernel_flags().bits().into(),
            attr_clr: clear.bits().into(),
            propagation: MountPropagationFlags::PRIVATE.bits().into(),
            userns_fd: 0,
        };
        set_attributes(self.descriptor.as_fd(), &change)
            .map_err(Error::of::<Errno>("mount_setattr", &self.path))
    }

    /// What it shows.
    pub fn look(&self) -> Result<Seen> {
        Seen::of(self.descriptor.as_fd(), &self.path)
    }

    /// Attaches it to `target`, which must not be a mount point: that would stack it on the mount there.
    pub fn attach(self, target: &Seen, path: &Path) -> Result<()> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&self.descriptor, c"", target, c"", flags)
            .map_err(Error::of::<Errno>("move_mount", path))
    }
}

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Begins to mount the file system of type `fs_type` on `device` (fsopen(2)).
fn begin(fs_type: &str, device: &Path) -> Result<OwnedFd> {
    let failed = |call| Error::of::<Errno>(call, device);
    let context = fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("fsopen"))?;
    fsconfig_set_string(&context, c"source", device).map_err(failed("fsconfig(source)"))?;
    Ok(context)
}

/// Sets one option, `NAME` or `NAME=VALUE`.
fn set_option(context: &OwnedFd, option: &str) -> std::result::Result<(), Errno> {
    match option.split_once('=') {
        Some((name, value)) => fsconfig_set_string(context, name, value),
        None => fsconfig_set_flag(context, option),
    }
}

/// mount_setattr(2) on the mount behind `mount` alone. No crate wraps it.
fn set_attributes(
    mount: BorrowedFd<'_>,
    change: &libc::mount_attr,
) -> std::result::Result<(), Errno> {
    // SAFETY: the call reads an empty, NUL-terminated path and `size_of::<mount_attr>()` bytes of a struct that outlives
    // the call and has the kernel's layout (`repr(C)`, four 64-bit fields, MOUNT_ATTR_SIZE_VER0); it writes no memory of
    // ours, and the borrowed descriptor stays open meanwhile.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(change),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
