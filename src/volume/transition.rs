//! The transitions of a volume's life, as pure functions: each takes what is recorded and gives what is to be recorded,
//! or says why not.
//!
//! `spec` changes (claim, release, order, cordon) are the controller's and people's; `status` changes (observe,
//! cleaning, cleaned) are the node agent's. No function changes both.

use jiff::Timestamp;

use super::{
    Claim, CleanMethod, CleanPolicy, CleanReason, Cleaning, Condition, HealthReason, LocalVolume,
    Spec, Status, Tenancy,
};

/// Why a volume is not given to a claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimRefused {
    /// Another claim holds it.
    #[error("claim {0} holds it")]
    Held(super::ClaimName),
    /// It is not known clean since its latest tenancy.
    #[error("it is not clean: {0}")]
    NotClean(String),
    /// It is still mounted for an earlier tenant.
    #[error("it is still published at {}", paths.join(", "))]
    Published {
        /// Where.
        paths: Vec<String>,
    },
    /// It is missing, replaced or not readable.
    #[error("it is not healthy: {0}")]
    NotHealthy(String),
    /// A person said that it is not to be claimed.
    #[error("it is cordoned")]
    Cordoned,
}

/// The tenancy is over; whoever holds the volume now is somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tenancy {asked} has ended; the volume's latest tenancy is {latest}")]
pub struct Ended {
    /// The tenancy that was named.
    pub asked: Tenancy,
    /// The latest one.
    pub latest: Tenancy,
}

/// Why a person does not end a claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseRefused {
    /// It has ended.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// It is still mounted for its tenant.
    #[error("it is still published at {}", paths.join(", "))]
    Published {
        /// Where.
        paths: Vec<String>,
    },
}

/// Why a volume is not dropped from the inventory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgetRefused {
    /// It is there: discovery would only find it again.
    #[error("it is present on its node; remove it from its pool first")]
    Present,
    /// It is mounted for its tenant.
    #[error("it is mounted for its tenant at {}", paths.join(", "))]
    Published {
        /// Where.
        paths: Vec<String>,
    },
}

impl LocalVolume {
    /// Gives the volume to `claim`: the tenancy that begins, with the order to wipe after it.
    pub fn claimed(&self, claim: Claim, clean: CleanPolicy) -> Result<Spec, ClaimRefused> {
        if let Some(holder) = &self.spec.claim {
            return Err(ClaimRefused::Held(holder.name.clone()));
        }
        if !self.is_clean() {
            return Err(ClaimRefused::NotClean(self.status.conditions.clean.message.to_string()));
        }
        if !self.status.published.is_empty() {
            return Err(ClaimRefused::Published { paths: self.paths() });
        }
        if !self.is_healthy() {
            return Err(ClaimRefused::NotHealthy(
                self.status.conditions.healthy.message.to_string(),
            ));
        }
        if self.spec.cordoned {
            return Err(ClaimRefused::Cordoned);
        }
        let tenancy = self.spec.tenancy.next();
        let (claim, clean) = (Some(claim.into()), Some(clean));
        Ok(Spec { tenancy, claim, clean, clean_asked: None, ..self.spec.clone() })
    }

    /// Ends `tenancy`, also while the volume is mounted for its tenant: the wipe waits until it no longer is. A tenancy that
    /// is over already and was the latest gives the spec unchanged.
    pub fn released(&self, tenancy: Tenancy) -> Result<Spec, Ended> {
        let latest = self.spec.tenancy;
        if tenancy != latest {
            return Err(Ended { asked: tenancy, latest });
        }
        Ok(Spec { claim: None, ..self.spec.clone() })
    }

    /// Whether a person may end `tenancy`: not while a tenant has the volume. An orchestrator knows that none will come
    /// back to it; a person who names a volume in use is mistaken.
    pub fn may_be_released(&self, tenancy: Tenancy) -> Result<(), ReleaseRefused> {
        self.released(tenancy)?;
        if self.spec.claim.is_some() && !self.status.published.is_empty() {
            return Err(ReleaseRefused::Published { paths: self.paths() });
        }
        Ok(())
    }

    /// Orders a wipe by `policy`. It takes effect once nobody holds the volume; an order for a tenancy under way is the
    /// policy recorded with its claim and is not replaced. To wipe nothing is no wipe, and is not ordered.
    #[must_use]
    pub fn ordered_clean(&self, policy: CleanPolicy) -> Spec {
        if self.spec.claim.is_some() || policy.method == CleanMethod::None {
            return self.spec.clone();
        }
        Spec { clean: Some(policy), ..self.spec.clone() }
    }

    /// As [`LocalVolume::ordered_clean`], by a person and now: an order that has been tried in vain is a new one.
    #[must_use]
    pub fn asked_to_clean(&self, policy: CleanPolicy, now: Timestamp) -> Spec {
        let spec = self.ordered_clean(policy);
        let clean_asked = if spec.claim.is_some() { spec.clean_asked } else { Some(now) };
        Spec { clean_asked, ..spec }
    }

    /// Takes back an order to wipe that was carried out, so that it does not apply to what is put there later. An order
    /// that is still due, or was promised to a tenant, stands.
    #[must_use]
    pub fn withdrawn_clean(&self) -> Spec {
        let done = self.spec.claim.is_none() && self.is_clean();
        let clean = self.spec.clean.clone().filter(|_| !done);
        Spec { clean, ..self.spec.clone() }
    }

    /// Says whether the volume may be claimed again.
    #[must_use]
    pub fn cordoned(&self, cordoned: bool) -> Spec {
        Spec { cordoned, ..self.spec.clone() }
    }

    /// Whether a person may drop the record of this volume: only of one that is lost.
    pub fn may_be_forgotten(&self) -> Result<(), ForgetRefused> {
        if self.is_healthy() || self.status.conditions.healthy.reason == HealthReason::ReadOnly {
            return Err(ForgetRefused::Present);
        }
        if !self.status.published.is_empty() {
            return Err(ForgetRefused::Published { paths: self.paths() });
        }
        Ok(())
    }

    /// Whether a wipe after `tenancy` by `policy` is what is due. Another order is not carried out by it.
    pub fn is_due(&self, tenancy: Tenancy, policy: &CleanPolicy) -> bool {
        let ordered = self.spec.clean.as_ref() == Some(policy);
        self.needs_cleaning() && ordered && tenancy == self.spec.tenancy
    }

    /// The agent begins, or resumes, the wipe by `policy` after `cleaning.tenancy`, or is further with it; another one that was
    /// cut off is remembered so. Absent when that is not what is due.
    pub fn cleaning(
        &self,
        cleaning: Cleaning,
        policy: &CleanPolicy,
        now: Timestamp,
    ) -> Option<Status> {
        let due = self.is_due(cleaning.tenancy, policy);
        let message =
            format!("being wiped after tenancy {} by {}", cleaning.tenancy, cleaning.method);
        let clean = clean_condition(self, CleanReason::Cleaning, &message, now);
        let begun = self.status.cleaning.as_ref();
        let goes_on = begun.is_some_and(|begun| begun.started == cleaning.started);
        let cut_off = self.cut_off().filter(|_| !goes_on);
        due.then(|| {
            self.with_clean(clean, |status| {
                status.last_wipe = cut_off.map(Box::new).or(status.last_wipe.take());
                status.cleaning = Some(Box::new(cleaning));
            })
        })
    }

    /// The wipe after `tenancy` by `policy` is done and the volume is empty. Absent when another order came in between,
    /// which is still to be carried out, or when a claim or a mount did or another tenancy is due, which the rules make impossible and
    /// this makes harmless.
    pub fn cleaned(
        &self,
        tenancy: Tenancy,
        policy: &CleanPolicy,
        reason: CleanReason,
        now: Timestamp,
    ) -> Option<Status> {
        let due = self.is_due(tenancy, policy);
        let due = due && self.status.published.is_empty();
        let message = match reason {
            CleanReason::LeftAsIs => format!("left as tenancy {tenancy} left it"),
            _ => format!("wiped after tenancy {tenancy}"),
        };
        let clean = clean_condition(self, reason, &message, now);
        due.then(|| {
            self.with_clean(clean, |status| {
                status.clean_for = Some(tenancy);
                status.cleaning = None;
                status.format = None;
            })
        })
    }

    /// The wipe could not begin or failed. What it noted about itself stays, for the next try.
    #[must_use]
    pub fn not_cleaned(&self, reason: CleanReason, message: &str, now: Timestamp) -> Status {
        self.with_clean(clean_condition(self, reason, message, now), |_| ())
    }

    /// Its Node is no longer in the cluster, and with it every mount. Absent where that is known.
    pub fn node_gone(&self, now: Timestamp) -> Option<Status> {
        let node = &self.spec.node;
        let message = format!(
            "{} was on node {node}, which is no longer in the cluster: delete the claim to give it up",
            self.status.path
        );
        let gone = Condition {
            status: false,
            reason: HealthReason::NodeGone,
            message: message.into(),
            since: now,
        };
        let mut status = self.status.clone();
        status.published.clear();
        status.conditions.healthy = self.status.conditions.healthy.then(gone);
        (!self.is_node_gone() || status.published != self.status.published).then_some(status)
    }

    /// Whether nothing has to be remembered of it once its Node is gone: nobody holds it, and its agent knows that. An agent
    /// that has yet to hear of the end of a claim comes back with it, should its node.
    pub fn goes_with_its_node(&self) -> bool {
        self.spec.claim.is_none() && !self.needs_cleaning()
    }

    /// What it becomes when the number of its tenancy was given to another claim as well, by an inventory that was set back:
    /// nobody's, under a number that nobody was given, until a person decides about the data. With either claim's id the
    /// other's data would be reached.
    #[must_use]
    pub fn given_twice(&self) -> Self {
        let mut twice = self.clone();
        twice.spec.tenancy = self.spec.tenancy.next();
        (twice.spec.claim, twice.spec.clean, twice.spec.clean_asked) = (None, None, None);
        twice.status.clean_for = None;
        let message = format!(
            "{} was given to two claims, since the inventory was set back to an older state: look at it, then wipe it \
             with `berth clean {}`",
            self.status.path, self.name
        );
        let (reason, since) = (CleanReason::FoundInUse, self.status.conditions.clean.since);
        let clean = Condition { status: false, reason, message: message.into(), since };
        twice.status.conditions.clean = self.status.conditions.clean.then(clean);
        twice
    }

    /// What this record becomes by another one of the volume, which says that its Node is gone. Absent where that is
    /// known, and where this one saw the volume on another Node: none comes back under a UID that is gone.
    pub fn gone_with(&self, other: &Self) -> Option<Status> {
        let is_same_node = self.status.node_uid == other.status.node_uid;
        if !other.is_node_gone() || self.is_node_gone() || !is_same_node {
            return None;
        }
        let mut status = self.status.clone();
        status.conditions.healthy = other.status.conditions.healthy.clone();
        Some(status)
    }

    /// Whether [`LocalVolume::node_gone`] was recorded.
    pub fn is_node_gone(&self) -> bool {
        self.status.conditions.healthy.reason == HealthReason::NodeGone
    }

    /// Where it is mounted for its tenant.
    fn paths(&self) -> Vec<String> {
        self.status.published.iter().map(|place| place.path.clone()).collect()
    }

    fn with_clean(
        &self,
        clean: Condition<CleanReason>,
        change: impl FnOnce(&mut Status),
    ) -> Status {
        let mut status = self.status.clone();
        status.conditions.clean = self.status.conditions.clean.then(clean);
        change(&mut status);
        status
    }
}

fn clean_condition(
    volume: &LocalVolume,
    reason: CleanReason,
    message: &str,
    now: Timestamp,
) -> Condition<CleanReason> {
    let status = matches!(
        reason,
        CleanReason::FoundEmpty
            | CleanReason::Accepted
            | CleanReason::Wiped
            | CleanReason::LeftAsIs
    );
    let message = format!("{} is {message}", volume.status.path).into();
    Condition { status, reason, message, since: now }
}
