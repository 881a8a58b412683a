//! What goes wrong, as often as the bounds allow; and what callers, the network and the cluster do besides.

use super::Steps;
use super::agent::written;
use super::lab::Lab;
use super::state::{Agent, Backup, Caller, Fault, Object, Op, State, TWO, Wants, Wipe};

pub(super) fn steps(steps: &mut Steps<'_>) {
    callers(steps);
    network(steps);
    controllers(steps);
    agents(steps);
    api_server(steps);
    node(steps);
}

fn callers(steps: &mut Steps<'_>) {
    for name in 0..steps.model.bounds.names {
        let at = usize::from(name);
        match steps.from.callers[at] {
            // An orchestrator ends a claim once its calls for it have returned.
            Caller { wants: Wants::Holds(id), .. } if !is_asked_for(&steps.from, name) => {
                steps.add("caller has enough of", [name, 0], |_, state| {
                    state.callers[at].wants = Wants::End(id);
                });
            }
            Caller { wants: Wants::Nothing, lives: 1.., .. } => {
                steps.add("caller wants again", [name, 0], |_, state| {
                    state.callers[at].wants = Wants::Volume;
                    state.callers[at].lives -= 1;
                });
            }
            _ => {}
        }
    }
}

fn is_asked_for(state: &State, name: u8) -> bool {
    state.controllers.iter().any(|controller| match controller.op {
        Op::Idle | Op::Drop(_) | Op::Tidy { .. } => false,
        Op::Reserve(wish) | Op::Replace(_, wish) => wish.name == name,
        Op::Settle(lease, wish) | Op::Help(lease, wish) => {
            lease.wish.name == name || wish.is_some_and(|wish| wish.name == name)
        }
        Op::Write(lease) | Op::Conflicted(lease) => lease.wish.name == name,
        Op::Answer { name: asked, .. } => asked == name,
    })
}

fn network(steps: &mut Steps<'_>) {
    if let Some(late) = steps.from.late {
        steps.add("late write arrives", [0; 2], |lab, state| {
            state.late = None;
            let _its_agent_is_gone = written(lab, state, late);
        });
        steps.add("late write is lost", [0; 2], |_, state| state.late = None);
    }
}

fn controllers(steps: &mut Steps<'_>) {
    for number in 0..steps.model.bounds.controllers {
        steps.fault(
            "controller is started anew",
            [number, 0],
            Fault::ControllerCrash,
            |_, state| {
                let index = [state.look(0), state.look(1)];
                let controller = &mut state.controllers[usize::from(number)];
                (controller.op, controller.index) = (Op::Idle, index);
            },
        );
    }
}

fn agents(steps: &mut Steps<'_>) {
    let Some(agent) = steps.from.agent else {
        steps.fault("ledger is lost", [0; 2], Fault::LedgerLost, |_, state| {
            state.ledger = [None; TWO];
            state.ledger_whole = false;
        });
        return;
    };
    for late in [false, true] {
        if late && (agent.write.is_none() || steps.from.late.is_some()) {
            continue;
        }
        for orphans in [false, true] {
            steps.fault(
                "agent crashes",
                [late.into(), orphans.into()],
                Fault::AgentCrash,
                |_, state| {
                    end(state, agent, late);
                    for (at, wipe) in agent.wipes.iter().enumerate() {
                        let runs = matches!(wipe, Wipe::Begun(_) | Wipe::Half(_));
                        state.host[at].orphan |= orphans && runs;
                    }
                },
            );
        }
        steps.fault("node is reset", [late.into(), 0], Fault::Reset, |_, state| {
            end(state, agent, late);
            for host in &mut state.host {
                (host.target, host.orphan) = (None, false);
            }
        });
    }
}

fn end(state: &mut State, agent: Agent, late: bool) {
    state.agent = None;
    if late {
        state.late = agent.write;
    }
}

fn api_server(steps: &mut Steps<'_>) {
    for volume in 0..steps.model.bounds.volumes {
        let Some(object) = steps.from.api[usize::from(volume)].filter(|object| !object.deleting)
        else {
            continue;
        };
        steps.fault("somebody deletes object", [volume, 0], Fault::ObjectDeleted, |_, state| {
            let version = state.version();
            let deleted = Object { deleting: true, version, ..object };
            state.api[usize::from(volume)] = Some(deleted).filter(|object| object.kept);
        });
    }
    for name in 0..steps.model.bounds.names {
        steps.fault("somebody deletes reservation", [name, 0], Fault::LeaseDeleted, |_, state| {
            state.leases[usize::from(name)] = None;
        });
    }
    if !steps.from.faults.may(Fault::SetBack) {
        return;
    }
    match steps.from.backup {
        None => steps.add("API server is backed up", [0; 2], |_, state| {
            let State { api, leases, callers, .. } = *state;
            state.backup = Some(Backup { api, leases, callers });
        }),
        Some(backup) => {
            steps.fault("API server is set back", [0; 2], Fault::SetBack, |_, state| {
                set_back(state, backup);
            });
        }
    }
}

/// The callers' own objects are in the same store: what they were told since is forgotten, and what ended has ended.
fn set_back(state: &mut State, backup: Backup) {
    (state.api, state.leases) = (backup.api, backup.leases);
    state.backup = None;
    state.is_set_back = true;
    for (now, then) in state.callers.iter_mut().zip(backup.callers) {
        let ended = matches!(now.wants, Wants::End(_) | Wants::Nothing);
        match (then.wants, now.wants) {
            // A kubelet knows by itself what it has mounted.
            (Wants::Volume, Wants::Holds(id) | Wants::End(id)) => {
                *now = Caller { old: Some(id), ..then };
            }
            (Wants::Volume, Wants::Nothing) => *now = Caller { old: now.old, ..then },
            (Wants::Holds(_) | Wants::End(_), _) if ended => {}
            _ => now.wants = then.wants,
        }
    }
}

fn node(steps: &mut Steps<'_>) {
    let (uid, is_there) = steps.from.node;
    if is_there {
        steps.fault("Node is deleted", [uid, 0], Fault::NodeDeleted, |_, state| {
            state.node.1 = false;
        });
    } else {
        steps.add("Node comes back", [uid, 0], |_, state| state.node = (uid + 1, true));
    }
    if is_there && uid == 0 {
        return;
    }
    for number in 0..steps.model.bounds.controllers {
        for volume in 0..steps.model.bounds.volumes {
            steps.add("controller gives up", [number, volume], |lab, state| {
                bury(lab, state, number, volume);
            });
        }
    }
}

/// What becomes of a volume whose Node is gone, as memory has it: a free one goes, a claimed one is Lost.
fn bury(lab: &Lab, state: &mut State, number: u8, volume: u8) {
    let at = usize::from(volume);
    let Some(known) = state.controllers[usize::from(number)].index[at] else { return };
    let told = lab.told(known.rec);
    if state.node == (told.node, true) {
        return;
    }
    let Some(now) = state.api[at].filter(|now| now.complete) else { return };
    if lab.goes(known.rec) {
        if now.version == known.version {
            state.api[at] = None;
        }
        return;
    }
    let is_it = lab.told(now.rec).node == told.node;
    if let Some(gone) = lab.node_gone(now.rec).filter(|_| is_it) {
        let version = state.version();
        state.api[at] = Some(Object { rec: gone, version, ..now });
    }
}
