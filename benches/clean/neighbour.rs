//! What is left to a neighbour on the same machine while a volume is wiped.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::trees::{self, Tree};
use super::{Bench, available, devices, disk, remove, rounds};
use crate::report::Report;
use crate::samples::{Samples, shown};
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
    let filesystems = available(report, &["ext4", "xfs", "btrfs"]);
    report.table(&[
        "what is wiped",
        "by",
        "alone, a second:",
        "during the wipe:",
        "kept:",
        "the wipe takes:",
        "times:",
    ]);
    let small = Tree::Small(200_000);
    for fs_type in filesystems {
        let measured = std::thread::spawn(move || beside_files(fs_type, small)).join().unwrap();
        rows(report, &format!("{fs_type}: {small}"), "`rm -rf`", measured);
    }
    let large = Tree::Large(4);
    let measured = std::thread::spawn(move || beside_files("ext4", large)).join().unwrap();
    rows(report, &format!("ext4: {large}"), "`rm -rf`", measured);
    for (method, _, bare, act) in devices::METHODS {
        let measured = std::thread::spawn(move || beside_device(method, act)).join().unwrap();
        rows(report, &format!("a device: {method}"), bare, measured);
    }
    report.end();
}

/// What the neighbour writes a second alone and during wipes, and how long these took.
#[derive(Default)]
struct Kept {
    alone: Vec<f64>,
    during: Vec<f64>,
    took: Samples,
}

fn rows(report: &mut Report, what: &str, bare: &str, measured: [Kept; 2]) {
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    for (by, kept) in ["Berth", bare].into_iter().zip(measured) {
        let shares = kept.alone.iter().zip(&kept.during).map(|(alone, during)| during / alone);
        let share = format!("{:.0} %", median(shares.collect()) * 100.0);
        let took = shown(kept.took.percentile(50));
        let times = kept.alone.len();
        let [alone, during] = [kept.alone, kept.during].map(|all| format!("{:.0}", median(all)));
        report.row(&[&what, &by, &alone, &during, &share, &took, &times]);
    }
}

/// A neighbour on a disk of its own beside the wiped volume's.
struct Neighbour {
    file: File,
}

impl Neighbour {
    /// Its file, all of it written.
    fn on(device: &Path, at: &Path) -> Self {
        make_filesystem("ext4", device);
        mount(&[device.to_str().unwrap()], at);
        let file = File::create(at.join("file")).unwrap();
        let bytes = vec![0; 1 << 20];
        (0..SIZE / MIB).for_each(|number| file.write_all_at(&bytes, number * MIB).unwrap());
        trees::settle(at);
        Self { file }
    }

    /// How often a second it writes.
    fn rate(&self, over: impl Fn() -> bool) -> f64 {
        let size = BLOCK.len() as u64;
        let (begun, mut count) = (Instant::now(), 0_u64);
        while !over() {
            self.file.write_all_at(BLOCK, count * 37 % (SIZE / size) * size).unwrap();
            self.file.sync_data().unwrap();
            count += 1;
        }
        count as f64 / begun.elapsed().as_secs_f64()
    }

    /// How it fares before and during a wipe.
    fn watch(&self, kept: &mut Kept, wipe: impl FnOnce() -> Duration) {
        let begun = Instant::now();
        kept.alone.push(self.rate(|| begun.elapsed() > ALONE));
        let wiped = AtomicBool::new(false);
        let during = std::thread::scope(|scope| {
            let during = scope.spawn(|| self.rate(|| wiped.load(Ordering::Relaxed)));
            kept.took.add(wipe());
            wiped.store(true, Ordering::Relaxed);
            during.join().unwrap()
        });
        kept.during.push(during);
    }
}

/// Files wiped by Berth and by `rm -rf`, in turn.
fn beside_files(fs_type: &str, tree: Tree) -> [Kept; 2] {
    let mut bench = Bench::filesystem(fs_type, tree.room(), "delete");
    let neighbour = beside(&mut bench);
    let [mut berth, mut bare] = [Kept::default(), Kept::default()];
    for _ in 0..rounds() {
        let id = bench.claim();
        let at = bench.grow(tree, true);
        neighbour.watch(&mut bare, || remove(&at));
        bench.grow(tree, true);
        neighbour.watch(&mut berth, || bench.wipe(&id));
    }
    [berth, bare]
}

/// A device wiped by Berth and, one like it, by a bare command, in turn.
fn beside_device(method: &str, act: fn(&Path)) -> [Kept; 2] {
    let (mut bench, [device, other]): (Bench, [PathBuf; 2]) = devices::bench(method);
    let neighbour = beside(&mut bench);
    let [mut berth, mut bare] = [Kept::default(), Kept::default()];
    for _ in 0..rounds() {
        let id = bench.claim();
        devices::fill(&other);
        neighbour.watch(&mut bare, || {
            let begun = Instant::now();
            act(&other);
            begun.elapsed()
        });
        devices::fill(&device);
        neighbour.watch(&mut berth, || bench.wipe(&id));
    }
    [berth, bare]
}

fn beside(bench: &mut Bench) -> Neighbour {
    let device = disk(&mut bench.site, 2 * SIZE);
    Neighbour::on(&device, &bench.site.host.path("outside"))
}
