//! Probe: whether volumes are present, themselves and readable. Each answer comes from the source, opened and verified,
//! within a deadline: one device that hangs neither stops the others nor collects threads.
//!
//! It reads and never writes; who asks decides what becomes of the answer. Discovery asks for the conditions of its
//! volumes, the CSI node service for the health of one.

mod attempts;
mod crew;
mod look;
mod round;
mod storage;

use std::sync::Arc;
use std::time::Duration;

pub use attempts::{About, Attempts, Overdue};
pub use round::Round;
pub use storage::{Ailment, Extent, storage};

use crate::host::DeviceNumber;
use crate::host::mountinfo::MountTable;
use crate::volume::{HealthReason, LocalVolume};

/// How long a probe may take unless it is said otherwise.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The reason for a condition or a CSI health status.
    pub reason: HealthReason,
    /// One sentence for a person.
    pub message: String,
}

impl Finding {
    /// Whether nothing is wrong.
    pub fn is_healthy(&self) -> bool {
        self.reason == HealthReason::Present
    }
}

/// Probes volumes. Clones share the deadline, the turns and the memory of what hangs.
#[derive(Debug, Clone)]
pub struct Prober {
    attempts: Attempts,
}

impl Default for Prober {
    fn default() -> Self {
        Self::new(DEADLINE)
    }
}

impl Prober {
    /// A prober that gives each probe `deadline`.
    pub fn new(deadline: Duration) -> Self {
        Self { attempts: Attempts::new(deadline) }
    }

    /// Probes `volume`: opens and verifies its source and reads a little of it.
    ///
    /// A volume whose earlier probe has not come back yet is not probed again, but reported as hanging.
    pub async fn probe(&self, volume: &LocalVolume) -> Finding {
        let probed = volume.clone();
        let look = move || match MountTable::read() {
            Ok(mounts) => look::at(&probed, &Round::new(Arc::new(mounts))),
            Err(error) => look::unreadable(&error),
        };
        let about = About::path(&volume.status.path);
        self.attempts.run(about, look).await.unwrap_or_else(|overdue| hangs(volume, overdue))
    }

    /// As [`Prober::probe`], in a round of probes, of volumes each with its device where that is known. The answers are in
    /// the order of the volumes; absent where so many others hang that one was not probed, which says nothing about it.
    pub async fn probe_all(
        &self,
        volumes: &[(&LocalVolume, Option<DeviceNumber>)],
        round: &Arc<Round>,
    ) -> Vec<Option<Finding>> {
        let probes = volumes.iter().map(|(volume, device)| {
            let (probed, round) = ((*volume).clone(), Arc::clone(round));
            (About::path(&volume.status.path).on(*device), move || look::at(&probed, &round))
        });
        let answers = self.attempts.run_all(probes.collect()).await;
        let findings = volumes.iter().zip(answers).map(|((volume, _), answer)| match answer {
            Err(Overdue::TooMany) => None,
            answer => Some(answer.unwrap_or_else(|overdue| hangs(volume, overdue))),
        });
        findings.collect()
    }
}

fn hangs(volume: &LocalVolume, overdue: Overdue) -> Finding {
    Finding {
        reason: HealthReason::ProbeTimeout,
        message: format!("{}: {overdue}; check the device", volume.status.path),
    }
}

#[cfg(test)]
mod tests;
