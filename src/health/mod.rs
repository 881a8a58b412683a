//! Probe: whether volumes are present, themselves and readable. Each answer comes from the source, opened and verified,
//! within a deadline: one device that hangs neither stops the others nor collects threads.
//!
//! It reads and never writes; who asks decides what becomes of the answer. Discovery asks for the conditions of its
//! volumes, the CSI node service for the health of one.

mod attempts;
mod look;
mod storage;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use attempts::{Attempts, Overdue};
pub use storage::{Ailment, Extent, storage};

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
        self.run(volume, None).await
    }

    /// As [`Prober::probe`] with a mount table read already, for whoever probes many volumes.
    pub async fn probe_in(&self, volume: &LocalVolume, mounts: Arc<MountTable>) -> Finding {
        self.run(volume, Some(mounts)).await
    }

    async fn run(&self, volume: &LocalVolume, mounts: Option<Arc<MountTable>>) -> Finding {
        let probed = volume.clone();
        let look = move || look::at(&probed, mounts.as_deref());
        match self.attempts.run(Path::new(&volume.status.path), look).await {
            Ok(finding) => finding,
            Err(overdue) => Finding {
                reason: HealthReason::ProbeTimeout,
                message: format!("{}: {overdue}; check the device", volume.status.path),
            },
        }
    }
}

#[cfg(test)]
mod tests;
