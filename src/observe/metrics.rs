//! The metrics of a process, named and typed as Prometheus asks. Any part may hold a clone and report to it.

use std::time::Duration;

use crate::volume::PoolName;

/// Every metric of this process. Clones share their numbers.
#[derive(Debug, Clone, Default)]
pub struct Metrics {}

/// How a wipe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WipeOutcome {
    /// The volume is clean.
    Done,
    /// It failed and will be tried again.
    Failed,
    /// It was stopped at a safe point and will be resumed.
    Interrupted,
}

impl Metrics {
    /// A wipe ended.
    pub fn wiped(
        &self,
        pool: &PoolName,
        method: &'static str,
        outcome: WipeOutcome,
        took: Duration,
    ) {
        let _ = (pool, method, outcome, took);
    }

    /// A scan of every pool ended.
    pub fn scanned(&self, took: Duration, candidates: usize) {
        let _ = (took, candidates);
    }

    /// A gRPC call was answered with `code`, in the spelling of the gRPC specification (`OK`, `NOT_FOUND`).
    pub fn called(&self, method: &str, code: &'static str, took: Duration) {
        let _ = (method, code, took);
    }
}
