//! Which paths a caller may name. A path is where something is mounted, never what.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::error::Error;
use crate::host::mount::Spot;
use crate::host::{self, Errno};
use crate::volume::{LocalVolume, VolumeId};

/// The directories beneath which volumes may be mounted; none stands for any.
pub(super) type Roots = Arc<[PathBuf]>;

/// Whether `path` can be a staging or target path at all.
pub(super) fn check(id: &VolumeId, path: &Path, roots: &[PathBuf]) -> Result<(), Error> {
    let reason = if !path.is_absolute() {
        "it is not absolute"
    } else if path.components().any(|part| part == Component::ParentDir) {
        "it has a `..` in it"
    } else if path.file_name().is_none() {
        "it is the root directory"
    } else if path.as_os_str().as_bytes().contains(&0) {
        "it has a NUL in it"
    } else if !roots.is_empty() && root_of(path, roots).is_none() {
        "it is beneath none of the directories in which this server may mount"
    } else {
        return Ok(());
    };
    Err(Error::Path { id: id.clone(), path: path.to_owned(), reason })
}

/// Bytes of one name in a path (`NAME_MAX` of Linux).
const NAME_MAX: usize = 255;

/// Opens the place that `path` names; `None` where not even its parent directory is there, or none can be.
pub(super) fn open(id: &VolumeId, path: &Path, roots: &[PathBuf]) -> Result<Option<Spot>, Error> {
    check(id, path, roots)?;
    if path.iter().any(|name| name.len() > NAME_MAX) {
        return Ok(None);
    }
    match Spot::open(path, root_of(path, roots)) {
        Ok(spot) => Ok(Some(spot)),
        Err(host::Error { errno: Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG, .. }) => {
            Ok(None)
        }
        Err(host::Error { errno: Errno::XDEV | Errno::LOOP, .. }) => {
            let reason =
                "a symlink on the way leads out of the directory in which this server may mount";
            Err(Error::Path { id: id.clone(), path: path.to_owned(), reason })
        }
        Err(source) => Err(Error::Host { id: id.clone(), source }),
    }
}

/// As [`open`], for a volume that is to be mounted there.
pub(super) fn open_parent(id: &VolumeId, path: &Path, roots: &[PathBuf]) -> Result<Spot, Error> {
    open(id, path, roots)?.ok_or_else(|| Error::Path {
        id: id.clone(),
        path: path.to_owned(),
        reason: "the directory in which it is to be is not there, or a name in it is too long",
    })
}

/// The place as the record has it. Only a symlink among its parents can lead to a name that is not UTF-8.
pub(super) fn recorded(id: &VolumeId, spot: &Spot) -> Result<String, Error> {
    let text = spot.path().to_str().map(str::to_owned);
    text.ok_or_else(|| Error::Path {
        id: id.clone(),
        path: spot.path().to_owned(),
        reason: "it is not UTF-8",
    })
}

/// Whether `path` is where the administrator has the volume, and so no place for a tenant.
pub(super) fn is_administrators(volume: &LocalVolume, path: &Path) -> bool {
    let recorded = Path::new(&volume.status.path);
    recorded == path
        || volume.status.own_mounts.iter().any(|own| Path::new(own) == path)
        || std::fs::canonicalize(recorded).is_ok_and(|source| source == path)
}

fn root_of<'a>(path: &Path, roots: &'a [PathBuf]) -> Option<&'a Path> {
    roots.iter().map(PathBuf::as_path).find(|root| path.starts_with(root) && path != *root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> VolumeId {
        "node-a-fast-v1-0123456789abcdef@1".parse().unwrap()
    }

    #[test]
    fn a_path_that_no_mount_point_can_have_is_refused() {
        for path in ["", "relative/path", "/", "/a/../b", "/a/b/..", "/a\0b"] {
            let error = check(&id(), Path::new(path), &[]).unwrap_err();
            assert!(matches!(error, Error::Path { .. }), "{path:?}");
        }
        assert!(check(&id(), Path::new("/var/lib/kubelet/pods/x/mount"), &[]).is_ok());
    }

    #[test]
    fn a_path_beside_the_allowed_directories_is_refused() {
        let roots = [PathBuf::from("/var/lib/kubelet")];

        for path in ["/var/lib/kubelet2/x", "/var/lib", "/var/lib/kubelet", "/etc/x"] {
            assert!(check(&id(), Path::new(path), &roots).is_err(), "{path}");
        }
        assert!(check(&id(), Path::new("/var/lib/kubelet/pods"), &roots).is_ok());
    }
}
