//! Makes a new file system where the administrator has mounted one: in a time that does not depend on what was on it.
//!
//! The mount is taken away and made again on the new file system, which gets the type and the UUID of the old one, so
//! that the volume stays the same volume. What is about to be taken away is recorded first, so that an agent that starts
//! after a crash can put it back; each step may be done twice.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::Error;
use crate::host::device::{self, Access};
use crate::host::mount::{Attribute, Attributes, Detached, Spot};
use crate::host::mountinfo::{MountTable, has_option};
use crate::host::{self, Errno, format, identify};
use crate::source::Source;
use crate::volume::{Fingerprint, LocalVolume, Remount};

/// What a reformat of the verified `source` would take away and put back.
pub(super) fn plan(volume: &LocalVolume, source: &Source) -> Result<Remount, Error> {
    let unsuitable = |needs| Error::Unsuitable { method: "reformat", needs };
    let facts = source.facts();
    if !facts.is_mount || facts.root != Path::new("/") {
        return Err(unsuitable("a whole file system, mounted at the volume's path"));
    }
    let fs_type =
        facts.fs_type.clone().filter(|fs_type| matches!(fs_type.as_str(), "ext4" | "xfs"));
    let fs_type = fs_type.ok_or_else(|| unsuitable("a file system of type ext4 or xfs"))?;
    let table = MountTable::read()?;
    let path = identify::path_of(source.as_fd(), source.path())?;
    let mount = table.at(&path).ok_or_else(|| unsuitable("a mount in the mount table"))?;
    let device = mount.source.to_str().filter(|device| device.starts_with('/'));
    let device = device.ok_or_else(|| unsuitable("a file system on a block device"))?;
    let Fingerprint::Directory { filesystem, .. } = &volume.status.fingerprint else {
        return Err(unsuitable("a directory"));
    };
    let uuid = filesystem.uuid.clone().ok_or_else(|| unsuitable("a file system with a UUID"))?;
    Ok(Remount {
        source: device.to_owned(),
        device: Source::look(Path::new(device))?.facts().fingerprint.clone(),
        fs_type,
        uuid,
        options: mount.options.to_string_lossy().into_owned(),
    })
}

/// Carries a recorded plan out, from wherever an earlier try was ended; gives the new root directory, mounted.
pub(super) fn carry_out(volume: &LocalVolume, plan: &Remount) -> Result<Source, Error> {
    let device = Path::new(&plan.source);
    let verified = Source::look(device)?;
    if !plan.device.is_same_source(&verified.facts().fingerprint) {
        return Err(crate::source::Error::Replaced {
            volume: volume.name.clone(),
            path: device.to_owned(),
            recorded: Box::new(plan.device.clone()),
            found: Box::new(verified.facts().fingerprint.clone()),
        }
        .into());
    }
    let spot = Spot::open(&place(volume), None)?;
    take_away(&spot, verified.facts().device)?;
    make(&verified, plan)?;
    put_back(&spot, device, plan)
}

/// Where the file system is mounted: the entry, or what a symlink there leads to.
fn place(volume: &LocalVolume) -> PathBuf {
    let path = PathBuf::from(&volume.status.path);
    std::fs::canonicalize(&path).unwrap_or(path)
}

/// Takes the mount of the device away from its place, if it is there.
fn take_away(spot: &Spot, device: host::DeviceNumber) -> Result<(), Error> {
    let table = MountTable::read()?;
    let others = table.iter().filter(|m| m.device == device && m.mount_point != spot.path());
    let by: Vec<_> = others.map(|m| format!("a mount at {}", m.mount_point.display())).collect();
    if !by.is_empty() {
        return Err(Error::InUse { by });
    }
    if table.at(spot.path()).is_none_or(|mount| mount.device != device) {
        return Ok(());
    }
    spot.unmount().map_err(|error| match error.errno {
        Errno::BUSY => Error::InUse { by: vec!["a process that works in it".to_owned()] },
        _ => error.into(),
    })
}

/// Makes the file system, once it is certain that nobody else has the device.
fn make(verified: &Source, plan: &Remount) -> Result<(), Error> {
    let path = verified.path();
    match device::reopen(verified.as_fd(), path, Access::WriteExclusive) {
        Err(host::Error { errno: Errno::BUSY, .. }) => {
            return Err(Error::InUse { by: vec![format!("whoever holds {}", path.display())] });
        }
        exclusive => drop(exclusive?),
    }
    let device = device::reopen(verified.as_fd(), path, Access::Write)?;
    Ok(format::make(&device, path, &plan.fs_type, Some(&plan.uuid))?)
}

/// Mounts the new file system at the old one's place, with the options of its mount.
fn put_back(spot: &Spot, device: &Path, plan: &Remount) -> Result<Source, Error> {
    let resolved = std::fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    let mount = Detached::filesystem(&plan.fs_type, &resolved, &[])?;
    mount.restrict(attributes(&plan.options))?;
    let target = spot.look()?.ok_or_else(|| host::Error {
        call: "open",
        path: spot.path().to_owned(),
        errno: Errno::NOENT,
    })?;
    mount.attach(&target, spot.path())?;
    Ok(Source::look(spot.path())?)
}

fn attributes(options: &str) -> Attributes {
    const KNOWN: [(&str, Attribute); 6] = [
        ("ro", Attribute::ReadOnly),
        ("nosuid", Attribute::NoSuid),
        ("nodev", Attribute::NoDev),
        ("noexec", Attribute::NoExec),
        ("nodiratime", Attribute::NoDirAtime),
        ("noatime", Attribute::NoAtime),
    ];
    let has = |option: &&(&str, Attribute)| has_option(options.as_ref(), option.0);
    KNOWN.iter().filter(has).map(|(_, attribute)| *attribute).collect()
}
