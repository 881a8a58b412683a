//! Where nothing is mounted for a tenant and nothing is removed: in the pools' directories and in volumes, whichever way
//! a path leads there. Blocks.
//!
//! An orchestrator names targets that may lie anywhere. One in a pool's directory would be a volume's own entry; one in
//! a volume, reached by its path, by a bind mount or by another tenant's target, would change that tenant's data. Where
//! the server may mount beneath some directories only, a mount beneath one of these that shows something else leads out.

use std::path::{Path, PathBuf};

use super::error::{Error, Found};
use super::path::Roots;
use super::shown::Shown;
use crate::host::DeviceNumber;
use crate::host::mount::Spot;
use crate::host::mountinfo::MountTable;
use crate::volume::{LocalVolume, VolumeId};

/// What is not a tenant's to mount in.
#[derive(Debug, Clone, Default)]
pub(super) struct Reserved {
    /// The directories beneath which it is allowed; none stands for any.
    pub(super) roots: Roots,
    /// Directories of pools.
    pub(super) pools: Vec<PathBuf>,
    /// Where volumes are, by every path of the administrator's.
    pub(super) volumes: Vec<PathBuf>,
    /// What is mounted for tenants now.
    pub(super) published: Vec<Shown>,
    /// The staging directories of other tenancies: where nothing is mounted, nothing else tells that they are taken.
    pub(super) staged: Vec<PathBuf>,
}

/// A directory as the mount table tells it: by its file system and its path within that.
type Ground = (DeviceNumber, PathBuf);

impl Reserved {
    /// Where `volume` is.
    pub(super) fn paths_of(volume: &LocalVolume) -> impl Iterator<Item = PathBuf> {
        let own = volume.status.own_mounts.iter().chain([&volume.status.path]);
        own.map(PathBuf::from)
    }

    /// Refuses `spot` if it is one of these places, or lies in a pool or a volume.
    pub(super) fn check(&self, id: &VolumeId, spot: &Spot) -> Result<(), Error> {
        let failed = |source| Error::Host { id: id.clone(), source };
        let table = MountTable::read().map_err(failed)?;
        let refused = |reason| Error::Path { id: id.clone(), path: spot.path().to_owned(), reason };
        if self.has(spot.path(), &table) {
            return Err(refused("it is, or lies in, the directory of a pool or a volume"));
        }
        if !self.roots.is_empty() && !is_on_a_root(spot.path(), &self.roots, &table) {
            return Err(refused(
                "a mount on the way leads out of the directory in which this server may mount",
            ));
        }
        if self.staged.iter().any(|staged| staged == spot.path()) {
            let (id, path) = (id.clone(), spot.path().to_owned());
            return Err(Error::Occupied { id, path, found: Found::Owned });
        }
        Ok(())
    }

    fn has(&self, path: &Path, table: &MountTable) -> bool {
        let pools = self.pools.iter().map(|pool| resolved(pool, table));
        let volumes: Vec<_> = self.volumes.iter().map(|own| resolved(own, table)).collect();
        let mut named = pools.chain(volumes.iter().cloned()).chain(self.volumes.iter().cloned());
        if named.any(|named| path.starts_with(named)) {
            return true;
        }
        // The directory that is written to: what is mounted at the path itself hides where the path lies.
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return true };
        let Some((device, parent)) = ground(parent, table) else { return true };
        let inside = parent.join(name);
        let published = self.published.iter().filter_map(|shown| match shown {
            Shown::Mount { device, root } => Some((*device, root.clone())),
            Shown::Nothing | Shown::Node(_) => None,
        });
        let mut volumes = volumes.iter().filter_map(|own| ground(own, table)).chain(published);
        volumes.any(|(on, root)| on == device && inside.starts_with(root))
    }
}

/// Whether the directory of `path` is on what one of `roots` is on, or on what is mounted at an entry of it, as an agent in
/// a container has the parts of the kubelet's directory. What is mounted deeper is a volume of somebody's, or what
/// somebody bound there.
fn is_on_a_root(path: &Path, roots: &[PathBuf], table: &MountTable) -> bool {
    let Some(directory) = path.parent() else { return false };
    let Some(point) = table.around(directory).map(|mount| mount.mount_point.as_path()) else {
        return false;
    };
    let holds = |root: &Path| {
        let is_of_root = root.starts_with(point) || point.parent() == Some(root);
        directory.starts_with(root) && is_of_root
    };
    roots.iter().any(|root| holds(root) || std::fs::canonicalize(root).is_ok_and(|at| holds(&at)))
}

fn ground(path: &Path, table: &MountTable) -> Option<Ground> {
    let mount = table.around(path)?;
    Some((mount.device, mount.path_in_filesystem(path)?))
}

/// `path` without symlinks. One that is a mount point has none at its end, and its disk, which may be dead, is not
/// touched.
fn resolved(path: &Path, table: &MountTable) -> PathBuf {
    if table.at(path).is_some() {
        return path.to_owned();
    }
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
