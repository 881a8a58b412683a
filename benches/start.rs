//! A server's start, and what it needs with a hundred volumes.

use std::fs;
use std::time::Instant;

use crate::report::Report;
use crate::samples::{HEADS, Samples};
use crate::site::{self, Site};
use crate::support::Berth;

const TIMES: usize = 30;
/// What a node may have.
const VOLUMES: usize = 100;

pub fn run(report: &mut Report) {
    let mut heads = vec!["what"];
    heads.extend(HEADS);
    report.table(&heads);
    let site = Site::new();
    site.volumes(VOLUMES);
    let config = site.config();
    let mut samples = Samples::default();
    for _ in 0..TIMES {
        let begun = Instant::now();
        let berth = Berth::spawn(&site.host, &config, &[]);
        while !berth.is_ready() {}
        samples.add(begun.elapsed());
        berth.stop();
    }
    report.row(&[&format!("start with {VOLUMES} volumes → ready"), &samples]);
    report.end();
    let berth = site.start(VOLUMES);
    let (own, resident) = site::memory(&berth);
    let binary = fs::metadata(env!("CARGO_BIN_EXE_berth")).unwrap().len();
    let binary = binary >> 10;
    report.say(format!(
        "{VOLUMES} volumes: {own} KiB of its own, {resident} KiB resident. The binary: {binary} KiB."
    ));
}
