//! One candidate, looked at: what it is, and what it holds. Blocking; the scan calls it with a deadline.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::found::{Contents, Depth, Seen, Sight};
use crate::host::attributes::{self, Attributes};
use crate::host::beneath::Directory;
use crate::host::mountinfo::MountTable;
use crate::host::{self, Errno, device, identify, signature};
use crate::source::{self, Facts, Source};
use crate::volume::{Fingerprint, HealthReason, RootAttributes, RootFlags};

/// How long a device is searched for data, beside what is read of it in any case. Well within the deadline of a look.
const SEARCH: Duration = Duration::from_secs(3);

/// Looks at what is at `path`, an entry of the directory `pool` (in its resolved spelling) where it is one.
pub(super) fn at(path: &Path, pool: Option<&Path>, mounts: &MountTable) -> Sight {
    let seen = Source::look_in(path, mounts).and_then(|source| {
        let facts = source.facts().clone();
        let holds_its_pool = match pool {
            Some(pool) if !source.is_device() => {
                pool.starts_with(identify::path_of(source.as_fd(), path)?)
                    || is_within(pool, &facts, mounts)
            }
            _ => false,
        };
        let mounts = places(&facts, mounts);
        let host_mounts = Some(Vec::new());
        Ok(Seen { facts, mounts, host_mounts, holds_its_pool, contents: None, root: None })
    });
    match seen {
        Ok(seen) => Sight::Source(Box::new(seen)),
        Err(error) => unseen(&error),
    }
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

/// What is within a source.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    pub(super) contents: Contents,
    pub(super) root: Option<RootAttributes>,
}

/// Looks into the source at `path`, which was `expected` a moment ago.
pub(super) fn inside(
    path: &Path,
    expected: &Fingerprint,
    depth: Depth,
    mounts: &MountTable,
) -> Result<Inside, Sight> {
    let source = Source::look_in(path, mounts).map_err(|error| unseen(&error))?;
    if !expected.is_same_source(&source.facts().fingerprint) {
        let message = format!("{} changed while it was looked at", path.display());
        return Err(Sight::Failed { reason: HealthReason::Replaced, message });
    }
    let inside = if source.is_device() {
        device_contents(&source, depth).map(|contents| Inside { contents, root: None })
    } else {
        directory_inside(&source)
    };
    inside.map_err(|error| unseen(&error.into()))
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
