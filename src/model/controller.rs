//! Controllers: what they hear, and the calls of which a claim and its end consist. Which volume is chosen, what is written
//! and what a reservation has come to is decided by the product.

use super::Steps;
use super::lab::{Chosen, Lab, Mutation, Released};
use super::state::{Broken, Id, Lease, Object, Op, Read, Rec, State, TWO, Wants, Wish};
use crate::inventory::kubernetes::reservation::Came;

/// Why a write was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Missing,
    Conflict,
}

pub(super) fn steps(steps: &mut Steps<'_>) {
    for number in 0..steps.model.bounds.controllers {
        hear(steps, number);
        match steps.from.controllers[usize::from(number)].op {
            Op::Idle => begin(steps, number),
            op => {
                steps.add("controller goes on", [number, 0], |lab, state| {
                    let next = go_on(lab, state, number, op);
                    state.controllers[usize::from(number)].op = next;
                });
            }
        }
    }
}

/// The watch tells, sooner or later; what it skips says nothing, since each record is whole.
fn hear(steps: &mut Steps<'_>, number: u8) {
    for volume in 0..steps.model.bounds.volumes {
        steps.add("controller hears of", [number, volume], |lab, state| {
            let now = state.look(volume);
            let known = &mut state.controllers[usize::from(number)].index[usize::from(volume)];
            *known = lab.take(*known, now);
        });
    }
}

fn begin(steps: &mut Steps<'_>, number: u8) {
    for name in 0..steps.model.bounds.names {
        let caller = steps.from.callers[usize::from(name)];
        let repeats = matches!(caller.wants, Wants::Holds(_)) && steps.model.bounds.controllers > 1;
        if caller.wants == Wants::Volume || repeats {
            steps.add("controller is asked for", [number, name], |lab, state| {
                let op = choose(lab, state, number, name);
                state.controllers[usize::from(number)].op = op;
            });
        }
        let ends = match caller.wants {
            Wants::End(id) => Some(id),
            _ => None,
        };
        // What an API server forgot nobody ends a second time.
        let again = caller.old.filter(|_| !steps.from.is_set_back);
        for id in ends.into_iter().chain(again) {
            for fresh in [false, true] {
                if !fresh && !steps.model.bounds.late.0 {
                    continue;
                }
                let what = if fresh { "controller ends" } else { "controller ends by memory" };
                steps.add(what, [number, name], |lab, state| {
                    release(lab, state, number, (name, id), fresh);
                });
            }
        }
        if steps.model.bounds.sweeps {
            steps.add("controller sweeps", [number, name], |lab, state| {
                sweep(lab, state, number, name);
            });
        }
    }
}

fn choose(lab: &Lab, state: &State, number: u8, name: u8) -> Op {
    let index = state.controllers[usize::from(number)].index;
    match lab.choose(index, name) {
        Chosen::Held(volume) => Op::Answer { name, volume },
        Chosen::Free(volume) => {
            let wish = index[usize::from(volume)].and_then(|read| {
                let rec = lab.claimed(read.rec, name)?;
                Some(Wish { name, volume, version: read.version, rec })
            });
            wish.map_or(Op::Idle, Op::Reserve)
        }
        // Only the reservation says that nobody holds it.
        Chosen::Nothing => {
            let standing = state.leases[usize::from(name)];
            standing.map_or(Op::Idle, |lease| Op::Settle(lease, None))
        }
    }
}

fn go_on(lab: &Lab, state: &mut State, number: u8, op: Op) -> Op {
    match op {
        Op::Idle => Op::Idle,
        Op::Reserve(wish) => reserve(lab, state, wish),
        Op::Settle(lease, wish) => settle(lab, state, lease, wish),
        Op::Help(lease, wish) => {
            match patch(lab, state, lease.wish.volume, lease.wish.version, lease.wish.rec) {
                Ok(_) => held(lease, wish),
                Err(_) => Op::Settle(lease, wish),
            }
        }
        Op::Replace(dead, wish) => match state.leases[usize::from(wish.name)] {
            Some(now) if now.id == dead.id => {
                let lease = Lease { wish, id: state.version() };
                state.leases[usize::from(wish.name)] = Some(lease);
                Op::Write(lease)
            }
            _ => Op::Reserve(wish),
        },
        Op::Write(lease) => {
            let wish = lease.wish;
            match patch(lab, state, wish.volume, wish.version, wish.rec) {
                Ok(_) => {
                    answer(lab, state, number, wish.name, wish.volume);
                    Op::Idle
                }
                Err(Failure::Conflict) => Op::Conflicted(lease),
                Err(Failure::Missing) => Op::Idle,
            }
        }
        Op::Conflicted(lease) => after_conflict(lab, state, number, lease),
        Op::Drop(lease) => {
            drop_lease(state, lease);
            Op::Idle
        }
        Op::Answer { name, volume } => {
            answer(lab, state, number, name, volume);
            Op::Idle
        }
        Op::Tidy { name, volume, version } => match state.leases[usize::from(name)] {
            Some(lease) if lease.wish.volume == volume && lease.wish.version < version => {
                Op::Drop(lease)
            }
            _ => Op::Idle,
        },
    }
}

fn reserve(lab: &Lab, state: &mut State, wish: Wish) -> Op {
    let id = state.written + 1;
    let lease = Lease { wish, id };
    if lab.breaks(Mutation::NoReservation) {
        return Op::Write(lease);
    }
    match state.leases[usize::from(wish.name)] {
        None => {
            state.written = id;
            state.leases[usize::from(wish.name)] = Some(lease);
            Op::Write(lease)
        }
        Some(standing) if standing.wish == wish => Op::Write(standing),
        Some(standing) => Op::Settle(standing, Some(wish)),
    }
}

fn settle(lab: &Lab, state: &State, lease: Lease, wish: Option<Wish>) -> Op {
    let Some(object) = state.api[usize::from(lease.wish.volume)] else { return Op::Idle };
    match lab.came(lease, object) {
        Came::True => held(lease, wish),
        Came::Open => Op::Help(lease, wish),
        Came::Past => wish.map_or(Op::Idle, |wish| Op::Replace(lease, wish)),
        Came::Unknown => Op::Idle,
    }
}

/// A standing reservation's volume holds the claim.
fn held(lease: Lease, wish: Option<Wish>) -> Op {
    let Wish { name, volume, .. } = lease.wish;
    match wish {
        Some(wish) if wish.volume == volume => Op::Idle,
        _ => Op::Answer { name, volume },
    }
}

fn after_conflict(lab: &Lab, state: &mut State, number: u8, lease: Lease) -> Op {
    let Wish { name, volume, rec, .. } = lease.wish;
    let now = state.api[usize::from(volume)].map(|object| lab.told(object.rec));
    let ours = lab.told(rec);
    match now {
        Some(now) if now.claim == ours.claim && now.tenancy == ours.tenancy => {
            answer(lab, state, number, name, volume);
            Op::Idle
        }
        Some(now) if now.claim == Some(name) => Op::Idle,
        _ => Op::Drop(lease),
    }
}

/// Writes a spec at one version of a volume.
pub(super) fn patch(
    lab: &Lab,
    state: &mut State,
    volume: u8,
    version: u8,
    spec: Rec,
) -> Result<u8, Failure> {
    let now = state.api[usize::from(volume)].ok_or(Failure::Missing)?;
    if now.version != version && !lab.breaks(Mutation::VersionsIgnored) {
        return Err(Failure::Conflict);
    }
    let rec = lab.joined(spec, now.rec);
    let kept = if now.deleting { now.kept } else { lab.is_kept(rec, now.kept) };
    let version = state.version();
    state.api[usize::from(volume)] = Some(Object { rec, version, kept, ..now });
    Ok(version)
}

fn drop_lease(state: &mut State, lease: Lease) {
    let standing = &mut state.leases[usize::from(lease.wish.name)];
    if standing.is_some_and(|standing| standing.id == lease.id) {
        *standing = None;
    }
}

/// Reads what the claim holds, and tells its caller.
fn answer(lab: &Lab, state: &mut State, number: u8, name: u8, volume: u8) {
    let index = &mut state.controllers[usize::from(number)].index[usize::from(volume)];
    let known = *index;
    let fresh = state.api[usize::from(volume)].and_then(Object::read);
    // What was read after it was known counts, whatever its version.
    *index = fresh;
    let read = if lab.breaks(Mutation::HolderAnsweredFromMemory) { known.or(fresh) } else { fresh };
    let Some(told) = read.map(|read: Read| lab.told(read.rec)) else { return };
    if told.claim == Some(name) {
        tell(state, name, Id { volume, tenancy: told.tenancy });
    }
}

fn tell(state: &mut State, name: u8, id: Id) {
    let caller = &mut state.callers[usize::from(name)];
    match caller.wants {
        Wants::Holds(held) if held != id => state.breaks(Broken::TwoVolumes),
        Wants::Volume => {
            caller.wants = Wants::Holds(id);
            let given = &mut state.given[usize::from(id.volume)];
            if id.tenancy <= *given && !state.is_set_back {
                state.breaks(Broken::TenancyAgain);
            } else {
                *given = (*given).max(id.tenancy);
            }
        }
        Wants::Holds(_) | Wants::End(_) | Wants::Nothing => {}
    }
}

/// `DeleteVolume`: read, decided, and written at the version that was read, again while that is refused.
fn release(lab: &Lab, state: &mut State, number: u8, (name, id): (u8, Id), fresh: bool) {
    let volume = usize::from(id.volume);
    let memory = state.controllers[usize::from(number)].index[volume];
    let now = state.look(id.volume);
    let mut read = if fresh { now } else { memory };
    // What memory knows only of earlier tenancies is read anew.
    let is_behind = read.is_none_or(|read| lab.told(read.rec).tenancy < id.tenancy);
    if is_behind && !lab.breaks(Mutation::ReleaseAnsweredFromMemory) {
        read = now;
    }
    let Some(known) = read else {
        // A claim that is reserved on a volume that is not there may come back with it.
        let reserved = |lease: Lease| lease.wish.volume == id.volume;
        if !state.leases.iter().flatten().any(|lease| reserved(*lease)) {
            ended(state, name, id);
        }
        return;
    };
    if let Released::Now(rec) = lab.released(known.rec, id.tenancy) {
        // A conflict has it read again.
        let Some(now) = now else { return };
        let rec = if known.version == now.version {
            Some(rec)
        } else {
            match lab.released(now.rec, id.tenancy) {
                Released::Now(rec) => Some(rec),
                Released::Ended { .. } => None,
            }
        };
        if let Some(rec) = rec.filter(|rec| *rec != now.rec)
            && let Ok(version) = patch(lab, state, id.volume, now.version, rec)
        {
            state.controllers[usize::from(number)].op =
                Op::Tidy { name, volume: id.volume, version };
        }
    }
    ended(state, name, id);
}

fn ended(state: &mut State, name: u8, id: Id) {
    let caller = &mut state.callers[usize::from(name)];
    if caller.wants == Wants::End(id) {
        caller.wants = Wants::Nothing;
        caller.old = Some(id);
    }
}

/// Deletes a dead reservation, and makes one that is missing by what memory says is held.
fn sweep(lab: &Lab, state: &mut State, number: u8, name: u8) {
    let index = state.controllers[usize::from(number)].index;
    if let Some(lease) = state.leases[usize::from(name)] {
        let known = index[usize::from(lease.wish.volume)];
        let stands = known.is_some_and(|known| lab.told(known.rec).claim == Some(name));
        let object = state.api[usize::from(lease.wish.volume)];
        if !stands && object.is_some_and(|object| lab.came(lease, object) == Came::Past) {
            drop_lease(state, lease);
        }
        return;
    }
    let holds = |read: &Read| lab.told(read.rec).claim == Some(name);
    let held = (0..TWO).find_map(|volume| Some((volume, index[volume].filter(holds)?)));
    if let Some((volume, read)) = held {
        let volume = u8::try_from(volume).unwrap();
        let wish = Wish { name, volume, version: read.version, rec: read.rec };
        let lease = Lease { wish, id: state.version() };
        state.leases[usize::from(name)] = Some(lease);
    }
}
