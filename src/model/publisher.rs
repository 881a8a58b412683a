//! The agent on its host: discovery, the wipes, and what a kubelet asks for. What is recorded by each is decided by the
//! product.

use super::Steps;
use super::agent::take;
use super::lab::{Lab, Mutation};
use super::node::{Discovered, Sight};
use super::state::{Agent, Broken, Id, Owner, Places, State, Turn, Wants, Wipe};

pub(super) fn steps(steps: &mut Steps<'_>) {
    for volume in 0..steps.model.bounds.volumes {
        host(steps, volume);
        if steps.from.agent.is_some_and(|agent| agent.begun) {
            steps.add("agent looks at", [volume, 0], |lab, state| discover(lab, state, volume));
            wipe(steps, volume);
            steps.add("agent records", [volume, 0], |lab, state| record(lab, state, volume));
            steps.add("agent mounts", [volume, 0], |lab, state| mount(lab, state, volume));
        }
    }
    if steps.model.bounds.mounts && steps.from.agent.is_some_and(|agent| agent.begun) {
        for name in 0..steps.model.bounds.names {
            kubelet(steps, name);
        }
    }
}

/// What happens without an agent.
fn host(steps: &mut Steps<'_>, volume: u8) {
    let at = usize::from(volume);
    let host = steps.from.host[at];
    if host.orphan {
        steps.add("orphan wipes", [volume, 0], |lab, state| {
            erase(lab, state, volume, false);
        });
        steps.add("orphan ends", [volume, 0], |_, state| state.host[at].orphan = false);
    }
}

fn discover(lab: &Lab, state: &mut State, volume: u8) {
    let at = usize::from(volume);
    let host = state.host[at];
    let sight = Sight {
        volume,
        holds: host.data.is_some(),
        mounted: host.target.is_some(),
        node: Some(state.node.0).filter(|_| state.node.1),
        found: state.found,
    };
    let known = state.ledger[at];
    match lab.discover(known, sight) {
        Discovered::Nothing => {}
        Discovered::Gone => state.ledger[at] = None,
        Discovered::Record(found) => {
            state.ledger[at] = Some(found);
            state.found = (state.found + u8::from(known.is_none())).min(5);
        }
    }
}

fn kubelet(steps: &mut Steps<'_>, name: u8) {
    let caller = steps.from.callers[usize::from(name)];
    let now = match caller.wants {
        Wants::Holds(id) | Wants::End(id) => Some(id),
        Wants::Volume | Wants::Nothing => None,
    };
    for id in now.into_iter().chain(caller.old) {
        // Of a claim that an API server forgot a kubelet only takes away what it has.
        let may_mount = now == Some(id) || !steps.from.is_set_back;
        for stage in [true, false].into_iter().filter(|_| may_mount) {
            let what = if stage { "kubelet stages" } else { "kubelet publishes" };
            steps.add(what, [name, id.tenancy], |lab, state| {
                take_turn(lab, state, Turn { id, name, stage });
            });
        }
        steps.add("kubelet unpublishes", [name, id.tenancy], |_, state| unpublish(state, name, id));
        steps.add("kubelet unstages", [name, id.tenancy], |lab, state| unstage(lab, state, id));
    }
}

/// Finds the volume of a call, here or by what the API server knows, and takes the turn.
fn take_turn(lab: &Lab, state: &mut State, turn: Turn) {
    let (at, Some(mut agent)) = (usize::from(turn.id.volume), state.agent) else { return };
    if agent.turns[at].is_some() {
        return;
    }
    let is_it = |rec| lab.is_for(rec, turn.id, turn.name);
    let is_live = |state: &State| state.ledger[at].is_some_and(is_it);
    let live = is_live(state) || {
        if let Some(now) = state.look(turn.id.volume) {
            take(lab, state, &mut agent, turn.id.volume, (now.rec, now.version));
        }
        is_live(state)
    };
    let live = live || lab.breaks(Mutation::EndedTenancyMounted);
    let places = agent.places[at];
    let is_staged = places.staged && places.tenancy == turn.id.tenancy;
    let mounted = state.host[at].target.is_some();
    if live && (turn.stage && !is_staged || !turn.stage && is_staged && !mounted) {
        agent.turns[at] = Some(turn);
    }
    state.agent = Some(agent);
}

/// Does what a turn was taken for.
fn mount(lab: &Lab, state: &mut State, volume: u8) {
    let (at, Some(mut agent)) = (usize::from(volume), state.agent) else { return };
    let Some(turn) = agent.turns[at].take() else { return };
    let tenancy = turn.id.tenancy;
    if turn.stage {
        let held = state.ledger[at].and_then(|rec| {
            let is_skipped = lab.breaks(Mutation::StagedUnrecorded);
            let is_skipped = is_skipped || lab.breaks(Mutation::EndedTenancyMounted);
            if is_skipped { Some(rec) } else { lab.held(rec, turn.id, (true, false)) }
        });
        if held.is_some() {
            state.ledger[at] = held;
            let due = lab.breaks(Mutation::StagedUnrecorded);
            agent.places[at] = Places { tenancy, staged: true, target: false, due };
        }
    } else {
        let owner = Owner { name: turn.name, tenancy };
        if state.host[at].data.is_some_and(|data| data != owner) || state.host[at].half {
            state.breaks(Broken::DataShown);
        }
        // A tenant writes at once.
        (state.host[at].target, state.host[at].data) = (Some(owner), Some(owner));
        agent.places[at].target = true;
        agent.places[at].due = true;
    }
    state.agent = Some(agent);
}

fn unpublish(state: &mut State, name: u8, id: Id) {
    let (at, Some(agent)) = (usize::from(id.volume), &mut state.agent) else { return };
    let owner = Owner { name, tenancy: id.tenancy };
    if agent.turns[at].is_none() && state.host[at].target == Some(owner) {
        state.host[at].target = None;
        if agent.places[at].tenancy == id.tenancy {
            agent.places[at].target = false;
            agent.places[at].due = true;
        }
    }
}

fn unstage(lab: &Lab, state: &mut State, id: Id) {
    let (at, Some(agent)) = (usize::from(id.volume), &mut state.agent) else { return };
    let places = &mut agent.places[at];
    let mounted = state.host[at].target.is_some_and(|owner| owner.tenancy == id.tenancy);
    if agent.turns[at].is_none() && places.tenancy == id.tenancy && places.staged && !mounted {
        *places = Places { tenancy: id.tenancy, staged: false, target: false, due: true };
        record(lab, state, id.volume);
    }
}

fn record(lab: &Lab, state: &mut State, volume: u8) {
    let (at, Some(agent)) = (usize::from(volume), &mut state.agent) else { return };
    let places = &mut agent.places[at];
    if std::mem::take(&mut places.due) {
        let id = Id { volume, tenancy: places.tenancy };
        let at_places = (places.staged, places.target);
        let recorded = state.ledger[at].and_then(|rec| lab.recorded(rec, id, at_places));
        state.ledger[at] = recorded.or(state.ledger[at]);
    }
}

fn wipe(steps: &mut Steps<'_>, volume: u8) {
    let (at, Some(agent)) = (usize::from(volume), steps.from.agent) else { return };
    match agent.wipes[at] {
        Wipe::None => {
            steps.add("wipe begins", [volume, 0], |lab, state| begin_wipe(lab, state, volume));
        }
        Wipe::Begun(tenancy) => {
            steps.add("wipe looks", [volume, 0], |lab, state| {
                let mounted = is_mounted(lab, state, volume);
                set(state, volume, if mounted { Wipe::None } else { Wipe::Half(tenancy) });
                if !mounted {
                    erase(lab, state, volume, true);
                }
            });
        }
        Wipe::Half(tenancy) => {
            steps.add("wipe ends", [volume, 0], |lab, state| {
                if !lab.breaks(Mutation::HalfAWipeIsDone) {
                    erase(lab, state, volume, false);
                }
                let done = state.ledger[at].and_then(|rec| lab.done(rec, tenancy));
                state.ledger[at] = done.or(state.ledger[at]);
                set(state, volume, Wipe::None);
            });
        }
    }
    if let Wipe::Begun(tenancy) | Wipe::Half(tenancy) = agent.wipes[at] {
        steps.add("wipe is stopped", [volume, 0], |lab, state| {
            if !state.ledger[at].is_some_and(|rec| lab.is_due(rec, tenancy)) {
                set(state, volume, Wipe::None);
            }
        });
    }
}

fn begin_wipe(lab: &Lab, state: &mut State, volume: u8) {
    let Some(rec) = state.ledger[usize::from(volume)] else { return };
    let tenancy = lab.told(rec).tenancy;
    let locked = state.host[usize::from(volume)].orphan && !lab.breaks(Mutation::WipesSideBySide);
    if !lab.wants_wipe(rec) || locked || is_mounted(lab, state, volume) {
        return;
    }
    if let Some(begun) = lab.begun(rec, tenancy) {
        state.ledger[usize::from(volume)] = Some(begun);
        set(state, volume, Wipe::Begun(tenancy));
    }
}

fn is_mounted(lab: &Lab, state: &State, volume: u8) -> bool {
    let mounted = state.host[usize::from(volume)].target.is_some();
    mounted && !lab.breaks(Mutation::CleanerIgnoresMounts)
}

fn set(state: &mut State, volume: u8, wipe: Wipe) {
    let set = |agent: &mut Agent| agent.wipes[usize::from(volume)] = wipe;
    state.agent.iter_mut().for_each(set);
}

/// A wipe takes a part of the data away, or all that is left.
fn erase(lab: &Lab, state: &mut State, volume: u8, partly: bool) {
    let host = &mut state.host[usize::from(volume)];
    let (data, mounted) = (host.data, host.target.is_some());
    host.half = partly && data.is_some();
    if !partly {
        host.data = None;
    }
    if mounted {
        state.breaks(Broken::WipedWhileMounted);
    }
    // What callers were told of before an API server was set back may be void.
    let at = usize::from(volume);
    let is_live = |id: Id| {
        let api = state.api[at].map(|object| object.rec);
        let both = api.into_iter().chain(state.ledger[at]);
        both.filter(|rec| lab.is_live(*rec, id)).count() == 2
    };
    let holds = |wants| match wants {
        Wants::Holds(id) => id.volume == volume && (!state.is_set_back || is_live(id)),
        _ => false,
    };
    if state.callers.iter().any(|caller| holds(caller.wants)) {
        state.breaks(Broken::DataLost);
    }
}
