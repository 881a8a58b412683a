//! What this process uses, from `/proc/self`, under the names that every Prometheus client library gives it.
//!
//! Read when somebody asks. A file that cannot be read leaves its metrics out; it never fails a scrape.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Clock ticks a second in what the kernel shows to programs: `USER_HZ`, a part of the ABI of every architecture that
/// Rust's standard library runs on (time(7)).
const USER_HZ: f64 = 100.0;

/// Collects the process metrics.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let stat = Stat::parse(&read("/proc/self/stat"));
        let encoder = &mut encoder;
        if let Some(stat) = &stat {
            let cpu = ConstCounter::new(stat.cpu_seconds);
            let help = "Processor time that this process used, in user and kernel mode";
            write(encoder, "process_cpu", help, Some(&Unit::Seconds), &cpu)?;
            let threads = ConstGauge::new(stat.threads);
            write(encoder, "process_threads", "Threads of this process", None, &threads)?;
        }
        let boot = boot_time(&read("/proc/stat"));
        if let (Some(stat), Some(boot)) = (&stat, boot) {
            let moment = ConstGauge::new(boot + stat.started_seconds);
            let help = "When this process started, in seconds since the epoch";
            write(encoder, "process_start_time", help, Some(&Unit::Seconds), &moment)?;
        }
        if let Some(bytes) = resident(&read("/proc/self/status")) {
            let help = "Memory of this process that is in RAM";
            let memory = ConstGauge::new(bytes);
            write(encoder, "process_resident_memory", help, Some(&Unit::Bytes), &memory)?;
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is the descriptor that lists them.
            let open = i64::try_from(entries.count()).unwrap_or(i64::MAX) - 1;
            let help = "Open file descriptors";
            write(encoder, "process_open_fds", help, None, &ConstGauge::new(open))?;
        }
        if let Some(most) = most_files(&read("/proc/self/limits")) {
            let help = "File descriptors that this process may have open";
            write(encoder, "process_max_fds", help, None, &ConstGauge::new(most))?;
        }
        Ok(())
    }
}

fn write(
    encoder: &mut DescriptorEncoder<'_>,
    name: &'static str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

/// What `/proc/self/stat` says (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: i64,
    /// Seconds after the machine's start.
    started_seconds: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may hold anything, parentheses too.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // `rest` starts with field 3 of the man page.
        let ticks = |field: usize| fields.get(field - 3)?.parse::<u32>().ok().map(f64::from);
        Some(Self {
            cpu_seconds: (ticks(14)? + ticks(15)?) / USER_HZ,
            threads: fields.get(20 - 3)?.parse().ok()?,
            started_seconds: fields.get(22 - 3)?.parse::<f64>().ok()? / USER_HZ,
        })
    }
}

/// When the machine started, in seconds since the epoch: `btime` of `/proc/stat`.
fn boot_time(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Bytes of memory in RAM: `VmRSS` of `/proc/self/status`, which is in KiB.
fn resident(text: &str) -> Option<i64> {
    let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kib.trim().strip_suffix(" kB")?.parse::<i64>().ok()?.checked_mul(1024)
}

/// The soft limit of open files in `/proc/self/limits`.
fn most_files(text: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::metrics::Metrics;

    #[test]
    fn this_process_shows_what_it_uses_under_the_customary_names() {
        let page = Metrics::default().render();

        for name in [
            "process_cpu_seconds_total",
            "process_threads",
            "process_start_time_seconds",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
        ] {
            let line = page.lines().find(|line| line.starts_with(&format!("{name} ")));
            let value: f64 = line.unwrap_or_else(|| panic!("{name}\n{page}"))[name.len()..]
                .trim()
                .parse()
                .unwrap();
            assert!(value > 0.0 || name == "process_cpu_seconds_total", "{name} is {value}");
        }
    }

    #[test]
    fn a_program_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 9 18 4200 20\n";

        let stat = Stat::parse(text).unwrap();

        assert_eq!(stat, Stat { cpu_seconds: 2.0, threads: 9, started_seconds: 42.0 });
    }

    #[test]
    fn an_unlimited_number_of_files_is_left_out() {
        let limits = "Limit Soft Hard Units\nMax open files            1024   4096   files\n";
        assert_eq!(most_files(limits), Some(1024));
        assert_eq!(most_files("Max open files  unlimited unlimited files\n"), None);
        assert_eq!(resident("VmPeak: 1 kB\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_left_out(text in "\\PC{0,60}") {
            let _ = (Stat::parse(&text), boot_time(&text), resident(&text), most_files(&text));
        }
    }
}
