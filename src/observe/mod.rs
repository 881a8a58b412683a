//! What an operator sees: logs, metrics and HTTP.
//!
//! It decides nothing and nothing depends on it: other parts report to a clone of [`metrics::Metrics`], `roles` starts
//! the rest. Reads `/proc/self` and listens on TCP where it is told to.

pub mod gauges;
pub mod http;
pub mod log;
pub mod metrics;
pub mod problems;
mod process;
