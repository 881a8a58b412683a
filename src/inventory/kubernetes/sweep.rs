//! Reservations made equal to what is held: dead ones are deleted, missing ones made.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt;

use super::super::{Error, Event, Inventory, Recorded};
use super::Kubernetes;
use super::error::Failure;
use super::reservation::{Reservation, Wish};
use crate::causes;
use crate::volume::{ClaimName, VolumeName};

/// How long what went wrong half-way may lie about.
const INTERVAL: Duration = Duration::from_mins(5);
const SWEEPING: &str = "sweeping the reservations of claims";

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Dead reservations that are gone.
    pub deleted: usize,
    /// Reservations that were missing, of claims that are held: somebody had deleted them.
    pub made: usize,
}

/// What becomes of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its volume holds the claim, or may come to, or nobody can say.
    Stands,
    /// Its volume does not hold the claim and never will by it.
    Dead,
    /// There is no such volume.
    Missing,
}

impl Kubernetes {
    /// Sweeps now and from time to time, and tidies after claims that others end. Any number of controllers may.
    pub async fn keep_reservations(&self) {
        let mut turns = tokio::time::interval(INTERVAL);
        let mut events = self.watch();
        let mut holders = HashMap::new();
        let mut missing = HashSet::new();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::Reset(all)) => {
                        for recorded in &all {
                            self.follow(recorded, &mut holders).await;
                        }
                    }
                    Some(Event::Applied(recorded)) => self.follow(&recorded, &mut holders).await,
                    // An object that is gone says nothing of its claim.
                    Some(Event::Removed(..)) => {}
                    None => return,
                },
                _ = turns.tick() => tell(self.sweep(&mut missing).await),
            }
        }
    }

    /// Tidies after a claim that `recorded` no longer holds: who ended it may be an agent, which may not.
    async fn follow(&self, recorded: &Recorded, holders: &mut HashMap<VolumeName, ClaimName>) {
        let Recorded { volume, version, .. } = recorded;
        let held = volume.spec.claim.as_ref().map(|claim| claim.name.clone());
        let before = match &held {
            Some(claim) => holders.insert(volume.name.clone(), claim.clone()),
            None => holders.remove(&volume.name),
        };
        if let Some(ended) = before.filter(|before| Some(before) != held.as_ref()) {
            self.tidy(&ended, &volume.name, *version).await;
        }
    }

    /// Deletes the reservations of claims that are over, and makes those that are missing. A volume that is not there may be
    /// about to be made anew with its claim: its reservation is deleted when it was in `missing` already, which holds
    /// those afterwards whose volumes are.
    pub(super) async fn sweep(&self, missing: &mut HashSet<ClaimName>) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let mut reserved = HashSet::new();
        let (before, mut page) = (std::mem::take(missing), None);
        loop {
            let read = self.running.api.list_reservations(page).await;
            let (reservations, next) = read.map_err(|failure| failure.of_reading(SWEEPING))?;
            for reservation in reservations {
                let fate = self.fate(&reservation).await;
                let claim = &reservation.wish.claim;
                if fate == Fate::Missing && !before.contains(claim) {
                    missing.insert(claim.clone());
                }
                if fate == Fate::Dead || (fate == Fate::Missing && before.contains(claim)) {
                    let deleted = self.running.api.delete_reservation(&reservation).await;
                    swept.deleted += usize::from(deleted.is_ok());
                } else {
                    reserved.insert(reservation.wish.claim);
                }
            }
            page = next;
            if page.is_none() {
                break;
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
                volume: held.volume.name.clone(),
                version: held.version,
                spec: held.volume.spec.clone(),
            };
            swept.made += usize::from(self.running.api.reserve(&wish).await.is_ok());
        }
        Ok(swept)
    }

    /// What becomes of a reservation. Memory may be behind: what it takes for dead is looked at.
    async fn fate(&self, reservation: &Reservation) -> Fate {
        let Wish { claim, volume, .. } = &reservation.wish;
        let known = self.running.memory.get(volume);
        if known.is_some_and(|known| known.claim_name() == Some(claim)) {
            return Fate::Stands;
        }
        match self.look(volume).await {
            Ok(entry) if reservation.wish.is_past(&entry) => Fate::Dead,
            Err(Failure::Missing) => Fate::Missing,
            Ok(_) | Err(_) => Fate::Stands,
        }
    }
}

fn tell(swept: Result<Swept, Error>) {
    match swept {
        Ok(Swept { deleted: 0, made: 0 }) => {}
        Ok(Swept { deleted, made }) => {
            tracing::info!(deleted, made, "reservations of claims were swept");
        }
        Err(error) => {
            let error = causes::chain(&error);
            tracing::warn!(error, "reservations of claims are swept later");
        }
    }
}
