//! A wipe that has ended: what is recorded, counted and logged of it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::outcome;
use super::queue::Order;
use super::wipe::Done;
use super::{Cleaner, Error};
use crate::inventory::{self, Inventory, Recorded};
use crate::volume::{
    Bytes, CleanMethod, CleanPolicy, LocalVolume, Published, Status, Tenancy, Verified, VolumeName,
    Wipe, WipeResult,
};

/// A wipe that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) name: VolumeName,
    pub(super) result: Result<Done, Error>,
    pub(super) tenancy: Tenancy,
    pub(super) policy: CleanPolicy,
    pub(super) asked: Option<Timestamp>,
    /// Where the volume was recorded to be for its tenant when it was looked at last.
    pub(super) published: Vec<Published>,
    pub(super) began: Instant,
    /// When, by the clock: what is recorded of its begin and of its end is told together by that.
    pub(super) started: Timestamp,
    pub(super) took: Duration,
    pub(super) counted: (u64, u64),
}

/// Records and logs how a wipe ended.
pub(super) async fn record<I: Inventory>(
    cleaner: &Cleaner<I>,
    ended: &Ended,
) -> Result<Recorded, inventory::Error> {
    let now = Timestamp::now();
    let recorded =
        cleaner.inventory.modify_status(&ended.name, |volume| ended.status(volume, now)).await?;
    // Waiting for a mount to go is no wipe.
    if !matches!(&ended.result, Err(Error::InUse { .. })) {
        cleaner.metrics.wiped(&recorded.volume.spec.pool, &ended.wipe(), ended.took);
    }
    log(&recorded.volume, ended, ended.took);
    Ok(recorded)
}

impl Ended {
    /// What it was to carry out.
    pub(super) fn order(&self) -> Order {
        (self.tenancy, self.policy.clone(), self.asked)
    }

    /// Whether the volume was taken away from somewhere while it was looked at: what was found of its use is old then.
    pub(super) fn is_outdated(&self, now: &LocalVolume) -> bool {
        now.status.published != self.published
    }

    /// What is remembered of it.
    fn wipe(&self) -> Wipe {
        let (entries, bytes) = self.counted;
        let (result, verified) = match &self.result {
            Ok(_) if self.policy.method == CleanMethod::None => {
                (WipeResult::LeftAsIs, Verified::Nothing)
            }
            Ok(done) => (WipeResult::Wiped, done.verified),
            Err(Error::Interrupted | Error::InUse { .. }) => {
                (WipeResult::Interrupted, Verified::Nothing)
            }
            Err(Error::Verify { .. }) => (WipeResult::VerifyFailed, Verified::Nothing),
            Err(_) => (WipeResult::Failed, Verified::Nothing),
        };
        let wipe = Wipe {
            duration_millis: u64::try_from(self.took.as_millis()).ok(),
            entries,
            bytes: Bytes(bytes),
            result,
            verified,
            asked: self.asked,
            ..Wipe::begun(self.tenancy, &self.policy.method, self.started)
        };
        match &self.result {
            Ok(_) => wipe,
            Err(error) => wipe.because(&error.sentence()),
        }
    }

    /// What the volume's status becomes, with the wipe in it: one write says that a volume is clean and by what.
    fn status(&self, volume: &LocalVolume, now: Timestamp) -> Option<Status> {
        let was_begun =
            volume.status.cleaning.as_ref().is_some_and(|begun| begun.started == self.started);
        let error = match &self.result {
            Ok(done) => return Some(self.cleaned(volume, done, now)),
            // `status.cleaning` stays, and says to the next agent what was begun.
            Err(Error::Interrupted) if was_begun => {
                return Some(volume.status.clone().remembering(self.wipe()));
            }
            Err(Error::Interrupted) => return None,
            Err(error) => error,
        };
        let status = volume.not_cleaned(error.reason(), &error.sentence(), now);
        if !matches!(error, Error::InUse { .. }) {
            return Some(status.remembering(self.wipe()));
        }
        let mut status = match self.counted {
            // Nothing was done yet, which is no wipe.
            (0, 0) => status,
            _ => status.remembering(self.wipe()),
        };
        // A reformat that has already taken a mount away has to put it back.
        status.cleaning = status.cleaning.filter(|cleaning| cleaning.remount.is_some());
        (status != volume.status).then_some(status)
    }

    fn cleaned(&self, volume: &LocalVolume, done: &Done, now: Timestamp) -> Status {
        // Where another order came meanwhile, that is still due. This wipe was made all the same.
        let fingerprint = done.fingerprint.as_ref();
        let cleaned = outcome::done(volume, self.tenancy, &self.policy, fingerprint, now);
        cleaned.unwrap_or_else(|| volume.status.clone()).remembering(self.wipe())
    }
}

fn log(volume: &LocalVolume, ended: &Ended, took: Duration) {
    let (entries, bytes) = ended.counted;
    let (name, node, pool) = (&volume.name, &volume.spec.node, &volume.spec.pool);
    let (tenancy, method, seconds) =
        (ended.tenancy.0, ended.policy.method.name(), took.as_secs_f64());
    match &ended.result {
        Ok(_) => {
            info!(volume = %name, %node, %pool, tenancy, method, entries, bytes, seconds, "wiped");
        }
        Err(Error::Interrupted) => {
            info!(volume = %name, %node, %pool, tenancy, method, entries, bytes, seconds, "wipe stopped; it is resumed by the next start, or another order takes its place");
        }
        // Not a failure: so it is after each tenancy whose pod is still unwinding. The condition says how it goes on.
        Err(error @ Error::InUse { .. }) => {
            debug!(volume = %name, %node, %pool, tenancy, error = error.sentence(), "not wiped yet");
        }
        Err(error @ Error::Verify { .. }) => {
            warn!(volume = %name, %node, %pool, tenancy, method, entries, bytes, seconds, error = error.sentence(), "not clean after its wipe, and not offered until `berth clean` orders another");
        }
        Err(error) => {
            warn!(volume = %name, %node, %pool, tenancy, method, entries, bytes, seconds, error = error.sentence(), "not wiped; it is tried again");
        }
    }
}
