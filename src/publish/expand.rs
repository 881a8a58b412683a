//! A volume that has grown: its file system is grown to the size of its device. A directory has what lies beneath it and
//! a raw device what it is; for both there is nothing to do.

use std::os::fd::AsFd;
use std::path::PathBuf;

use super::error::Error;
use super::places::Place;
use super::shown::{Form, Subject};
use super::stats::At;
use super::{ExpandNode, MOUNT, Publisher};
use crate::host::grow;
use crate::host::mount::{Attribute, Seen};
use crate::inventory::Inventory;
use crate::volume::{Bytes, CapacityRange};

impl<I: Inventory> Publisher<I> {
    /// Grows the volume at a path to what lies beneath it, and tells how large it is then.
    pub async fn expand(&self, request: ExpandNode) -> Result<Bytes, Error> {
        let this = self.clone();
        self.to_the_end(request.id.clone(), async move { this.expand_now(request).await }).await
    }

    async fn expand_now(self, request: ExpandNode) -> Result<Bytes, Error> {
        let ExpandNode { id, path, range } = request;
        let turn = self.turn(&id, &path)?;
        let volume = self.find(&id).await?;
        self.learn(&id, &volume, &turn).await?;
        let (staging, roots) = (self.staging_of(&id, &volume), self.shared.roots.clone());
        let at = At { staging, id: id.clone(), volume, path, roots };
        let places = self.shared.places.of(&id);
        turn.block(MOUNT, move || expand(&at, range, &places)).await
    }
}

fn expand(at: &At, range: CapacityRange, places: &[Place]) -> Result<Bytes, Error> {
    let (subject, seen) = at.verified()?;
    let capacity = capacity(at, &subject);
    if !range.admits(capacity) {
        return Err(Error::Size { id: at.id.clone(), asked: range, capacity });
    }
    if subject.form == Form::Filesystem {
        grow(at, &subject, &writable(seen, &subject, places), capacity)?;
    }
    Ok(capacity)
}

/// What there is: of a device and of a whole file system what the kernel says now, of a directory among others the share
/// that it counts for.
fn capacity(at: &At, subject: &Subject) -> Bytes {
    let facts = subject.source.facts();
    let whole = facts.is_mount && facts.root == std::path::Path::new("/");
    if subject.source.is_device() || whole { facts.size } else { at.volume.status.capacity }
}

fn grow(at: &At, subject: &Subject, root: &Seen, size: Bytes) -> Result<(), Error> {
    if root.attributes.has(Attribute::ReadOnly) {
        return Err(Error::ReadOnly { id: at.id.clone(), path: at.path.clone() });
    }
    let format = at.volume.status.format.as_ref();
    let made = format.map(|format| format.fs_type.clone());
    let fs_type = subject.source.facts().fs_type.clone().or(made).unwrap_or_default();
    grow::to_device(&fs_type, root.as_fd(), &at.path, size.0).map_err(|e| at.host(e))
}

/// A mount of the file system through which it may be changed: the one that was named, or else that at the staging path.
fn writable(seen: Seen, subject: &Subject, places: &[Place]) -> Seen {
    if !seen.attributes.has(Attribute::ReadOnly) {
        return seen;
    }
    let staged = places.iter().filter(|place| place.published.staging);
    let mut paths = staged.map(|place| PathBuf::from(&place.published.path));
    let staged = paths.find_map(|path| Seen::at(&path).ok());
    staged.filter(|staged| subject.is_mounted_at(staged).unwrap_or(false)).unwrap_or(seen)
}
