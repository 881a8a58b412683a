//! How large each volume is, by the documented rule: a device and a mount of a whole file system are as large as they
//! are; a directory (bind mounts and subvolumes among them) is as large as its pool declares, as far as its file system
//! has that, else it has a share of what is left ([`share`]). Who holds a volume keeps at least what was promised.

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
    /// What holders have.
    promised: u64,
    /// What each volume of a declared size wants beyond what its holder has.
    declared: Vec<u64>,
    /// Free directories of no declared size.
    free: u64,
    /// The most that a volume of a declared size gets beyond what its holder has.
    most: u64,
    /// What a free directory of no declared size gets.
    share: Bytes,
}

impl Shared {
    /// Divides what nobody was promised: what is declared is given where there is enough for all of it, else at most in
    /// equal parts; what is left after that is shared.
    fn divide(&mut self) {
        let wanted =
            self.declared.iter().fold(self.promised, |sum, more| sum.saturating_add(*more));
        let many = u64::try_from(self.declared.iter().filter(|more| **more > 0).count());
        let part = share(self.total, Bytes(self.promised), many.unwrap_or(u64::MAX));
        self.most = if wanted <= self.total.0 { u64::MAX } else { part.0 };
        let given = self.declared.iter().map(|more| self.most.min(*more));
        let taken = given.fold(self.promised, u64::saturating_add);
        self.share = share(self.total, Bytes(taken), self.free);
    }
}

/// Which rule gives a source its size.
enum Rule {
    Own(Bytes),
    Declared(Bytes),
    Share,
}

/// How large a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) bytes: Bytes,
    /// What its pool declares, where its file system does not have that much.
    pub(super) instead_of: Option<Bytes>,
}

impl<'a> Sizes<'a> {
    pub(super) fn new(pools: &'a Pools) -> Self {
        Self { pools, filesystems: BTreeMap::new() }
    }

    /// Divides what was counted.
    pub(super) fn divide(&mut self) {
        self.filesystems.values_mut().for_each(Shared::divide);
    }

    /// Counts a source that is there: a new one, or that of a volume.
    pub(super) fn count(
        &mut self,
        volume: Option<&LocalVolume>,
        candidate: &Candidate,
        seen: &Seen,
    ) {
        let held = volume.and_then(held);
        let rule = self.rule(candidate, seen);
        let Some(shared) = self.shared(&seen.facts.fingerprint) else { return };
        match rule {
            Rule::Own(_) => return,
            Rule::Declared(size) => {
                shared.declared.push(size.0.saturating_sub(held.unwrap_or_default().0));
            }
            Rule::Share if held.is_none() => shared.free += 1,
            Rule::Share => {}
        }
        shared.promised = shared.promised.saturating_add(held.unwrap_or_default().0);
        shared.total = shared.total.max(seen.facts.size);
    }

    /// Counts a volume that is not to be seen: what its holder was promised stays promised.
    pub(super) fn count_away(&mut self, volume: &LocalVolume) {
        if let (Some(held), Some(shared)) = (held(volume), self.shared(&volume.status.fingerprint))
        {
            shared.promised = shared.promised.saturating_add(held.0);
        }
    }

    fn shared(&mut self, fingerprint: &Fingerprint) -> Option<&mut Shared> {
        filesystem_key(fingerprint).map(|key| self.filesystems.entry(key).or_default())
    }

    /// The size of a source that was counted, once everything is divided.
    pub(super) fn of(
        &self,
        volume: Option<&LocalVolume>,
        candidate: &Candidate,
        seen: &Seen,
    ) -> Size {
        let held = volume.and_then(held);
        let key = filesystem_key(&seen.facts.fingerprint);
        let shared = key.and_then(|key| self.filesystems.get(&key));
        let least = held.unwrap_or_default();
        let whole = |bytes: Bytes| Size { bytes: bytes.max(least), instead_of: None };
        match (self.rule(candidate, seen), shared) {
            (Rule::Own(size), _) => whole(size),
            (Rule::Declared(size), shared) => {
                let more = size.0.saturating_sub(least.0);
                let granted = more.min(shared.map_or(0, |shared| shared.most));
                let bytes = Bytes(least.0.saturating_add(granted));
                Size { bytes, instead_of: (granted < more).then_some(size) }
            }
            (Rule::Share, Some(shared)) if held.is_none() => whole(shared.share),
            (Rule::Share, _) => whole(Bytes(0)),
        }
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

/// What the holder of a volume was promised.
fn held(volume: &LocalVolume) -> Option<Bytes> {
    volume.spec.claim.as_ref().map(|_| volume.status.capacity)
}

/// Text that is equal for two directories exactly when they share one file system: subvolumes of one btrfs do.
fn filesystem_key(fingerprint: &Fingerprint) -> Option<String> {
    let Fingerprint::Directory { filesystem, .. } = fingerprint else { return None };
    Some(filesystem.whole().to_identity_text())
}
