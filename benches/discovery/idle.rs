//! An agent that has nothing to do: the processor's time and the system calls of a minute, in which everything is looked at
//! once (`--rescan`).

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::Said;
use crate::samples::shown;
use crate::support::Berth;
use crate::usage::{self, Memory};

const MINUTE: Duration = Duration::from_mins(1);
/// How many of the most frequent calls are named.
const NAMED: usize = 5;

pub fn watched(berth: &Berth) -> Said {
    let before = ran(berth);
    // A figure over a minute is what is asked for here.
    std::thread::park_timeout(MINUTE);
    let used = shown(ran(berth).saturating_sub(before));
    let Memory { own, resident, .. } = usage::memory(usage::process(berth));
    vec![
        ("an idle minute, of a processor".into(), used),
        ("an idle minute, system calls (counted by strace -f -c)".into(), calls(berth)),
        ("memory, its own and resident".into(), format!("{own} KiB, {resident} KiB")),
    ]
}

/// What a server has run for (proc_pid_stat(5), in hundredths of a second), threads that have ended included.
pub fn ran(berth: &Berth) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", berth.pid().as_raw_nonzero())).unwrap();
    // What is before may hold anything.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

fn calls(berth: &Berth) -> String {
    let counts = tempfile::NamedTempFile::new().unwrap();
    let pid = berth.pid().as_raw_nonzero().to_string();
    let mut watched = Command::new("timeout");
    watched.args(["--signal=INT", &MINUTE.as_secs().to_string(), "strace", "-f", "-c", "-p", &pid]);
    watched.arg("-o").arg(counts.path());
    if watched.output().is_ok_and(|output| output.status.code() == Some(127)) {
        return "not counted: strace is not there".into();
    }
    let text = fs::read_to_string(counts.path()).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.split_whitespace().collect();
        let count: u64 = cells.get(3)?.parse().ok()?;
        Some((count, *cells.last()?))
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable_by(|one, other| other.cmp(one));
    let total = rows.iter().find(|(_, name)| *name == "total").map_or(0, |(count, _)| *count);
    let named = rows.iter().filter(|(_, name)| *name != "total").take(NAMED);
    let named: Vec<_> = named.map(|(count, name)| format!("{name} {count}")).collect();
    format!("{total}: {}, …", named.join(", "))
}
