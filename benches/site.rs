//! The machine, and hosts with so many volumes and mounts.

use std::fs;

use berth::volume::Phase;

use crate::support::{Berth, Host, MIB, mount};

/// The machine, in one line.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let named = |line: &&str| line.starts_with("model name");
    let model = cpus.lines().find(named).and_then(|line| line.split(": ").nth(1)).unwrap_or("?");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    let memory = read("/proc/meminfo");
    let memory: u64 = memory
        .lines()
        .next()
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|kib| kib.parse().ok())
        .unwrap_or_default();
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("?");
    let (memory, kernel) = (memory >> 20, kernel.trim());
    format!("{cores} processors ({model}), {memory} GiB, Linux {kernel}; load before: {load}")
}

/// A host whose server keeps its inventory on the machine's own disk: on one in memory a sync costs nothing.
pub struct Site {
    pub host: Host,
    pub state: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        let host = Host::new();
        let state = tempfile::tempdir_in(std::env::temp_dir()).unwrap();
        mount(&["--bind", state.path().to_str().unwrap()], &host.path("state"));
        Self { host, state }
    }

    /// So many volumes, each a tmpfs of its own; gives their names.
    pub fn volumes(&self, count: usize) -> Vec<String> {
        let names: Vec<_> = (0..count).map(|number| format!("v{number:04}")).collect();
        for name in &names {
            self.host.tmpfs("fast", name, MIB);
        }
        names
    }

    /// Mounts in the namespace beside the volumes, until there are `count` in all.
    pub fn mounts(&self, count: usize) {
        let there = fs::read_to_string("/proc/thread-self/mountinfo").unwrap().lines().count();
        let source = self.host.path("outside");
        for number in there..count {
            let at = self.host.path(format!("disks/m{number}"));
            fs::create_dir(&at).unwrap();
            rustix::mount::mount_bind(&source, &at).unwrap();
        }
    }

    /// The server, once it offers `volumes`.
    pub fn start(&self, volumes: usize) -> Berth {
        let berth = Berth::start(&self.host, &self.config());
        wait_offered(&berth, volumes);
        berth
    }

    pub fn config(&self) -> String {
        let pool = |name: &str| {
            let path = self.host.pool(name);
            format!(
                "{name}: {{path: {}, accept: [mount], clean: {{method: delete}}}}",
                path.display()
            )
        };
        format!("pools: {{{}, {}}}", pool("fast"), pool("probe"))
    }
}

/// Waits until so many volumes are offered.
pub fn wait_offered(berth: &Berth, volumes: usize) {
    berth.wait_for("the volumes to be offered", |berth| {
        let all = berth.volumes();
        let offered = all.iter().filter(|volume| volume.phase() == Phase::Available).count();
        (offered >= volumes).then_some(())
    });
}
