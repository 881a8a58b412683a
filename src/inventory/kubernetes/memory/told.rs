//! The objects that are volumes, as the watch told of them, and who holds which claim. Plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::entry::Entry;
use crate::volume::{ClaimName, VolumeName};

/// Volumes by name, and the claims that they hold.
#[derive(Debug, Default)]
pub(super) struct Told {
    volumes: BTreeMap<VolumeName, Arc<Entry>>,
    /// Each claim with its holder: of two volumes in which one claim was seen, both. Nothing comes before the first name.
    claims: BTreeSet<(ClaimName, Option<VolumeName>)>,
}

impl Told {
    pub(super) fn get(&self, name: &VolumeName) -> Option<&Arc<Entry>> {
        self.volumes.get(name)
    }

    /// Every volume, in the order of names.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.volumes.values()
    }

    /// The volumes that hold this claim.
    pub(super) fn holders(&self, claim: &ClaimName) -> impl Iterator<Item = &VolumeName> {
        let from = self.claims.range((claim.clone(), None)..);
        from.take_while(move |(held, _)| held == claim).filter_map(|(_, holder)| holder.as_ref())
    }

    pub(super) fn insert(&mut self, entry: Arc<Entry>) {
        let (name, claim) = (entry.name.clone(), entry.claim_name().cloned());
        let before = self.volumes.insert(name.clone(), entry);
        let held = before.and_then(|before| before.claim_name().cloned());
        if held != claim {
            self.claims.extend(claim.map(|claim| (claim, Some(name.clone()))));
            self.end(held, &name);
        }
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, name: &VolumeName) -> bool {
        let before = self.volumes.remove(name);
        let was_there = before.is_some();
        self.end(before.and_then(|before| before.claim_name().cloned()), name);
        was_there
    }

    fn end(&mut self, claim: Option<ClaimName>, holder: &VolumeName) {
        if let Some(claim) = claim {
            self.claims.remove(&(claim, Some(holder.clone())));
        }
    }
}

impl FromIterator<Entry> for Told {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut told = Self::default();
        for entry in entries {
            told.insert(Arc::new(entry));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::fixture::{claimed_by, named};
    use crate::volume::{Bytes, LocalVolume};

    fn held(entry: &str, claim: &str) -> LocalVolume {
        let free = named(entry, Bytes(1));
        LocalVolume { spec: claimed_by(claim).spec, ..free }
    }

    fn holders(told: &Told, claim: &str) -> Vec<String> {
        told.holders(&claim.parse().unwrap()).map(ToString::to_string).collect()
    }

    #[test]
    fn whoever_holds_a_claim_is_found_until_it_ends_or_goes_and_another_of_the_same_name_too() {
        let (one, other) = (held("v1", "pvc-1"), held("v2", "pvc-1"));
        let all = [&one, &other, &held("v3", "pvc-10"), &named("v4", Bytes(1))];
        let mut told: Told = all.map(|volume| Entry::of_volume(volume, 1)).into_iter().collect();
        assert_eq!(holders(&told, "pvc-1"), [one.name.as_str(), other.name.as_str()]);

        // It ends in one, and a third claim begins there; the other object goes.
        told.insert(Arc::new(Entry::of_volume(&held("v1", "pvc-2"), 2)));
        let after_the_first = holders(&told, "pvc-1");
        assert!(told.remove(&other.name) && !told.remove(&other.name));

        assert_eq!(after_the_first, [other.name.as_str()]);
        assert_eq!(holders(&told, "pvc-1"), Vec::<String>::new());
        assert_eq!(holders(&told, "pvc-2"), [one.name.as_str()]);
        assert_eq!(told.all().count(), 3);
    }
}
