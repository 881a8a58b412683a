//! Claims that begin and end: the protocol of [`super::reservation`].

use super::super::{Cause, Error, Recorded, Version};
use super::entry::{Content, Entry};
use super::error::Failure;
use super::patch;
use super::reservation::{Came, Reservation, Wish};
use super::{Kubernetes, Scope};
use crate::volume::{ClaimName, Spec, VolumeName};

const RESERVING: &str = "reserving the claim's name";
const CLAIMING: &str = "writing the claim";

/// What a standing reservation came to.
enum Standing {
    /// A volume holds the claim.
    Held(VolumeName),
    /// Nobody ever will by it.
    Dead,
}

/// An object that says nothing that this release understands.
#[derive(Debug, thiserror::Error)]
#[error("LocalVolume {name} cannot be read: {why}")]
pub(super) struct Unreadable {
    pub(super) name: VolumeName,
    pub(super) why: String,
}

impl Kubernetes {
    /// Gives the object at `entry` a spec with a claim that it did not have.
    pub(super) async fn begin_claim(
        &self,
        entry: &Entry,
        spec: Spec,
        claim: ClaimName,
    ) -> Result<Entry, Error> {
        self.check_unheld(&claim, &entry.name).await?;
        let wish = Wish { claim, volume: entry.name.clone(), version: entry.version, spec };
        let reservation = self.reserve(&wish).await?;
        match self.patched(entry, &wish.spec).await {
            Ok(written) => Ok(written),
            Err(Failure::Conflict) => self.after_conflict(&reservation).await,
            Err(failure) => Err(failure.of_change(&entry.name, CLAIMING)),
        }
    }

    /// Deletes the reservation of a claim that `name` no longer holds since `version`. Agents leave that to controllers,
    /// since they may not write reservations.
    pub(super) async fn tidy(&self, claim: &ClaimName, name: &VolumeName, version: Version) {
        if self.running.scope == Scope::All
            && let Ok(reservation) = self.running.api.reservation(claim).await
            && reservation.wish.volume == *name
            && reservation.wish.version < version
        {
            self.drop_reservation(&reservation).await;
        }
    }

    /// Refuses early what memory knows to be held: a claim that is asked for again, above all. It also holds where the
    /// reservation was deleted by hand.
    async fn check_unheld(&self, claim: &ClaimName, by: &VolumeName) -> Result<(), Error> {
        let Some(holder) = self.running.memory.holder(claim).filter(|holder| holder != by) else {
            return Ok(());
        };
        match self.look(&holder).await {
            Ok(entry) if entry.claim_name() == Some(claim) => Err(taken(claim, holder)),
            Ok(_) | Err(Failure::Missing) => Ok(()),
            Err(failure) => Err(failure.of_preparation(&holder, RESERVING)),
        }
    }

    /// Refuses to add a volume with a claim that another holds. It only reads: what an agent adds with a claim held it
    /// before, and the reservation of then stands as long as nobody deletes it.
    pub(super) async fn check_untaken(
        &self,
        claim: &ClaimName,
        name: &VolumeName,
    ) -> Result<(), Error> {
        self.check_unheld(claim, name).await?;
        let failed = |failure: Failure| failure.of_preparation(name, RESERVING);
        let standing = match self.running.api.reservation(claim).await {
            Err(Failure::Missing) => return Ok(()),
            standing => standing.map_err(failed)?.wish,
        };
        if standing.volume == *name {
            return Ok(());
        }
        match self.look(&standing.volume).await {
            Ok(entry) if standing.is_past(&entry) => Ok(()),
            Ok(_) | Err(Failure::Missing) => Err(taken(claim, standing.volume)),
            Err(failure) => Err(failed(failure)),
        }
    }

    /// Which volume holds a claim by its reservation.
    pub(super) async fn reserved_for(
        &self,
        claim: &ClaimName,
    ) -> Result<Option<VolumeName>, Error> {
        let standing = match self.running.api.reservation(claim).await {
            Err(Failure::Missing) => return Ok(None),
            standing => standing.map_err(|failure| failure.of_reading(RESERVING))?,
        };
        match self.settle(&standing).await? {
            Standing::Held(holder) => Ok(Some(holder)),
            Standing::Dead => Ok(None),
        }
    }

    /// Refuses to say that a volume is not there while a claim is reserved on it: its object was deleted, and its agent,
    /// which has the claim in its ledger, is about to make it anew.
    pub(super) async fn check_unreserved(&self, name: &VolumeName) -> Result<(), Error> {
        let mut page = None;
        loop {
            let read = self.running.api.list_reservations(page).await;
            let (all, next) = read.map_err(|failure| failure.of_reading(RESERVING))?;
            if all.iter().any(|reservation| reservation.wish.volume == *name) {
                return Err(missing(name));
            }
            page = next;
            if page.is_none() {
                return Ok(());
            }
        }
    }

    /// Makes the reservation, in the place of a dead one if need be.
    async fn reserve(&self, wish: &Wish) -> Result<Reservation, Error> {
        let api = &self.running.api;
        let failed = |failure: Failure| failure.of_preparation(&wish.volume, RESERVING);
        loop {
            match api.reserve(wish).await {
                Ok(reservation) => return Ok(reservation),
                Err(Failure::Exists) => {}
                Err(Failure::Missing) => {
                    return Err(failed(Failure::untried(
                        "the namespace of the reservations is missing",
                    )));
                }
                Err(failure) => return Err(failed(failure)),
            }
            let standing = match api.reservation(&wish.claim).await {
                Err(Failure::Missing) => continue,
                standing => standing.map_err(failed)?,
            };
            if standing.wish == *wish {
                return Ok(standing);
            }
            match self.settle(&standing).await? {
                Standing::Held(holder) if holder == wish.volume => {
                    return Err(Error::Conflict(holder));
                }
                Standing::Held(holder) => return Err(taken(&wish.claim, holder)),
                Standing::Dead => {}
            }
            match api.replace_reservation(&standing, wish).await {
                Err(Failure::Conflict | Failure::Missing) => {}
                replaced => return replaced.map_err(failed),
            }
        }
    }

    /// Finds out what a reservation came to, and helps it if it has not come to anything yet: whoever made it may have
    /// died.
    async fn settle(&self, standing: &Reservation) -> Result<Standing, Error> {
        let Wish { volume, spec, .. } = &standing.wish;
        loop {
            let entry = match self.look(volume).await {
                Ok(entry) => entry,
                // It may have held the claim, and come back with it.
                Err(Failure::Missing) => return Err(missing(volume)),
                Err(failure) => return Err(failure.of_preparation(volume, RESERVING)),
            };
            match standing.wish.came(&entry) {
                Came::True => return Ok(Standing::Held(volume.clone())),
                Came::Past => return Ok(Standing::Dead),
                Came::Unknown => return Err(not_understood(&entry)),
                Came::Open => {}
            }
            match self.patched(&entry, spec).await {
                Ok(_) => return Ok(Standing::Held(volume.clone())),
                Err(Failure::Conflict | Failure::Missing) => {}
                // The same spec at the same version is refused to everybody.
                Err(Failure::Invalid(_)) => return Ok(Standing::Dead),
                // The claim may have been begun by this: then it is not for nothing that it is asked for again.
                Err(failure) => return Err(failure.of_change(volume, CLAIMING)),
            }
        }
    }

    /// The volume had changed when the claim was written: by somebody who helped, or to something else.
    async fn after_conflict(&self, reservation: &Reservation) -> Result<Entry, Error> {
        let Wish { claim, volume, spec, .. } = &reservation.wish;
        let now = match self.look(volume).await {
            Ok(now) => Some(now),
            Err(Failure::Missing) => None,
            Err(Failure::Unknown(source)) => {
                return Err(Error::OutcomeUnknown { context: CLAIMING, source });
            }
            Err(failure) => return Err(failure.of_change(volume, CLAIMING)),
        };
        let is_ours = |now: &Spec| now.tenancy == spec.tenancy && now.claim == spec.claim;
        match now {
            Some(now) if now.spec().is_some_and(is_ours) => return Ok(now),
            Some(now) if now.claim_name() == Some(claim) => {}
            // Dead, since the volume is past its version and does not hold the claim.
            _ => self.drop_reservation(reservation).await,
        }
        Err(Error::Conflict(volume.clone()))
    }

    /// Deletes a dead reservation. It is only tidying: what is left lying is as dead.
    async fn drop_reservation(&self, dead: &Reservation) {
        if let Err(failure) = self.running.api.delete_reservation(dead).await {
            tracing::debug!(claim = %dead.wish.claim, ?failure, "a reservation was left to the next sweep");
        }
    }

    /// Writes a spec at the version of `entry`.
    pub(super) async fn patched(&self, entry: &Entry, spec: &Spec) -> Result<Entry, Failure> {
        let answer = self.running.api.patch(&entry.name, patch::spec(entry, spec)).await;
        self.judged(answer, entry).await
    }
}

pub(super) fn recorded(entry: &Entry) -> Result<Recorded, Error> {
    match (&entry.content, entry.recorded()) {
        (_, Some(recorded)) => Ok(recorded),
        (Content::Unreadable(why), None) => Err(unreadable(&entry.name, why)),
        (Content::Incomplete(_), None) => Err(unreadable(&entry.name, "it is still being added")),
        (Content::Volume(_), None) => Err(Error::NotFound(entry.name.clone())),
    }
}

fn not_understood(entry: &Entry) -> Error {
    let why = match &entry.content {
        Content::Unreadable(why) => why,
        _ => "it says nothing of its spec",
    };
    unreadable(&entry.name, why)
}

fn missing(name: &VolumeName) -> Error {
    let why = "it is missing while a claim is reserved on it; its agent makes it anew";
    let source: Cause = Box::new(Unreadable { name: name.clone(), why: why.to_owned() });
    Error::NotWritten { context: "reading a LocalVolume", source }
}

fn taken(claim: &ClaimName, holder: VolumeName) -> Error {
    Error::ClaimNameTaken { claim: claim.clone(), holder }
}

fn unreadable(name: &VolumeName, why: &str) -> Error {
    let source: Cause = Box::new(Unreadable { name: name.clone(), why: why.to_owned() });
    Error::NotWritten { context: "reading a LocalVolume", source }
}
