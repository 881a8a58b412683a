//! What was done, counted as it is done: printed at the end, and nothing of it asserted but that it was.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    Claims,
    Stages,
    Publishes,
    Writes,
    Checks,
    Stats,
    Expansions,
    Unpublishes,
    Deletes,
    LateCalls,
    Refusals,
    LostAnswers,
    Visitors,
    Mounts,
    Unbinds,
    Reloads,
    Kills,
    Terminations,
    Audits,
}

const ALL: [Fact; 19] = [
    Fact::Claims,
    Fact::Stages,
    Fact::Publishes,
    Fact::Writes,
    Fact::Checks,
    Fact::Stats,
    Fact::Expansions,
    Fact::Unpublishes,
    Fact::Deletes,
    Fact::LateCalls,
    Fact::Refusals,
    Fact::LostAnswers,
    Fact::Visitors,
    Fact::Mounts,
    Fact::Unbinds,
    Fact::Reloads,
    Fact::Kills,
    Fact::Terminations,
    Fact::Audits,
];

/// The counters of a soak.
#[derive(Debug, Default)]
pub struct Facts([AtomicU64; ALL.len()]);

impl Facts {
    pub fn count(&self, fact: Fact) {
        self.0[fact as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn of(&self, fact: Fact) -> u64 {
        self.0[fact as usize].load(Ordering::Relaxed)
    }

    /// What was never done.
    pub fn missing(&self) -> Vec<Fact> {
        ALL.into_iter().filter(|fact| self.of(*fact) == 0).collect()
    }

    /// All of it, and how much of that in a second of load.
    pub fn report(&self, load: Duration) -> String {
        let line = |fact: Fact| {
            let (count, name) = (self.of(fact), format!("{fact:?}"));
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = count as f64 / load.as_secs_f64();
            format!("  {name:<13}{count:>8}{rate:>9.1}/s\n")
        };
        ALL.into_iter().map(line).collect()
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}
