//! A model of the protocol, checked in every state that it can reach.
//!
//! It is a state machine of one node with its agent and ledger, controllers, the API server, kubelets and callers of the
//! orchestrator. Whatever the product decides is asked of the product's own pure functions ([`lab`]): the transitions of
//! [`crate::volume`], the index's choice, what a reservation came to, the step between ledger and API server, discovery's
//! difference, what the cleaner does next, and what a wipe and a mount record. The model has only what surrounds them: stores
//! that compare and swap, watches that are late, writes that are under way, mounts and data on a disk, and an end of any
//! process between any two steps.
//!
//! What it leaves out: one agent's calls wait for the answer of each write before the next one; a caller ends a claim once
//! its calls for it have returned; resource versions of an API server that was set back are not given again; sizes, pools
//! that change, devices, and the administrator's own use of a volume.
//!
//! One thing that it has shown not to hold is no part of the bounds: a reservation that is deleted by hand while another
//! controller's watch is behind. A policy refuses that (`deploy/chart/templates/controller-policies.yaml`).

mod agent;
mod checker;
mod controller;
mod faults;
mod lab;
mod node;
mod publisher;
mod state;
mod tests;
mod versions;

use lab::{Lab, Mutation};
use node::Discovered;
use state::{
    Agent, Backup, Broken, Caller, Controller, Fault, Faults, Host, Id, Label, Object, Op, Owner,
    Places, State, TWO, Wants, Wipe,
};

/// How much of everything there is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bounds {
    volumes: u8,
    names: u8,
    controllers: u8,
    /// How often each name is asked for after its first claim has ended.
    lives: u8,
    /// Whether the watches of controllers, and of the agent, may be late; else they tell at once.
    late: (bool, bool),
    /// Whether a kubelet mounts.
    mounts: bool,
    /// Whether controllers sweep reservations.
    sweeps: bool,
    /// Whether the API server is set back to the beginning; else to any state that it was in.
    to_the_beginning: bool,
    faults: Faults,
}

#[derive(Default)]
struct Model {
    bounds: Bounds,
    lab: Lab,
}

/// The steps from one state, as they are gathered.
struct Steps<'a> {
    model: &'a Model,
    from: State,
    all: Vec<(Label, State)>,
}

impl Steps<'_> {
    fn add(&mut self, what: &'static str, of: [u8; 2], change: impl FnOnce(&Lab, &mut State)) {
        self.push(Label { what, of, fault: false }, change);
    }

    fn fault(
        &mut self,
        what: &'static str,
        of: [u8; 2],
        fault: Fault,
        change: impl FnOnce(&Lab, &mut State),
    ) {
        let Some(faults) = self.from.faults.after(fault) else { return };
        self.push(Label { what, of, fault: true }, |lab, state| {
            state.faults = faults;
            change(lab, state);
        });
    }

    fn push(&mut self, label: Label, change: impl FnOnce(&Lab, &mut State)) {
        let mut next = self.from;
        change(&self.model.lab, &mut next);
        self.model.tell(&mut next);
        if next != self.from {
            next.renumber();
            self.all.push((label, next));
        }
    }
}

impl Model {
    fn new(bounds: Bounds, mutation: Option<Mutation>) -> Self {
        Self { bounds, lab: Lab::new(mutation) }
    }

    /// Every volume found empty, told to everybody, and asked for by nobody yet.
    fn first(&self) -> State {
        let found = |volume| {
            let sight =
                node::Sight { volume, holds: false, mounted: false, node: Some(0), found: 0 };
            let Discovered::Record(rec) = self.lab.discover(None, sight) else {
                panic!("an empty volume is not found")
            };
            assert_eq!(self.lab.discover(Some(rec), sight), Discovered::Nothing);
            rec
        };
        let records: [_; TWO] = std::array::from_fn(|at| {
            let volume = u8::try_from(at).unwrap();
            (volume < self.bounds.volumes).then(|| found(volume))
        });
        let api = std::array::from_fn(|at| {
            let version = u8::try_from(at).unwrap() + 1;
            let object =
                |rec| Object { rec, version, deleting: false, kept: false, complete: true };
            records[at].map(object)
        });
        let heard = api.map(|object| object.and_then(Object::read));
        let agent = Agent {
            heard,
            listed: true,
            begun: true,
            taken: [0; TWO],
            write: None,
            places: [Places::default(); TWO],
            turns: [None; TWO],
            wipes: [Wipe::None; TWO],
        };
        // What a late watch has yet to tell: the one volume to this, and the other to that controller.
        let late = self.bounds.late.0 && self.bounds.volumes > 1;
        let behind = if late { [None, heard[1]] } else { heard };
        let caller = |name| {
            let wants = if name < self.bounds.names { Wants::Volume } else { Wants::Nothing };
            let lives = if name < self.bounds.names { self.bounds.lives } else { 0 };
            Caller { wants, old: None, lives }
        };
        let (leases, callers) = ([None; TWO], [caller(0), caller(1)]);
        let backup = self.bounds.to_the_beginning.then_some(Backup { api, leases, callers });
        State {
            api,
            leases,
            written: 2,
            controllers: [heard, behind].map(|index| Controller { index, op: Op::Idle }),
            ledger: records,
            ledger_whole: true,
            agent: Some(agent),
            late: None,
            host: [Host::default(); TWO],
            callers,
            given: [0; TWO],
            node: (0, true),
            found: 1,
            faults: self.bounds.faults,
            backup,
            is_set_back: false,
            broken: None,
        }
    }

    /// What watches that are never late tell.
    fn tell(&self, state: &mut State) {
        for volume in 0..self.bounds.volumes {
            let (at, now) = (usize::from(volume), state.look(volume));
            if !self.bounds.late.0 {
                for controller in &mut state.controllers {
                    controller.index[at] = self.lab.take(controller.index[at], now);
                }
            }
            if !self.bounds.late.1 && state.agent.is_some_and(|agent| agent.listed) {
                agent::hear(state, volume);
            }
        }
    }

    /// Everything that may happen next.
    fn steps(&self, from: &State) -> Vec<(Label, State)> {
        let mut steps = Steps { model: self, from: *from, all: Vec::new() };
        controller::steps(&mut steps);
        agent::steps(&mut steps);
        publisher::steps(&mut steps);
        faults::steps(&mut steps);
        steps.all
    }

    /// The rule that a state breaks.
    fn broken(&self, state: &State) -> Option<Broken> {
        let of_volume = |at| self.broken_of_volume(state, at);
        let of_caller = |at| self.broken_of_caller(state, at);
        let holds = |at: usize| match state.callers[at].wants {
            Wants::Holds(id) => Some(id.volume),
            _ => None,
        };
        let claim = |at: usize| state.api[at].and_then(|object| self.lab.told(object.rec).claim);
        let twice = |one: Option<u8>, two| one.is_some() && one == two;
        let pair = match () {
            // Of two that were told of it by an API server that was set back one has nothing.
            () if state.is_set_back => None,
            () if twice(holds(0), holds(1)) => Some(Broken::TwoTenants),
            () if twice(claim(0), claim(1)) => Some(Broken::TwoVolumes),
            () => None,
        };
        let both = 0..TWO;
        state
            .broken
            .or(pair)
            .or_else(|| both.clone().find_map(of_volume))
            .or_else(|| both.clone().find_map(of_caller))
    }

    fn broken_of_volume(&self, state: &State, at: usize) -> Option<Broken> {
        let host = state.host[at];
        let volume = u8::try_from(at).unwrap();
        let claimable = state.look(volume).is_some_and(|read| self.lab.told(read.rec).claimable);
        // What an old state of the API server says of a disk was so once.
        let claimable = claimable && !state.is_set_back;
        let shown = |owner: Owner| host.half || host.data.is_some_and(|data| data != owner);
        match () {
            () if host.target.is_some_and(shown) => Some(Broken::DataShown),
            () if claimable && host.data.is_some() => Some(Broken::ClaimableWithData),
            () if claimable && host.target.is_some() => Some(Broken::ClaimableWhileMounted),
            () => None,
        }
    }

    fn broken_of_caller(&self, state: &State, at: usize) -> Option<Broken> {
        let name = u8::try_from(at).unwrap();
        let caller = state.callers[at];
        let claims = |rec, id: Id| {
            let told = self.lab.told(rec);
            told.claim == Some(name) && told.tenancy == id.tenancy
        };
        let api = |id: Id| state.api[usize::from(id.volume)].map(|object| claims(object.rec, id));
        let ledger =
            |id: Id| state.ledger[usize::from(id.volume)].is_some_and(|rec| claims(rec, id));
        let is_lost = |id: Id| !api(id).unwrap_or_else(|| ledger(id));
        match caller.wants {
            _ if state.is_set_back => None,
            Wants::Holds(id) if is_lost(id) => Some(Broken::ClaimLost),
            _ if caller.old.is_some_and(|old| api(old) == Some(true)) => Some(Broken::EndUndone),
            _ => None,
        }
    }

    /// Whether every volume may be claimed, or is held by a claim that its caller knows of, and all agree on that. After an API
    /// server was set back one may be left to a person: with a claim that was forgotten, or given twice.
    fn is_well(&self, state: &State) -> bool {
        (0..self.bounds.volumes).all(|volume| {
            let at = usize::from(volume);
            let Some(read) = state.look(volume) else { return false };
            let told = self.lab.told(read.rec);
            let holds = |caller: &Caller| {
                let id = Id { volume, tenancy: told.tenancy };
                caller.wants == Wants::Holds(id) && told.claim.is_some()
            };
            let indexes = state.controllers.iter().take(self.bounds.controllers.into());
            let agree = indexes.map(|one| one.index[at]).all(|known| known == Some(read));
            // After an API server was set back controllers are to be started anew.
            (agree || state.is_set_back)
                && (told.claimable
                    || state.callers.iter().any(holds)
                    || state.is_set_back && (told.is_for_a_person || told.claim.is_some()))
        })
    }
}
