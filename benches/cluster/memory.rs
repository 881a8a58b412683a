//! What the processes of Berth and its sidecars keep in memory, and how long they ran.

use std::collections::BTreeMap;
use std::fs;

use super::harness::Cluster;
use super::node::init;
use crate::report::Report;

/// A process of a pod.
pub struct Process {
    pub node: &'static str,
    pub name: &'static str,
    /// KiB that are its own, and all that is resident.
    own: u64,
    resident: u64,
}

/// What is told of, by what its command line begins with.
const PROGRAMS: [(&str, &str); 7] = [
    ("berth node", "agent"),
    ("berth controller", "controller"),
    ("csi-provisioner", "external-provisioner"),
    ("csi-resizer", "external-resizer"),
    ("sidecars node-driver-registrar", "registrar (a stand-in)"),
    ("sidecars livenessprobe", "liveness probe (a stand-in)"),
    ("kubelet", "kubelet"),
];

/// The processes of Berth's pods on both nodes, as they are now.
pub fn of(cluster: &Cluster) -> Vec<Process> {
    let found = programs(cluster).into_iter().filter(|(_, name, _)| *name != "kubelet");
    let sized = found.filter_map(|(node, name, pid)| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let of = |key: &str| -> Option<u64> {
            let line = rollup.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().trim_end_matches(" kB").trim().parse().ok()
        };
        Some(Process { node, name, own: of("Anonymous:")?, resident: of("Rss:")? })
    });
    sized.collect()
}

/// Seconds of a processor that the processes of the control plane and of both nodes have had, by name.
pub fn seconds(cluster: &Cluster) -> BTreeMap<String, f64> {
    let mut used = BTreeMap::new();
    let mut add = |name: String, pid: u32| {
        // In hundredths of a second (proc_pid_stat(5), utime and stime, after the name in brackets).
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
        let ticks: f64 = fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        *used.entry(name).or_default() += ticks / 100.0;
    };
    for name in ["apiserver", "etcd", "controller-manager", "scheduler"] {
        let pid = fs::read_to_string(cluster.state.join("pids").join(name)).unwrap();
        add(name.to_owned(), pid.trim().parse().unwrap());
    }
    add("this benchmark".to_owned(), std::process::id());
    for (node, name, pid) in programs(cluster) {
        let name =
            if name == "agent" { format!("the agent of {node}") } else { format!("{name}s") };
        add(name, pid);
    }
    used
}

/// The processes of [`PROGRAMS`] on both nodes.
fn programs(cluster: &Cluster) -> Vec<(&'static str, &'static str, u32)> {
    let mut found = Vec::new();
    for node in ["node-a", "node-b"] {
        let mut open = vec![init(cluster, node)];
        while let Some(pid) = open.pop() {
            open.extend(children(pid));
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let (program, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let line = format!("{} {rest}", program.rsplit('/').next().unwrap_or_default());
            let named = PROGRAMS.into_iter().find(|(begins, _)| line.starts_with(begins));
            found.extend(named.map(|(_, name)| (node, name, pid)));
        }
    }
    found.sort_unstable();
    found
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let read = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    read.flat_map(|text| {
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
    })
    .collect()
}

/// Tells what they keep with one volume in the cluster, and with [`super::MANY`] of the node's.
pub fn compare(report: &mut Report, few: &[Process], many: &[Process]) {
    report.table(&[
        "process",
        "node",
        "KiB of its own, no volume:",
        "resident:",
        "1,000 on node-b:",
        "resident:",
    ]);
    for (number, process) in many.iter().enumerate() {
        let same = |one: &&Process| (one.node, one.name) == (process.node, process.name);
        let place = many[..number].iter().filter(same).count();
        let cell = |size: Option<u64>| size.map_or_else(String::new, |kib| kib.to_string());
        let before = few.iter().filter(same).nth(place);
        let (own, resident) = (before.map(|one| one.own), before.map(|one| one.resident));
        report.row(&[
            &process.name,
            &process.node,
            &cell(own),
            &cell(resident),
            &process.own,
            &process.resident,
        ]);
    }
    report.end();
}
