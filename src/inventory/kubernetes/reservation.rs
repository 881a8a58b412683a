//! The one holder of a claim's name, although etcd knows no unique index over all objects.
//!
//! Whoever begins a claim first makes a *reservation*: a Lease named after the claim, which says of which volume, at which
//! version, the claim wants which spec. Only then is the spec written, and only at that version. So whoever meets a
//! reservation can find out what became of it: the volume holds the claim; or it is still at that version, and anybody
//! may write the spec; or it is past it, and since versions only grow nobody ever will. A reservation of the last kind
//! is dead and may be replaced or deleted. As long as a volume holds a claim the claim's reservation names that volume.
//! See docs/decisions/0008.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{ListParams, ObjectMeta};
use sha2::{Digest, Sha256};

use super::super::{Cause, Version};
use super::api::{Api, PAGE, exactly, post};
use super::entry::Entry;
use super::error::Failure;
use crate::volume::{ClaimName, InvalidName, Spec, VolumeName};

const LABEL: (&str, &str) = ("berth.dev/reservation", "claim");
const CLAIM: &str = "berth.dev/claim";
const VOLUME: &str = "berth.dev/volume";
const VERSION: &str = "berth.dev/volume-version";
const SPEC: &str = "berth.dev/spec";

/// What a claim wants written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) claim: ClaimName,
    pub(crate) volume: VolumeName,
    /// The version at which the volume has to be.
    pub(crate) version: Version,
    pub(crate) spec: Spec,
}

/// A reservation, as the API server has it.
#[derive(Debug, Clone)]
pub(super) struct Reservation {
    pub(super) wish: Wish,
    /// Its own identity and version.
    uid: String,
    version: String,
}

/// Why a Lease is no reservation.
#[derive(Debug, thiserror::Error)]
#[error(
    "Lease {lease} is not a reservation of Berth's: {what}; if no volume holds its claim take its label berth.dev/reservation off and \
     delete it"
)]
pub(super) struct Foreign {
    lease: String,
    what: String,
    #[source]
    source: Option<Cause>,
}

impl Api {
    /// Makes a reservation; [`Failure::Exists`] if the claim has one.
    pub(super) async fn reserve(&self, wish: &Wish) -> Result<Reservation, Failure> {
        let lease = wish.lease().map_err(Failure::unreadable)?;
        let (name, post) = (lease_name(&wish.claim), post());
        let made = self.ask(&name, || self.reservations.create(&post, &lease)).await?;
        Reservation::read(made).map_err(Failure::unreadable)
    }

    /// The reservation of a claim.
    pub(super) async fn reservation(&self, claim: &ClaimName) -> Result<Reservation, Failure> {
        let name = lease_name(claim);
        let lease = self.ask(&name, || self.reservations.get(&name)).await?;
        Reservation::read(lease).map_err(|foreign| Failure::Refused(Box::new(foreign)))
    }

    /// Puts `wish` in the place of a dead reservation, if that is still the same.
    pub(super) async fn replace_reservation(
        &self,
        dead: &Reservation,
        wish: &Wish,
    ) -> Result<Reservation, Failure> {
        let mut lease = wish.lease().map_err(Failure::unreadable)?;
        lease.metadata.uid = Some(dead.uid.clone());
        lease.metadata.resource_version = Some(dead.version.clone());
        let (name, put) = (lease_name(&wish.claim), post());
        let made = self.ask(&name, || self.reservations.replace(&name, &put, &lease)).await?;
        Reservation::read(made).map_err(Failure::unreadable)
    }

    /// Deletes a dead reservation, if it is still the same.
    pub(super) async fn delete_reservation(&self, dead: &Reservation) -> Result<(), Failure> {
        let (name, exactly) = (lease_name(&dead.wish.claim), exactly(&dead.uid, &dead.version));
        self.ask(&name, || self.reservations.delete(&name, &exactly)).await.map(drop)
    }

    /// A page of the reservations, and where the next one begins: all of them at once may be more than fit in memory.
    pub(super) async fn list_reservations(
        &self,
        page: Option<String>,
    ) -> Result<(Vec<Reservation>, Option<String>), Failure> {
        let (label, value) = LABEL;
        let mut params = ListParams::default().labels(&format!("{label}={value}")).limit(PAGE);
        params.continue_token = page;
        let leases = self.ask("", || self.reservations.list(&params)).await?;
        let known = leases.items.into_iter().filter_map(|lease| {
            let read = Reservation::read(lease);
            read.inspect_err(|error| tracing::warn!(%error, "a Lease was passed over")).ok()
        });
        let next = leases.metadata.continue_.filter(|token| !token.is_empty());
        Ok((known.collect(), next))
    }
}

/// What a wish has come to, told from its volume's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// The volume holds the claim.
    True,
    /// The volume is still at the version: anybody may write the spec.
    Open,
    /// Nobody ever will write it any more.
    Past,
    /// What the object says is not understood, and so neither what it says of the claim.
    Unknown,
}

impl Wish {
    /// What it has come to, when its volume's object is `entry`.
    pub(crate) fn came(&self, entry: &Entry) -> Came {
        match entry.spec() {
            None => Came::Unknown,
            Some(_) if entry.claim_name() == Some(&self.claim) => Came::True,
            Some(_) if entry.version == self.version => Came::Open,
            Some(_) => Came::Past,
        }
    }

    /// Whether it never comes true any more: the volume does not hold the claim, and is past the version.
    pub(super) fn is_past(&self, entry: &Entry) -> bool {
        self.came(entry) == Came::Past
    }

    fn lease(&self) -> Result<Lease, serde_json::Error> {
        let annotations = [
            (CLAIM, self.claim.to_string()),
            (VOLUME, self.volume.to_string()),
            (VERSION, self.version.0.to_string()),
            (SPEC, serde_json::to_string(&self.spec)?),
        ];
        let (label, value) = LABEL;
        let metadata = ObjectMeta {
            name: Some(lease_name(&self.claim)),
            labels: Some([(label.to_owned(), value.to_owned())].into()),
            annotations: Some(annotations.map(|(key, value)| (key.to_owned(), value)).into()),
            ..ObjectMeta::default()
        };
        // For people who look at Leases.
        let holder_identity = Some(self.volume.to_string());
        let spec = Some(LeaseSpec { holder_identity, ..LeaseSpec::default() });
        Ok(Lease { metadata, spec })
    }
}

impl Reservation {
    fn read(lease: Lease) -> Result<Self, Foreign> {
        let ObjectMeta { name, annotations, uid, resource_version, .. } = lease.metadata;
        let name = name.unwrap_or_default();
        let wish = wish(&name, &annotations.unwrap_or_default())?;
        match (uid, resource_version) {
            _ if name != lease_name(&wish.claim) => Err(foreign(&name, CLAIM, None)),
            (Some(uid), Some(version)) => Ok(Self { wish, uid, version }),
            _ => Err(foreign(&name, "its version", None)),
        }
    }
}

fn wish(lease: &str, annotations: &BTreeMap<String, String>) -> Result<Wish, Foreign> {
    let text = |key: &str| annotations.get(key).ok_or_else(|| foreign(lease, key, None));
    let version = super::entry::version(text(VERSION)?);
    Ok(Wish {
        claim: text(CLAIM)?.parse().map_err(|error: InvalidName| wrong(lease, CLAIM, error))?,
        volume: text(VOLUME)?.parse().map_err(|error: InvalidName| wrong(lease, VOLUME, error))?,
        version: version.ok_or_else(|| foreign(lease, VERSION, None))?,
        spec: serde_json::from_str(text(SPEC)?).map_err(|error| wrong(lease, SPEC, error))?,
    })
}

fn wrong(lease: &str, what: &str, source: impl Into<Cause>) -> Foreign {
    foreign(lease, what, Some(source.into()))
}

fn foreign(lease: &str, what: &str, source: Option<Cause>) -> Foreign {
    Foreign { lease: lease.to_owned(), what: format!("{what} is missing or wrong"), source }
}

/// The name of a claim's reservation: 128 bits of a hash, since a claim's name may be no legal object name.
pub(super) fn lease_name(claim: &ClaimName) -> String {
    let digest = Sha256::digest(claim.as_str());
    let bits = digest.iter().take(16).fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    format!("berth-claim-{bits:032x}")
}

#[cfg(test)]
mod tests;
