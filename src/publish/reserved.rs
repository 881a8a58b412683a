//! Where nothing is mounted for a tenant and nothing is removed: in the pools' directories and in volumes, whichever way
//! a path leads there. Blocks.
//!
//! An orchestrator names targets that may lie anywhere. One in a pool's directory would be a volume's own entry; one in
//! a volume, reached by its path, by a bind mount or by another tenant's target, would change that tenant's data. Where
//! the server may mount beneath some directories only, a mount beneath one of these that shows something else leads out.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Error, Found};
use super::path::Roots;
use super::places::Places;
use crate::host::identify;
use crate::host::mount::Spot;
use crate::inventory::Recorded;
use crate::pool::Pools;
use crate::source::Location;
use crate::volume::{LocalVolume, NodeName, VolumeId};

/// What is not a tenant's to mount in.
#[derive(Debug, Clone)]
pub(super) struct Reserved {
    /// The directories beneath which it is allowed; none stands for any.
    pub(super) roots: Roots,
    /// The pools, whose directories these are.
    pub(super) pools: Arc<Pools>,
    /// Every volume that is recorded, of which those of `node` are here.
    pub(super) volumes: Vec<Recorded>,
    pub(super) node: NodeName,
    /// What is mounted for tenants now, and what is staged for them: where nothing is mounted, nothing else tells that a
    /// directory is taken.
    pub(super) places: Arc<Places>,
}

impl Reserved {
    /// Refuses `spot` if it is one of these places, or lies in a pool or a volume.
    pub(super) fn check(&self, id: &VolumeId, spot: &Spot) -> Result<(), Error> {
        let failed = |source| Error::Host { id: id.clone(), source };
        let refused = |reason| Error::Path { id: id.clone(), path: spot.path().to_owned(), reason };
        // The directory that is written to: what is mounted at the path itself hides where the path lies.
        let here = Location::of(spot.parent(), spot.path()).map_err(failed)?;
        if self.has(spot.path(), &here) {
            return Err(refused("it is, or lies in, the directory of a pool or a volume"));
        }
        if !self.roots.is_empty() && !is_on_a_root(spot.path(), &self.roots, &here.mount_point) {
            return Err(refused(
                "a mount on the way leads out of the directory in which this server may mount",
            ));
        }
        if self.places.is_staged_by_another(id, spot.path()) {
            let (id, path) = (id.clone(), spot.path().to_owned());
            return Err(Error::Occupied { id, path, found: Found::Owned });
        }
        Ok(())
    }

    fn has(&self, path: &Path, here: &Location) -> bool {
        let in_pool = |pool: &Path| {
            path.starts_with(pool) || pool.canonicalize().is_ok_and(|pool| path.starts_with(pool))
        };
        if self.pools.values().any(|pool| in_pool(&pool.path)) {
            return true;
        }
        let Some(name) = path.file_name() else { return true };
        let inside = here.root.join(name);
        // As the record has it: what is not UTF-8 replaced.
        let text = inside.to_string_lossy();
        let recorded = self.volumes.iter().map(|recorded| &recorded.volume);
        let mut own = recorded.filter(|volume| volume.spec.node == self.node);
        own.any(|volume| {
            paths_of(volume).any(|own| is_within(path, own))
                || may_have(volume, here, &text) && has(volume, path, here, &inside)
        }) || self.places.have(here.device, &inside)
    }
}

/// Where `volume` is, by every path of the administrator's.
fn paths_of(volume: &LocalVolume) -> impl Iterator<Item = &str> {
    let own = volume.status.own_mounts.iter().map(String::as_str);
    own.chain([&*volume.status.path])
}

/// Whether `path`, in which nothing is superfluous, is `directory` or beneath it. Every volume is asked for each target, so
/// components are looked at only where the bytes do not tell.
fn is_within(path: &Path, directory: &str) -> bool {
    let beneath = path.as_os_str().as_bytes().strip_prefix(directory.as_bytes());
    let is_plain =
        !directory.ends_with('/') && !directory.contains("//") && !directory.contains("/./");
    match beneath {
        _ if !is_plain => path.starts_with(directory),
        Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}

/// Whether `inside`, a path within the file system of `here`, may be within `volume`, by what is recorded of where that lies.
fn may_have(volume: &LocalVolume, here: &Location, inside: &str) -> bool {
    // An earlier release did not record it.
    let Some(place) = &volume.status.place else { return true };
    place.on.contains(&here.filesystem) && is_within(Path::new(inside), &place.root)
}

/// Whether it really is: disks that were copied have one name, and a volume may have been moved since it was recorded. One
/// that is not to be seen now has it.
fn has(volume: &LocalVolume, path: &Path, here: &Location, inside: &Path) -> bool {
    let at = Path::new(&volume.status.path);
    if at.canonicalize().is_ok_and(|at| path.starts_with(at)) {
        return true;
    }
    let Ok(source) = identify::open(at) else { return volume.status.place.is_some() };
    match identify::node(source.as_fd(), at) {
        Ok(node) if node.kind == identify::Kind::Directory => {}
        // What is mounted from a device is known by its places.
        Ok(_) => return false,
        Err(_) => return true,
    }
    let own = Location::of(source.as_fd(), at);
    own.is_ok_and(|own| own.device == here.device && inside.starts_with(own.root))
}

/// Whether the directory of `path`, which is on the mount at `point`, is on what one of `roots` is on, or on what is mounted
/// at an entry of it, as an agent in a container has the parts of the kubelet's directory. What is mounted deeper is a
/// volume of somebody's, or what somebody bound there.
fn is_on_a_root(path: &Path, roots: &[PathBuf], point: &Path) -> bool {
    let Some(directory) = path.parent() else { return false };
    let holds = |root: &Path| {
        let is_of_root = root.starts_with(point) || point.parent() == Some(root);
        directory.starts_with(root) && is_of_root
    };
    roots.iter().any(|root| holds(root) || root.canonicalize().is_ok_and(|at| holds(&at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_within_a_directory_by_whole_names_however_that_is_written() {
        for (path, directory, within) in [
            ("/mnt/fast", "/mnt/fast", true),
            ("/mnt/fast/v1", "/mnt/fast", true),
            ("/mnt/fast2", "/mnt/fast", false),
            ("/mnt", "/mnt/fast", false),
            ("/mnt/fast/v1", "/", true),
            ("/mnt/fast/v1", "/mnt/fast/", true),
            ("/mnt/fast/v1", "/mnt//fast", true),
            ("/mnt/fast/v1", "/mnt/./fast", true),
            ("/mnt/fast2/v1", "/mnt//fast", false),
        ] {
            assert_eq!(is_within(Path::new(path), directory), within, "{path} in {directory}");
        }
    }
}
