//! What a tenant does beside moving its volume: it reads and writes, asks, and speaks late of tenancies that have ended.

use std::fs;

use tonic::Code;

use super::{Is, Step, TARGETS, Tenant, Town, staging, target};
use crate::calls::{Calls, Method};
use crate::dice::Dice;
use crate::facts::Fact;
use crate::site::Kind;

impl Tenant {
    /// What changes nothing of where the volume is.
    pub(super) fn rest(&mut self, town: &Town, calls: &Calls, dice: &mut Dice) {
        let Some(id) = self.id.clone() else {
            if dice.chance(50) {
                self.take(Step::Create, town, calls, dice);
            }
            return;
        };
        let number = dice.index(TARGETS);
        if self.targets[number] != Is::Yes {
            return;
        }
        let target = target(&town.kubelet, &id, number);
        let raw = self.kind == Kind::Raw;
        let done = match dice.roll(100) {
            0..55 => {
                self.payload.change(&target, &self.name, dice);
                Ok(Fact::Writes)
            }
            55..75 => {
                self.check(&target, "while it is published");
                Ok(Fact::Checks)
            }
            75..90 => calls.stats(&id, &target).map(|units| {
                assert!(units > 0, "{self:?} has no statistics");
                Fact::Stats
            }),
            90..95 if self.kind != Kind::Device || town.may_grow => {
                calls.expand(&id, &target, self.capacity, raw).map(|capacity| {
                    assert!(capacity >= self.capacity, "{self:?} has shrunk to {capacity}");
                    Fact::Expansions
                })
            }
            _ => calls.look_around(self.pool).map(|()| Fact::Checks),
        };
        match done {
            Ok(fact) => town.facts.count(fact),
            Err(failed) => assert!(failed.is_fair(Method::Use), "{self:?}: {failed:?}"),
        }
    }

    /// A late call about a tenancy that has ended: it does nothing to whoever has the volume now.
    pub(super) fn call_late(&mut self, town: &Town, calls: &Calls, dice: &mut Dice) {
        if self.ended.is_empty() {
            return;
        }
        let id = self.ended[dice.index(self.ended.len())].clone();
        let (staging, target) = (staging(&town.kubelet, &id), target(&town.kubelet, &id, 0));
        let answer = match dice.roll(4) {
            0 => calls.unpublish(&id, &target),
            1 => calls.unstage(&id, &staging),
            2 => calls.delete(&id),
            _ => {
                fs::create_dir(&staging).unwrap();
                let staged = calls.stage(&id, &staging, self.kind == Kind::Raw);
                fs::remove_dir(&staging).unwrap();
                match staged {
                    Ok(()) => panic!("{id} was staged after its end"),
                    Err(failed) if failed.is_refused_as(Code::NotFound) => Ok(()),
                    Err(failed) => Err(failed),
                }
            }
        };
        town.facts.count(Fact::LateCalls);
        if let Err(failed) = answer {
            assert!(failed.is_fair(Method::LetGo), "late, about {id}: {failed:?}");
        }
    }
}
