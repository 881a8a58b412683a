//! What a person may expect to be offered and is not, by pool and kind, for whoever scrapes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::volume::PoolName;

/// How many problems of each kind each pool has.
pub type Counts = BTreeMap<(PoolName, &'static str), u64>;

/// The problems that the last scan found. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Problems(Arc<Mutex<Counts>>);

impl Problems {
    /// Takes the place of what was found before.
    pub(super) fn set(&self, counts: Counts) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }
}

impl Collector for Problems {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let help =
            "Entries of pools that are not offered, or not as their pool says, by pool and kind";
        let mut family = encoder.encode_descriptor("problems", help, None, MetricType::Gauge)?;
        for ((pool, kind), count) in &counts {
            let labels = [("pool", pool.as_str()), ("kind", kind)];
            ConstGauge::new(*count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Metrics;
    use super::*;

    #[test]
    fn problems_are_counted_by_pool_and_kind_as_the_last_scan_found_them() {
        let metrics = Metrics::default();
        let fast: PoolName = "fast".parse().unwrap();

        metrics.problems([((fast.clone(), "Duplicate"), 2)].into());
        let counted = metrics.render();
        metrics.problems([((fast, "Overlaps"), 1)].into());
        let again = metrics.render();

        assert!(counted.contains(r#"berth_problems{pool="fast",kind="Duplicate"} 2"#), "{counted}");
        assert!(again.contains(r#"berth_problems{pool="fast",kind="Overlaps"} 1"#), "{again}");
        assert!(!again.contains("Duplicate"), "{again}");
    }
}
