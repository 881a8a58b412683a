//! What many volumes have alike, in memory once: the names of nodes and pools, types of file systems, paths and the
//! sentences of conditions where nodes name their entries alike, attributes of root directories, finalizers. In a large
//! cluster they are a third of all that is remembered.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::volume::{Fingerprint, LocalVolume, NodeName, PoolName, RootAttributes, Spec, Text};

/// What was seen, so that what is seen again is the same.
#[derive(Debug, Default)]
pub(super) struct Alike(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    nodes: HashSet<NodeName>,
    pools: HashSet<PoolName>,
    texts: HashSet<Text>,
    roots: HashSet<Arc<RootAttributes>>,
    finalizers: HashSet<Arc<[String]>>,
}

impl Alike {
    /// Makes the texts of a volume those that were seen before.
    pub(super) fn share(&self, volume: &mut LocalVolume) {
        let mut guard = self.seen();
        let seen = &mut *guard;
        let LocalVolume { spec: Spec { node, pool, .. }, status, .. } = volume;
        first(&mut seen.nodes, node);
        first(&mut seen.pools, pool);
        let conditions = &mut status.conditions;
        let mut texts = vec![&mut conditions.healthy.message, &mut conditions.clean.message];
        texts.push(&mut status.path);
        texts.extend(status.place.as_mut().map(|place| &mut place.root));
        texts.extend(&mut status.fs_type);
        texts.extend(&mut status.node_uid);
        if let Fingerprint::Directory { filesystem, .. } = &mut status.fingerprint {
            texts.push(&mut filesystem.fs_type);
        }
        for text in texts {
            first(&mut seen.texts, text);
        }
        if let Some(root) = &mut status.root {
            first(&mut seen.roots, root);
        }
    }

    /// The same finalizers, as they were seen before.
    pub(super) fn finalizers(&self, finalizers: Vec<String>) -> Arc<[String]> {
        let mut finalizers = finalizers.into();
        first(&mut self.seen().finalizers, &mut finalizers);
        finalizers
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Nothing panics while it is held, and what is in it is only the better place for what is elsewhere too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything: what is listed anew is seen anew, and what is gone is kept for nobody.
    pub(super) fn forget(&self) {
        *self.seen() = Seen::default();
    }
}

fn first<T: Clone + Eq + std::hash::Hash>(seen: &mut HashSet<T>, text: &mut T) {
    match seen.get(text) {
        Some(known) => *text = known.clone(),
        None => {
            seen.insert(text.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::volume::Bytes;
    use crate::volume::fixture::named;

    const ROOT: RootAttributes =
        RootAttributes { uid: 0, gid: 0, mode: 0o755, xattrs: BTreeMap::new(), flags: None };

    #[test]
    fn what_volumes_have_alike_is_in_memory_once() {
        let alike = Alike::default();
        let [mut one, mut other] = ["v1", "v2"].map(|entry| named(entry, Bytes(1)));
        for volume in [&mut one, &mut other] {
            volume.status.root = Some(Arc::new(ROOT));
        }

        alike.share(&mut one);
        alike.share(&mut other);

        let at = |volume: &LocalVolume| {
            let conditions = &volume.status.conditions;
            [volume.spec.node.as_str(), volume.spec.pool.as_str(), &conditions.clean.message]
                .map(str::as_ptr)
        };
        assert_eq!(at(&one), at(&other));
        let root = |volume: &LocalVolume| volume.status.root.as_ref().map(Arc::as_ptr);
        assert_eq!(root(&one), root(&other));
        let [first, second] = [(); 2].map(|()| alike.finalizers(vec!["mine".to_owned()]));
        assert!(Arc::ptr_eq(&first, &second) && first[..] == ["mine"]);
        assert_ne!(one.name, other.name);
    }
}
