//! A volume at a target: the plan carried out, on descriptors. Blocks.

use std::path::{Path, PathBuf};

use super::error::{Error, Found};
use super::options::{self, Options};
use super::places::Place;
use super::plan::{self, Plan, Refusal, Step, Wanted};
use super::reserved::Reserved;
use super::shown::{Form, Subject};
use super::{path, path::Roots};
use crate::host::mount::{Attribute, Attributes, Detached, Seen, Spot, is_mount_point};
use crate::host::{self, Errno};
use crate::volume::{AccessMode, LocalVolume, Published, VolumeId};

/// A volume that is to be at a target.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: VolumeId,
    pub(super) volume: LocalVolume,
    pub(super) staging: PathBuf,
    pub(super) path: PathBuf,
    pub(super) roots: Roots,
    pub(super) access: AccessMode,
    pub(super) read_only: bool,
    /// The type of file system that was asked for.
    pub(super) fs_type: Option<String>,
    pub(super) options: Options,
    /// Whether its pool says how it is mounted.
    pub(super) pool_known: bool,
    /// Where it is.
    pub(super) places: Vec<Place>,
    pub(super) reserved: Reserved,
}

impl Target {
    /// Brings the volume to the target, or finds it there.
    pub(super) fn publish(&self) -> Result<Place, Error> {
        let subject = Subject::open(&self.id, &self.volume)?;
        let staged = self.staged(&subject)?;
        let spot = path::open_parent(&self.id, &self.path, &self.roots)?;
        self.reserved.check(&self.id, &spot)?;
        let recorded = self.places.iter().find(|place| place.is_at(spot.path()));
        if recorded.is_some_and(|place| place.published.staging) {
            return Err(self.occupied(spot.path(), Found::Owned));
        }
        let (there, seen) = subject.look_at(&spot).map_err(|e| self.host(e))?;
        let source = staged.as_ref().unwrap_or(&subject.seen);
        let flags = self.options.flags.recorded();
        let wanted = self.wanted(&subject, &flags, source.attributes);
        let others = self.others(&spot)?;
        let plan = plan::publish(wanted, &there, recorded, &others)
            .map_err(|refusal| refused(&self.id, &self.path, refusal))?;
        if let Plan::Steps(steps) = plan {
            self.require_pool()?;
            let mount = subject.clone_of(&self.id, source)?;
            let attributes = match subject.form {
                Form::Node => wanted.attributes,
                _ => wanted.attributes.with_all(self.options.pool),
            };
            carry_out(steps, &spot, seen, attributes, mount).map_err(|e| self.host(e))?;
        }
        self.place(&subject, &spot, flags)
    }

    /// Makes sure that the volume is staged; for a file system gives its root, from which targets are cloned.
    fn staged(&self, subject: &Subject) -> Result<Option<Seen>, Error> {
        let not = || Error::NotStaged { id: self.id.clone(), staging: self.staging.clone() };
        let spot = match path::open(&self.id, &self.staging, &self.roots) {
            Err(Error::Path { .. }) | Ok(None) => return Err(not()),
            spot => spot?.ok_or_else(not)?,
        };
        let staged = |place: &&Place| place.published.staging && place.is_at(spot.path());
        let staged = self.places.iter().find(staged).ok_or_else(not)?;
        // A target shows what is staged: flags of the file system are those of the staging path.
        let flags = self.options.flags.recorded();
        if staged.published.flags.as_ref().is_some_and(|s| !options::same_filesystem(s, &flags)) {
            let (id, path) = (self.id.clone(), spot.path().to_owned());
            return Err(Error::Incompatible { id, path });
        }
        let seen = spot.look().map_err(|e| self.host(e))?.ok_or_else(not)?;
        if !subject.is_staged_at(&seen).map_err(|e| self.host(e))? {
            return Err(not());
        }
        Ok(subject.form.is_mounted_when_staged().then_some(seen))
    }

    fn wanted<'a>(
        &'a self,
        subject: &Subject,
        flags: &'a [String],
        inherited: Attributes,
    ) -> Wanted<'a> {
        let read_only = self.read_only || self.access == AccessMode::SingleNodeReaderOnly;
        // Flags restrict what a file system lets its users do; a device node has none of that.
        let asked = match subject.form {
            Form::Node => Attributes::default(),
            _ => self.options.flags.attributes(),
        };
        let attributes = if read_only { asked.with(Attribute::ReadOnly) } else { asked };
        Wanted {
            shape: subject.shape(),
            access: self.access,
            read_only: self.read_only,
            fs_type: self.fs_type.as_deref(),
            flags,
            attributes,
            inherited,
        }
    }

    /// The other targets at which it really is: one that somebody else unmounted counts no more.
    fn others(&self, spot: &Spot) -> Result<Vec<Place>, Error> {
        let others = self.places.iter().filter(|place| !place.published.staging);
        let others: Vec<_> = others.filter(|place| !place.is_at(spot.path())).cloned().collect();
        mounted(others).map_err(|e| self.host(e))
    }

    fn place(&self, subject: &Subject, spot: &Spot, flags: Vec<String>) -> Result<Place, Error> {
        let published = Published {
            path: path::recorded(&self.id, spot)?,
            staging: false,
            read_only: self.read_only,
            access: self.access,
            flags: Some(flags),
        };
        Ok(Place { published, shown: Some(subject.shown.clone()) })
    }

    fn require_pool(&self) -> Result<(), Error> {
        let pool = &self.volume.spec.pool;
        if self.pool_known {
            return Ok(());
        }
        Err(Error::PoolGone { id: self.id.clone(), pool: pool.clone() })
    }

    fn occupied(&self, path: &Path, found: Found) -> Error {
        Error::Occupied { id: self.id.clone(), path: path.to_owned(), found }
    }

    fn host(&self, source: host::Error) -> Error {
        Error::Host { id: self.id.clone(), source }
    }
}

/// Which of `places` are mount points.
pub(super) fn mounted(places: Vec<Place>) -> Result<Vec<Place>, host::Error> {
    let mut mounted = Vec::new();
    for place in places {
        if is_mount_point(Path::new(&place.published.path))? {
            mounted.push(place);
        }
    }
    Ok(mounted)
}

/// The error of a refused plan.
pub(super) fn refused(id: &VolumeId, path: &Path, refusal: Refusal) -> Error {
    let (id, path) = (id.clone(), path.to_owned());
    match refusal {
        Refusal::Incompatible => Error::Incompatible { id, path },
        Refusal::Elsewhere(other) => Error::Elsewhere { id, path, other },
        Refusal::Occupied(found) => Error::Occupied { id, path, found },
    }
}

/// Carries out `steps` at `spot`, where `seen` is now, with `mount`. What was made for a mount that then failed is removed
/// again.
pub(super) fn carry_out(
    steps: &[Step],
    spot: &Spot,
    seen: Option<Seen>,
    attributes: Attributes,
    mount: Detached,
) -> Result<(), host::Error> {
    let Some((Step::Attach, before)) = steps.split_last() else { return Ok(()) };
    mount.restrict(attributes)?;
    make_all(before, spot)?;
    let attached = attach(mount, spot, seen);
    if attached.is_err() && !before.is_empty() {
        // The error to be told is the first one; an empty leftover does no harm.
        let _ = spot.remove_directory().or_else(|_| spot.remove_file());
    }
    attached
}

/// Makes what `steps` say at `spot`, short of a mount.
pub(super) fn make_all(steps: &[Step], spot: &Spot) -> Result<(), host::Error> {
    steps.iter().try_for_each(|step| match step {
        Step::MakeDirectory => spot.make_directory(),
        Step::MakeFile => spot.make_file(),
        Step::Attach => Ok(()),
    })
}

fn attach(mount: Detached, spot: &Spot, seen: Option<Seen>) -> Result<(), host::Error> {
    let gone = || host::Error { call: "openat", path: spot.path().to_owned(), errno: Errno::NOENT };
    let target = match seen {
        Some(seen) => seen,
        None => spot.look()?.ok_or_else(gone)?,
    };
    // Somebody may have mounted something there since it was looked at: it is not mounted over.
    if target.is_mount {
        let path = spot.path().to_owned();
        return Err(host::Error { call: "move_mount", path, errno: Errno::BUSY });
    }
    mount.attach(&target, spot.path())
}
