//! What a server's process uses: memory, descriptors, threads.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

/// What it uses now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint {
    /// KiB of memory of its own: what it has allocated, not what it has mapped of files.
    pub anonymous: u64,
    /// Descriptors by what they are.
    pub descriptors: BTreeMap<String, usize>,
    pub threads: usize,
}

impl Footprint {
    pub fn of(process: u32) -> Self {
        let path = |name: &str| format!("/proc/{process}/{name}");
        let rollup = fs::read_to_string(path("smaps_rollup")).unwrap();
        let anonymous = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
        let anonymous = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir(path("fd")).unwrap().flatten() {
            // One that was closed meanwhile is none.
            let Ok(link) = fs::read_link(entry.path()) else { continue };
            let link = link.to_string_lossy().into_owned();
            let kind = link.split(":[").next().unwrap().to_owned();
            // Of which number the process is says nothing.
            let kind = kind.split('/').filter(|part| part.parse::<u32>().is_err());
            *descriptors.entry(kind.collect::<Vec<_>>().join("/")).or_default() += 1;
        }
        let threads = fs::read_dir(path("task")).unwrap().count();
        Self { anonymous, descriptors, threads }
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let descriptors: usize = self.descriptors.values().sum();
        let (anonymous, threads) = (self.anonymous, self.threads);
        write!(formatter, "{anonymous} KiB, {descriptors} descriptors, {threads} threads")
    }
}
