//! The changes, written: each on condition that the record is still the one that was decided on.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::reconcile::Change;
use super::tell;
use crate::health::{Prober, Round};
use crate::inventory::{Error, Inventory, Version};
use crate::volume::{Condition, LocalVolume, VolumeName};

/// What the writes need.
pub(super) struct Writer<'a, I> {
    pub(super) inventory: &'a I,
    pub(super) prober: &'a Prober,
    pub(super) round: &'a Arc<Round>,
}

impl<I: Inventory> Writer<'_, I> {
    /// Writes the changes, side by side; whether one was decided on a record that had changed, if only by another of
    /// these changes.
    pub(super) async fn write(
        &self,
        mut changes: Vec<Change>,
        volumes: &[LocalVolume],
        versions: &BTreeMap<VolumeName, Version>,
    ) -> Result<bool, Error> {
        self.probe_new(&mut changes).await;
        let before: BTreeMap<_, _> = volumes.iter().map(|volume| (&volume.name, volume)).collect();
        let writes = changes.into_iter().map(|change| {
            let old = before.get(change.volume()).copied();
            let version = versions.get(change.volume()).copied().unwrap_or(Version(0));
            self.write_one(change, old, version)
        });
        let writes: Vec<_> = writes.collect();
        let mut written = stream::iter(writes).buffer_unordered(I::WRITES_AT_ONCE);
        let mut stale = false;
        while let Some(written) = written.next().await {
            match written {
                Err(Error::Conflict(_) | Error::NotFound(_) | Error::Exists(_)) => stale = true,
                result => result?,
            }
        }
        Ok(stale)
    }

    /// Probes the volumes that are new: one is offered only if it can be read and written.
    async fn probe_new(&self, changes: &mut [Change]) {
        let mut new: Vec<_> = changes.iter_mut().filter_map(Change::new_volume).collect();
        let probes: Vec<_> = new.iter().map(|volume| (&**volume, None)).collect();
        let findings = self.prober.probe_all(&probes, self.round).await;
        for (volume, finding) in new.iter_mut().zip(findings) {
            let Some(finding) = finding else { continue };
            volume.status.conditions.healthy = Condition {
                status: finding.is_healthy(),
                reason: finding.reason,
                message: finding.message.into(),
                since: Timestamp::now(),
            };
        }
    }

    async fn write_one(
        &self,
        change: Change,
        old: Option<&LocalVolume>,
        version: Version,
    ) -> Result<(), Error> {
        match (change, old) {
            (Change::Add(volume), _) => {
                let added = self.inventory.add(*volume).await?;
                tell::appeared(&added.volume);
            }
            (Change::Status(name, status), Some(old)) => {
                let seen = self.inventory.observe(&name, version, *status).await?;
                tell::differences(old, &seen.volume);
            }
            (Change::Order(name, policy), Some(old)) => {
                let spec = old.ordered_clean(policy);
                let ordered = self.inventory.decide(&name, version, spec).await?;
                tell::ordered(&ordered.volume);
            }
            (Change::Withdraw(name), Some(old)) => {
                self.inventory.decide(&name, version, old.withdrawn_clean()).await?;
            }
            (Change::Remove(name), Some(old)) => {
                self.inventory.remove(&name, version).await?;
                tell::vanished(old);
            }
            // A plan changes only what it was made of.
            (
                Change::Status(name, _)
                | Change::Order(name, _)
                | Change::Withdraw(name)
                | Change::Remove(name),
                None,
            ) => return Err(Error::NotFound(name)),
        }
        Ok(())
    }
}

impl Change {
    /// The volume that it adds.
    fn new_volume(&mut self) -> Option<&mut LocalVolume> {
        match self {
            Self::Add(volume) => Some(volume),
            _ => None,
        }
    }

    /// The volume that it is about.
    fn volume(&self) -> &VolumeName {
        match self {
            Self::Add(volume) => &volume.name,
            Self::Status(name, _)
            | Self::Order(name, _)
            | Self::Withdraw(name)
            | Self::Remove(name) => name,
        }
    }
}
