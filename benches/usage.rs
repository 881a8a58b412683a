//! What a process uses, from `/proc`.

use std::fs;
use std::time::Duration;

use crate::support::Berth;

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// What it has written, and so has for itself alone: not the program's text.
    pub own: u64,
    /// What is resident, with the program's text.
    pub resident: u64,
    /// The most that has been.
    pub most: u64,
}

/// The number of a server's process.
pub fn process(berth: &Berth) -> u32 {
    berth.pid().as_raw_nonzero().get().unsigned_abs()
}

pub fn memory(process: u32) -> Memory {
    let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap();
    let of = |text: &str, key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    };
    let (rollup, status) = (read("smaps_rollup"), read("status"));
    Memory {
        own: of(&rollup, "Private_Dirty:"),
        resident: of(&rollup, "Rss:"),
        most: of(&status, "VmHWM:"),
    }
}

/// What all threads have run for so far (proc_pid_schedstat(5), in nanoseconds).
pub fn processor_time(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let ran = |task: fs::DirEntry| -> Option<u64> {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    Duration::from_nanos(tasks.filter_map(ran).sum())
}
