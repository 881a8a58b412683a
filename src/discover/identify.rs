//! One candidate, looked at: what it is, and what it holds. Blocking; the scan calls it with a deadline.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::found::{Contents, Depth, Seen, Sight};
use super::remember::{Mark, Remembered};
use crate::host::attributes::{self, Attributes};
use crate::host::beneath::Directory;
use crate::host::mountinfo::MountTable;
use crate::host::{self, Errno, device, identify, signature};
use crate::source::{self, Facts, Source};
use crate::volume::{Fingerprint, HealthReason, RootAttributes, RootFlags};

/// How long a device is searched for data, beside what is read of it in any case. Well within the deadline of a look.
const SEARCH: Duration = Duration::from_secs(3);

/// What looks go by.
pub(super) struct Surroundings {
    pub(super) mounts: Arc<MountTable>,
    /// How closely it is looked at what sources hold, by their identities; any other is searched.
    pub(super) depths: BTreeMap<Vec<u8>, Depth>,
}

impl Surroundings {
    pub(super) fn depth(&self, identity: &[u8]) -> Depth {
        self.depths.get(identity).copied().unwrap_or(Depth::Search)
    }
}

/// An entry of a pool's directory, and what was there before if it is known.
pub(super) struct Look {
    pub(super) path: PathBuf,
    /// The directory, in its resolved spelling.
    pub(super) pool: Arc<PathBuf>,
    /// Whether it is a directory, and no symlink.
    pub(super) is_directory: bool,
    pub(super) before: Option<Arc<Remembered>>,
}

impl Look {
    /// Looks at what it is and, where that is a directory, into it; and says what to remember of that.
    pub(super) fn at(self, around: &Surroundings) -> (Sight, Option<Arc<Remembered>>) {
        let Self { path, pool, is_directory, before } = self;
        let depth = |identity: &[u8]| around.depth(identity);
        let before = before.filter(|_| is_directory);
        let still = |before: &Remembered| before.still(&path, &pool, &around.mounts, depth);
        if let Some(mut seen) = before.as_deref().and_then(still) {
            seen.mounts = places(&seen.facts, &around.mounts);
            seen.holds_its_pool = is_within(&pool, &seen.facts, &around.mounts);
            return (Sight::Source(Box::new(seen)), before);
        }
        match seen(&path, Some(&pool), around) {
            Ok((seen, mark)) => {
                let mark = mark.filter(|_| is_directory);
                let remembered = mark.map(|mark| Remembered::new(mark, pool, seen.clone()));
                (Sight::Source(Box::new(seen)), remembered.map(Arc::new))
            }
            Err(error) => (unseen(&error), None),
        }
    }
}

/// Looks at what is at `path`, which is no entry that a pool selects.
pub(super) fn at(path: &Path, around: &Surroundings) -> Sight {
    seen(path, None, around)
        .map_or_else(|error| unseen(&error), |(seen, _)| Sight::Source(Box::new(seen)))
}

fn seen(
    path: &Path,
    pool: Option<&Path>,
    around: &Surroundings,
) -> Result<(Seen, Option<Mark>), source::Error> {
    let mounts = &around.mounts;
    let source = Source::look_in(path, mounts)?;
    // Before it is looked into: what changes meanwhile has to show the next time.
    let mark = Mark::of(&source);
    let facts = source.facts().clone();
    let holds_its_pool = match pool {
        Some(pool) if !source.is_device() => {
            pool.starts_with(identify::path_of(source.as_fd(), path)?)
                || is_within(pool, &facts, mounts)
        }
        _ => false,
    };
    let is_looked_into = pool.is_some()
        && !source.is_device()
        && !holds_its_pool
        && around.depth(&facts.fingerprint.identity()) != Depth::None;
    let inside = if is_looked_into { Some(directory_inside(&source)?) } else { None };
    let (contents, root) =
        inside.map_or((None, None), |inside| (Some(inside.contents), inside.root));
    let (mounts, host_mounts) = (places(&facts, mounts), Some(Vec::new()));
    Ok((Seen { facts, mounts, host_mounts, holds_its_pool, contents, root }, mark))
}

/// Every mount point of a table at which a source, or a part of it, is mounted; those whose names are UTF-8.
pub(super) fn places(facts: &Facts, mounts: &MountTable) -> Vec<String> {
    let showing = mounts.showing(facts.device, &facts.root);
    showing.filter_map(|mount| mount.mount_point.to_str().map(str::to_owned)).collect()
}

/// Whether a directory, in the path of which nothing is a symlink, lies within a source, by whichever path that was
/// reached: a bind mount has another.
fn is_within(directory: &Path, facts: &Facts, mounts: &MountTable) -> bool {
    mounts.around(directory).is_some_and(|mount| {
        let root = mount.path_in_filesystem(directory);
        mount.device == facts.device && root.is_some_and(|root| root.starts_with(&facts.root))
    })
}

fn unseen(error: &source::Error) -> Sight {
    match error {
        source::Error::Missing { .. } => Sight::Nothing,
        source::Error::Unsuitable { .. } => Sight::Unsuitable,
        source::Error::Host(cause) => {
            let message = format!("{cause}; check the device");
            Sight::Failed { reason: HealthReason::ReadError, message }
        }
        source::Error::Replaced { .. } => {
            let message = error.to_string();
            Sight::Failed { reason: HealthReason::Replaced, message }
        }
    }
}

/// What is within a directory.
struct Inside {
    contents: Contents,
    root: Option<RootAttributes>,
}

/// Looks into the device at `path`, which was `expected` a moment ago.
pub(super) fn inside_device(
    path: &Path,
    expected: &Fingerprint,
    around: &Surroundings,
) -> Result<Contents, Sight> {
    let source = Source::look_in(path, &around.mounts).map_err(|error| unseen(&error))?;
    if !expected.is_same_source(&source.facts().fingerprint) {
        let message = format!("{} changed while it was looked at", path.display());
        return Err(Sight::Failed { reason: HealthReason::Replaced, message });
    }
    let depth = around.depth(&expected.identity());
    device_contents(&source, depth).map_err(|error| unseen(&error.into()))
}

fn directory_inside(source: &Source) -> host::Result<Inside> {
    let directory = Directory::open(source.as_fd(), source.path())?;
    let contents = match directory.held(true)? {
        None => Contents::Empty,
        Some(_) => Contents::Holds("files".into()),
    };
    Ok(Inside { contents, root: Some(root_attributes(&directory)?) })
}

/// A device counts as empty when nothing is found on it and nobody has it for himself.
fn device_contents(source: &Source, depth: Depth) -> host::Result<Contents> {
    let path = source.path();
    match device::reopen(source.as_fd(), path, device::Access::ReadExclusive) {
        Err(host::Error { errno: Errno::BUSY, .. }) => {
            return Ok(Contents::Holds("what another program or a mount uses".into()));
        }
        // Given back at once, so that whoever wants it for himself meanwhile is not turned away.
        exclusive => drop(exclusive?),
    }
    let device = device::reopen(source.as_fd(), path, device::Access::Read)?;
    let found = match depth {
        Depth::None | Depth::Glance => signature::glance(&device, path)?,
        Depth::Search => signature::search(&device, path, SEARCH)?,
    };
    Ok(match found {
        signature::Contents::Blank => Contents::Empty,
        signature::Contents::Erased => Contents::Erased,
        held => Contents::Holds(held.to_string()),
    })
}

fn root_attributes(directory: &Directory) -> host::Result<RootAttributes> {
    let Attributes { uid, gid, mode, xattrs, flags } =
        attributes::read(directory, directory.path())?;
    // The name of an attribute that is not UTF-8 cannot be recorded; the kernel's own namespaces have none.
    let xattrs = xattrs.into_iter().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, BASE64_STANDARD.encode(value)))
    });
    let flags = flags.map(|flags| RootFlags {
        inode: flags.inode,
        extended: flags.extended,
        project: flags.project,
        extent_size: flags.extent,
        shared_extent_size: flags.shared_extent,
    });
    Ok(RootAttributes { uid, gid, mode, xattrs: xattrs.collect(), flags })
}
