//! What Berth's calls, its discovery and its wipes cost, beside the bare system calls on the same machine in the same run.
//!
//! `make bench` runs it, on one's own machine and as root: `benches/main.rs [PART...]`, the parts being `rpc`, `discovery`,
//! `recycling` and `start`; all of them if none is named. It prints Markdown tables, as they stand in docs/benchmarks.md.
//! Nothing is asserted: figures belong to the machine that gave them.
#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a benchmark panics where something is not as it must be, and is no library"
)]

mod discovery;
mod raw;
mod recycling;
mod rpc;
mod samples;
mod site;
mod start;
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;

/// A part by its name.
const PARTS: [(&str, fn()); 4] = [
    ("rpc", rpc::run),
    ("discovery", discovery::run),
    ("recycling", recycling::run),
    ("start", start::run),
];

fn main() -> ExitCode {
    // Cargo adds arguments of its own.
    let asked: Vec<_> = std::env::args().skip(1).filter(|one| !one.starts_with("--")).collect();
    if let Some(unknown) = asked.iter().find(|one| PARTS.iter().all(|(name, _)| one != name)) {
        eprintln!("there is no part {unknown}: {}", PARTS.map(|(name, _)| name).join(", "));
        return ExitCode::from(2);
    }
    site::describe();
    for (name, run) in PARTS {
        if asked.is_empty() || asked.iter().any(|one| one == name) {
            // Each in a mount namespace of its own, which belongs to a thread.
            std::thread::spawn(run).join().unwrap();
        }
    }
    ExitCode::SUCCESS
}
