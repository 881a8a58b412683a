//! A volume at its staging path: verified, and mounted there if it is the file system on a device. Blocks.

use std::path::PathBuf;

use super::error::Error;
use super::options::{Options, READ_ONLY};
use super::places::Place;
use super::plan::{self, Plan, Prepare, Wanted};
use super::reserved::Reserved;
use super::shown::{Form, Subject};
use super::target::{carry_out, make_all, mounted, refused};
use super::{AccessType, path, path::Roots};
use crate::host;
use crate::host::mount::{Attribute, Attributes, Seen, Spot};
use crate::pool::Pool;
use crate::volume::{AccessMode, LocalVolume, Published, VolumeId};

/// A volume that is to be staged.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) id: VolumeId,
    pub(super) volume: LocalVolume,
    pub(super) path: PathBuf,
    pub(super) roots: Roots,
    pub(super) access: AccessMode,
    pub(super) kind: AccessType,
    pub(super) options: Options,
    /// Its pool, where the configuration still has it.
    pub(super) pool: Option<Pool>,
    /// Where it is.
    pub(super) places: Vec<Place>,
    pub(super) reserved: Reserved,
}

/// What has to be done for a volume to be staged.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing.
    Done(Place),
    /// It is to be recorded.
    Record(Place),
    /// The file system on its device is to be readied and mounted.
    Device(Place, Prepare),
}

/// What was found at the staging path.
struct At {
    subject: Subject,
    spot: Spot,
    seen: Option<Seen>,
    plan: Plan,
}

impl Staging {
    /// Looks at the volume and at its staging path, and says what has to be done. Changes nothing.
    pub(super) fn examine(&self) -> Result<Next, Error> {
        let at = self.look()?;
        let place = self.place(&at)?;
        if at.plan == Plan::AlreadyDone {
            return Ok(Next::Done(place));
        }
        if self.pool.is_none() {
            let (id, pool) = (self.id.clone(), self.volume.spec.pool.clone());
            return Err(Error::PoolGone { id, pool });
        }
        Ok(match at.subject.form {
            Form::Filesystem => Next::Device(place, self.prepare(&at.subject)?),
            Form::Directory | Form::Node => Next::Record(place),
        })
    }

    /// Whether the volume is mounted at any of its places.
    pub(super) fn is_mounted(&self) -> Result<bool, Error> {
        Ok(!mounted(self.places.clone()).map_err(|e| self.host(e))?.is_empty())
    }

    /// Makes the staging directory if there is none, and mounts the file system of type `fs_type` there, if it is on a
    /// device. Looks again: a moment has passed.
    pub(super) fn attach(&self, fs_type: Option<&str>) -> Result<(), Error> {
        let At { subject, spot, seen, plan } = self.look()?;
        let Plan::Steps(steps) = plan else { return Ok(()) };
        let Some(fs_type) = fs_type else {
            return make_all(steps, &spot).map_err(|e| self.host(e));
        };
        let mount = self.mount(&subject, fs_type, &self.filesystem_flags())?;
        let attributes = self.attributes(subject.form).with_all(self.options.pool);
        carry_out(steps, &spot, seen, attributes, mount).map_err(|e| self.host(e))
    }

    fn look(&self) -> Result<At, Error> {
        let subject = Subject::open(&self.id, &self.volume)?;
        let spot = path::open_parent(&self.id, &self.path, &self.roots)?;
        self.reserved.check(&self.id, &spot)?;
        let (there, seen) = subject.look_at(&spot).map_err(|e| self.host(e))?;
        let flags = self.options.flags.recorded();
        let wanted = Wanted {
            shape: subject.shape(),
            access: self.access,
            read_only: false,
            fs_type: self.asked_type(),
            flags: &flags,
            attributes: self.attributes(subject.form),
            inherited: subject.seen.attributes,
        };
        let (here, other): (Vec<_>, Vec<_>) = self
            .places
            .iter()
            .filter(|place| place.published.staging)
            .partition(|place| place.is_at(spot.path()));
        let is_mounted = subject.form.is_mounted_when_staged();
        let (here, other) = (here.first().copied(), other.first().copied());
        let plan = plan::stage(wanted, is_mounted, &there, here, other)
            .map_err(|refusal| refused(&self.id, &self.path, refusal))?;
        // Said last: what is there with another type is there with other arguments.
        self.check_type(&subject, here)?;
        Ok(At { subject, spot, seen, plan })
    }

    fn attributes(&self, form: Form) -> Attributes {
        match form {
            Form::Node => Attributes::default(),
            _ if self.access == AccessMode::SingleNodeReaderOnly => {
                self.options.flags.attributes().with(Attribute::ReadOnly)
            }
            _ => self.options.flags.attributes(),
        }
    }

    /// Flags of the file system itself. What is for readers only has none that writes, by whichever mount: a container
    /// runtime binds a target anew, and not with its flags.
    fn filesystem_flags(&self) -> Vec<&'static str> {
        let mut flags = self.options.flags.filesystem();
        if self.access == AccessMode::SingleNodeReaderOnly && !flags.contains(&READ_ONLY) {
            flags.push(READ_ONLY);
        }
        flags
    }

    fn place(&self, at: &At) -> Result<Place, Error> {
        let published = Published {
            path: path::recorded(&self.id, &at.spot)?,
            staging: true,
            read_only: false,
            access: self.access,
            flags: Some(self.options.flags.recorded()),
        };
        Ok(Place { published, shown: Some(at.subject.shown.clone()) })
    }

    /// The type of file system that was asked for.
    pub(super) fn asked_type(&self) -> Option<&str> {
        self.kind.fs_type()
    }

    /// Makes sure that a directory lies on the type of file system that was asked for. One that is staged `here` was not
    /// asked for with another.
    fn check_type(&self, subject: &Subject, here: Option<&Place>) -> Result<(), Error> {
        let (Form::Directory, Some(asked)) = (subject.form, self.asked_type()) else {
            return Ok(());
        };
        let has = subject.source.facts().fs_type.clone();
        if has.as_deref() == Some(asked) {
            return Ok(());
        }
        let id = self.id.clone();
        Err(match here {
            Some(_) => Error::Incompatible { id, path: self.path.clone() },
            None => Error::FsType { id, asked: asked.to_owned(), has },
        })
    }

    pub(super) fn host(&self, source: host::Error) -> Error {
        Error::Host { id: self.id.clone(), source }
    }
}
