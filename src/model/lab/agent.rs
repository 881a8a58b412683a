//! What the agent does with records.

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::node::{self, Discovered, Sight};
use super::super::state::{Id, Rec};
use super::{Call, Lab, Mutation, NONE, rec};
use crate::clean::in_use::require_unpublished;
use crate::clean::outcome;
use crate::clean::queue::{self, Clock, Next};
use crate::inventory::Version;
use crate::inventory::replica::step;
use crate::publish::record;
use crate::volume::fixture::delete;
use crate::volume::{AccessMode, LocalVolume, Published, Tenancy, VolumeId};

impl Lab {
    /// What the ledger's record becomes by what was decided; absent where that is not news.
    pub(in crate::model) fn learnt(&self, ledger: Rec, decided: Option<Rec>) -> Rec {
        let parts = [ledger, decided.unwrap_or(Rec::MAX)];
        let learnt = self.kept(Call::Learnt, &parts, || {
            let known = self.volume(ledger);
            let decided = decided.map(|decided| self.volume(decided).spec);
            let is_broken = [Mutation::OlderTenancyTaken, Mutation::EndedTenancyTaken]
                .into_iter()
                .any(|mutation| self.breaks(mutation));
            let older = is_broken.then(|| decided.clone()).flatten();
            let spec = older.unwrap_or_else(|| step::learnt(&known, decided.as_ref()));
            u64::from(self.number(LocalVolume { spec, ..known }))
        });
        rec(learnt).unwrap()
    }

    pub(in crate::model) fn recorded(&self, of: Rec, id: Id, at: (bool, bool)) -> Option<Rec> {
        rec(self.kept(Call::Recorded, &[of, id.tenancy.into(), flags(at)], || {
            let volume = self.volume(of);
            let status = record::recorded(&volume, &id_of(&volume, id), published(at));
            self.with_status(of, status)
        }))
    }

    pub(in crate::model) fn held(&self, of: Rec, id: Id, at: (bool, bool)) -> Option<Rec> {
        rec(self.kept(Call::Held, &[of, id.tenancy.into(), flags(at)], || {
            let volume = self.volume(of);
            let status = record::held_at(&volume, &id_of(&volume, id), published(at));
            self.with_status(of, status)
        }))
    }

    pub(in crate::model) fn is_live(&self, of: Rec, id: Id) -> bool {
        let told = self.told(of);
        told.claim.is_some() && told.tenancy == id.tenancy
    }

    /// Whether a call about `id` that says its claim is `name`'s is about the tenancy that is under way.
    pub(in crate::model) fn is_for(&self, of: Rec, id: Id, name: u8) -> bool {
        let is_for = self.kept(Call::IsFor, &[of, id.tenancy.into(), name.into()], || {
            let (volume, claim) = (self.volume(of), super::claim_name(name).parse().unwrap());
            let said = Some(&claim).filter(|_| !self.breaks(Mutation::CallersClaimIgnored));
            u64::from(volume.is_tenancy(&id_of(&volume, id), said))
        });
        is_for == 1
    }

    /// Whether the cleaner would begin a wipe now.
    pub(in crate::model) fn wants_wipe(&self, of: Rec) -> bool {
        let due = self.kept(Call::Due, &[of], || {
            let clock = Clock { now: Instant::now(), mounts_changed: None };
            let volume = self.volume(of);
            let is_due = matches!(queue::next(&volume, Version(1), None, clock), Next::Wipe(_));
            let is_nowhere = require_unpublished(&volume).is_ok();
            u64::from(is_due && (is_nowhere || self.breaks(Mutation::CleanerIgnoresRecord)))
        });
        due == 1
    }

    pub(in crate::model) fn begun(&self, of: Rec, tenancy: u8) -> Option<Rec> {
        rec(self.kept(Call::Begun, &[of, tenancy.into()], || {
            let (volume, tenancy) = (self.volume(of), Tenancy(tenancy.into()));
            let status = outcome::begun(&volume, tenancy, &delete(), Timestamp::UNIX_EPOCH);
            self.with_status(of, status)
        }))
    }

    pub(in crate::model) fn done(&self, of: Rec, tenancy: u8) -> Option<Rec> {
        rec(self.kept(Call::Done, &[of, tenancy.into()], || {
            let (volume, tenancy) = (self.volume(of), Tenancy(tenancy.into()));
            let status = outcome::done(&volume, tenancy, &delete(), None, Timestamp::UNIX_EPOCH);
            self.with_status(of, status)
        }))
    }

    pub(in crate::model) fn is_due(&self, of: Rec, tenancy: u8) -> bool {
        let due = self.kept(Call::IsDue, &[of, tenancy.into()], || {
            u64::from(self.volume(of).is_due(Tenancy(tenancy.into()), &delete()))
        });
        due == 1
    }

    pub(in crate::model) fn node_gone(&self, of: Rec) -> Option<Rec> {
        rec(self.kept(Call::Gone, &[of], || {
            self.with_status(of, self.volume(of).node_gone(Timestamp::UNIX_EPOCH))
        }))
    }

    /// Whether a record is removed once its Node is gone.
    pub(in crate::model) fn goes(&self, of: Rec) -> bool {
        let volume = self.volume(of);
        let free = volume.spec.claim.is_none();
        volume.goes_with_its_node() || free && self.breaks(Mutation::NodeGoneBeforeItsEnd)
    }

    pub(in crate::model) fn mourned(&self, ledger: Rec, remote: Rec) -> Option<Rec> {
        rec(self.kept(Call::Mourned, &[ledger, remote], || {
            self.with_status(ledger, self.volume(ledger).gone_with(&self.volume(remote)))
        }))
    }

    /// What discovery makes of a volume.
    pub(in crate::model) fn discover(&self, known: Option<Rec>, sight: Sight) -> Discovered<Rec> {
        let parts = [known.unwrap_or(Rec::MAX), sight.packed()];
        let found = self.kept(Call::Discover, &parts, || {
            match node::discover(known.map(|known| self.volume(known)), sight) {
                Discovered::Nothing => NONE,
                Discovered::Gone => NONE - 1,
                Discovered::Record(volume) => u64::from(self.number(volume)),
            }
        });
        match rec(found) {
            Some(found) => Discovered::Record(found),
            None if found == NONE => Discovered::Nothing,
            None => Discovered::Gone,
        }
    }
}

fn flags((staged, target): (bool, bool)) -> u16 {
    u16::from(staged) * 2 + u16::from(target)
}

fn id_of(volume: &LocalVolume, id: Id) -> VolumeId {
    VolumeId { volume: volume.name.clone(), tenancy: Tenancy(id.tenancy.into()) }
}

fn published((staged, target): (bool, bool)) -> Vec<Published> {
    let places = [(staged, true, "/kubelet/staging"), (target, false, node::TARGET)];
    let there = places.into_iter().filter(|(there, ..)| *there);
    there
        .map(|(_, staging, path)| Published {
            path: path.to_owned(),
            staging,
            read_only: false,
            access: AccessMode::SingleNodeWriter,
            flags: None,
        })
        .collect()
}
