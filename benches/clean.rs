//! Wipes, by the whole way from `DeleteVolume` until the volume is offered again, beside what a shell would do on the same
//! file system or device in the same run: `rm -rf` and `sync -f`, `mkfs` and `mount`, `blkdiscard`, `dd`.
//!
//! `BERTH_BENCH_FILES=50000` has fewer small files, `BERTH_BENCH_ROUNDS=5` more rounds, `BERTH_BENCH_CLEAN="trees reformat devices neighbour"` some of it. The disks are files in
//! the directory for temporary files, as loop devices that read and write past the page cache. Takes some ten minutes.

mod devices;
mod neighbour;
mod trees;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use berth::csi::proto::csi_v1 as csi;
use berth::volume::Phase;

use self::trees::Tree;
use crate::plot::{Bars, Lines};
use crate::report::Report;
use crate::samples::{HEADS, Samples};
use crate::site::Site;
use crate::support::{Berth, make_filesystem, mount, requests, run as must};

/// The pool of the volume that is wiped, and its entry.
const POOL: &str = "wiped";
const ENTRY: &str = "v1";

/// What is compared here, by its name.
type Comparison = (&'static str, fn(&mut Report));

pub fn run(report: &mut Report) {
    let asked = std::env::var("BERTH_BENCH_CLEAN").unwrap_or_default();
    let parts: [Comparison; 4] = [
        ("trees", trees),
        ("reformat", reformat),
        ("devices", devices::run),
        ("neighbour", neighbour::run),
    ];
    for (name, part) in parts {
        if asked.is_empty() || asked.split_whitespace().any(|one| one == name) {
            part(report);
        }
    }
}

/// What the part `many` wipes.
const MANY: usize = 2_000_000;

/// Ten times as many small files as `clean` has, once, on a file system with 20 GiB to spare; takes some ten minutes.
pub fn many(report: &mut Report) {
    let filesystems = available(report, &["ext4", "xfs", "btrfs"]);
    heads(report);
    let tree = Tree::Small(MANY);
    for fs_type in filesystems {
        let measured = std::thread::spawn(move || beside_rm(fs_type, tree, 1, &COLD));
        rows(report, fs_type, tree, &measured.join().unwrap());
    }
    report.end();
}

/// A number from the environment.
fn set(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn rounds() -> usize {
    set("BERTH_BENCH_ROUNDS", 3)
}

/// Those of these file systems that this machine can make and mount; says which it can't.
fn available<'a>(report: &mut Report, all: &[&'a str]) -> Vec<&'a str> {
    let kernel = fs::read_to_string("/proc/filesystems").unwrap();
    let has = |one: &&&str| {
        let made = Command::new(format!("mkfs.{one}")).arg("-V").output();
        made.is_ok() && kernel.lines().any(|line| line.trim() == **one)
    };
    let (there, missing): (Vec<&str>, Vec<&str>) = all.iter().partition(|one| has(one));
    for one in missing {
        report.say(format!(
            "{one} is left out: this kernel does not know it, or mkfs.{one} is not installed."
        ));
    }
    there
}

/// A disk that is read and written past the page cache, so that what was forgotten is read from it.
fn disk(site: &mut Site, bytes: u64) -> PathBuf {
    let device = site.host.device(bytes);
    must(Command::new("losetup").arg("--direct-io=on").arg(&device));
    device
}

/// A node with one volume, and what its wipes are compared with.
struct Bench {
    berth: Berth,
    site: Site,
    path: PathBuf,
    capability: csi::VolumeCapability,
    claims: usize,
}

impl Bench {
    /// A volume on a file system of its own, wiped by `method`.
    fn filesystem(fs_type: &str, bytes: u64, method: &str) -> Self {
        let mut site = Site::new();
        let device = disk(&mut site, bytes);
        make_filesystem(fs_type, &device);
        let path = site.host.directory(POOL, ENTRY);
        mount(&["-t", fs_type, device.to_str().unwrap()], &path);
        let pool = site.host.pool(POOL);
        let config = format!(
            "pools: {{{POOL}: {{path: {}, newVolumes: accept, clean: {{method: {method}}}}}}}",
            pool.display()
        );
        Self::start(site, path, &config, requests::mounted())
    }

    fn start(site: Site, path: PathBuf, config: &str, capability: csi::VolumeCapability) -> Self {
        let berth = Berth::start(&site.host, config);
        berth.wait_phase(ENTRY, Phase::Available);
        Self { berth, site, path, capability, claims: 0 }
    }

    /// Claims the volume; gives the id.
    fn claim(&mut self) -> String {
        self.claims += 1;
        let request = csi::CreateVolumeRequest {
            volume_capabilities: vec![self.capability.clone()],
            ..requests::create(&format!("pvc-{}", self.claims), POOL, 1)
        };
        // It is claimable a moment before whoever gives it away has heard of that.
        let claimed = self.berth.wait_for("a claim", |berth| {
            let request = request.clone();
            berth.controller(async |client| client.create_volume(request).await).ok()
        });
        claimed.volume.unwrap().volume_id
    }

    /// Ends a claim; gives how long it took until the volume was offered again.
    fn wipe(&self, id: &str) -> Duration {
        let begun = Instant::now();
        self.berth.delete(id).unwrap();
        self.berth.wait_phase(ENTRY, Phase::Available);
        begun.elapsed()
    }

    /// A tree of a tenant in it.
    fn grow(&self, tree: Tree, cold: bool) -> PathBuf {
        let at = self.path.join("tree");
        tree.grow(&at);
        if cold {
            trees::forget();
        }
        at
    }
}

/// How long a shell takes to remove a tree for good.
fn remove(tree: &Path) -> Duration {
    let begun = Instant::now();
    must(Command::new("rm").arg("-rf").arg(tree));
    trees::settle(tree.parent().unwrap());
    begun.elapsed()
}

fn trees(report: &mut Report) {
    let small = set("BERTH_BENCH_FILES", 200_000);
    let all = [
        Tree::Small(small),
        Tree::Huge(small / 2),
        Tree::Deep { chains: 20, levels: 500 },
        Tree::Large(4),
    ];
    report.say("### Files: `delete` beside `rm -rf` and `sync -f`");
    let filesystems = available(report, &["ext4", "xfs", "btrfs"]);
    heads(report);
    let mut groups = Vec::new();
    for fs_type in filesystems {
        for tree in all {
            // Each on a new disk, in a namespace of its own, which a thread cannot leave.
            let beside = move || beside_rm(fs_type, tree, rounds(), &[COLD, WARM].concat());
            let measured = std::thread::spawn(beside).join().unwrap();
            rows(report, fs_type, tree, &measured);
            for (cache, berth, rm) in measured {
                let values =
                    [&berth, &rm].map(|samples| Some(samples.percentile(50).as_secs_f64()));
                groups.push((format!("{fs_type}, {cache}: {tree}"), values.to_vec()));
            }
        }
    }
    report.end();
    report.bars(&Bars {
        name: "clean",
        title: "A volume's files are gone, for good",
        unit: "s",
        series: &["Berth", "rm -rf; sync -f"],
        groups,
    });
}

/// What the cache has of a tree, by its name, and whether that is nothing.
type Cache = (&'static str, bool);

const COLD: [Cache; 1] = [("cold", true)];
const WARM: [Cache; 1] = [("warm", false)];

/// A cache with what Berth and `rm -rf` took.
type Measured = (&'static str, Samples, Samples);

fn heads(report: &mut Report) {
    let mut heads = vec!["file system", "what", "cache", "by"];
    heads.extend(HEADS);
    heads.push("of `rm -rf`:");
    report.table(&heads);
}

fn rows(report: &mut Report, fs_type: &str, tree: Tree, measured: &[Measured]) {
    for (cache, berth, rm) in measured {
        let ratio = format!("{:.2}", berth.ratio(rm));
        report.row(&[&fs_type, &tree, cache, &"Berth", berth, &ratio]);
        report.row(&[&fs_type, &tree, cache, &"`rm -rf`", rm, &1]);
    }
}

/// Wipes and `rm -rf` of the same tree in turn, on the same file system.
fn beside_rm(fs_type: &str, tree: Tree, rounds: usize, caches: &[Cache]) -> Vec<Measured> {
    let mut bench = Bench::filesystem(fs_type, tree.room(), "delete");
    let mut measured = Vec::new();
    for &(cache, cold) in caches {
        let (mut berth, mut rm) = (Samples::default(), Samples::default());
        for _ in 0..rounds {
            let id = bench.claim();
            rm.add(remove(&bench.grow(tree, cold)));
            bench.grow(tree, cold);
            berth.add(bench.wipe(&id));
        }
        measured.push((cache, berth, rm));
    }
    measured
}

/// How many files a volume has that is formatted anew.
const FILLED: [usize; 2] = [1000, 200_000];

fn reformat(report: &mut Report) {
    report.say("### Files: `reformat` beside `umount`, `mkfs` and `mount`");
    let filesystems = available(report, &["ext4", "xfs"]);
    let mut heads = vec!["file system", "files:", "cache", "by"];
    heads.extend(HEADS);
    heads.push("of `mkfs`:");
    report.table(&heads);
    let mut series = Vec::new();
    for fs_type in filesystems {
        for (cache, cold) in [COLD, WARM].concat() {
            let (mut lines, mut raw) = (Vec::new(), Vec::new());
            for files in FILLED {
                let measured = std::thread::spawn(move || beside_mkfs(fs_type, files, cold));
                let (berth, mkfs) = measured.join().unwrap();
                let ratio = format!("{:.2}", berth.ratio(&mkfs));
                report.row(&[&fs_type, &files, &cache, &"Berth", &berth, &ratio]);
                report.row(&[&fs_type, &files, &cache, &"`mkfs`", &mkfs, &1]);
                lines.push((files as f64, berth.milliseconds()));
                raw.push((files as f64, mkfs.milliseconds()));
            }
            series.push((format!("Berth, {fs_type}, {cache}"), lines));
            series.push((format!("mkfs, {fs_type}, {cache}"), raw));
        }
    }
    report.end();
    report.lines(&Lines {
        name: "reformat",
        title: "A volume is formatted anew, whatever was on it",
        x: "files on it",
        y: "ms",
        series,
    });
}

fn beside_mkfs(fs_type: &str, files: usize, cold: bool) -> (Samples, Samples) {
    let tree = Tree::Small(files);
    let mut bench = Bench::filesystem(fs_type, tree.room(), "reformat");
    let device = disk(&mut bench.site, tree.room());
    let at = bench.site.host.path("outside");
    make_filesystem(fs_type, &device);
    let (mut berth, mut mkfs) = (Samples::default(), Samples::default());
    for _ in 0..rounds() {
        let id = bench.claim();
        bench.grow(tree, cold);
        berth.add(bench.wipe(&id));
        mount(&[device.to_str().unwrap()], &at);
        tree.grow(&at.join("tree"));
        if cold {
            trees::forget();
        }
        mkfs.time(|| {
            must(Command::new("umount").arg(&at));
            make_filesystem(fs_type, &device);
            mount(&[device.to_str().unwrap()], &at);
        });
        must(Command::new("umount").arg(&at));
    }
    (berth, mkfs)
}
