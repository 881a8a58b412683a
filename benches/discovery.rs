//! From the coming or going of a mount, a directory or a device to what the inventory says of it, on nodes with few volumes
//! and with many; a first start; and what an agent costs while nothing happens, and while things happen that are none of
//! its business.
//!
//! The answer is asked for each millisecond, so that a figure is up to one too high. Between two changes the host rests for
//! a tenth of a second, but for the run in which mounts come and go one right after the other. Takes some ten minutes, of
//! which an idle agent is watched for four; `BERTH_VOLUMES=100` takes one node with so many volumes alone.

mod idle;
mod noise;

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use berth::csi::proto::csi_v1 as csi;
use berth::host::loopback::LoopDevice;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, UnmountFlags, unmount};

use crate::plot::Lines;
use crate::raw;
use crate::report::Report;
use crate::samples::{HEADS, Samples};
use crate::site::{self, Site};
use crate::support::{Berth, MIB, requests};

const VOLUMES: [usize; 3] = [10, 100, 1000];
const TIMES: usize = 100;
/// Between two changes.
const REST: Duration = Duration::from_millis(100);
/// How often the answer is asked for.
const TICK: Duration = Duration::from_millis(1);

/// What was measured on one node.
struct Measured {
    volumes: usize,
    raw: Samples,
    rows: Vec<(&'static str, Samples)>,
}

pub fn run(report: &mut Report) {
    let mut measured = Vec::new();
    let mut others = Vec::new();
    let alone = std::env::var("BERTH_VOLUMES").ok().map(|volumes| vec![volumes.parse().unwrap()]);
    let nodes = alone.unwrap_or_else(|| VOLUMES.to_vec());
    for &volumes in &nodes {
        // A namespace of its own for each, which a thread cannot leave.
        let on_node = move || with_volumes(volumes);
        let (one, said) = std::thread::spawn(on_node).join().unwrap();
        measured.push(one);
        others.push(said);
    }
    let mut heads = vec!["volumes:", "what"];
    heads.extend(HEADS);
    heads.push("of the bare program:");
    report.table(&heads);
    for Measured { volumes, raw, rows } in &measured {
        report.row(&[
            volumes,
            &"a bare program: poll(2), the mount table, a durable write",
            raw,
            &1,
        ]);
        for (what, samples) in rows {
            report.row(&[volumes, what, samples, &format!("{:.1}", samples.ratio(raw))]);
        }
    }
    report.end();
    if measured.len() > 1 {
        plot(report, &measured);
    }
    report.table(&["volumes:", "what", "figure"]);
    for (volumes, said) in nodes.into_iter().zip(others) {
        for (what, figure) in said {
            report.row(&[&volumes, &what, &figure]);
        }
    }
    report.end();
}

fn plot(report: &mut Report, measured: &[Measured]) {
    let line = |name: &str, of: &dyn Fn(&Measured) -> f64| {
        let points = measured.iter().map(|one| (one.volumes as f64, of(one)));
        (name.to_owned(), points.collect())
    };
    let p99 = |samples: &Samples| samples.percentile(99).as_secs_f64() * 1e3;
    let of = |index: usize| move |one: &Measured| p99(&one.rows[index].1);
    let mut series: Vec<_> = (0..measured[0].rows.len())
        .filter(|index| measured[0].rows[*index].0 != FIRST)
        .map(|index| line(measured[0].rows[index].0, &of(index)))
        .collect();
    series.truncate(5);
    series.push(line("a bare program", &|one| p99(&one.raw)));
    report.lines(&Lines {
        name: "discovery",
        title: "From a change on the host to the inventory, 99th percentile",
        x: "volumes",
        y: "ms",
        series,
    });
}

const FIRST: &str = "first start → all offered";

type Said = Vec<(String, String)>;

fn with_volumes(volumes: usize) -> (Measured, Said) {
    let site = Site::new();
    site.volumes(volumes);
    let raw = bare(&site);
    let begun = Instant::now();
    let berth = Berth::spawn(&site.host, &config(&site), &[]);
    while !berth.is_ready() {}
    let mut first = Samples::default();
    first.add(begun.elapsed());
    site::wait_offered(&berth, volumes);
    let mut rows = vec![(FIRST, first)];
    rows.extend(mounts(&site, &berth));
    rows.extend(directories(&site, &berth));
    rows.extend(devices(&site, &berth));
    rows.extend(losses(&site, &berth));
    rows.push(("mounts in a row → offered", in_a_row(&site, &berth)));
    let mut said = Said::new();
    if volumes != VOLUMES[1] {
        said.extend(idle::watched(&berth));
        said.extend(noise::borne(&site, &berth));
    }
    (Measured { volumes, raw, rows }, said)
}

fn config(site: &Site) -> String {
    let pool = |name: &str, rest: &str| {
        format!("{name}: {{path: {}, {rest}}}", site.host.pool(name).display())
    };
    let pools = [
        pool("fast", "accept: [mount], clean: {method: delete}"),
        pool("probe", "accept: [mount, directory], clean: {method: delete}"),
        pool("disks", "mode: Block, clean: {method: zero}"),
    ];
    format!("pools: {{{}}}", pools.join(", "))
}

/// What a program that does nothing else needs: it is woken, reads the mount table until the mount is in it, and writes a
/// page durably.
fn bare(site: &Site) -> Samples {
    let mut samples = Samples::default();
    let durable = raw::durable_write(site.state.path()).percentile(50);
    let path = site.host.directory("outside", "bare");
    let name = path.to_str().unwrap().to_owned();
    for _ in 0..TIMES {
        let table = fs::File::open("/proc/thread-self/mountinfo").unwrap();
        let begun = Instant::now();
        tmpfs(&path, c"size=1m");
        poll(&mut [PollFd::new(&table, PollFlags::PRI)], None).unwrap();
        while !fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(&name) {}
        samples.add(begun.elapsed() + durable);
        unmount(&path, UnmountFlags::NOFOLLOW).unwrap();
    }
    samples
}

fn tmpfs(path: &Path, size: &CStr) {
    rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::empty(), size).unwrap();
}

/// Something that comes into a pool and goes again, as often as it is measured.
struct Coming<'a> {
    pool: &'a str,
    kind: csi::VolumeCapability,
    names: [&'static str; 2],
}

impl Coming<'_> {
    /// `come` gives what `go` takes away.
    fn measured<T>(
        &self,
        berth: &Berth,
        mut come: impl FnMut() -> T,
        mut go: impl FnMut(T),
    ) -> [(&'static str, Samples); 2] {
        let offered = |begun, offered| {
            until(berth, begun, |berth| offers(berth, self.pool, self.kind.clone(), offered))
        };
        let (mut comes, mut goes) = (Samples::default(), Samples::default());
        for _ in 0..TIMES {
            rest();
            let begun = Instant::now();
            let come = come();
            comes.add(offered(begun, true));
            rest();
            let begun = Instant::now();
            go(come);
            goes.add(offered(begun, false));
        }
        let [coming, going] = self.names;
        [(coming, comes), (going, goes)]
    }
}

fn mounts(site: &Site, berth: &Berth) -> [(&'static str, Samples); 2] {
    let entry = site.host.pool("probe").join("new");
    let names = ["a mount appears → claimable", "a mount goes → not offered"];
    // As an administrator does it: two changes in a row.
    let come = || {
        fs::create_dir(&entry).unwrap();
        tmpfs(&entry, c"size=1m");
    };
    let go = |()| {
        unmount(&entry, UnmountFlags::NOFOLLOW).unwrap();
        fs::remove_dir(&entry).unwrap();
    };
    Coming { pool: "probe", kind: requests::mounted(), names }.measured(berth, come, go)
}

fn directories(site: &Site, berth: &Berth) -> [(&'static str, Samples); 2] {
    let entry = site.host.pool("probe").join("new");
    let names = ["a directory appears → claimable", "a directory goes → not offered"];
    let come = || fs::create_dir(&entry).unwrap();
    let go = |()| fs::remove_dir(&entry).unwrap();
    Coming { pool: "probe", kind: requests::mounted(), names }.measured(berth, come, go)
}

fn devices(site: &Site, berth: &Berth) -> [(&'static str, Samples); 2] {
    let entry = site.host.pool("disks").join("new");
    let names = ["a device appears → claimable", "a device goes → not offered"];
    let file = tempfile::tempfile_in(site.host.path("disks")).unwrap();
    file.set_len(4 * MIB).unwrap();
    let come = || {
        let device = LoopDevice::attach(&file).unwrap();
        // The link to the one before leads nowhere since that went.
        let _ = fs::remove_file(&entry);
        symlink(device.path(), &entry).unwrap();
        device
    };
    let measured =
        Coming { pool: "disks", kind: requests::raw(), names }.measured(berth, come, drop);
    fs::remove_file(&entry).unwrap();
    measured
}

/// A volume that somebody holds goes, and comes back.
fn losses(site: &Site, berth: &Berth) -> [(&'static str, Samples); 2] {
    let (mut lost, mut back) = (Samples::default(), Samples::default());
    let source = site.host.directory("outside", "held");
    let entry = site.host.directory("probe", "held");
    // Before it is mounted the directory would be offered.
    let name = source.to_str().unwrap();
    rustix::mount::mount_bind(name, &entry).unwrap();
    until(berth, Instant::now(), |berth| offers(berth, "probe", requests::mounted(), true));
    let volume_id = berth.create("pvc-held", "probe", 1).unwrap().volume_id;
    for _ in 0..TIMES {
        rest();
        let begun = Instant::now();
        unmount(&entry, UnmountFlags::NOFOLLOW).unwrap();
        lost.add(until(berth, begun, |berth| !is_well(berth, &volume_id)));
        rest();
        let begun = Instant::now();
        rustix::mount::mount_bind(name, &entry).unwrap();
        back.add(until(berth, begun, |berth| is_well(berth, &volume_id)));
    }
    berth.delete(&volume_id).unwrap();
    [("a claimed volume goes → Lost", lost), ("it comes back → well", back)]
}

/// Mounts that come and go one right after the other.
fn in_a_row(site: &Site, berth: &Berth) -> Samples {
    let mut comes = Samples::default();
    let entry = site.host.directory("fast", "row");
    let largest = available(berth, "fast", requests::mounted());
    for _ in 0..TIMES {
        let begun = Instant::now();
        tmpfs(&entry, c"size=2m");
        comes.add(until(berth, begun, |berth| {
            available(berth, "fast", requests::mounted()) > largest
        }));
        unmount(&entry, UnmountFlags::NOFOLLOW).unwrap();
        until(berth, Instant::now(), |berth| {
            available(berth, "fast", requests::mounted()) == largest
        });
    }
    fs::remove_dir(&entry).unwrap();
    comes
}

fn rest() {
    std::thread::park_timeout(REST);
}

/// How long it took, from `begun`, until `is_so`.
fn until(berth: &Berth, begun: Instant, is_so: impl Fn(&Berth) -> bool) -> Duration {
    while !is_so(berth) {
        std::thread::park_timeout(TICK);
        assert!(begun.elapsed() < Duration::from_mins(1), "in vain; the log:\n{}", berth.log());
    }
    begun.elapsed()
}

fn offers(berth: &Berth, pool: &str, kind: csi::VolumeCapability, offered: bool) -> bool {
    (available(berth, pool, kind) > 0) == offered
}

/// What the pool `pool` has to give, in bytes.
fn available(berth: &Berth, pool: &str, kind: csi::VolumeCapability) -> i64 {
    let request = csi::GetCapacityRequest {
        volume_capabilities: vec![kind],
        parameters: [("pool".into(), pool.into())].into(),
        ..Default::default()
    };
    let answer = berth.controller(async |client| client.get_capacity(request).await).unwrap();
    answer.maximum_volume_size.unwrap_or_default().max(answer.available_capacity)
}

fn is_well(berth: &Berth, volume_id: &str) -> bool {
    let volume_id = volume_id.to_owned();
    let request = csi::ControllerGetVolumeHealthRequest { volume_id, ..Default::default() };
    let answer =
        berth.controller(async |client| client.controller_get_volume_health(request).await);
    answer.unwrap().volume_health.unwrap().health_statuses.is_empty()
}

/// How long it took until the pool `probe` had something to give, or else nothing.
pub fn until_offered(berth: &Berth, begun: Instant, offered: bool) -> Duration {
    while !offers(berth, "probe", requests::mounted(), offered) {}
    begun.elapsed()
}
