//! Reservations made equal to what is held: dead ones are deleted, missing ones made.

use std::collections::HashSet;
use std::time::Duration;

use super::super::{Error, Inventory};
use super::Kubernetes;
use super::error::{Failure, sentence};
use super::reservation::{Reservation, Wish};

/// How long what went wrong half-way may lie about.
const INTERVAL: Duration = Duration::from_hours(1);
const SWEEPING: &str = "sweeping the reservations of claims";

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Dead reservations that are gone.
    pub deleted: usize,
    /// Reservations that were missing, of claims that are held: somebody had deleted them.
    pub made: usize,
}

impl Kubernetes {
    /// Sweeps now and every hour. Any number of controllers may.
    pub async fn sweep_hourly(&self) {
        let mut turns = tokio::time::interval(INTERVAL);
        loop {
            turns.tick().await;
            match self.sweep().await {
                Ok(Swept { deleted: 0, made: 0 }) => {}
                Ok(Swept { deleted, made }) => {
                    tracing::info!(deleted, made, "reservations of claims were swept");
                }
                Err(error) => {
                    let error = sentence(&error);
                    tracing::warn!(
                        error,
                        "reservations of claims were not swept until the next hour"
                    );
                }
            }
        }
    }

    /// Deletes the reservations of claims that are over, and makes those that are missing.
    pub async fn sweep(&self) -> Result<Swept, Error> {
        let reservations = self.running.api.list_reservations().await;
        let reservations = reservations.map_err(|failure| failure.of_reading(SWEEPING))?;
        let mut swept = Swept::default();
        let mut reserved = HashSet::new();
        for reservation in reservations {
            if self.is_dead(&reservation).await {
                let deleted = self.running.api.delete_reservation(&reservation).await;
                swept.deleted += usize::from(deleted.is_ok());
            } else {
                reserved.insert(reservation.wish.claim);
            }
        }
        for held in self.list().await? {
            let Some(claim) = &held.volume.spec.claim else { continue };
            if reserved.contains(&claim.name) {
                continue;
            }
            // It is read as that the volume holds the claim or, once it does not, as dead.
            let wish = Wish {
                claim: claim.name.clone(),
                volume: held.volume.name,
                version: held.version,
                spec: held.volume.spec.clone(),
            };
            swept.made += usize::from(self.running.api.reserve(&wish).await.is_ok());
        }
        Ok(swept)
    }

    /// Whether no volume holds the claim and none ever will by this reservation. Memory may be behind: what it takes for
    /// dead is looked at.
    async fn is_dead(&self, reservation: &Reservation) -> bool {
        let Wish { claim, volume, version, .. } = &reservation.wish;
        let known = self.running.memory.get(volume);
        if known.is_some_and(|known| known.claim_name() == Some(claim)) {
            return false;
        }
        match self.look(volume).await {
            Ok(entry) => {
                entry.spec().is_some()
                    && entry.claim_name() != Some(claim)
                    && entry.version != *version
            }
            Err(failure) => matches!(failure, Failure::Missing),
        }
    }
}
