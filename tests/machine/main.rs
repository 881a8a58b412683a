//! Berth on a machine that reboots: a virtual one, whose power is cut, whose disks are renamed, swapped, gone and ill.
//! `tests/machine/run` makes it and runs these; each scenario is a test, named as what holds. `README.md` says how.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test panics where something is not as it must be"
)]

mod claims;
mod disk;
mod disks;
mod ill;
mod machine;
mod nbd;
mod published;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod wipes;

use std::time::{Duration, Instant};

/// How long anything may take before a scenario gives up on it. It only bounds a failure.
const PATIENCE: Duration = Duration::from_mins(5);

/// Asks again and again whether something is so; says whether it was before `patience` ended.
#[expect(clippy::disallowed_methods, reason = "between two looks")]
fn until(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

/// `bounded`, or `long` where everything is to be proven (`BERTH_PROVE=1`).
fn rounds(bounded: u32, long: u32) -> u32 {
    if std::env::var_os("BERTH_PROVE").is_some() { long } else { bounded }
}
