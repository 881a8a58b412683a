//! What is left to a neighbour on the same machine while a volume is wiped.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::trees::{self, Tree};
use super::{Bench, disk, rounds};
use crate::report::Report;
use crate::support::{MIB, make_filesystem, mount};

/// Bytes of the neighbour's file, and of each of its writes.
const SIZE: u64 = 256 * MIB;
const BLOCK: &[u8] = &[1; 4096];
/// How long the neighbour is watched while nothing is wiped.
const ALONE: Duration = Duration::from_secs(3);

pub fn run(report: &mut Report) {
    report.say(
        "### A neighbour: 4 KiB written and durable (fdatasync), again and again, on a file system of its own on the same disk, \
         while a volume is wiped",
    );
    report.table(&["what is wiped", "alone, a second:", "during the wipe:", "kept:", "times:"]);
    for tree in [Tree::Small(200_000), Tree::Large(4)] {
        let measured = std::thread::spawn(move || beside(tree)).join().unwrap();
        let median = |mut all: Vec<f64>| {
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let kept = median(measured.iter().map(|(alone, during)| during / alone).collect());
        let alone = median(measured.iter().map(|(alone, _)| *alone).collect());
        let during = median(measured.iter().map(|(_, during)| *during).collect());
        let [alone, during] = [alone, during].map(|rate| format!("{rate:.0}"));
        report.row(&[&tree, &alone, &during, &format!("{:.0} %", kept * 100.0), &measured.len()]);
    }
    report.end();
}

/// How often a second the neighbour writes alone, and during a wipe.
fn beside(tree: Tree) -> Vec<(f64, f64)> {
    let mut bench = Bench::filesystem("ext4", tree.room(), "delete");
    let device = disk(&mut bench.site, 2 * SIZE);
    make_filesystem("ext4", &device);
    let at = bench.site.host.path("outside");
    mount(&[device.to_str().unwrap()], &at);
    let file = neighbour(&at);
    let size = BLOCK.len() as u64;
    let rate = |over: &(dyn Fn() -> bool + Sync)| {
        let (begun, mut count) = (Instant::now(), 0_u64);
        while !over() {
            file.write_all_at(BLOCK, count * 37 % (SIZE / size) * size).unwrap();
            file.sync_data().unwrap();
            count += 1;
        }
        count as f64 / begun.elapsed().as_secs_f64()
    };
    let mut measured = Vec::new();
    for _ in 0..rounds() {
        let id = bench.claim();
        bench.grow(tree, true);
        let begun = Instant::now();
        let alone = rate(&|| begun.elapsed() > ALONE);
        let wiped = AtomicBool::new(false);
        let during = std::thread::scope(|scope| {
            let during = scope.spawn(|| rate(&|| wiped.load(Ordering::Relaxed)));
            bench.wipe(&id);
            wiped.store(true, Ordering::Relaxed);
            during.join().unwrap()
        });
        measured.push((alone, during));
    }
    measured
}

/// The neighbour's file, all of it written.
fn neighbour(at: &Path) -> File {
    let file = File::create(at.join("file")).unwrap();
    let bytes = vec![0; 1 << 20];
    (0..SIZE / MIB).for_each(|number| file.write_all_at(&bytes, number * MIB).unwrap());
    trees::settle(at);
    file
}
