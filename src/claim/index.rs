//! What can be claimed and what is, in memory: plain data that the inventory's watch feeds and claims read.
//!
//! Every operation takes logarithmic time and copies pointers, but two: filling it anew, and counting why a claim is
//! refused. The records are those of the inventory, which are in memory once. A record that is older than the one held never replaces it, so that an event on its way cannot undo what a
//! claim has just done.

mod sorted;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Unbounded};

use self::sorted::Sorted;
use super::error::Shortage;
use super::request::{Capacity, CapacityQuery, ClaimRequest, Filesystem};
use super::{Choice, fit};
use crate::inventory::{Event, Recorded, Version};
use crate::volume::{Bytes, CapacityRange, ClaimName, LocalVolume, Mode, PoolName, VolumeName};

/// Every volume, by what is asked about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    volumes: HashMap<VolumeName, Recorded>,
    /// The claimable ones that are not set aside; no pool is empty.
    pools: HashMap<PoolName, Sides>,
    /// The claimed ones, in the order of names.
    claimed: BTreeSet<VolumeName>,
    claims: HashMap<ClaimName, VolumeName>,
    /// Those that claims under way have been promised.
    set_aside: HashSet<VolumeName>,
}

/// A pool's claimable volumes by mode.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sides {
    filesystem: Side,
    block: Side,
}

/// Claimable volumes of one pool and mode.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Side {
    all: Shelf,
    /// By topology value; none is empty.
    places: BTreeMap<String, Shelf>,
}

/// Claimable volumes in the order of capacity, then of names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shelf {
    volumes: Sorted<(Bytes, Named)>,
    /// What they have together. It may be more than 64 bits hold, since nobody checks what a node says.
    sum: u128,
}

/// A volume's name on a shelf; nothing comes before the first name.
type Named = Option<VolumeName>;

impl Index {
    /// Takes what the watch tells.
    pub(crate) fn take(&mut self, event: Event) {
        match event {
            Event::Reset(all) => self.reset(all),
            Event::Applied(recorded) => self.apply(*recorded),
            Event::Removed(name, version) => self.remove(&name, version),
        }
    }

    /// Holds `all`, and nothing that is not among them. What is held in a newer version stays so.
    pub(crate) fn reset(&mut self, all: Vec<Recorded>) {
        let there: HashSet<_> = all.iter().map(|recorded| &recorded.volume.name).collect();
        let gone = self.volumes.keys().filter(|name| !there.contains(name));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.forget(&name);
        }
        for recorded in all {
            self.apply(recorded);
        }
    }

    /// Holds this record, unless a newer one is held.
    pub(crate) fn apply(&mut self, recorded: Recorded) {
        let name = recorded.volume.name.clone();
        if self.volumes.get(&name).is_some_and(|known| known.version >= recorded.version) {
            return;
        }
        let now = recorded.clone();
        if let Some(before) = self.volumes.insert(name, recorded) {
            self.unplace(&before);
        }
        self.place(&now);
    }

    /// Holds this record, which did not come from the watch, if the volume is known and nothing newer is held. It may
    /// have been removed meanwhile: the watch alone says what there is.
    pub(super) fn update(&mut self, recorded: Recorded) {
        if self.volumes.contains_key(&recorded.volume.name) {
            self.apply(recorded);
        }
    }

    /// Holds `fresh`, which was read when the version `known` was held here already: in the place of that even if it is the
    /// smaller one. An API server that was set back has smaller ones, and the same volume would be chosen, and found
    /// to be another, for ever.
    pub(super) fn correct(&mut self, known: Version, fresh: Recorded) {
        let name = fresh.volume.name.clone();
        if self.volumes.get(&name).is_some_and(|held| held.version == known) {
            self.forget(&name);
            self.apply(fresh);
        } else {
            self.update(fresh);
        }
    }

    /// Forgets a volume that was removed at `version`, unless what is held is newer.
    pub(super) fn remove(&mut self, name: &VolumeName, version: Version) {
        if self.volumes.get(name).is_some_and(|known| known.version <= version) {
            self.forget(name);
        }
    }

    /// One volume.
    pub(crate) fn get(&self, name: &VolumeName) -> Option<Recorded> {
        self.volumes.get(name).cloned()
    }

    /// The volume that a claim holds.
    pub(super) fn holder(&self, claim: &ClaimName) -> Option<&VolumeName> {
        self.claims.get(claim)
    }

    /// The claimed volumes that follow `after` in the order of names, at most so many.
    pub(super) fn claimed(&self, after: Option<&VolumeName>, most: usize) -> Vec<Recorded> {
        let from = after.map_or(Unbounded, Excluded);
        let names = self.claimed.range::<VolumeName, _>((from, Unbounded)).take(most);
        names.filter_map(|name| self.get(name)).collect()
    }

    /// What of a pool can be claimed, everywhere or at one topology value.
    pub(super) fn capacity(&self, query: &CapacityQuery, mode: Mode) -> Capacity {
        let there = self.side(&query.pool, mode).and_then(|side| match &query.topology {
            Some(value) => side.at(value),
            None => Some(side.anywhere()),
        });
        match there {
            None => Capacity::default(),
            Some(all) if query.filesystem.is_any() => all.capacity(),
            Some(all) => all.only(|name| self.suits(name, &query.filesystem)).capacity(),
        }
    }

    fn suits(&self, name: &VolumeName, filesystem: &Filesystem) -> bool {
        let suits = |known: &Recorded| fit::unsuited(&known.volume, filesystem).is_none();
        filesystem.is_any() || self.volumes.get(name).is_some_and(suits)
    }

    /// What there is for a claim. A volume that is set aside has to be put back.
    pub(crate) fn choose(&mut self, request: &ClaimRequest) -> Choice {
        if let Some(holder) = self.holder(&request.name) {
            return Choice::Held(holder.clone());
        }
        let side = self.side(&request.pool, request.mode);
        let suits = |name: &VolumeName| self.suits(name, &request.filesystem);
        let best = side.and_then(|side| fit::best(side, request, suits));
        if let Some(recorded) = best.and_then(|name| self.get(name)) {
            self.unplace(&recorded);
            self.set_aside.insert(recorded.volume.name.clone());
            return Choice::SetAside(recorded);
        }
        let fits = |name| self.get(name).is_some_and(|recorded| fits(&recorded.volume, request));
        if self.set_aside.iter().any(fits) {
            return Choice::Wait;
        }
        Choice::Nothing(self.shortage(request))
    }

    /// Ends the promise of [`Index::choose`], however it was kept.
    pub(super) fn put_back(&mut self, name: &VolumeName) {
        if self.set_aside.remove(name)
            && let Some(recorded) = self.get(name)
        {
            self.place(&recorded);
        }
    }

    fn side(&self, pool: &PoolName, mode: Mode) -> Option<&Side> {
        self.pools.get(pool).map(|sides| sides.of(mode))
    }

    fn forget(&mut self, name: &VolumeName) {
        if let Some(before) = self.volumes.remove(name) {
            self.unplace(&before);
        }
    }

    /// Puts a volume where its record belongs.
    fn place(&mut self, recorded: &Recorded) {
        let volume = &recorded.volume;
        let name = &volume.name;
        if let Some(claim) = &volume.spec.claim {
            self.claimed.insert(name.clone());
            // Of two volumes in which one name was seen, the later seen is the one that holds it.
            let other = self.claims.get(&claim.name).and_then(|other| self.volumes.get(other));
            if other.is_none_or(|other| other.version <= recorded.version) {
                self.claims.insert(claim.name.clone(), name.clone());
            }
        } else if volume.is_claimable() && !self.set_aside.contains(name) {
            self.shelve(volume);
        }
    }

    /// Takes a volume from where [`Index::place`] put it.
    fn unplace(&mut self, recorded: &Recorded) {
        let volume = &recorded.volume;
        if let Some(claim) = &volume.spec.claim {
            self.claimed.remove(&volume.name);
            if self.holder(&claim.name) == Some(&volume.name) {
                self.claims.remove(&claim.name);
            }
        } else if volume.is_claimable() && !self.set_aside.contains(&volume.name) {
            self.unshelve(volume);
        }
    }

    fn shelve(&mut self, volume: &LocalVolume) {
        let sides = self.pools.entry(volume.spec.pool.clone()).or_default();
        sides.of_mut(volume.spec.mode).add(volume);
    }

    fn unshelve(&mut self, volume: &LocalVolume) {
        let Some(sides) = self.pools.get_mut(&volume.spec.pool) else { return };
        sides.of_mut(volume.spec.mode).take(volume);
        if *sides == Sides::default() {
            self.pools.remove(&volume.spec.pool);
        }
    }

    /// Counts why nothing fits. It looks at every volume, which only a refused claim has to pay for.
    fn shortage(&self, request: &ClaimRequest) -> Shortage {
        let mut shortage = Shortage::default();
        let all = self.volumes.values().map(|recorded| &*recorded.volume);
        for volume in all.filter(|volume| is_of_kind(volume, request)) {
            shortage.count(volume, request);
        }
        shortage
    }
}

fn is_of_kind(volume: &LocalVolume, request: &ClaimRequest) -> bool {
    volume.spec.pool == request.pool && volume.spec.mode == request.mode
}

/// Whether the claim could be given the volume.
fn fits(volume: &LocalVolume, request: &ClaimRequest) -> bool {
    is_of_kind(volume, request)
        && request.range.admits(volume.status.capacity)
        && request.topology.admits(&volume.spec.node.topology_value())
        && fit::unsuited(volume, &request.filesystem).is_none()
}

impl Shortage {
    fn count(&mut self, volume: &LocalVolume, request: &ClaimRequest) {
        let capacity = volume.status.capacity;
        let elsewhere = !request.topology.admits(&volume.spec.node.topology_value());
        let unsuited = fit::unsuited(volume, &request.filesystem).is_some();
        self.volumes += 1;
        if volume.is_claimable() && !elsewhere && !unsuited {
            self.largest = self.largest.max(Some(capacity));
        }
        if !request.range.admits(capacity) {
            return;
        }
        self.fitting += 1;
        match () {
            () if elsewhere => self.elsewhere += 1,
            () if unsuited => self.unsuited += 1,
            () if volume.spec.claim.is_some() => self.claimed += 1,
            () if !volume.is_healthy() => self.unhealthy += 1,
            () if !volume.is_clean() || !volume.status.published.is_empty() => self.unclean += 1,
            () => self.cordoned += 1,
        }
    }
}

impl Sides {
    fn of(&self, mode: Mode) -> &Side {
        match mode {
            Mode::Filesystem => &self.filesystem,
            Mode::Block => &self.block,
        }
    }

    fn of_mut(&mut self, mode: Mode) -> &mut Side {
        match mode {
            Mode::Filesystem => &mut self.filesystem,
            Mode::Block => &mut self.block,
        }
    }
}

impl Side {
    /// The volumes at a topology value, if there are any.
    pub(super) fn at(&self, topology: &str) -> Option<&Shelf> {
        self.places.get(topology)
    }

    /// The volumes of all nodes.
    pub(super) fn anywhere(&self) -> &Shelf {
        &self.all
    }

    fn add(&mut self, volume: &LocalVolume) {
        let (capacity, place) = (volume.status.capacity, volume.spec.node.topology_value());
        self.all.add(capacity, &volume.name);
        self.places.entry(place).or_default().add(capacity, &volume.name);
    }

    fn take(&mut self, volume: &LocalVolume) {
        let (capacity, place) = (volume.status.capacity, volume.spec.node.topology_value());
        self.all.take(capacity, &volume.name);
        if let Some(shelf) = self.places.get_mut(&place) {
            shelf.take(capacity, &volume.name);
            if shelf.volumes.first().is_none() {
                self.places.remove(&place);
            }
        }
    }
}

impl Shelf {
    /// The smallest volume that `range` admits and that suits; of several, the first by name.
    pub(super) fn smallest_in(
        &self,
        range: CapacityRange,
        suits: impl Fn(&VolumeName) -> bool,
    ) -> Option<&VolumeName> {
        let least = (range.required.unwrap_or_default(), Named::None);
        // A tree's range must not end before it begins; so a limit below the least is looked at afterwards.
        let fit = self.volumes.not_before(&least);
        let fit = fit.take_while(|(capacity, _)| range.admits(*capacity));
        fit.filter_map(|(_, name)| name.as_ref()).find(|name| suits(name))
    }

    /// Those of its volumes that suit.
    fn only(&self, suits: impl Fn(&VolumeName) -> bool) -> Self {
        let mut only = Self::default();
        for (capacity, name) in self.volumes.iter() {
            if let Some(name) = name.as_ref().filter(|name| suits(name)) {
                only.add(*capacity, name);
            }
        }
        only
    }

    fn capacity(&self) -> Capacity {
        Capacity {
            available: Bytes(u64::try_from(self.sum).unwrap_or(u64::MAX)),
            maximum: self.volumes.last().map(|(capacity, _)| *capacity),
            minimum: self.volumes.first().map(|(capacity, _)| *capacity),
        }
    }

    fn add(&mut self, capacity: Bytes, name: &VolumeName) {
        if self.volumes.insert((capacity, Some(name.clone()))) {
            self.sum += u128::from(capacity.0);
        }
    }

    fn take(&mut self, capacity: Bytes, name: &VolumeName) {
        if self.volumes.remove(&(capacity, Some(name.clone()))) {
            self.sum -= u128::from(capacity.0);
        }
    }
}

#[cfg(test)]
mod tests;
