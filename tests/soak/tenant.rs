//! A tenant: what it does with its volume, and what it knows of it, which is what was acknowledged and nothing else.
//!
//! A call that was not answered, or not carried out, is repeated until it is, or what it was for is given up, as a
//! kubelet would.

mod idle;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tonic::Code;

use crate::calls::{Calls, Failed, Method};
use crate::dice::Dice;
use crate::facts::{Fact, Facts};
use crate::payload::Payload;
use crate::site::Kind;
use crate::support::MIB;

/// Targets that a tenant may have: pods that share its volume.
pub const TARGETS: usize = 3;
/// Ids of ended tenancies that are remembered for late calls.
const ENDED: usize = 32;

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    No,
    Yes,
    /// A call about it was not answered.
    Unknown,
}

/// A call that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Stage,
    Publish(usize),
    Unpublish(usize),
    Unstage,
    Delete,
}

/// In which order a tenant goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// Its claim ends last.
    Usual,
    /// Its claim ends first, while its pods still run.
    DeleteFirst,
}

/// What tenants share.
pub struct Town {
    /// The orchestrator's directory.
    pub kubelet: PathBuf,
    pub facts: Facts,
    /// Whether this machine lets ext4 be grown: with CAP_SYS_RESOURCE, which a container may lack.
    pub may_grow: bool,
    /// Every id that was ever given, and the name that it was given to.
    pub given: Mutex<HashMap<String, String>>,
}

#[derive(Debug)]
pub struct Tenant {
    pub name: String,
    pub pool: &'static str,
    pub kind: Kind,
    /// The volume that it was given.
    pub id: Option<String>,
    pub staged: Is,
    pub targets: [Is; TARGETS],
    pub payload: Payload,
    pub deleted: bool,
    generation: u32,
    asked: Option<u64>,
    capacity: i64,
    leaving: Option<Leaving>,
    pending: Option<Step>,
    ended: VecDeque<String>,
}

impl Tenant {
    pub fn new(number: usize, pool: &'static str, kind: Kind) -> Self {
        Self {
            name: format!("pvc-{number:03}-0"),
            pool,
            kind,
            id: None,
            staged: Is::No,
            targets: [Is::No; TARGETS],
            payload: Payload::none(kind == Kind::Raw),
            deleted: false,
            generation: 0,
            asked: None,
            capacity: 0,
            leaving: None,
            pending: None,
            ended: VecDeque::new(),
        }
    }

    /// Whether every call was answered: then all that it knows is certain.
    pub fn is_certain(&self) -> bool {
        let is_known = self.staged != Is::Unknown && !self.targets.contains(&Is::Unknown);
        self.pending.is_none() && is_known
    }

    /// How often it has begun anew.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Goes on living: does something, or repeats what was not answered.
    pub fn live(&mut self, town: &Town, calls: &Calls, dice: &mut Dice) {
        if dice.chance(3) {
            self.call_late(town, calls, dice);
        }
        if self.pending.is_some_and(|step| step.is_given_up(dice)) {
            (self.pending, self.leaving) = (None, Some(Leaving::Usual));
        }
        match self.pending.or_else(|| self.next(dice)) {
            Some(step) => self.take(step, town, calls, dice),
            None => self.rest(town, calls, dice),
        }
    }

    /// Repeats what was not answered, or goes on to undo it.
    pub fn settle(&mut self, town: &Town, calls: &Calls, dice: &mut Dice) {
        if let Some(step) = self.pending.or_else(|| self.next(dice)).filter(|_| !self.is_certain())
        {
            self.take(step, town, calls, dice);
        }
    }

    /// Lets go of everything.
    pub fn leave(&mut self, town: &Town, calls: &Calls, dice: &mut Dice) {
        self.leaving = self.leaving.or(Some(Leaving::Usual));
        if let Some(step) = self.pending.or_else(|| self.next(dice)) {
            self.take(step, town, calls, dice);
        }
    }

    /// The next call that changes something, where one does.
    fn next(&mut self, dice: &mut Dice) -> Option<Step> {
        self.id.as_ref()?;
        None.or_else(|| self.leaving.map(|order| self.next_of_leaving(order))).or_else(|| {
            let is_anywhere = self.targets.iter().any(|target| *target != Is::No);
            let target = dice.index(TARGETS);
            let is_there = self.targets[target] == Is::Yes;
            match dice.roll(100) {
                0..3 => Some(self.begin_to_leave(dice)),
                3..30 if self.staged != Is::Yes => Some(Step::Stage),
                3..5 => Some(Step::Stage),
                5..30 => Some(Step::Publish(target)),
                30..38 if is_there => Some(Step::Unpublish(target)),
                38..40 if self.staged == Is::Yes && !is_anywhere => Some(Step::Unstage),
                _ => None,
            }
        })
    }

    fn begin_to_leave(&mut self, dice: &mut Dice) -> Step {
        let order = if dice.chance(15) { Leaving::DeleteFirst } else { Leaving::Usual };
        self.leaving = Some(order);
        self.next_of_leaving(order)
    }

    fn next_of_leaving(&self, order: Leaving) -> Step {
        let target = self.targets.iter().position(|target| *target != Is::No);
        match target {
            _ if order == Leaving::DeleteFirst && !self.deleted => Step::Delete,
            Some(target) => Step::Unpublish(target),
            None if self.staged != Is::No => Step::Unstage,
            None => Step::Delete,
        }
    }

    fn take(&mut self, step: Step, town: &Town, calls: &Calls, dice: &mut Dice) {
        let answer = self.call(step, town, calls, dice);
        self.pending = answer.is_err().then_some(step);
        match answer {
            Ok(()) => self.acknowledged(step, town),
            Err(failed) => self.failed(step, &failed, town),
        }
        if self.deleted && self.staged == Is::No && self.targets == [Is::No; TARGETS] {
            self.begin_anew();
        }
    }

    fn call(
        &mut self,
        step: Step,
        town: &Town,
        calls: &Calls,
        dice: &mut Dice,
    ) -> Result<(), Failed> {
        let raw = self.kind == Kind::Raw;
        if step == Step::Create {
            // A claim is asked for again as it was at first.
            let size = *self.asked.get_or_insert_with(|| 1 + dice.roll(2 * MIB));
            let volume = calls.create(&self.name, self.pool, size, raw)?;
            (self.id, self.capacity) = (Some(volume.volume_id), volume.capacity_bytes);
            return Ok(());
        }
        let id = self.id.clone().unwrap();
        let staging = staging(&town.kubelet, &id);
        match step {
            Step::Create => Ok(()),
            Step::Stage => {
                fs::create_dir_all(&staging).unwrap();
                calls.stage(&id, &staging, raw)
            }
            Step::Publish(number) => {
                let target = target(&town.kubelet, &id, number);
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                calls.publish(&id, &staging, &target, raw)
            }
            Step::Unpublish(number) => {
                let target = target(&town.kubelet, &id, number);
                if self.targets[number] == Is::Yes {
                    self.check(&target, "before it is unpublished");
                }
                calls.unpublish(&id, &target)
            }
            Step::Unstage => calls.unstage(&id, &staging),
            Step::Delete => calls.delete(&id),
        }
    }

    fn acknowledged(&mut self, step: Step, town: &Town) {
        let id = self.id.clone().unwrap();
        match step {
            Step::Create => {
                let before = town.given.lock().unwrap().insert(id, self.name.clone());
                let of_another = before.filter(|before| *before != self.name);
                assert_eq!(of_another, None, "{self:?} was given another's tenancy");
                town.facts.count(Fact::Claims);
            }
            Step::Stage => {
                self.staged = Is::Yes;
                town.facts.count(Fact::Stages);
            }
            Step::Publish(number) => {
                self.targets[number] = Is::Yes;
                town.facts.count(Fact::Publishes);
                self.check(&target(&town.kubelet, &id, number), "when it is published");
            }
            Step::Unpublish(number) => {
                self.targets[number] = Is::No;
                let target = target(&town.kubelet, &id, number);
                assert!(
                    fs::symlink_metadata(&target).is_err(),
                    "{} is still there",
                    target.display()
                );
                town.facts.count(Fact::Unpublishes);
            }
            Step::Unstage => {
                self.staged = Is::No;
                match fs::remove_dir(staging(&town.kubelet, &id)) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    removed => removed.unwrap_or_else(|error| panic!("{self:?}: {error}")),
                }
            }
            Step::Delete => {
                self.deleted = true;
                town.facts.count(Fact::Deletes);
            }
        }
    }

    fn failed(&mut self, step: Step, failed: &Failed, town: &Town) {
        assert!(failed.is_fair(step.method()), "{step:?} of {self:?}: {failed:?}");
        match (step, failed) {
            // It holds nothing for certain, whatever became of an earlier call.
            (Step::Create, failed) if failed.is_refused_as(Code::ResourceExhausted) => {
                (self.pending, self.asked) = (None, None);
            }
            (Step::Stage | Step::Unstage, _) => self.staged = Is::Unknown,
            (Step::Publish(number) | Step::Unpublish(number), _) => {
                self.targets[number] = Is::Unknown;
            }
            _ => {}
        }
        town.facts.count(match failed {
            Failed::NoAnswer => Fact::LostAnswers,
            Failed::Refused(_) => Fact::Refusals,
        });
    }

    fn check(&self, place: &Path, when: &str) {
        let differences = self.payload.differences(place);
        assert!(differences.is_empty(), "{} {when}: {differences:?}; {self:?}", self.name);
    }

    fn begin_anew(&mut self) {
        self.ended.extend(self.id.take());
        if self.ended.len() > ENDED {
            self.ended.pop_front();
        }
        self.generation += 1;
        let number = self.name.split('-').nth(1).unwrap().parse().unwrap();
        let (generation, ended) = (self.generation, std::mem::take(&mut self.ended));
        *self = Self { generation, ended, ..Self::new(number, self.pool, self.kind) };
        self.name = format!("pvc-{number:03}-{generation}");
    }
}

impl Step {
    fn method(self) -> Method {
        match self {
            Self::Create => Method::Create,
            Self::Stage | Self::Publish(_) => Method::Use,
            Self::Unpublish(_) | Self::Unstage | Self::Delete => Method::LetGo,
        }
    }

    /// Whether nobody wants it any more: its pod was deleted meanwhile.
    fn is_given_up(self, dice: &mut Dice) -> bool {
        matches!(self, Self::Stage | Self::Publish(_)) && dice.chance(10)
    }
}

/// Where a tenancy is staged.
pub fn staging(kubelet: &Path, id: &str) -> PathBuf {
    kubelet.join(format!("staging-{id}"))
}

/// One of its targets.
pub fn target(kubelet: &Path, id: &str, number: usize) -> PathBuf {
    kubelet.join(format!("pod-{number}")).join(id)
}
