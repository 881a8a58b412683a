//! What Berth's calls, its discovery and its wipes cost, beside the bare system calls on the same machine in the same run.
//!
//! `make bench` runs it, on one's own machine and as root; `make bench PARTS="rpc start"` some of it. Each part writes its
//! tables and plots into docs/benchmarks.md, in the place of those that are there. Nothing is asserted: figures belong to
//! the machine that gave them.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    unreachable_pub,
    reason = "a benchmark panics where something is not as it must be, and is no library"
)]

mod build;
mod clean;
mod cluster;
mod discovery;
mod plot;
mod raw;
mod recycling;
mod report;
mod rpc;
mod samples;
mod scale;
mod site;
mod start;
#[path = "../tests/support/mod.rs"]
mod support;
mod usage;

use std::process::ExitCode;

use report::Report;

/// A part by its name.
type Part = (&'static str, fn(&mut Report));

/// What runs only if it is named: it needs more than a machine, or ten minutes for a few figures.
const ASKED: [&str; 3] = ["many", "cluster", "build"];

const PARTS: [Part; 9] = [
    ("rpc", rpc::run),
    ("discovery", discovery::run),
    ("recycling", recycling::run),
    ("start", start::run),
    ("clean", clean::run),
    ("many", clean::many),
    ("cluster", cluster::run),
    ("scale", scale::run),
    ("build", build::run),
];

fn main() -> ExitCode {
    // Cargo adds arguments of its own.
    let asked: Vec<_> = std::env::args().skip(1).filter(|one| !one.starts_with("--")).collect();
    if let Some(unknown) = asked.iter().find(|one| PARTS.iter().all(|(name, _)| one != name)) {
        eprintln!("there is no part {unknown}: {}", PARTS.map(|(name, _)| name).join(", "));
        return ExitCode::from(2);
    }
    for (name, run) in PARTS {
        let by_itself = asked.is_empty() && !ASKED.contains(&name);
        if by_itself || asked.iter().any(|one| one == name) {
            // Each in a mount namespace of its own, which belongs to a thread.
            let part = move || {
                let mut report = Report::new(name);
                run(&mut report);
                report
            };
            std::thread::spawn(part).join().unwrap().write();
        }
    }
    ExitCode::SUCCESS
}
