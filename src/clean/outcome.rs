//! What a record becomes by a wipe that begins or ends. Pure.

use jiff::Timestamp;

use crate::volume::{
    Bytes, CleanMethod, CleanPolicy, CleanReason, Cleaning, Fingerprint, LocalVolume, Status,
    Tenancy,
};

/// The wipe after `tenancy` begins: what an earlier try noted about itself is kept. Absent where it is not what is due.
pub(crate) fn begun(
    volume: &LocalVolume,
    tenancy: Tenancy,
    policy: &CleanPolicy,
    now: Timestamp,
) -> Option<Status> {
    let earlier = volume.status.cleaning.clone().filter(|earlier| earlier.tenancy == tenancy);
    let cleaning = Cleaning {
        tenancy,
        method: policy.method.clone(),
        started: now,
        entries: 0,
        bytes: Bytes(0),
        remount: earlier.and_then(|earlier| earlier.remount),
    };
    volume.cleaning(cleaning, policy, now)
}

/// The wipe after `tenancy` is done, and gave the source another `fingerprint` if there is one. Absent where it is not
/// what is due.
pub(crate) fn done(
    volume: &LocalVolume,
    tenancy: Tenancy,
    policy: &CleanPolicy,
    fingerprint: Option<&Fingerprint>,
    now: Timestamp,
) -> Option<Status> {
    let reason = match policy.method {
        CleanMethod::None => CleanReason::LeftAsIs,
        _ => CleanReason::Wiped,
    };
    let mut status = volume.cleaned(tenancy, policy, reason, now)?;
    if let Some(fingerprint) = fingerprint {
        status.fingerprint = fingerprint.clone();
    }
    Some(status)
}
