//! Every state that can be reached, breadth first, and whether each of them can still recover.
//!
//! Of stateright (0.31) this needs neither the actors nor the HTTP server, which it always brings along; its `eventually`
//! misses cycles, as it says itself; and its checkers keep no edges, without which "from every state" cannot be asked.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash, Hasher};

use super::Model;
use super::state::{Broken, Label, State};

/// What an exploration found.
pub(super) struct Report {
    /// Unique states.
    pub(super) states: usize,
    /// Steps between them.
    pub(super) steps: usize,
    /// Steps from the first state to the farthest one.
    pub(super) depth: u32,
    /// The first state in which a rule is broken, and the way there.
    pub(super) broken: Option<(Broken, Vec<Label>)>,
    /// A state from which not every volume comes to be claimable or held again, and the way there.
    pub(super) stuck: Option<(Vec<Label>, State)>,
    /// Whether there is more than was looked at.
    pub(super) cut: bool,
}

/// States by number, each with the one that it was reached from.
#[derive(Default)]
struct Graph {
    states: Vec<State>,
    parents: Vec<(u32, u32)>,
    known: HashMap<u64, u32>,
    /// States whose hash another one has.
    twins: HashMap<State, u32>,
    /// Steps that are no faults, from and to.
    fair: Vec<(u32, u32)>,
}

impl Graph {
    /// The number of a state, and whether it is new.
    fn number(&mut self, state: State, parent: (u32, u32)) -> (u32, bool) {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        let next = u32::try_from(self.states.len()).unwrap();
        let number = match self.known.entry(hasher.finish()) {
            Entry::Vacant(free) => *free.insert(next),
            Entry::Occupied(known) if self.states[*known.get() as usize] == state => *known.get(),
            Entry::Occupied(_) => *self.twins.entry(state).or_insert(next),
        };
        if number == next {
            self.states.push(state);
            self.parents.push(parent);
        }
        (number, number == next)
    }

    /// The steps that lead to a state.
    fn way(&self, model: &Model, mut number: u32) -> Vec<Label> {
        let mut way = Vec::new();
        while number != 0 {
            let parent = self.parents[number as usize].0;
            let steps = model.steps(&self.states[parent as usize]);
            let to = self.states[number as usize];
            way.extend(steps.into_iter().find(|(_, state)| *state == to).map(|(label, _)| label));
            number = parent;
        }
        way.reverse();
        way
    }

    /// A state from which no steps without a fault lead to one where all is well.
    fn stuck(&mut self, model: &Model) -> Option<u32> {
        let mut into: Vec<u32> = vec![0; self.states.len() + 1];
        self.fair.sort_unstable_by_key(|(_, to)| *to);
        for (_, to) in &self.fair {
            into[*to as usize + 1] += 1;
        }
        for at in 1..into.len() {
            into[at] += into[at - 1];
        }
        let mut well: Vec<_> = self.states.iter().map(|state| model.is_well(state)).collect();
        let numbered = (0..).zip(&well);
        let mut open: Vec<u32> = numbered.filter(|(_, well)| **well).map(|(at, _)| at).collect();
        while let Some(state) = open.pop() {
            let range = into[state as usize] as usize..into[state as usize + 1] as usize;
            for (from, _) in &self.fair[range] {
                if !std::mem::replace(&mut well[*from as usize], true) {
                    open.push(*from);
                }
            }
        }
        well.iter().position(|well| !well).and_then(|at| u32::try_from(at).ok())
    }
}

/// Explores all that can be reached, at most `most` states. It ends with the first broken rule; liveness is asked only of
/// a whole graph.
pub(super) fn explore(model: &Model, most: usize) -> Report {
    let mut graph = Graph::default();
    graph.number(model.first(), (0, 0));
    let mut report =
        Report { states: 0, steps: 0, depth: 0, broken: None, stuck: None, cut: false };
    let mut at = 0;
    while let Some(state) = graph.states.get(at as usize).copied() {
        if graph.states.len() > most {
            report.cut = true;
            break;
        }
        let depth = graph.parents[at as usize].1 + 1;
        for (label, next) in model.steps(&state) {
            report.steps += 1;
            let broken = model.broken(&next);
            let (number, is_new) = graph.number(next, (at, depth));
            if is_new {
                report.depth = depth;
            }
            if !label.fault {
                graph.fair.push((at, number));
            }
            if let Some(broken) = broken {
                report.broken = Some((broken, graph.way(model, number)));
                report.states = graph.states.len();
                return report;
            }
        }
        at += 1;
    }
    report.states = graph.states.len();
    if !report.cut {
        let stuck = graph.stuck(model);
        report.stuck = stuck.map(|stuck| (graph.way(model, stuck), graph.states[stuck as usize]));
    }
    report
}
