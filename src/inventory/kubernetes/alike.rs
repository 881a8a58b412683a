//! Texts that many volumes have alike, in memory once: the names of nodes and pools, types of file systems, the sentences
//! of conditions where nodes name their entries alike. In a large cluster they are a third of all that is remembered.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::volume::{Fingerprint, LocalVolume, NodeName, PoolName, Spec, Text};

/// What was seen, so that what is seen again is the same.
#[derive(Debug, Default)]
pub(super) struct Alike(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    nodes: HashSet<NodeName>,
    pools: HashSet<PoolName>,
    texts: HashSet<Text>,
}

impl Alike {
    /// Makes the texts of a volume those that were seen before.
    pub(super) fn share(&self, volume: &mut LocalVolume) {
        // Nothing panics while it is held, and what is in it is only the better place for what is elsewhere too.
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let LocalVolume { spec: Spec { node, pool, .. }, status, .. } = volume;
        first(&mut seen.nodes, node);
        first(&mut seen.pools, pool);
        let conditions = &mut status.conditions;
        let mut texts = vec![&mut conditions.healthy.message, &mut conditions.clean.message];
        texts.extend(&mut status.fs_type);
        texts.extend(&mut status.node_uid);
        if let Fingerprint::Directory { filesystem, .. } = &mut status.fingerprint {
            texts.push(&mut filesystem.fs_type);
        }
        for text in texts {
            first(&mut seen.texts, text);
        }
    }

    /// Forgets everything: what is listed anew is seen anew, and what is gone is kept for nobody.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
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
    use super::*;
    use crate::volume::Bytes;
    use crate::volume::fixture::named;

    #[test]
    fn what_volumes_have_alike_is_in_memory_once() {
        let alike = Alike::default();
        let [mut one, mut other] = ["v1", "v2"].map(|entry| named(entry, Bytes(1)));

        alike.share(&mut one);
        alike.share(&mut other);

        let at = |volume: &LocalVolume| {
            let conditions = &volume.status.conditions;
            [volume.spec.node.as_str(), volume.spec.pool.as_str(), &conditions.clean.message]
                .map(str::as_ptr)
        };
        assert_eq!(at(&one), at(&other));
        assert_ne!(one.name, other.name);
    }
}
