//! One probe: the blocking calls, and what each answer means.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use super::{Finding, Round};
use crate::host::mountinfo::{Mount, MountTable, has_option};
use crate::host::{self, device, identify};
use crate::source::{self, Source};
use crate::volume::{HealthReason, LocalVolume};

/// Options by which a file system says that it refuses writes since it is damaged.
const BROKEN: [&str; 2] = ["emergency_ro", "shutdown"];

/// Opens, verifies and reads a little of `volume`.
pub(super) fn at(volume: &LocalVolume, round: &Round) -> Finding {
    let path = &volume.status.path;
    match probe(volume, round) {
        Ok(()) => Finding {
            reason: HealthReason::Present,
            message: format!("{path} is present and can be read"),
        },
        Err(finding) => finding,
    }
}

fn probe(volume: &LocalVolume, round: &Round) -> Result<(), Finding> {
    let source = open(volume, round.mounts())?;
    if source.is_device() {
        return read_device(volume, &source);
    }
    read_directory(volume, &source, round.mounts())?;
    let beneath = source.facts().device;
    // An open descriptor keeps the administrator from unmounting it, and a disk may take its time.
    drop(source);
    round.read_beneath(beneath).map_err(|error| unreadable(&error))
}

fn open(volume: &LocalVolume, mounts: &MountTable) -> Result<Source, Finding> {
    Source::open_in(volume, mounts).map_err(|error| {
        let reason = match &error {
            source::Error::Missing { .. } => HealthReason::Missing,
            source::Error::Unsuitable { .. } | source::Error::Replaced { .. } => {
                HealthReason::Replaced
            }
            source::Error::Host(cause) => return unreadable(cause),
        };
        let wiping = match volume.status.cleaning.as_ref().map(|cleaning| &cleaning.remount) {
            Some(Some(_)) => "; its mount is away while it is reformatted",
            _ => "",
        };
        Finding { reason, message: format!("{error}{wiping}") }
    })
}

/// What a table that cannot be read says of a volume.
pub(super) fn unreadable(error: &host::Error) -> Finding {
    Finding { reason: HealthReason::ReadError, message: format!("{error}; check the device") }
}

fn read_device(volume: &LocalVolume, source: &Source) -> Result<(), Finding> {
    let (descriptor, path) = (source.as_fd(), source.path());
    device::read_edges(descriptor, path).map_err(|error| unreadable(&error))?;
    let open = device::reopen(descriptor, path, device::Access::Read);
    let read_only = open.and_then(|open| device::is_read_only(&open, path));
    if read_only.map_err(|error| unreadable(&error))? && !is_meant_read_only(volume) {
        let message =
            "the device refuses writes; make it writable (blockdev --setrw) or replace it";
        return Err(read_only_finding(path, message));
    }
    Ok(())
}

fn read_directory(
    volume: &LocalVolume,
    source: &Source,
    mounts: &MountTable,
) -> Result<(), Finding> {
    let (descriptor, path) = (source.as_fd(), source.path());
    let filesystem = identify::filesystem(descriptor, path).map_err(|error| unreadable(&error))?;
    let listing = fs::read_dir(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
    if let Err(error) = listing.and_then(|mut entries| entries.next().transpose()) {
        let message = format!("reading {} failed: {error}; check the disk", path.display());
        return Err(Finding { reason: HealthReason::ReadError, message });
    }
    if filesystem.read_only || filesystem_says_broken(source, mounts) {
        return read_only_directory(volume, source, mounts);
    }
    Ok(())
}

fn filesystem_says_broken(source: &Source, mounts: &MountTable) -> bool {
    // Kernels that tell it by an option only do so for ext4.
    source.facts().fs_type.as_deref() == Some("ext4")
        && mount_of(source, mounts).is_some_and(|mount| is_broken(&mount))
}

fn is_broken(mount: &Mount) -> bool {
    BROKEN.iter().any(|option| has_option(&mount.super_options, option))
}

/// A mount that was made read-only says so itself; when only its file system does, the kernel turned it so.
fn read_only_directory(
    volume: &LocalVolume,
    source: &Source,
    mounts: &MountTable,
) -> Result<(), Finding> {
    let mount = mount_of(source, mounts);
    let by_choice =
        mount.is_some_and(|mount| has_option(&mount.options, "ro") && !is_broken(&mount));
    match by_choice {
        true if is_meant_read_only(volume) => Ok(()),
        true => Err(read_only_finding(
            source.path(),
            "it is mounted read-only; mount it writable (mount -o remount,rw)",
        )),
        false => Err(read_only_finding(
            source.path(),
            "its file system turned read-only after an error; check and repair it (fsck), see the kernel's log",
        )),
    }
}

fn mount_of(source: &Source, mounts: &MountTable) -> Option<Mount> {
    let id = identify::node(source.as_fd(), source.path()).ok()?.mount?;
    // One that is younger than the table is found in a new one.
    mounts.by_id(id).cloned().or_else(|| MountTable::read().ok()?.by_id(id).cloned())
}

/// Data that an administrator offers as it is may be offered for reading only, and a tenant who has it knows.
fn is_meant_read_only(volume: &LocalVolume) -> bool {
    volume.status.accepted
}

fn read_only_finding(path: &Path, message: &str) -> Finding {
    Finding {
        reason: HealthReason::ReadOnly,
        message: format!("{} cannot be written: {message}", path.display()),
    }
}
