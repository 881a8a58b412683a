//! One wipe from beginning to end, on the thread that calls it: verified, unused, wiped, read back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::block::Target;
use super::lock::Lock;
use super::progress::Progress;
use super::{Error, command, delete, in_use, reformat, verify};
use crate::host::attributes::{self, Attributes, Flags};
use crate::host::beneath::Directory;
use crate::host::device::{self, Access};
use crate::host::namespace::HostNamespace;
use crate::host::signature::{self, Contents};
use crate::host::{self, Errno, wipe};
use crate::source::Source;
use crate::volume::{
    CleanMethod, CleanPolicy, CleanReason, Fingerprint, LocalVolume, Mode, Remount, RootAttributes,
    Verified,
};

/// A wipe that runs: on which host, how far it is, and its right to.
pub(super) struct Run<'a> {
    pub(super) host: HostNamespace,
    pub(super) progress: &'a Progress,
    pub(super) lock: &'a mut Lock,
}

/// What a wipe has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    /// The fingerprint of the source, if the wipe gave it another.
    pub(super) fingerprint: Option<Fingerprint>,
    /// What was read back.
    pub(super) verified: Verified,
}

/// What a wipe needs to have recorded before it goes on.
pub(super) trait Notes {
    /// Records what a reformat is about to take away.
    fn remount(&self, remount: &Remount) -> Result<(), Error>;
    /// Records that it is back, and what the volume is by now.
    fn put_back(&self, fingerprint: &Fingerprint) -> Result<LocalVolume, Error>;
}

/// Makes sure that a volume is there and that nothing is mounted of it, before anything is recorded of its wipe.
///
/// [`wipe()`] looks at everything, right before it touches anything. To look at what every process has open takes the longest
/// of that, so it is done here too only where the last try found the volume in use: while that lasts nothing new is
/// recorded.
pub(super) fn require_ready(volume: &LocalVolume, host: HostNamespace) -> Result<(), Error> {
    let status = &volume.status;
    if status.cleaning.as_ref().is_some_and(|cleaning| cleaning.remount.is_some()) {
        return Ok(());
    }
    in_use::require_unpublished(volume)?;
    let source = Source::open(volume)?;
    match status.conditions.clean.reason {
        CleanReason::StillInUse => in_use::require_unused(volume, &source, host),
        _ => in_use::require_unmounted(volume, &source, host),
    }
}

/// Wipes a volume by `policy`.
///
/// Fails closed: nothing is touched unless the source is the recorded one (rule 3) and nobody uses it (rule 5).
pub(super) fn wipe(
    volume: &LocalVolume,
    policy: &CleanPolicy,
    run: &mut Run<'_>,
    notes: &impl Notes,
) -> Result<Done, Error> {
    let begun = volume.status.cleaning.as_ref().and_then(|cleaning| cleaning.remount.clone());
    if let Some(remount) = begun {
        // The mount may be gone: that is what was recorded for.
        let remount = reformat::resumed(volume, &remount)?;
        notes.remount(&remount)?;
        let (fingerprint, verified) = reformatted(volume, &remount, run)?;
        if policy.method == CleanMethod::Reformat {
            return Ok(Done { fingerprint: Some(fingerprint), verified });
        }
        // Another order came since, which is carried out on what is back.
        return wipe(&notes.put_back(&fingerprint)?, policy, run, notes);
    }
    let source = Source::open(volume)?;
    in_use::require_unused(volume, &source, run.host)?;
    let verified = match (&policy.method, source.is_device()) {
        (CleanMethod::None, _) => Verified::Nothing,
        (CleanMethod::Reformat, false) => {
            let remount = reformat::plan(volume, &source)?;
            notes.remount(&remount)?;
            // An open descriptor keeps its mount busy.
            drop(source);
            let (fingerprint, verified) = reformatted(volume, &remount, run)?;
            return Ok(Done { fingerprint: Some(fingerprint), verified });
        }
        (_, false) => directory(volume, &source, policy, run)?,
        (_, true) => block(volume, &source, policy, run)?,
    };
    Ok(Done { fingerprint: None, verified })
}

fn directory(
    volume: &LocalVolume,
    source: &Source,
    policy: &CleanPolicy,
    run: &mut Run<'_>,
) -> Result<Verified, Error> {
    let root = Directory::open(source.as_fd(), source.path())?;
    let keep = keeps_lost_and_found(source);
    match &policy.method {
        CleanMethod::Delete => {
            attributes::allow_changes(&root, root.path())?;
            delete::empty(&root, keep, deleting_threads(source), run.progress)?;
        }
        CleanMethod::Command { command, timeout } => {
            let limit = std::time::Duration::from_secs(*timeout);
            command::run(volume, command, limit, run)?;
            verify::directory(&root, keep)?;
        }
        CleanMethod::None | CleanMethod::Reformat => {}
        CleanMethod::Discard | CleanMethod::Zero | CleanMethod::Shred { .. } => {
            return Err(Error::Unsuitable {
                method: policy.method.name(),
                needs: "a block device",
            });
        }
    }
    finish(volume, &root, keep)
}

/// Gives an emptied directory its looks back, makes all of it durable, and reads it back: to look costs next to nothing, so
/// also where nobody asks for it. What is there then came after it was emptied, for which there is nothing to do but to
/// empty it again.
fn finish(
    volume: &LocalVolume,
    root: &Directory,
    keep_lost_and_found: bool,
) -> Result<Verified, Error> {
    restore_root(volume, root)?;
    if keep_lost_and_found {
        delete::reset_lost_and_found(root)?;
    }
    root.sync()?;
    if let Some(left) = root.held(keep_lost_and_found)? {
        return Err(Error::Refilled { left });
    }
    if keep_lost_and_found {
        verify::lost_and_found(root)?;
    }
    Ok(Verified::Listing)
}

/// Whether `lost+found` belongs to the file system: at the root of ext2, ext3 and ext4.
pub(super) fn keeps_lost_and_found(source: &Source) -> bool {
    let facts = source.facts();
    let is_ext = facts.fs_type.as_deref().is_some_and(|fs_type| fs_type.starts_with("ext"));
    is_ext && facts.root == Path::new("/")
}

/// How many threads delete. Where processors are free, two took half as long as one for directories in memory on ext4. On
/// XFS two gain something only where its log is large, on btrfs, where they change one tree, they took longer; of other file
/// systems that is not known.
///
/// More than half of the processors are not for a wipe: two threads on two of them left a neighbour, who waits for a
/// processor each time that his disk has answered, a sixth of his durable writes, at whatever priority; one leaves him all.
fn deleting_threads(source: &Source) -> usize {
    let fs_type = source.facts().fs_type.as_deref().unwrap_or_default();
    let half = thread::available_parallelism().map_or(1, |processors| processors.get() / 2);
    if fs_type.starts_with("ext") { half.clamp(1, 2) } else { 1 }
}

/// Gives the root directory back what it looked like at discovery.
fn restore_root(volume: &LocalVolume, root: &Directory) -> Result<(), Error> {
    let Some(recorded) = &volume.status.root else { return Ok(()) };
    let attributes = decoded(recorded).ok_or_else(|| host::Error {
        call: "base64",
        path: root.path().to_owned(),
        errno: Errno::BADMSG,
    })?;
    match attributes::restore(root, &attributes, root.path()) {
        Err(host::Error { errno: Errno::TOOBIG, path, .. }) => Err(Error::Unlisted { path }),
        restored => {
            restored?;
            verify::looks(root, &attributes)
        }
    }
}

fn decoded(recorded: &RootAttributes) -> Option<Attributes> {
    let one = |(name, value): (&String, &String)| {
        Some((OsString::from(name), STANDARD.decode(value).ok()?))
    };
    let xattrs: Option<BTreeMap<_, _>> = recorded.xattrs.iter().map(one).collect();
    let flags = recorded.flags.map(|flags| Flags {
        inode: flags.inode,
        extended: flags.extended,
        project: flags.project,
        extent: flags.extent_size,
        shared_extent: flags.shared_extent_size,
    });
    let RootAttributes { uid, gid, mode, .. } = *recorded;
    Some(Attributes { uid, gid, mode, xattrs: xattrs?, flags })
}

fn reformatted(
    volume: &LocalVolume,
    remount: &Remount,
    run: &mut Run<'_>,
) -> Result<(Fingerprint, Verified), Error> {
    let source = reformat::carry_out(volume, remount, run.progress)?;
    let root = Directory::open(source.as_fd(), source.path())?;
    let verified = finish(volume, &root, keeps_lost_and_found(&source))?;
    Ok((source.facts().fingerprint.clone(), verified))
}

fn block(
    volume: &LocalVolume,
    source: &Source,
    policy: &CleanPolicy,
    run: &mut Run<'_>,
) -> Result<Verified, Error> {
    let path = source.path();
    let device = match device::reopen(source.as_fd(), path, Access::WriteExclusive) {
        Err(host::Error { errno: Errno::BUSY, .. }) => {
            return Err(Error::InUse { by: vec![format!("whoever holds {}", path.display())] });
        }
        device => device?,
    };
    match device::forget_partitions(&device, path) {
        Err(host::Error { errno: Errno::BUSY, .. }) => {
            let by = vec![format!("whoever has a partition of {} open", path.display())];
            return Err(Error::InUse { by });
        }
        gone => gone?,
    }
    let target = Target { device: &device, path, volume: &volume.name, progress: run.progress };
    match &policy.method {
        CleanMethod::Discard => target.discard()?,
        CleanMethod::Zero => target.zero()?,
        CleanMethod::Shred { passes } => target.shred(*passes)?,
        // A file system will be made on it before a tenant sees it.
        CleanMethod::Delete | CleanMethod::Reformat if volume.spec.mode == Mode::Filesystem => {
            return target.erase().map(|()| Verified::Signatures);
        }
        CleanMethod::Command { command, timeout } => {
            // The program opens the device itself, as it sees fit.
            drop(device);
            let limit = std::time::Duration::from_secs(*timeout);
            command::run(volume, command, limit, run)?;
            return commanded(volume, source, policy);
        }
        CleanMethod::Delete | CleanMethod::Reformat | CleanMethod::None => {
            let needs = "a directory, or a device in a Filesystem pool";
            return Err(Error::Unsuitable { method: policy.method.name(), needs });
        }
    }
    read_back(&device, path, policy)
}

/// Reads a wiped device back where that is asked for.
fn read_back(device: &File, path: &Path, policy: &CleanPolicy) -> Result<Verified, Error> {
    if !policy.verify {
        return Ok(Verified::Nothing);
    }
    verify::device(device, path).map(|()| Verified::Samples)
}

/// What is left to do with a device that a program has wiped.
fn commanded(
    volume: &LocalVolume,
    source: &Source,
    policy: &CleanPolicy,
) -> Result<Verified, Error> {
    let path = source.path();
    let device = device::reopen(source.as_fd(), path, Access::Write)?;
    wipe::settle(&device, path)?;
    let verified = read_back(&device, path, policy)?;
    // A program for file systems' devices may do no more than take the signatures off.
    let is_blank = || Ok::<_, Error>(signature::contents(&device, path)? == Contents::Blank);
    if volume.spec.mode == Mode::Filesystem && is_blank()? {
        signature::mark_erased(&device, path)?;
        wipe::settle(&device, path)?;
    }
    Ok(verified)
}
