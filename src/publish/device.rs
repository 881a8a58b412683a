//! The file system on a device: made only where [`super::plan::prepare`] says so, mounted only from the device that was
//! verified. Blocks.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

use super::error::Error;
use super::plan::{self, Contents, PoolRule, Prepare, Unprepared};
use super::shown::Subject;
use super::stage::Staging;
use crate::host::mount::Detached;
use crate::host::{self, Errno, format};
use crate::pool::FsType;
use crate::volume::{CleanMethod, NewVolumes};

/// The types of file systems that Berth makes.
const MADE: [&str; 2] = [FsType::Ext4.name(), FsType::Xfs.name()];
/// Bytes at the beginning of a device within which every known file system, table and label has its signature.
const HEAD: u64 = 4 << 20;
/// The same at its end: backups of partition tables, RAID and ZFS labels.
const TAIL: u64 = 1 << 20;

impl Staging {
    /// Decides what is to be done with the device before it is mounted.
    pub(super) fn prepare(&self, subject: &Subject) -> Result<Prepare, Error> {
        let contents = self.contents(subject)?;
        let volume = &self.volume;
        let accepts = |policy: &crate::volume::CleanPolicy| policy.method == CleanMethod::None;
        let accepts_data = self.pool.as_ref().is_some_and(|p| p.new_volumes == NewVolumes::Accept)
            || volume.spec.clean.as_ref().is_some_and(accepts);
        let fs_type = self.pool.as_ref().map_or(FsType::default(), |pool| pool.fs_type).name();
        let rule = PoolRule { fs_type, made: &MADE, accepts_data };
        let recorded = volume.status.format.as_ref();
        plan::prepare(recorded, self.id.tenancy, &contents, self.asked_type(), rule)
            .map_err(|unprepared| self.unprepared(subject, unprepared))
    }

    fn contents(&self, subject: &Subject) -> Result<Contents, Error> {
        let known = subject.source.facts().fs_type.clone().map(Contents::Known);
        if let (Some(known), true) = (&known, self.is_published()) {
            return Ok(known.clone());
        }
        // The kernel would mount a file system a second time that somebody else uses already.
        let device = self.unused(subject)?;
        if let Some(known) = known {
            return Ok(known);
        }
        let size = subject.source.facts().size.0;
        let blank = is_blank(&device, size).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            self.host(host::Error { call: "read", path: subject.source.path().to_owned(), errno })
        })?;
        Ok(if blank { Contents::Blank } else { Contents::Unknown })
    }

    /// Makes a file system of type `fs_type` on the device. It was decided a moment ago; that nobody uses the device and
    /// that it is the recorded one is verified again, the rest cannot have changed while nobody uses it.
    pub(super) fn format(&self, fs_type: &str) -> Result<(), Error> {
        let subject = Subject::open(&self.id, &self.volume)?;
        let device = self.unused(&subject)?;
        format::make(&device, subject.source.path(), fs_type, None)
            .map_err(|source| Error::Format { id: self.id.clone(), source })
    }

    /// Makes sure that the file system, which nobody was given, holds nothing.
    pub(super) fn require_empty(&self, fs_type: &str) -> Result<(), Error> {
        let subject = Subject::open(&self.id, &self.volume)?;
        let mount = self.mount(&subject, fs_type, &["ro"])?;
        let path = format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd());
        let failed = |error: std::io::Error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            self.host(host::Error {
                call: "readdir",
                path: subject.source.path().to_owned(),
                errno,
            })
        };
        for entry in std::fs::read_dir(path).map_err(failed)? {
            if entry.map_err(failed)?.file_name() != "lost+found" {
                let found = format!("{fs_type} with data in it");
                return Err(self.unprepared(&subject, Unprepared::NotBlank(found)));
            }
        }
        Ok(())
    }

    /// Mounts the file system, detached, and makes sure that it is on the device that was verified.
    pub(super) fn mount(
        &self,
        subject: &Subject,
        fs_type: &str,
        options: &[&str],
    ) -> Result<Detached, Error> {
        let path = std::fs::canonicalize(subject.source.path());
        let path = path.unwrap_or_else(|_| subject.source.path().to_owned());
        let mount = Detached::filesystem(fs_type, &path, options).map_err(|e| self.host(e))?;
        let found = mount.look().map_err(|e| self.host(e))?.id.device;
        let expected = subject.source.facts().device;
        if found != expected {
            return Err(Error::WrongDevice { id: self.id.clone(), path, expected, found });
        }
        Ok(mount)
    }

    /// Whether targets of this tenancy hold the file system mounted, though it is not at its staging path.
    fn is_published(&self) -> bool {
        self.places.iter().any(|place| !place.published.staging)
    }

    fn unused(&self, subject: &Subject) -> Result<File, Error> {
        let path = subject.source.path();
        match format::open_unused(subject.source.as_fd(), path) {
            Err(host::Error { errno: Errno::BUSY, .. }) => {
                Err(Error::InUse { id: self.id.clone(), path: path.to_owned() })
            }
            result => result.map_err(|e| self.host(e)),
        }
    }

    fn unprepared(&self, subject: &Subject, unprepared: Unprepared) -> Error {
        let (id, path) = (self.id.clone(), subject.source.path().to_owned());
        match unprepared {
            Unprepared::Type(has) => {
                let asked = self.asked_type().unwrap_or_default().to_owned();
                Error::FsType { id, asked, has }
            }
            Unprepared::NotBlank(found) => Error::NotBlank { id, path, found },
            Unprepared::Gone(had) => Error::FilesystemGone { id, path, had },
        }
    }
}

/// Whether a device of `size` bytes is zero wherever a signature could be.
fn is_blank(device: &File, size: u64) -> std::io::Result<bool> {
    let head = 0..size.min(HEAD);
    let tail = size.saturating_sub(TAIL).max(head.end)..size;
    Ok(is_zero(device, head)? && is_zero(device, tail)?)
}

fn is_zero(device: &File, range: std::ops::Range<u64>) -> std::io::Result<bool> {
    let mut buffer = vec![0; 256 << 10];
    let mut at = range.start;
    while at < range.end {
        let count = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(buffer.len());
        device.read_exact_at(&mut buffer[..count], at)?;
        if buffer[..count].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn one_byte_where_a_signature_could_be_makes_a_device_not_blank(
            size in 1_u64..12 << 20,
            at: prop::sample::Index,
        ) {
            let at = at.index(usize::try_from(size).unwrap()) as u64;
            let file = tempfile::tempfile().unwrap();
            file.set_len(size).unwrap();
            prop_assert!(is_blank(&file, size).unwrap());

            file.write_all_at(&[1], at).unwrap();

            let beyond = at >= HEAD && at < size.saturating_sub(TAIL);
            prop_assert_eq!(is_blank(&file, size).unwrap(), beyond);
        }
    }
}
