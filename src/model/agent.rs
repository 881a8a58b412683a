//! The agent's ledger and the API server: what it hears, and the writes of which each step towards agreement consists. Which
//! step comes next is decided by the product.

use super::Steps;
use super::lab::{Lab, Mutation, Sync};
use super::state::{Agent, Object, Places, Rec, State, TWO, Wipe, Write};
use crate::inventory::kubernetes::reservation::Came;

pub(super) fn steps(steps: &mut Steps<'_>) {
    if steps.from.agent.is_none() {
        steps.add("agent starts", [0; 2], start);
        return;
    }
    steps.add("agent lists", [0; 2], list);
    let Some(agent) = steps.from.agent else { return };
    if !agent.listed {
        return;
    }
    for volume in 0..steps.model.bounds.volumes {
        steps.add("agent hears of", [volume, 0], |_, state| hear(state, volume));
        if agent.write.is_none() {
            steps.add("agent settles", [volume, 0], |lab, state| settle(lab, state, volume));
        }
    }
    if agent.write.is_some() {
        steps.add("agent's write arrives", [0; 2], arrive);
    }
    if !agent.begun && agent.write.is_none() {
        steps.add("agent is ready", [0; 2], be_ready);
    }
}

fn start(lab: &Lab, state: &mut State) {
    let agent = Agent {
        heard: [None; TWO],
        listed: false,
        begun: false,
        taken: [0; TWO],
        write: None,
        places: [Places::default(); TWO],
        turns: [None; TWO],
        wipes: [Wipe::None; TWO],
    };
    state.agent = Some(agent);
    if is_told(lab, state) {
        begin(lab, state);
    }
}

/// Whether the ledger knows what this node's volumes hold without asking.
fn is_told(lab: &Lab, state: &State) -> bool {
    let is_begun = state.ledger.iter().any(Option::is_some);
    let is_believed = is_begun && lab.breaks(Mutation::PartOfALedgerBelieved);
    state.ledger_whole || is_believed || lab.breaks(Mutation::LedgerRebuiltAtOnce)
}

fn list(_: &Lab, state: &mut State) {
    let heard = [state.look(0), state.look(1)];
    if let Some(agent) = state.agent.as_mut().filter(|agent| !agent.listed) {
        agent.listed = true;
        agent.heard = heard;
    }
}

pub(super) fn hear(state: &mut State, volume: u8) {
    let (now, at) = (state.look(volume), usize::from(volume));
    let Some(agent) = &mut state.agent else { return };
    let went_back = agent.heard[at].zip(now).is_some_and(|(then, now)| now.version < then.version);
    if went_back {
        // The watch began anew.
        agent.taken = [0; TWO];
    }
    agent.heard[at] = now;
}

fn be_ready(lab: &Lab, state: &mut State) {
    let Some(agent) = state.agent else { return };
    let agrees = |at: usize| lab.sync(state.ledger[at], agent.heard[at]) == Sync::Nothing;
    if (0..TWO).all(agrees) {
        state.ledger_whole = true;
        begin(lab, state);
    }
}

/// Takes up what is mounted, and serves from now on.
fn begin(lab: &Lab, state: &mut State) {
    let Some(agent) = &mut state.agent else { return };
    agent.begun = true;
    for at in 0..TWO {
        let Some(told) = state.ledger[at].map(|rec| lab.told(rec)) else { continue };
        let (staged, recorded) = told.places;
        if !staged && !recorded {
            continue;
        }
        // A mount that was not recorded is taken up where the volume is recorded as staged.
        let mounted = state.host[at].target.is_some();
        let target = mounted && (recorded || staged);
        let tenancy = told.tenancy;
        agent.places[at] = Places { tenancy, staged, target, due: true };
    }
}

fn settle(lab: &Lab, state: &mut State, volume: u8) {
    let at = usize::from(volume);
    let Some(mut agent) = state.agent else { return };
    let (ledger, remote) = (state.ledger[at], agent.heard[at]);
    match (lab.sync(ledger, remote), remote) {
        (Sync::Adopt, _) => {
            let now = state.look(volume);
            agent.heard[at] = now;
            state.ledger[at] = now.map(|now| now.rec);
        }
        (Sync::Add(_), None) if lab.breaks(Mutation::DeletionBelieved) => state.ledger[at] = None,
        (Sync::Add(rec), _) => agent.write = Some(Write::Add { volume, rec, begun: None }),
        (Sync::Take, Some(remote)) => {
            let rec = take(lab, state, &mut agent, volume, (remote.rec, remote.version));
            let version = remote.version;
            agent.write = rec.map(|rec| Write::Observe { volume, rec, version });
        }
        (Sync::Mourn, Some(remote)) => {
            let gone = ledger.and_then(|ledger| lab.mourned(ledger, remote.rec));
            state.ledger[at] = gone.or(ledger);
        }
        (Sync::Tell, Some(remote)) => {
            let version = remote.version;
            agent.write = ledger.map(|rec| Write::Observe { volume, rec, version });
        }
        (Sync::Replace(rec), Some(remote)) => {
            state.ledger[at] = Some(rec);
            agent.write = Some(Write::Replace { volume, rec, version: remote.version });
        }
        (Sync::Nothing, _) | (Sync::Take | Sync::Mourn | Sync::Tell | Sync::Replace(_), None) => {}
    }
    state.agent = Some(agent);
}

/// Takes what was decided into the ledger; what that has then.
pub(super) fn take(
    lab: &Lab,
    state: &mut State,
    agent: &mut Agent,
    volume: u8,
    (decided, version): (Rec, u8),
) -> Option<Rec> {
    let at = usize::from(volume);
    let is_news = agent.taken[at] <= version;
    agent.taken[at] = agent.taken[at].max(version);
    let learnt = lab.learnt(state.ledger[at]?, is_news.then_some(decided));
    state.ledger[at] = Some(learnt);
    Some(learnt)
}

fn arrive(lab: &Lab, state: &mut State) {
    let Some(write) = state.agent.and_then(|agent| agent.write) else { return };
    let next = written(lab, state, write);
    let now = state.look(write.volume());
    if let Some(agent) = &mut state.agent {
        agent.write = next;
        if next.is_none() {
            agent.heard[usize::from(write.volume())] = now;
        }
    }
}

/// Does one write; gives what the agent writes next.
pub(super) fn written(lab: &Lab, state: &mut State, write: Write) -> Option<Write> {
    let at = usize::from(write.volume());
    let now = state.api[at];
    match write {
        Write::Observe { rec, version, .. } => {
            let now = now.filter(|now| now.version == version && now.complete)?;
            let (rec, version) = (lab.joined(now.rec, rec), state.version());
            state.api[at] = Some(Object { rec, version, ..now });
            None
        }
        Write::Replace { volume, rec, version } => {
            now.filter(|now| now.version == version)?;
            state.api[at] = None;
            Some(Write::Add { volume, rec, begun: None })
        }
        Write::Add { volume, rec, begun: None } => add(lab, state, volume, rec),
        Write::Add { volume, rec, begun: Some(version) } => {
            let now = now.filter(|now| !now.complete)?;
            if now.version != version {
                return Some(Write::Add { volume, rec, begun: Some(now.version) });
            }
            let (rec, version) = (lab.joined(now.rec, rec), state.version());
            state.api[at] = Some(Object { rec, version, complete: true, ..now });
            None
        }
    }
}

/// The first step of adding: what is in the way and says the same gives way.
fn add(lab: &Lab, state: &mut State, volume: u8, rec: Rec) -> Option<Write> {
    let at = usize::from(volume);
    if is_taken(lab, state, volume, rec) {
        return None;
    }
    let says_the_same = |object: Object| lab.joined(object.rec, rec) == rec;
    match state.api[at] {
        None => {
            let version = state.version();
            let kept = lab.is_kept(rec, false);
            state.api[at] = Some(Object { rec, version, deleting: false, kept, complete: false });
            Some(Write::Add { volume, rec, begun: Some(version) })
        }
        Some(object) if object.deleting && says_the_same(object) => {
            state.api[at] = None;
            Some(Write::Add { volume, rec, begun: None })
        }
        Some(object) if !object.complete && says_the_same(object) => {
            Some(Write::Add { volume, rec, begun: Some(object.version) })
        }
        Some(object) if !object.complete => {
            state.api[at] = None;
            Some(Write::Add { volume, rec, begun: None })
        }
        Some(_) => None,
    }
}

/// Whether another volume has the name of the claim that `rec` is to be added with.
fn is_taken(lab: &Lab, state: &State, volume: u8, rec: Rec) -> bool {
    let Some(name) = lab.told(rec).claim else { return false };
    let Some(lease) = state.leases[usize::from(name)] else { return false };
    let object = state.api[usize::from(lease.wish.volume)];
    let is_past = |object| lab.came(lease, object) == Came::Past;
    lease.wish.volume != volume && !object.is_some_and(is_past)
}
