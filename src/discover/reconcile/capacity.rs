//! How large each volume is, by the documented rule: a device and a mount of a whole file system are as large as they
//! are; a directory (bind mounts and subvolumes among them) is as large as its pool declares, else it has a share of its
//! file system ([`share`]). Who holds a volume keeps at least what was promised.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Candidate, Pools, Seen, is_device};
use crate::volume::{Bytes, Fingerprint, LocalVolume, share};

/// What is known of the sizes of all volumes, before any one is told.
pub(super) struct Sizes<'a> {
    pools: &'a Pools,
    filesystems: BTreeMap<String, Shared>,
}

/// A file system that directories share.
#[derive(Default)]
struct Shared {
    total: Bytes,
    promised: u64,
    free: u64,
}

/// Which rule gives a source its size.
enum Rule {
    Own(Bytes),
    Declared(Bytes),
    Share,
}

impl<'a> Sizes<'a> {
    pub(super) fn new(pools: &'a Pools) -> Self {
        Self { pools, filesystems: BTreeMap::new() }
    }

    /// Counts a volume that is there.
    pub(super) fn count(&mut self, volume: &LocalVolume, candidate: &Candidate, seen: &Seen) {
        let held = volume.spec.claim.as_ref().map(|_| volume.status.capacity);
        self.count_source(candidate, seen, held);
    }

    /// Counts a source that is to become a volume.
    pub(super) fn count_new(&mut self, candidate: &Candidate, seen: &Seen) {
        self.count_source(candidate, seen, None);
    }

    /// Counts a volume that is not to be seen: what its holder was promised stays promised.
    pub(super) fn count_away(&mut self, volume: &LocalVolume) {
        if volume.spec.claim.is_some() {
            self.promise(&volume.status.fingerprint, volume.status.capacity);
        }
    }

    fn count_source(&mut self, candidate: &Candidate, seen: &Seen, held: Option<Bytes>) {
        let fingerprint = &seen.facts.fingerprint;
        match (self.rule(candidate, seen), held) {
            (Rule::Own(_), _) => return,
            (Rule::Declared(size), held) => {
                self.promise(fingerprint, held.unwrap_or(size).max(size));
            }
            (Rule::Share, Some(held)) => self.promise(fingerprint, held),
            (Rule::Share, None) => {
                if let Some(shared) = self.shared(fingerprint) {
                    shared.free += 1;
                }
            }
        }
        if let Some(shared) = self.shared(fingerprint) {
            shared.total = shared.total.max(seen.facts.size);
        }
    }

    fn promise(&mut self, fingerprint: &Fingerprint, size: Bytes) {
        if let Some(shared) = self.shared(fingerprint) {
            shared.promised = shared.promised.saturating_add(size.0);
        }
    }

    fn shared(&mut self, fingerprint: &Fingerprint) -> Option<&mut Shared> {
        filesystem_key(fingerprint).map(|key| self.filesystems.entry(key).or_default())
    }

    /// The size of a volume that is there.
    pub(super) fn of(&self, volume: &LocalVolume, candidate: &Candidate, seen: &Seen) -> Bytes {
        let held = volume.spec.claim.as_ref().map(|_| volume.status.capacity);
        match (self.rule(candidate, seen), held) {
            (Rule::Own(size) | Rule::Declared(size), Some(held)) => size.max(held),
            (Rule::Own(size) | Rule::Declared(size), None) => size,
            (Rule::Share, Some(held)) => held,
            (Rule::Share, None) => self.share_of(seen),
        }
    }

    /// The size of a source that is to become a volume.
    pub(super) fn of_new(&self, candidate: &Candidate, seen: &Seen) -> Bytes {
        match self.rule(candidate, seen) {
            Rule::Own(size) | Rule::Declared(size) => size,
            Rule::Share => self.share_of(seen),
        }
    }

    fn share_of(&self, seen: &Seen) -> Bytes {
        let key = filesystem_key(&seen.facts.fingerprint);
        let shared = key.and_then(|key| self.filesystems.get(&key));
        shared.map_or(Bytes(0), |shared| share(shared.total, Bytes(shared.promised), shared.free))
    }

    fn rule(&self, candidate: &Candidate, seen: &Seen) -> Rule {
        let is_whole = seen.facts.is_mount && seen.facts.root == Path::new("/");
        if is_device(seen) || is_whole {
            return Rule::Own(seen.facts.size);
        }
        let declared = self.pools.get(&candidate.pool).and_then(|pool| pool.capacity);
        declared.map_or(Rule::Share, Rule::Declared)
    }
}

/// Text that is equal for two directories exactly when they share one file system: subvolumes of one btrfs do.
fn filesystem_key(fingerprint: &Fingerprint) -> Option<String> {
    let Fingerprint::Directory { filesystem, .. } = fingerprint else { return None };
    Some(filesystem.whole().to_identity_text())
}
