//! The file system on a device: made only where [`super::plan::prepare`] says so, mounted only from the device that was
//! verified. Blocks.

use std::fs::File;
use std::os::fd::AsFd;

use super::error::Error;
use super::plan::{self, Contents, PoolRule, Prepare, Unprepared};
use super::shown::Subject;
use super::stage::Staging;
use crate::host::beneath::Directory;
use crate::host::device::{self, Access};
use crate::host::mount::Detached;
use crate::host::{self, Errno, format, signature};
use crate::pool::FsType;
use crate::volume::{CleanMethod, NewVolumes};

/// The types of file systems that Berth makes.
const MADE: [&str; 2] = [FsType::Ext4.name(), FsType::Xfs.name()];

impl Staging {
    /// Decides what is to be done with the device before it is mounted.
    pub(super) fn prepare(&self, subject: &Subject) -> Result<Prepare, Error> {
        let contents = self.contents(subject)?;
        let accepts_data = self.accepts_data();
        let fs_type = self.pool.as_ref().map_or(FsType::default(), |pool| pool.fs_type).name();
        let rule = PoolRule { fs_type, made: &MADE, accepts_data };
        let recorded = self.volume.status.format.as_deref();
        plan::prepare(recorded, self.id.tenancy, &contents, self.asked_type(), rule)
            .map_err(|unprepared| self.unprepared(subject, unprepared))
    }

    fn contents(&self, subject: &Subject) -> Result<Contents, Error> {
        let known = subject.source.facts().fs_type.clone();
        if let (Some(known), true) = (&known, self.is_published()) {
            return Ok(Contents::Known(known.clone()));
        }
        // The kernel would mount a file system a second time that somebody else uses already.
        let device = self.unused(subject)?;
        let recorded = self.volume.status.format.as_deref();
        let recorded = recorded.filter(|format| format.tenancy == self.id.tenancy);
        if recorded.is_some_and(|format| format.done) {
            // What else seems to be there is in the tenant's own files, and means nothing.
            let nothing = || Contents::Other("no file system".into());
            return Ok(known.map_or_else(nothing, Contents::Known));
        }
        let found =
            signature::contents(&device, subject.source.path()).map_err(|e| self.host(e))?;
        // A format that was begun may have left signatures and no superblock at its place.
        let known = known.or_else(|| recorded.map(|begun| begun.fs_type.clone()));
        Ok(match (&found, known) {
            (signature::Contents::Blank | signature::Contents::Erased, _) => Contents::Blank,
            (signature::Contents::Data { .. }, _) => Contents::Data(found.to_string()),
            // A member of a RAID may look like the file system on the whole of it.
            (signature::Contents::Signatures(all), Some(known))
                if all.iter().all(|signature| signature.name == known) =>
            {
                Contents::Known(known)
            }
            (signature::Contents::Signatures(_), _) => Contents::Other(found.to_string()),
        })
    }

    /// Whether a tenant may be given data that was there before it.
    fn accepts_data(&self) -> bool {
        let policy = self.volume.spec.clean.as_ref();
        self.pool.as_ref().is_some_and(|pool| pool.new_volumes == NewVolumes::Accept)
            || policy.is_some_and(|policy| policy.method == CleanMethod::None)
    }

    /// Makes sure that a file system of type `fs_type` can be made here: its program may not be installed.
    pub(super) fn check_format(&self, fs_type: &str) -> Result<(), Error> {
        let path = std::path::Path::new(&self.volume.status.path);
        format::check(path, fs_type).map_err(|source| Error::Format { id: self.id.clone(), source })
    }

    /// Makes a file system of type `fs_type` on the device. It was decided a moment ago; that nobody uses the device and
    /// that it is the recorded one is verified again, the rest cannot have changed while nobody uses it.
    pub(super) fn format(&self, fs_type: &str) -> Result<(), Error> {
        let subject = Subject::open(&self.id, &self.volume)?;
        let device = self.unused(&subject)?;
        format::make(&device, subject.source.path(), fs_type, None)
            .map_err(|source| Error::Format { id: self.id.clone(), source })
    }

    /// Whether what the making of a file system of type `fs_type` left, when it was begun, is one that can be mounted; if
    /// so it has to be one that the tenant may have.
    pub(super) fn was_made(&self, fs_type: &str) -> Result<bool, Error> {
        let subject = Subject::open(&self.id, &self.volume)?;
        match self.mount(&subject, fs_type, &["ro"]) {
            // What the kernel says of a superblock that it does not take, and of one that belongs to nothing.
            Err(Error::Host {
                source: host::Error { errno: Errno::INVAL | Errno::UCLEAN | Errno::BADMSG, .. },
                ..
            }) => Ok(false),
            Err(error) => Err(error),
            Ok(_) if self.accepts_data() => Ok(true),
            Ok(mount) => self.check_empty(&subject, &mount, fs_type).map(|()| true),
        }
    }

    /// Makes sure that the file system, which nobody was given, holds nothing.
    pub(super) fn require_empty(&self, fs_type: &str) -> Result<(), Error> {
        let subject = Subject::open(&self.id, &self.volume)?;
        let mount = self.mount(&subject, fs_type, &["ro"])?;
        self.check_empty(&subject, &mount, fs_type)
    }

    fn check_empty(&self, subject: &Subject, mount: &Detached, fs_type: &str) -> Result<(), Error> {
        let root = Directory::open(mount.as_fd(), subject.source.path());
        let keeps_lost_and_found = fs_type.starts_with("ext");
        let held = root.and_then(|root| root.held(keeps_lost_and_found));
        if held.map_err(|e| self.host(e))?.is_none() {
            return Ok(());
        }
        let found = format!("{fs_type} with data in it");
        Err(self.unprepared(subject, Unprepared::NotBlank(found)))
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
        let mount = Detached::filesystem(fs_type, &path, options);
        let mount = mount.map_err(|e| self.held(subject, e))?;
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

    /// The device, open for reading and writing, once it is certain that nobody mounts it or holds it otherwise. It is not
    /// held exclusively: `mkfs` itself opens it so.
    fn unused(&self, subject: &Subject) -> Result<File, Error> {
        let (source, path) = (subject.source.as_fd(), subject.source.path());
        let exclusive = device::reopen(source, path, Access::WriteExclusive);
        drop(exclusive.map_err(|e| self.held(subject, e))?);
        device::reopen(source, path, Access::Write).map_err(|e| self.host(e))
    }

    /// What the kernel says of a device that is wanted for nobody else.
    fn held(&self, subject: &Subject, error: host::Error) -> Error {
        match error.errno {
            Errno::BUSY => {
                Error::Held { id: self.id.clone(), path: subject.source.path().to_owned() }
            }
            _ => self.host(error),
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
