//! Makes a new file system where the administrator has mounted one: in a time that does not depend on what was on it.
//!
//! The mount is taken away and made again on the new file system, which gets the type and the UUID of the old one, so
//! that the volume stays the same volume. What is about to be taken away is recorded first, so that an agent that starts
//! after a crash can put it back; each step may be done twice.
//!
//! Rule 3, never the wrong disk: a mount table names devices by whatever text they were mounted by, and that name may be
//! another disk's by now. The name is believed only where it leads to the very device that is mounted, and from then on
//! only while the device has the recorded fingerprint and no other file system on it.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::Error;
use super::progress::Progress;
use crate::host::device::{self, Access};
use crate::host::mount::{Attribute, Attributes, Detached, Spot};
use crate::host::mountinfo::{Mount, MountTable, has_option};
use crate::host::{self, DeviceNumber, Errno, format, identify, signature};
use crate::source::{self, Source};
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
    if has_option(&mount.options, "ro") {
        return Err(unsuitable("a mount that is not read-only"));
    }
    let name = mount.source.to_str().filter(|name| name.starts_with('/'));
    let name = name.ok_or_else(|| unsuitable("a file system on a block device"))?;
    let Fingerprint::Directory { filesystem, .. } = &volume.status.fingerprint else {
        return Err(unsuitable("a directory"));
    };
    let uuid = filesystem.uuid.clone().ok_or_else(|| unsuitable("a file system with a UUID"))?;
    let device = Source::look(Path::new(name))?;
    require_number(&device, facts.device)?;
    let open = device::reopen(device.as_fd(), device.path(), Access::Read)?;
    let label = format::label(&open, device.path(), &fs_type)?;
    Ok(Remount {
        label,
        source: name.to_owned(),
        device: device.facts().fingerprint.clone(),
        fs_type,
        uuid: uuid.into(),
        options: options(mount),
    })
}

/// The plan of a reformat that an earlier agent has begun, as it is to be carried out now.
///
/// A name like `/dev/sdb` is another disk's after the next boot. Where the volume is at its place the plan is made anew;
/// else its device is looked for by what it is.
pub(super) fn resumed(volume: &LocalVolume, plan: &Remount) -> Result<Remount, Error> {
    if let Ok(source) = Source::open(volume) {
        return self::plan(volume, &source);
    }
    let is_it = |path: &Path| {
        let found = Source::look(path);
        found.is_ok_and(|found| plan.device.is_same_source(&found.facts().fingerprint))
    };
    if is_it(Path::new(&plan.source)) {
        return Ok(plan.clone());
    }
    let listed = std::fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    // A slash in a device's name is written so in sysfs.
    let names = listed.filter_map(|entry| entry.file_name().into_string().ok());
    let mut paths = names.map(|name| format!("/dev/{}", name.replace('!', "/")));
    match paths.find(|path| is_it(Path::new(path))) {
        Some(source) => Ok(Remount { source, ..plan.clone() }),
        // What is said of the recorded name says what is wrong.
        None => Ok(plan.clone()),
    }
}

/// Carries a recorded plan out, from wherever an earlier try was ended; gives the new root directory, mounted.
pub(super) fn carry_out(
    volume: &LocalVolume,
    plan: &Remount,
    progress: &Progress,
) -> Result<Source, Error> {
    let device = verified(volume, plan)?;
    let spot = Spot::open(&place(volume), None)?;
    take_away(&spot, device.facts().device)?;
    match make(&device, plan, progress) {
        Err(in_use @ Error::InUse { .. }) => {
            // Nothing was written. Until its user lets go, the administrator has the mount as it was.
            if let Err(error) = put_back(&spot, &device, plan) {
                warn!(volume = %volume.name, error = error.sentence(), "a mount that was taken away could not be put back; it is tried again");
            }
            Err(in_use)
        }
        made => made.and_then(|()| put_back(&spot, &device, plan)),
    }
}

/// The device of the plan, if it is the recorded one and no other file system is on it. One that an earlier try has
/// written to only half has none.
fn verified(volume: &LocalVolume, plan: &Remount) -> Result<Source, Error> {
    let path = Path::new(&plan.source);
    let found = Source::look(path)?;
    if !plan.device.is_same_source(&found.facts().fingerprint) {
        return Err(Error::Source(source::Error::Replaced {
            volume: volume.name.clone(),
            path: path.to_owned(),
            recorded: Box::new(plan.device.clone()),
            found: Box::new(found.facts().fingerprint.clone()),
        }));
    }
    let device = device::reopen(found.as_fd(), path, Access::Read)?;
    let uuid = signature::filesystem(&device, path)?.and_then(|filesystem| filesystem.uuid);
    match uuid.filter(|uuid| *uuid != plan.uuid) {
        None => Ok(found),
        Some(found) => Err(Error::WrongFilesystem {
            path: path.to_owned(),
            expected: plan.uuid.clone(),
            found,
        }),
    }
}

fn require_number(device: &Source, expected: DeviceNumber) -> Result<(), Error> {
    let found = device.facts().device;
    if device.is_device() && found == expected {
        return Ok(());
    }
    Err(Error::WrongDevice { path: device.path().to_owned(), expected, found })
}

/// Where the file system is mounted: the entry, or what a symlink there leads to.
fn place(volume: &LocalVolume) -> PathBuf {
    let path = PathBuf::from(&volume.status.path);
    std::fs::canonicalize(&path).unwrap_or(path)
}

/// Takes the mount of the device away from its place, if it is there.
fn take_away(spot: &Spot, device: DeviceNumber) -> Result<(), Error> {
    let table = MountTable::read()?;
    let is_own = |mount: &Mount| mount.device == device && mount.mount_point == spot.path();
    // What was mounted over the place would be mounted over in turn.
    let on_top = table.at(spot.path()).filter(|mount| mount.device != device);
    let others = table.iter().filter(|mount| mount.device == device && !is_own(mount));
    let by: Vec<_> = others.chain(on_top).map(super::in_use::named).collect();
    if !by.is_empty() {
        return Err(Error::InUse { by });
    }
    let Some(own) = table.iter().find(|mount| is_own(mount)) else { return Ok(()) };
    // Whoever would still have the device afterwards is looked for first: a mount that is taken away and put back with
    // each try is an outage with each try.
    let by = super::in_use::held_elsewhere(device, own, &table);
    if !by.is_empty() {
        return Err(Error::InUse { by });
    }
    spot.unmount().map_err(|error| match error.errno {
        Errno::BUSY => Error::InUse { by: vec!["a process that works in it".to_owned()] },
        _ => error.into(),
    })
}

/// Makes the file system, once it is certain that nobody else has the device.
fn make(verified: &Source, plan: &Remount, progress: &Progress) -> Result<(), Error> {
    let path = verified.path();
    match device::reopen(verified.as_fd(), path, Access::WriteExclusive) {
        Err(host::Error { errno: Errno::BUSY, .. }) => {
            return Err(Error::InUse { by: vec![format!("whoever holds {}", path.display())] });
        }
        exclusive => drop(exclusive?),
    }
    let device = device::reopen(verified.as_fd(), path, Access::Write)?;
    let names = format::Names { uuid: Some(&plan.uuid), label: plan.label.as_deref() };
    let is_stopped = || progress.check().is_err();
    let made = format::make_again(&device, path, &plan.fs_type, names, &is_stopped);
    // One that was killed has failed, and the next try begins it again.
    made.map_err(|error| progress.check().err().unwrap_or(Error::Format(error)))
}

/// Mounts the file system at its place, with the options that it was mounted with.
fn put_back(spot: &Spot, device: &Source, plan: &Remount) -> Result<Source, Error> {
    let path = std::fs::canonicalize(device.path()).unwrap_or_else(|_| device.path().to_owned());
    let of_filesystem = of_filesystem(&plan.options);
    let (mount, refused) = Detached::filesystem_again(&plan.fs_type, &path, &of_filesystem)?;
    if !refused.is_empty() {
        warn!(path = %spot.path().display(), ?refused, "the kernel does not take these options of the earlier mount");
    }
    // The kernel opened the device by its name once more.
    let (found, expected) = (mount.look()?.id.device, device.facts().device);
    if found != expected {
        return Err(Error::WrongDevice { path, expected, found });
    }
    mount.restrict(of_mount(&plan.options))?;
    let target = spot.look()?.ok_or_else(|| host::Error {
        call: "open",
        path: spot.path().to_owned(),
        errno: Errno::NOENT,
    })?;
    mount.attach(&target, spot.path())?;
    Ok(Source::look(spot.path())?)
}

/// Options of a mount and of its file system. That an error has turned the file system read-only is not for the next.
fn options(mount: &Mount) -> String {
    let of_filesystem = mount.super_options.to_string_lossy();
    let of_filesystem = of_filesystem.split(',').filter(|option| !matches!(*option, "rw" | "ro"));
    let of_mount = mount.options.to_string_lossy();
    of_mount.split(',').chain(of_filesystem).collect::<Vec<_>>().join(",")
}

const OF_MOUNT: [(&str, Option<Attribute>); 8] = [
    ("ro", Some(Attribute::ReadOnly)),
    ("nosuid", Some(Attribute::NoSuid)),
    ("nodev", Some(Attribute::NoDev)),
    ("noexec", Some(Attribute::NoExec)),
    ("nodiratime", Some(Attribute::NoDirAtime)),
    ("noatime", Some(Attribute::NoAtime)),
    ("relatime", Some(Attribute::RelAtime)),
    ("rw", None),
];

/// What `options` say of the mount. The mount table tells strict access times by naming no other way.
fn of_mount(options: &str) -> Attributes {
    let has = |option: &&(&str, _)| has_option(options.as_ref(), option.0);
    let named: Attributes = OF_MOUNT.iter().filter(has).filter_map(|(_, named)| *named).collect();
    if named.has(Attribute::NoAtime) || named.has(Attribute::RelAtime) {
        named
    } else {
        named.with(Attribute::StrictAtime)
    }
}

/// What `options` say of the file system. `seclabel` is shown by a security module and asked of nobody.
fn of_filesystem(options: &str) -> Vec<&str> {
    let is_of_mount = |option: &str| OF_MOUNT.iter().any(|(name, _)| *name == option);
    let all = options.split(',').filter(|option| !option.is_empty());
    all.filter(|option| !is_of_mount(option) && *option != "seclabel").collect()
}
