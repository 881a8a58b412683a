//! How full a volume is, by statfs(2) with a deadline.
//!
//! For a directory that shares its file system with others these are the figures of that file system: what ends a
//! tenant's writing is that it is full, and no quota says otherwise. The share that the inventory shows is what the volume
//! counts for when it is claimed; it is neither reserved nor enforced, and so not reported as free space here.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::shown::{Form, Subject};
use super::{LOOK, Publisher, path, path::Roots};
use crate::host::mount::{Kind, Seen, canonical, usage};
use crate::host::{self, Errno};
use crate::inventory::Inventory;
use crate::volume::{LocalVolume, VolumeId};

/// How full a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// In bytes.
    pub bytes: Usage,
    /// In inodes; absent for a device and where the file system has no fixed number of them.
    pub inodes: Option<Usage>,
}

/// Part of something in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// All of it.
    pub total: u64,
    /// What is in use, the file system's own needs among it; absent for a device, of which only its user knows.
    pub used: Option<u64>,
    /// What a tenant without privileges may still use; absent for a device.
    pub available: Option<u64>,
}

impl<I: Inventory> Publisher<I> {
    /// How full the volume is that is staged or published at `path`.
    pub async fn stats(&self, id: &VolumeId, path: &Path) -> Result<Stats, Error> {
        let turn = self.look(id, path).await?;
        let volume = self.find(id).await?;
        let staging = self.staging_of(id, &volume);
        let roots = self.shared.roots.clone();
        let at = At { id: id.clone(), volume, path: path.to_owned(), staging, roots };
        turn.block(LOOK, move || at.stats()).await
    }
}

/// A volume at a path at which a caller says that it is.
pub(super) struct At {
    pub(super) id: VolumeId,
    pub(super) volume: LocalVolume,
    pub(super) path: PathBuf,
    /// Where it is staged, as far as is known.
    pub(super) staging: Option<PathBuf>,
    /// Where it may be.
    pub(super) roots: Roots,
}

impl At {
    fn stats(&self) -> Result<Stats, Error> {
        let (subject, seen) = self.verified()?;
        if subject.form == Form::Node {
            let total = subject.source.facts().size.0;
            return Ok(Stats { bytes: Usage { total, used: None, available: None }, inodes: None });
        }
        let full = usage(&seen, &self.path).map_err(|e| self.host(e))?;
        let part = |(total, free, available): (u64, u64, u64)| Usage {
            total,
            used: Some(total.saturating_sub(free)),
            available: Some(available),
        };
        let inodes = (full.inodes.0 > 0).then(|| part(full.inodes));
        Ok(Stats { bytes: part(full.bytes), inodes })
    }

    /// The volume, verified, and what is at the path, which is the volume: else it is not here. For a directory that stands
    /// for the volume at its staging path, that is the volume's source.
    pub(super) fn verified(&self) -> Result<(Subject, Seen), Error> {
        let not_here = || Error::NotHere { id: self.id.clone(), path: self.path.clone() };
        // A device's node is the same wherever it is named.
        let is_node = Form::of(&self.volume) == Form::Node;
        let may_be = is_node || path::check(&self.id, &self.path, &self.roots).is_ok();
        if !self.path.is_absolute() || !may_be {
            return Err(not_here());
        }
        let subject = Subject::open(&self.id, &self.volume)?;
        let seen = match Seen::at(&self.path) {
            Err(host::Error {
                errno:
                    Errno::NOENT | Errno::NOTDIR | Errno::INVAL | Errno::NAMETOOLONG | Errno::LOOP,
                ..
            }) => return Err(not_here()),
            seen => seen.map_err(|e| self.host(e))?,
        };
        let Ok(path) = canonical(seen.as_fd()) else { return Err(not_here()) };
        if path::is_administrators(&self.volume, &path) {
            return Err(not_here());
        }
        let is_staging = self.staging.as_ref() == Some(&path);
        if is_staging && !seen.is_mount && subject.is_staged_at(&seen).map_err(|e| self.host(e))? {
            let source = Seen::of(subject.source.as_fd(), subject.source.path());
            return Ok((subject, source.map_err(|e| self.host(e))?));
        }
        let here = match subject.form {
            // The caller may name a link to the node.
            Form::Node => seen.kind == Kind::BlockDevice(subject.source.facts().device),
            Form::Directory => seen.id == subject.seen.id,
            Form::Filesystem => {
                seen.is_mount && subject.is_mounted_at(&seen).map_err(|e| self.host(e))?
            }
        };
        if here { Ok((subject, seen)) } else { Err(not_here()) }
    }

    pub(super) fn host(&self, source: host::Error) -> Error {
        Error::Host { id: self.id.clone(), source }
    }
}
