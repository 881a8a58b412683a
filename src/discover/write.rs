//! The changes, written: each on condition that the record is still the one that was decided on.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::reconcile::Change;
use super::tell;
use crate::health::{Prober, Round};
use crate::inventory::{Error, Inventory, Version};
use crate::volume::{Condition, LocalVolume, VolumeName};

/// Writes under way at a time; a store takes many into one transaction.
const AT_ONCE: usize = 64;

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
        changes: Vec<Change>,
        volumes: &[LocalVolume],
        versions: &BTreeMap<VolumeName, Version>,
    ) -> Result<bool, Error> {
        let before: BTreeMap<_, _> = volumes.iter().map(|volume| (&volume.name, volume)).collect();
        let mut stale = false;
        for changes in changes.chunks(AT_ONCE) {
            let writes = changes.iter().map(|change| {
                let old = before.get(change.volume()).copied();
                let version = versions.get(change.volume()).copied().unwrap_or(Version(0));
                self.write_one(change.clone(), old, version)
            });
            for written in join_all(writes).await {
                match written {
                    Err(Error::Conflict(_) | Error::NotFound(_) | Error::Exists(_)) => stale = true,
                    result => result?,
                }
            }
        }
        Ok(stale)
    }

    async fn write_one(
        &self,
        change: Change,
        old: Option<&LocalVolume>,
        version: Version,
    ) -> Result<(), Error> {
        match (change, old) {
            (Change::Add(volume), _) => {
                let added = self.inventory.add(self.probed(*volume).await).await?;
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

    /// A new volume, offered only if it can be read and written.
    async fn probed(&self, mut volume: LocalVolume) -> LocalVolume {
        if let Some(finding) = self.prober.probe_in(&volume, None, self.round).await {
            volume.status.conditions.healthy = Condition {
                status: finding.is_healthy(),
                reason: finding.reason,
                message: finding.message,
                since: Timestamp::now(),
            };
        }
        volume
    }
}

impl Change {
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
