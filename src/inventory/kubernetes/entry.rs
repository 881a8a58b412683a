//! One object of the API server, as the store uses it.

use std::sync::Arc;

use super::super::crd::{LocalVolumeSpec, LocalVolumeStatus};
use super::super::{Recorded, Version};
use super::alike::Alike;
use super::object::{Metadata, Object};
use super::uid::Uid;
use crate::volume::{ClaimName, LocalVolume, Spec, VolumeName};

/// What keeps the object of a claimed volume from going away before its agent knows of it: see [`finalizers`].
pub(crate) const FINALIZER: &str = "berth.dev/claimed";

/// An object at one version.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: VolumeName,
    pub(crate) version: Version,
    pub(crate) uid: Uid,
    pub(crate) finalizers: Arc<[String]>,
    /// Whether it goes as soon as its last finalizer does.
    pub(crate) deleting: bool,
    pub(crate) content: Content,
}

/// What an object says.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// A volume.
    Volume(Arc<LocalVolume>),
    /// A volume that is being added: it has no status yet.
    Incomplete(Box<Spec>),
    /// Nothing that this release understands.
    Unreadable(String),
}

/// Why an object cannot even be an entry. The API server never answers so.
#[derive(Debug, thiserror::Error)]
#[error("object {name:?} has no name, version or identity that Berth knows")]
pub(super) struct NoEntry {
    name: String,
}

impl Entry {
    /// The object as the API server gave it.
    pub(super) fn read(object: Object, alike: &Alike) -> Result<Self, NoEntry> {
        let Metadata { name, uid, resource_version, finalizers, deletion_timestamp } =
            object.metadata;
        let version = resource_version.as_deref().and_then(version);
        let (Ok(parsed), Some(version), Some(uid)) = (name.parse::<VolumeName>(), version, uid)
        else {
            return Err(NoEntry { name });
        };
        let content = Content::read(&parsed, object.content, alike);
        let finalizers = alike.finalizers(finalizers);
        Ok(Self { name: parsed, version, uid, finalizers, deleting: deletion_timestamp, content })
    }

    /// The volume, if the object is one: complete, readable, and not gone already but for a finalizer of somebody else.
    pub(crate) fn volume(&self) -> Option<&Arc<LocalVolume>> {
        match &self.content {
            Content::Volume(volume) if !self.deleting || self.is_kept() => Some(volume),
            _ => None,
        }
    }

    /// Whether it has Berth's finalizer.
    pub(super) fn is_kept(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    }

    pub(super) fn recorded(&self) -> Option<Recorded> {
        let volume = Arc::clone(self.volume()?);
        Some(Recorded { volume, version: self.version, deleting: self.deleting })
    }

    /// What was decided, as far as it can be read.
    pub(super) fn spec(&self) -> Option<&Spec> {
        match &self.content {
            Content::Volume(volume) => Some(&volume.spec),
            Content::Incomplete(spec) => Some(spec),
            Content::Unreadable(_) => None,
        }
    }

    pub(super) fn claim_name(&self) -> Option<&ClaimName> {
        Some(&self.spec()?.claim.as_ref()?.name)
    }
}

impl Content {
    fn read(
        name: &VolumeName,
        said: Result<(LocalVolumeSpec, Option<LocalVolumeStatus>), String>,
        alike: &Alike,
    ) -> Self {
        let (spec, status) = match said {
            Ok((spec, status)) => (Spec::from(spec), status.map(LocalVolumeStatus::read)),
            Err(why) => return Self::Unreadable(why),
        };
        match status {
            None => Self::Incomplete(Box::new(spec)),
            Some(Ok(status)) => {
                let mut volume = LocalVolume { name: name.clone(), spec, status };
                alike.share(&mut volume);
                Self::Volume(Arc::new(volume))
            }
            Some(Err(error)) => Self::Unreadable(error.to_string()),
        }
    }
}

#[cfg(test)]
impl Entry {
    /// The object of a volume at this version.
    pub(crate) fn of_volume(volume: &LocalVolume, version: u64) -> Self {
        Self {
            name: volume.name.clone(),
            version: Version(version),
            uid: "uid-1".into(),
            finalizers: finalizers(&[], &volume.spec).into(),
            deleting: false,
            content: Content::Volume(Arc::new(volume.clone())),
        }
    }
}

/// Resource versions of one kind of object are whole numbers that grow; Kubernetes promises it since 1.35 (KEP-5504) and
/// etcd has always made them so.
pub(super) fn version(text: &str) -> Option<Version> {
    text.parse().ok().map(Version)
}

/// The finalizers of an object whose spec becomes `spec`: ours from the first claim on, so that a deletion by mistake waits
/// for an agent whose ledger has what was decided last; others' stay. It stays when the claim ends, since the agent has yet to
/// hear of that: from a ledger that still has the claim it would make the object anew with it. Of an object that is being
/// deleted none is changed with the spec.
pub(crate) fn finalizers(now: &[String], spec: &Spec) -> Vec<String> {
    let others = now.iter().filter(|finalizer| *finalizer != FINALIZER).cloned();
    let is_kept = spec.claim.is_some() || now.iter().any(|finalizer| finalizer == FINALIZER);
    others.chain(is_kept.then(|| FINALIZER.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::fixture::{available, claimed_by, released};

    #[test]
    fn the_finalizer_comes_with_the_first_claim_and_outlives_it() {
        let others = ["example.org/mine".to_owned()];
        let kept = [others[0].clone(), FINALIZER.to_owned()];

        assert_eq!(finalizers(&others, &available().spec), others);
        assert_eq!(finalizers(&others, &claimed_by("pvc-1").spec), kept);
        assert_eq!(finalizers(&kept, &released().spec), kept);
    }
}
