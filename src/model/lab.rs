//! The product's pure functions on numbered records. Each is called once for the same arguments, and its answer kept.
//! This is where a [`Mutation`] puts something else in the place of a rule.

mod agent;

use std::cell::RefCell;
use std::collections::HashMap;

use jiff::Timestamp;

use super::node;
use super::state::{Lease, Object, Read, Rec, TWO};
use crate::claim::index::Index;
use crate::claim::{Choice, ClaimRequest, Filesystem, Topology};
use crate::inventory::kubernetes::entry::{Content, Entry, FINALIZER, finalizers};
use crate::inventory::kubernetes::reservation::{Came, Wish};
use crate::inventory::replica::step::{self, Step};
use crate::inventory::{Recorded, Version};
use crate::volume::fixture::{claim, delete};
use crate::volume::{CapacityRange, CleanReason, LocalVolume, Mode, Status, Tenancy};

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mutation {
    ClaimIgnoresCleanFor,
    ClaimKeepsTenancy,
    ReleaseIgnoresTenancy,
    ReleaseAnsweredFromMemory,
    HolderAnsweredFromMemory,
    VersionsIgnored,
    NoReservation,
    OpenReservationIsDead,
    NoFinalizer,
    CleanerIgnoresMounts,
    CleanerIgnoresRecord,
    HalfAWipeIsDone,
    WipesSideBySide,
    StagedUnrecorded,
    EndedTenancyMounted,
    CallersClaimIgnored,
    LedgerRebuiltAtOnce,
    PartOfALedgerBelieved,
    OlderTenancyTaken,
    EndedTenancyTaken,
    DeletionBelieved,
    NodeGoneBeforeItsEnd,
    FinalizerEndsWithClaim,
}

/// What is often asked of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) claim: Option<u8>,
    pub(super) tenancy: u8,
    pub(super) claimable: bool,
    /// Whether it is recorded at a staging path, and at a target.
    pub(super) places: (bool, bool),
    pub(super) node: u8,
    /// Whether only a person decides what becomes of it.
    pub(super) is_for_a_person: bool,
}

/// What the index has for a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chosen {
    Held(u8),
    Free(u8),
    Nothing,
}

/// What ending a tenancy comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Released {
    /// It has ended already, or the record does not know of it yet.
    Ended {
        latest: u8,
    },
    Now(Rec),
}

/// A step towards agreement of ledger and API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    Nothing,
    Adopt,
    Add(Rec),
    Take,
    Mourn,
    Tell,
    Replace(Rec),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Call {
    Claimed,
    Released,
    Choose,
    Take,
    Came,
    Sync,
    Learnt,
    Joined,
    Recorded,
    Held,
    IsFor,
    Due,
    Begun,
    Done,
    IsDue,
    Gone,
    Mourned,
    Discover,
}

#[derive(Default)]
struct Shelf {
    volumes: Vec<LocalVolume>,
    told: Vec<Told>,
    numbers: HashMap<String, Rec>,
    memo: HashMap<(Call, u64), u64>,
}

#[derive(Default)]
pub(super) struct Lab {
    shelf: RefCell<Shelf>,
    pub(super) mutation: Option<Mutation>,
}

const NONE: u64 = u64::MAX;

fn packed(parts: &[u16]) -> u64 {
    parts.iter().fold(0, |packed, part| packed << 16 | u64::from(*part))
}

fn some(rec: Option<Rec>) -> u64 {
    rec.map_or(NONE, u64::from)
}

fn rec(value: u64) -> Option<Rec> {
    Rec::try_from(value).ok()
}

impl Lab {
    pub(super) fn new(mutation: Option<Mutation>) -> Self {
        Self { mutation, ..Self::default() }
    }

    pub(super) fn breaks(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(super) fn told(&self, rec: Rec) -> Told {
        self.shelf.borrow().told[usize::from(rec)]
    }

    pub(super) fn volume(&self, rec: Rec) -> LocalVolume {
        self.shelf.borrow().volumes[usize::from(rec)].clone()
    }

    /// The number of a record. Times say nothing.
    pub(super) fn number(&self, mut volume: LocalVolume) -> Rec {
        let epoch = Timestamp::UNIX_EPOCH;
        volume.status.conditions.healthy.since = epoch;
        volume.status.conditions.clean.since = epoch;
        if let Some(cleaning) = &mut volume.status.cleaning {
            cleaning.started = epoch;
        }
        let text = serde_json::to_string(&volume).unwrap();
        let mut known = self.shelf.borrow_mut();
        if let Some(number) = known.numbers.get(&text) {
            return *number;
        }
        let number = Rec::try_from(known.volumes.len()).unwrap();
        known.numbers.insert(text, number);
        known.told.push(told(&volume));
        known.volumes.push(volume);
        number
    }

    fn kept(&self, call: Call, parts: &[u16], of: impl FnOnce() -> u64) -> u64 {
        let key = (call, packed(parts));
        if let Some(known) = self.shelf.borrow().memo.get(&key) {
            return *known;
        }
        let value = of();
        self.shelf.borrow_mut().memo.insert(key, value);
        value
    }

    fn with_status(&self, rec: Rec, status: Option<Status>) -> u64 {
        let volume = self.volume(rec);
        some(status.map(|status| self.number(LocalVolume { status, ..volume })))
    }

    /// The record with the spec of `decided` and the status of `seen`.
    pub(super) fn joined(&self, decided: Rec, seen: Rec) -> Rec {
        let joined = self.kept(Call::Joined, &[decided, seen], || {
            let volume = LocalVolume { spec: self.volume(decided).spec, ..self.volume(seen) };
            u64::from(self.number(volume))
        });
        rec(joined).unwrap()
    }

    /// As controllers read a record.
    fn read(&self, rec: Rec) -> LocalVolume {
        let mut volume = self.volume(rec);
        if self.breaks(Mutation::ClaimIgnoresCleanFor) {
            volume.status.clean_for = Some(volume.spec.tenancy);
            volume.status.published.clear();
        }
        volume
    }

    pub(super) fn claimed(&self, of: Rec, name: u8) -> Option<Rec> {
        rec(self.kept(Call::Claimed, &[of, name.into()], || {
            let spec = self.read(of).claimed(claim(&claim_name(name)), delete());
            some(spec.ok().map(|mut spec| {
                if self.breaks(Mutation::ClaimKeepsTenancy) {
                    spec.tenancy = self.volume(of).spec.tenancy;
                }
                self.number(LocalVolume { spec, ..self.volume(of) })
            }))
        }))
    }

    pub(super) fn released(&self, of: Rec, tenancy: u8) -> Released {
        let latest = self.told(of).tenancy;
        let asked = if self.breaks(Mutation::ReleaseIgnoresTenancy) { latest } else { tenancy };
        let released = rec(self.kept(Call::Released, &[of, asked.into()], || {
            let spec = self.volume(of).released(Tenancy(asked.into()));
            some(spec.ok().map(|spec| self.number(LocalVolume { spec, ..self.volume(of) })))
        }));
        released.map_or(Released::Ended { latest }, Released::Now)
    }

    /// What the index chooses when these are in it.
    pub(super) fn choose(&self, all: [Option<Read>; TWO], name: u8) -> Chosen {
        let [first, second] = all.map(|read| read.map_or(Rec::MAX, |read| read.rec));
        let newer = all[0].map(|read| read.version) < all[1].map(|read| read.version);
        let chosen = self.kept(Call::Choose, &[first, second, name.into(), newer.into()], || {
            let mut index = Index::default();
            let recorded = all
                .iter()
                .flatten()
                .map(|read| Recorded::new(self.read(read.rec), Version(read.version.into())));
            index.reset(recorded.collect());
            match index.choose(&request(name)) {
                Choice::Held(volume) => u64::from(node::number_of(&volume)),
                Choice::SetAside(free) => 2 + u64::from(node::number_of(&free.volume.name)),
                Choice::Wait | Choice::Nothing(_) => NONE,
            }
        });
        match chosen {
            NONE => Chosen::Nothing,
            held @ 0..2 => Chosen::Held(u8::try_from(held).unwrap()),
            free => Chosen::Free(u8::try_from(free - 2).unwrap()),
        }
    }

    /// What the index holds of a volume, of which it `knew` this, after it was told all there is `now`.
    pub(super) fn take(&self, knew: Option<Read>, now: Option<Read>) -> Option<Read> {
        let versions = [knew, now].map(|read| read.map(|read| read.version));
        let order = versions[0].cmp(&versions[1]) as i8 + 1;
        let [old, new] = [knew, now].map(|read| read.map_or(Rec::MAX, |read| read.rec));
        let order = u16::try_from(order).unwrap();
        let taken = self.kept(Call::Take, &[old, new, order], || {
            let recorded =
                |read: Read| Recorded::new(self.volume(read.rec), Version(read.version.into()));
            let mut index = Index::default();
            index.reset(knew.map(recorded).into_iter().collect());
            index.reset(now.map(recorded).into_iter().collect());
            let name = knew.or(now).map(|read| self.volume(read.rec).name);
            let held = name.and_then(|name| index.get(&name)).map(|held| held.version.0);
            let is = |read: Option<Read>| read.map(|read| u64::from(read.version)) == held;
            if is(now) { 1 } else { u64::from(!is(knew)) * 2 }
        });
        match taken {
            0 => knew,
            _ => now,
        }
    }

    pub(super) fn came(&self, lease: Lease, object: Object) -> Came {
        let wish = lease.wish;
        let at = u16::from(object.version == wish.version);
        let parts = [wish.rec, object.rec, u16::from(wish.name) * 2 + at];
        let came = self.kept(Call::Came, &parts, || {
            let spec = self.volume(wish.rec).spec;
            let claim = claim_name(wish.name).parse().unwrap();
            let name = self.volume(wish.rec).name;
            let wished = Wish { claim, volume: name, version: Version(wish.version.into()), spec };
            let volume = self.volume(object.rec);
            let mut entry = Entry::of_volume(&volume, object.version.into());
            if !object.complete {
                entry.content = Content::Incomplete(Box::new(volume.spec));
            }
            wished.came(&entry) as u64
        });
        let came = [Came::True, Came::Open, Came::Past, Came::Unknown]
            .into_iter()
            .find(|one| *one as u64 == came);
        match came.unwrap() {
            Came::Open if self.breaks(Mutation::OpenReservationIsDead) => Came::Past,
            came => came,
        }
    }

    /// Whether an object has Berth's finalizer once its spec is that of `rec`.
    pub(super) fn is_kept(&self, of: Rec, now: bool) -> bool {
        if self.breaks(Mutation::NoFinalizer) {
            return false;
        }
        let stays = now && !self.breaks(Mutation::FinalizerEndsWithClaim);
        let now: Vec<_> = stays.then(|| FINALIZER.to_owned()).into_iter().collect();
        !finalizers(&now, &self.volume(of).spec).is_empty()
    }

    pub(super) fn sync(&self, ledger: Option<Rec>, remote: Option<Read>) -> Sync {
        let deleting = remote.is_some_and(|remote| remote.deleting);
        let remote = remote.map(|remote| remote.rec);
        let parts = [ledger.unwrap_or(Rec::MAX), remote.unwrap_or(Rec::MAX), deleting.into()];
        let value = self.kept(Call::Sync, &parts, || {
            let known = ledger.map(|ledger| self.volume(ledger));
            let there = remote.map(|remote| Recorded {
                deleting,
                ..Recorded::new(self.volume(remote), Version(1))
            });
            let with = |kind: u64, volume: LocalVolume| kind << 16 | u64::from(self.number(volume));
            match step::next(known.as_ref(), there.as_ref()) {
                Step::Nothing => 0,
                Step::Adopt => 1 << 16,
                Step::Publish(volume) => with(2, *volume),
                Step::Take => 3 << 16,
                Step::Mourn => 4 << 16,
                Step::Tell(_) => 5 << 16,
                Step::Replace(volume) => with(6, *volume),
            }
        });
        let rec = Rec::try_from(value & 0xffff).unwrap();
        let sync = match value >> 16 {
            0 => Sync::Nothing,
            1 => Sync::Adopt,
            2 => Sync::Add(rec),
            3 => Sync::Take,
            4 => Sync::Mourn,
            5 => Sync::Tell,
            _ => Sync::Replace(rec),
        };
        self.mutated(sync, ledger, remote)
    }

    fn mutated(&self, sync: Sync, ledger: Option<Rec>, remote: Option<Rec>) -> Sync {
        let tenancies = [ledger, remote].map(|one| one.map(|rec| self.told(rec).tenancy));
        match (sync, self.mutation) {
            (Sync::Replace(_), Some(Mutation::OlderTenancyTaken))
                if tenancies[1] < tenancies[0] =>
            {
                Sync::Take
            }
            (Sync::Replace(rec), Some(Mutation::EndedTenancyTaken))
                if tenancies[1] == tenancies[0] && ledger == Some(rec) =>
            {
                Sync::Take
            }
            _ => sync,
        }
    }
}

fn told(volume: &LocalVolume) -> Told {
    let name = volume.spec.claim.as_ref().map(|claim| claim.name.as_str().to_owned());
    let uid = volume.status.node_uid.as_deref().unwrap_or("0");
    let is_at = |staging| volume.status.published.iter().any(|place| place.staging == staging);
    Told {
        claim: name.map(|name| u8::from(name == claim_name(1))),
        tenancy: u8::try_from(volume.spec.tenancy.0).unwrap(),
        claimable: volume.is_claimable(),
        places: (is_at(true), is_at(false)),
        node: uid.parse().unwrap(),
        is_for_a_person: volume.status.conditions.clean.reason == CleanReason::FoundInUse,
    }
}

fn claim_name(name: u8) -> String {
    format!("pvc-{name}")
}

fn request(name: u8) -> ClaimRequest {
    ClaimRequest {
        name: claim_name(name).parse().unwrap(),
        pool: "fast".parse().unwrap(),
        mode: Mode::Filesystem,
        range: CapacityRange::default(),
        filesystem: Filesystem::default(),
        topology: Topology::default(),
        pvc: None,
    }
}
