//! What an agent that has lost its ledger believes of an object that is left of a volume.
//!
//! An object can be edited by whoever may write `LocalVolume`s, restored from an old backup, or made by hand. What was
//! decided (`spec`) is the API server's to say. What was seen is the agent's own word, which it takes back only as far as
//! it can neither make it touch anything but this volume nor take a tenant's mount for the administrator's.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::{
    FilesystemIdentity, Fingerprint, LocalVolume, NodeName, PoolName, Published, Status, VolumeName,
};

/// Numbers that the root of an XFS may have, depending on how it was made.
const XFS_ROOTS: std::ops::RangeInclusive<u64> = 1..=4096;

/// What an agent knows of its node without any record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Premises {
    /// The node.
    pub node: NodeName,
    /// The directory of each pool.
    pub pools: BTreeMap<PoolName, PathBuf>,
    /// The directories beneath which volumes are mounted for tenants.
    pub tenants: Vec<PathBuf>,
}

impl Premises {
    /// What is believed of `volume`.
    ///
    /// - It is an entry of its pool's directory, whatever path is named: discovery says which.
    /// - It is the source over which its name was made, or nothing that is there.
    /// - It is where its tenant may have it, and nowhere else; the administrator has no mount there.
    /// - A wipe or a format that was begun is not gone on with: what these left is a person's to look at.
    #[must_use]
    pub fn adopted(&self, volume: &LocalVolume) -> LocalVolume {
        let LocalVolume { name, spec, status } = volume.clone();
        let is_own = |path: &String| !self.is_tenants(path);
        let is_place = |place: &Published| is_plain(&place.path) && self.is_tenants(&place.path);
        let tenancy = spec.tenancy;
        let format = status.format.filter(|format| format.done && format.tenancy == tenancy);
        let status = Status {
            path: self.path(volume).into(),
            fingerprint: self.fingerprint(&name, status.fingerprint),
            published: status.published.into_iter().filter(is_place).collect(),
            own_mounts: status.own_mounts.into_iter().filter(is_own).collect(),
            host_mounts: status.host_mounts.into_iter().filter(is_own).collect(),
            cleaning: None,
            format,
            ..status
        };
        LocalVolume { name, spec, status }
    }

    fn path(&self, volume: &LocalVolume) -> String {
        let recorded = Path::new(&volume.status.path);
        // Nothing is ever beneath a device node: a pool that is not configured is nowhere.
        let nowhere = Path::new("/dev/null");
        let directory = self.pools.get(&volume.spec.pool).map_or(nowhere, PathBuf::as_path);
        let entry = recorded.file_name().filter(|_| is_plain(&volume.status.path));
        let path = directory.join(entry.unwrap_or(volume.name.as_str().as_ref()));
        path.to_string_lossy().into_owned()
    }

    fn fingerprint(&self, name: &VolumeName, recorded: Fingerprint) -> Fingerprint {
        let is_of = |print: &Fingerprint| name.is_of(&self.node, &print.identity());
        let told = match &recorded {
            // Made anew by a wipe, an XFS may have got another root than it had when it was found.
            Fingerprint::Directory { filesystem, born, .. } if filesystem.fs_type == "xfs" => {
                let other = |inode| Fingerprint::Directory {
                    filesystem: filesystem.clone(),
                    inode,
                    born: *born,
                };
                is_of(&recorded) || XFS_ROOTS.map(other).any(|print| is_of(&print))
            }
            _ => is_of(&recorded),
        };
        if told { recorded } else { nothing() }
    }

    fn is_tenants(&self, path: &str) -> bool {
        self.tenants.iter().any(|root| Path::new(path).starts_with(root))
    }
}

/// The fingerprint of nothing: inode numbers begin at 1.
fn nothing() -> Fingerprint {
    let (fs_type, uuid, device_number) = ("none".into(), None, None);
    let filesystem = FilesystemIdentity { fs_type, uuid, device_number };
    Fingerprint::Directory { filesystem, inode: 0, born: None }
}

fn is_plain(path: &str) -> bool {
    let path = Path::new(path);
    path.is_absolute() && path.components().all(|part| part != Component::ParentDir)
}

#[cfg(test)]
mod tests;
