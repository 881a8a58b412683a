//! The health of a node's storage as a whole: what is wrong with its volumes, summed up.

use std::collections::BTreeMap;

use crate::volume::{HealthReason, LocalVolume, PoolName};

/// How much of a pool is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Some of its volumes.
    Part,
    /// Every one of them.
    Whole,
}

/// One thing that is wrong with pools of a node. No two of one summary have both the same extent and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ailment {
    /// How much of each of the pools is concerned.
    pub extent: Extent,
    /// What is wrong.
    pub reason: HealthReason,
    /// One sentence for a person, with the pools and the number of volumes.
    pub message: String,
}

/// Sums up the recorded health of a node's volumes; empty when nothing is wrong.
pub fn storage<'a>(volumes: impl IntoIterator<Item = &'a LocalVolume>) -> Vec<Ailment> {
    let mut sums: BTreeMap<(Extent, &str), (HealthReason, Vec<String>)> = BTreeMap::new();
    for (name, pool) in count(volumes) {
        for (key, (reason, ill)) in &pool.ill {
            let part = format!("{ill} of the {} volumes of pool {name}", pool.volumes);
            sums.entry((pool.extent(), key)).or_insert((*reason, Vec::new())).1.push(part);
        }
    }
    let sums = sums.into_iter().map(|((extent, key), (reason, parts))| {
        let message = format!("{}: {key}", parts.join(", "));
        Ailment { extent, reason, message }
    });
    sums.collect()
}

/// The volumes of a pool, and how many are ill for which reason.
#[derive(Default)]
struct Pool {
    volumes: usize,
    ill: BTreeMap<&'static str, (HealthReason, usize)>,
}

impl Pool {
    fn extent(&self) -> Extent {
        let ill: usize = self.ill.values().map(|(_, count)| count).sum();
        if ill == self.volumes { Extent::Whole } else { Extent::Part }
    }
}

fn count<'a>(volumes: impl IntoIterator<Item = &'a LocalVolume>) -> BTreeMap<&'a PoolName, Pool> {
    let mut pools: BTreeMap<&PoolName, Pool> = BTreeMap::new();
    for volume in volumes {
        let pool = pools.entry(&volume.spec.pool).or_default();
        pool.volumes += 1;
        if !volume.is_healthy() {
            let reason = volume.status.conditions.healthy.reason;
            pool.ill.entry(reason.as_str()).or_insert((reason, 0)).1 += 1;
        }
    }
    pools
}
