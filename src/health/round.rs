//! What the probes of one round share: the mount table, and how the devices beneath the mounts answered, each asked
//! once however many volumes lie on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::host::mountinfo::MountTable;
use crate::host::{self, DeviceNumber, device};

/// One round of probes.
#[derive(Debug)]
pub struct Round {
    mounts: Arc<MountTable>,
    beneath: Mutex<HashMap<DeviceNumber, Arc<OnceLock<host::Result<()>>>>>,
}

impl Round {
    /// A round that goes by `mounts`.
    pub fn new(mounts: Arc<MountTable>) -> Self {
        Self { mounts, beneath: Mutex::default() }
    }

    /// The mount table that it goes by.
    pub fn mounts(&self) -> &MountTable {
        &self.mounts
    }

    /// Whether the device beneath a mount can be read: what a file system answers may come from memory alone. One that
    /// is no block device, or that this process has no node of, is not asked.
    pub(super) fn read_beneath(&self, number: DeviceNumber) -> host::Result<()> {
        if number.major == 0 {
            return Ok(());
        }
        let answer = {
            let mut beneath = self.beneath.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(beneath.entry(number).or_default())
        };
        answer.get_or_init(|| device::read_edges_by_number(number)).clone()
    }
}
