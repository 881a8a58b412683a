//! One object of the API server, as the store uses it.

use kube::api::ObjectMeta;
use kube::core::DeserializeGuard;

use super::super::{Recorded, Version, crd};
use crate::volume::{ClaimName, LocalVolume, Spec, VolumeName};

/// What keeps the object of a claimed volume from going away before its agent knows of it: see [`finalizers`].
pub(crate) const FINALIZER: &str = "berth.dev/claimed";

/// An object at one version.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: VolumeName,
    pub(crate) version: Version,
    pub(crate) uid: String,
    pub(crate) finalizers: Vec<String>,
    /// Whether it goes as soon as its last finalizer does.
    pub(crate) deleting: bool,
    pub(crate) content: Content,
}

/// What an object says.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// A volume.
    Volume(Box<LocalVolume>),
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
    pub(super) fn read(object: DeserializeGuard<crd::Object>) -> Result<Self, NoEntry> {
        match object.0 {
            Ok(object) => {
                let content = Content::read(&object);
                Self::of(object.metadata, content)
            }
            Err(invalid) => Self::of(invalid.metadata, Content::Unreadable(invalid.error)),
        }
    }

    fn of(metadata: ObjectMeta, content: Content) -> Result<Self, NoEntry> {
        let name = metadata.name.unwrap_or_default();
        let version = metadata.resource_version.as_deref().and_then(version);
        match (name.parse(), version, metadata.uid) {
            (Ok(name), Some(version), Some(uid)) => Ok(Self {
                name,
                version,
                uid,
                finalizers: metadata.finalizers.unwrap_or_default(),
                deleting: metadata.deletion_timestamp.is_some(),
                content,
            }),
            _ => Err(NoEntry { name }),
        }
    }

    /// The volume, if the object is one: complete, readable, and not gone already but for a finalizer of somebody else.
    pub(crate) fn volume(&self) -> Option<&LocalVolume> {
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
        let volume = self.volume()?.clone();
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
    fn read(object: &crd::Object) -> Self {
        match object.volume() {
            Ok(Some(volume)) => Self::Volume(Box::new(volume)),
            Ok(None) => Self::Incomplete(Box::new(Spec::from(&object.spec))),
            Err(error) => Self::Unreadable(error.to_string()),
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
            uid: "uid-1".to_owned(),
            finalizers: finalizers(&[], &volume.spec),
            deleting: false,
            content: Content::Volume(Box::new(volume.clone())),
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
