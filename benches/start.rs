//! A server's start, what it keeps in memory with a hundred volumes, and what the binary and the image are made of.
//!
//! The image is told of if `make image` has made it.

mod memory;
mod size;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use self::memory::Memory;
use crate::report::Report;
use crate::samples::{HEADS, Samples};
use crate::site::Site;
use crate::support::Berth;

const TIMES: usize = 30;
/// What a node may have.
const VOLUMES: usize = 100;

pub fn run(report: &mut Report) {
    let sites = [Site::new(), Site::new()];
    sites[1].volumes(VOLUMES);
    starts(report, &sites);
    memory(report, &sites[1]);
    size::tell(report);
}

/// Each kind of start in turn, so that what disturbs the machine disturbs all of them.
fn starts(report: &mut Report, sites: &[Site; 2]) {
    let [none, many] = sites;
    let (mut bare, mut version) = (Samples::default(), Samples::default());
    let (mut empty, mut first, mut again) =
        (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..TIMES {
        bare.time(|| runs(Command::new("true")));
        version.time(|| runs(Command::new(env!("CARGO_BIN_EXE_berth")).arg("--version")));
        empty.add(until_ready(none));
        forget(many);
        first.add(until_ready(many));
        again.add(until_ready(many));
    }
    let mut heads = vec!["from the start of the process"];
    heads.extend(HEADS);
    heads.push("× bare:");
    report.table(&heads);
    for (what, samples) in [
        ("bare: `true`, to its end", &bare),
        ("`berth --version`, to its end", &version),
        ("no volume → ready", &empty),
        (&format!("{VOLUMES} volumes that it has never seen → ready"), &first),
        (&format!("{VOLUMES} volumes → ready"), &again),
    ] {
        report.row(&[&what, samples, &format!("{:.1}", samples.ratio(&bare))]);
    }
    report.end();
}

fn runs(command: impl std::borrow::BorrowMut<Command>) {
    let mut command = command;
    let ended = command.borrow_mut().stdout(Stdio::null()).status().unwrap();
    assert!(ended.success(), "{ended}");
}

fn until_ready(site: &Site) -> std::time::Duration {
    let begun = Instant::now();
    let berth = Berth::spawn(&site.host, &site.config(), &[]);
    while !berth.is_ready() {}
    let took = begun.elapsed();
    berth.stop();
    took
}

/// Removes the inventory.
fn forget(site: &Site) {
    for entry in fs::read_dir(site.host.path("state")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
}

fn memory(report: &mut Report, site: &Site) {
    report.table(&[
        &*format!("{VOLUMES} volumes, KiB resident"),
        "in all:",
        "of its own:",
        "pages of the program:",
        "of libraries:",
        "threads:",
    ]);
    let berth = memory::standalone(site);
    crate::site::wait_offered(&berth, VOLUMES);
    Memory::of(&berth).tell(report, "`berth standalone`, ready");
    memory::until_two_rounds_later(&berth);
    Memory::of(&berth).tell(report, "after two rounds of looking at every volume");
    berth.stop();
    let berth = memory::node(site);
    crate::site::wait_offered(&berth, VOLUMES);
    memory::until_two_rounds_later(&berth);
    Memory::of(&berth).tell(report, "`berth node`, its API server away, the same");
    berth.stop();
    report.end();
}
