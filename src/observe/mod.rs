//! What an operator sees: logs, metrics and HTTP.

pub mod metrics;
