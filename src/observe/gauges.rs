//! How many volumes there are and how large they are, by pool and phase.
//!
//! Fed by the inventory's watch, counted only when somebody asks: a change costs one entry of a map, a scrape one walk
//! over it, and a scrape never sees half a change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use crate::inventory::{Event, Inventory, Recorded};
use crate::volume::{Phase, PoolName, VolumeName};

/// Every phase, so that one without volumes shows as 0 and not as nothing: an alert on `== 0` needs the series.
const PHASES: [Phase; 6] =
    [Phase::Available, Phase::Cordoned, Phase::Claimed, Phase::Cleaning, Phase::Dirty, Phase::Lost];

/// Reports every change of an inventory to `metrics` until it is cancelled or the store ends.
pub async fn follow<I: Inventory>(inventory: I, metrics: Metrics, cancel: CancellationToken) {
    let mut watch = inventory.watch();
    loop {
        tokio::select! {
            event = watch.next() => match event {
                Some(event) => metrics.recorded(&event),
                None => return,
            },
            () = cancel.cancelled() => return,
        }
    }
}

/// The volumes of an inventory, as far as they are counted. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Gauges(Arc<Mutex<BTreeMap<VolumeName, Counted>>>);

/// What is counted of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counted {
    pool: PoolName,
    phase: Phase,
    /// Bytes.
    capacity: u64,
}

/// Number and sizes of the volumes of one pool in one phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    volumes: u64,
    /// Bytes of all.
    bytes: u64,
    /// Bytes of the largest.
    largest: u64,
}

type Sums = BTreeMap<PoolName, [Sum; PHASES.len()]>;

impl Gauges {
    /// Takes in what the inventory told.
    pub(super) fn apply(&self, event: &Event) {
        let mut volumes = self.volumes();
        match event {
            Event::Reset(all) => *volumes = all.iter().map(counted).collect(),
            Event::Applied(one) => volumes.extend([counted(one)]),
            Event::Removed(name, _) => {
                volumes.remove(name);
            }
        }
    }

    /// Nothing panics while it is held, and a count that is off by one volume is better than none.
    fn volumes(&self) -> MutexGuard<'_, BTreeMap<VolumeName, Counted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sums(&self) -> Sums {
        let mut sums = Sums::new();
        for volume in self.volumes().values() {
            let Some(position) = PHASES.iter().position(|phase| *phase == volume.phase) else {
                continue;
            };
            let sum = &mut sums.entry(volume.pool.clone()).or_default()[position];
            sum.volumes += 1;
            sum.bytes = sum.bytes.saturating_add(volume.capacity);
            sum.largest = sum.largest.max(volume.capacity);
        }
        sums
    }
}

fn counted(recorded: &Recorded) -> (VolumeName, Counted) {
    let volume = &recorded.volume;
    let counted = Counted {
        pool: volume.spec.pool.clone(),
        phase: volume.phase(),
        capacity: volume.status.capacity.0,
    };
    (volume.name.clone(), counted)
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sums = self.sums();
        let encoder = &mut encoder;
        let help = "Volumes, by pool and phase";
        by_phase(encoder, ("volumes", help, None), &sums, |sum| sum.volumes)?;
        let help = "Sizes of all volumes, by pool and phase";
        by_phase(encoder, ("capacity", help, Some(&Unit::Bytes)), &sums, |sum| sum.bytes)?;
        let help = "Size of the largest volume that may be claimed: no claim above it can be met";
        let mut family = encoder.encode_descriptor(
            "claimable_largest",
            help,
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?;
        for (pool, phases) in &sums {
            let labels = [("pool", pool.as_str())];
            ConstGauge::new(phases[0].largest).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Writes one gauge for every pool and phase.
fn by_phase(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): (&'static str, &str, Option<&Unit>),
    sums: &Sums,
    value: impl Fn(&Sum) -> u64,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (pool, phases) in sums {
        for (phase, sum) in PHASES.iter().zip(phases) {
            let labels = [("pool", pool.to_string()), ("phase", phase.to_string())];
            ConstGauge::new(value(sum)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Version;
    use crate::volume::{Bytes, LocalVolume, fixture};

    fn recorded(volume: LocalVolume) -> Recorded {
        Recorded::new(volume, Version(1))
    }

    fn lines(metrics: &Metrics, start: &str) -> Vec<String> {
        let page = metrics.render();
        page.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
    }

    #[test]
    fn volumes_and_sizes_are_counted_by_pool_and_phase() {
        let metrics = Metrics::default();
        let free = ["v1", "v2"].map(|entry| recorded(fixture::named(entry, Bytes(10))));
        let claimed = recorded(LocalVolume {
            name: "node-a-fast-v3-0".parse().unwrap(),
            ..fixture::claimed_by("pvc-1")
        });

        metrics.recorded(&Event::Reset([&free[..], &[claimed]].concat()));

        let volumes = lines(&metrics, "berth_volumes{");
        assert_eq!(volumes.len(), 6, "{volumes:?}");
        assert_eq!(volumes[0], r#"berth_volumes{pool="fast",phase="Available"} 2"#);
        assert_eq!(volumes[2], r#"berth_volumes{pool="fast",phase="Claimed"} 1"#);
        assert_eq!(volumes[5], r#"berth_volumes{pool="fast",phase="Lost"} 0"#);
        let sizes = lines(&metrics, "berth_capacity_bytes{");
        assert_eq!(sizes[0], r#"berth_capacity_bytes{pool="fast",phase="Available"} 20"#);
        assert_eq!(
            lines(&metrics, "berth_claimable_largest_bytes{"),
            [r#"berth_claimable_largest_bytes{pool="fast"} 10"#]
        );
    }

    #[test]
    fn a_volume_that_changes_is_counted_once_and_one_that_goes_not_at_all() {
        let metrics = Metrics::default();
        let volume = fixture::available();
        metrics.recorded(&Event::Reset(vec![recorded(volume.clone())]));

        metrics.recorded(&Event::Applied(Box::new(recorded(fixture::claimed_by("pvc-1")))));
        let claimed = lines(&metrics, "berth_volumes{");
        metrics.recorded(&Event::Removed(volume.name, Version(2)));

        assert_eq!(claimed[0], r#"berth_volumes{pool="fast",phase="Available"} 0"#);
        assert_eq!(claimed[2], r#"berth_volumes{pool="fast",phase="Claimed"} 1"#);
        assert_eq!(lines(&metrics, "berth_volumes{"), Vec::<String>::new());
    }

    #[test]
    fn every_phase_is_counted() {
        let lost = {
            let mut volume = fixture::available();
            volume.status.conditions.healthy.status = false;
            volume
        };
        let gauges = Gauges::default();

        for volume in [fixture::available(), fixture::claimed_by("a"), fixture::released(), lost] {
            gauges.apply(&Event::Reset(vec![recorded(volume)]));

            let counted: u64 = gauges.sums().values().flatten().map(|sum| sum.volumes).sum();
            assert_eq!(counted, 1);
        }
    }
}
