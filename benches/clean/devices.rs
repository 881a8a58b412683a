//! Wipes of raw devices beside what moves the same bytes: `blkdiscard`, `blkdiscard -z`, `dd`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Bench, ENTRY, POOL, disk, rounds};
use crate::plot::Bars;
use crate::report::Report;
use crate::samples::{HEADS, Samples};
use crate::site::Site;
use crate::support::{MIB, requests, run as must};
use crate::usage;

/// Bytes of the device that is wiped.
const SIZE: u64 = 1024 * MIB;

/// A method as a pool has it, the bytes that it writes, what it is compared with, and that.
pub type Method = (&'static str, u64, &'static str, fn(&Path));

pub const METHODS: [Method; 3] = [
    ("discard", SIZE, "`blkdiscard`", |device| command("blkdiscard", &[], device)),
    ("zero", SIZE, "`blkdiscard -z`", |device| command("blkdiscard", &["-z"], device)),
    ("shred, passes: 1", SIZE, "`dd`, `blkdiscard -z`", |device| {
        fill(device);
        command("blkdiscard", &["-z"], device);
    }),
];

pub fn run(report: &mut Report) {
    report.say(format!(
        "### Devices: {} MiB that a tenant has filled, not read back; `shred` is one pass of noise and one of zeros",
        SIZE / MIB
    ));
    let mut heads = vec!["method", "by"];
    heads.extend(HEADS);
    heads.extend(["MiB/s:", "processors:", "of the bare:"]);
    report.table(&heads);
    let mut groups = Vec::new();
    for (method, bytes, bare, act) in METHODS {
        let measured = std::thread::spawn(move || beside(method, act)).join().unwrap();
        let (berth, raw, used) = measured;
        let rate = |samples: &Samples| {
            format!("{:.0}", (bytes / MIB) as f64 / samples.percentile(50).as_secs_f64())
        };
        let took = berth.percentile(50).as_secs_f64() * rounds() as f64;
        let processors = format!("{:.2}", used.as_secs_f64() / took);
        let ratio = format!("{:.2}", berth.ratio(&raw));
        report.row(&[&method, &"Berth", &berth, &rate(&berth), &processors, &ratio]);
        report.row(&[&method, &bare, &raw, &rate(&raw), &"", &1]);
        let values = [&berth, &raw].map(|samples| Some(samples.percentile(50).as_secs_f64()));
        groups.push((method.to_owned(), values.to_vec()));
    }
    report.end();
    report.bars(&Bars {
        name: "devices",
        title: "A device of 1 GiB is wiped",
        unit: "s",
        series: &["Berth", "the bare command"],
        groups,
    });
}

fn command(program: &str, arguments: &[&str], device: &Path) {
    must(Command::new(program).args(arguments).arg(device));
}

/// Writes all of a device, past the page cache, and has it on the disk.
pub fn fill(device: &Path) {
    let to = format!("of={}", device.display());
    let count = format!("count={}", SIZE / (4 * MIB));
    let how = ["if=/dev/zero", "bs=4M", "oflag=direct", "conv=fsync", "status=none"];
    must(Command::new("dd").args(how).arg(count).arg(to));
}

/// Wipes of a device, the bare command on another like it, and the processor time of the server for all of its wipes.
fn beside(method: &str, act: fn(&Path)) -> (Samples, Samples, Duration) {
    let (mut bench, [device, other]) = bench(method);
    let (mut berth, mut raw, mut used) = (Samples::default(), Samples::default(), Duration::ZERO);
    for _ in 0..rounds() {
        let id = bench.claim();
        fill(&device);
        let before = usage::processor_time(usage::process(&bench.berth));
        berth.add(bench.wipe(&id));
        used += usage::processor_time(usage::process(&bench.berth)).saturating_sub(before);
        fill(&other);
        raw.time(|| act(&other));
    }
    (berth, raw, used)
}

/// A node with one device for a volume, that device, and another like it.
pub fn bench(method: &str) -> (Bench, [PathBuf; 2]) {
    let mut site = Site::new();
    let [device, other] = [(), ()].map(|()| disk(&mut site, SIZE));
    let entry = site.host.pool(POOL).join(ENTRY);
    std::os::unix::fs::symlink(&device, &entry).unwrap();
    let config = format!(
        "pools: {{{POOL}: {{path: {}, mode: Block, accept: [device], newVolumes: accept, \
         clean: {{method: {method}, verify: false}}}}}}",
        site.host.pool(POOL).display()
    );
    (Bench::start(site, entry, &config, requests::raw()), [device, other])
}
