//! What is to be done so that ledger and remote store say the same of one volume. Pure.

use super::super::Recorded;
use crate::volume::{LocalVolume, Spec, Status};

/// One step towards agreement. After it the two are compared again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// They agree.
    Nothing,
    /// The ledger does not know the volume: it was lost, or is new. It learns all of it.
    Adopt,
    /// The remote store does not know the volume: it is new, or its object was lost, or somebody deleted that and it is
    /// kept until the ledger knows what it says, as it does now. The remote store learns all of it.
    Publish(Box<LocalVolume>),
    /// Something was decided, and the ledger learns it.
    Take,
    /// The controller said that the node is gone, and the ledger learns it.
    Mourn,
    /// Something was seen, and the remote store learns it.
    Tell(Box<Status>),
    /// The remote store was set back to an earlier tenancy, or before the end of this one, as by an old backup; or it has
    /// another node, pool or mode, which nobody decides after a volume was found. It learns all of it anew.
    Replace(Box<LocalVolume>),
}

/// The next step, from what each of them has.
///
/// The remote store decides and the ledger sees. Only a tenancy never goes back, whoever says so: the id of a tenancy
/// that has begun must not be given to another tenant, and one that has ended does not begin again. And of what is seen it
/// is the controller that sees a node go.
pub(crate) fn next(ledger: Option<&LocalVolume>, remote: Option<&Recorded>) -> Step {
    let deleting = remote.is_some_and(|remote| remote.deleting);
    match (ledger, remote.map(|remote| &remote.volume)) {
        (None, Some(_)) => Step::Adopt,
        (Some(ledger), None) => Step::Publish(Box::new(ledger.clone())),
        (Some(ledger), Some(remote)) if is_behind(&remote.spec, &ledger.spec) => {
            Step::Replace(Box::new(ledger.clone()))
        }
        (Some(ledger), Some(remote)) if is_another(&remote.spec, &ledger.spec) => {
            Step::Replace(Box::new(ledger.given_twice()))
        }
        (Some(ledger), Some(remote)) if !remote.spec.is_of_same_volume(&ledger.spec) => {
            let Spec { node, pool, mode, .. } = ledger.spec.clone();
            let spec = Spec { node, pool, mode, ..remote.spec.clone() };
            Step::Replace(Box::new(LocalVolume { spec, ..ledger.clone() }))
        }
        (Some(ledger), Some(remote)) if remote.spec != ledger.spec => Step::Take,
        (Some(ledger), Some(_)) if deleting => Step::Publish(Box::new(ledger.clone())),
        (Some(ledger), Some(remote)) if ledger.gone_with(remote).is_some() => Step::Mourn,
        (Some(ledger), Some(remote)) if remote.status != ledger.status => {
            Step::Tell(Box::new(ledger.status.clone()))
        }
        (Some(_), Some(_)) | (None, None) => Step::Nothing,
    }
}

/// Whether a spec is from before another one: its tenancy is an earlier one, or has yet to end.
fn is_behind(spec: &Spec, of: &Spec) -> bool {
    (spec.tenancy, spec.claim.is_none()) < (of.tenancy, of.claim.is_none())
}

/// Whether one tenancy's number was given to two claims.
fn is_another(one: &Spec, other: &Spec) -> bool {
    let claims = one.claim.as_ref().zip(other.claim.as_ref());
    one.tenancy == other.tenancy && claims.is_some_and(|(one, other)| one.name != other.name)
}

/// What the ledger's spec becomes by what the remote store `decided`; absent where that is older than what was taken
/// before. A tenancy never goes back.
pub(crate) fn learnt(ledger: &LocalVolume, decided: Option<&Spec>) -> Spec {
    let is_newer = |spec: &&Spec| {
        spec.is_of_same_volume(&ledger.spec)
            && !is_behind(spec, &ledger.spec)
            && !is_another(spec, &ledger.spec)
    };
    let newer = decided.filter(is_newer);
    newer.unwrap_or(&ledger.spec).clone()
}

#[cfg(test)]
mod tests {
    use super::super::super::Version;
    use super::*;
    use crate::volume::fixture::{available, claimed_by, holds};
    use crate::volume::{HealthReason, Tenancy};

    fn at(volume: &LocalVolume) -> Recorded {
        Recorded::new(volume.clone(), Version(1))
    }

    fn lost() -> LocalVolume {
        let mut volume = available();
        volume.status.conditions.healthy = holds(false, HealthReason::Missing);
        volume
    }

    #[test]
    fn whoever_does_not_know_a_volume_learns_all_of_it() {
        let volume = claimed_by("pvc-1");

        assert_eq!(next(None, Some(&at(&volume))), Step::Adopt);
        assert_eq!(next(Some(&volume), None), Step::Publish(Box::new(volume.clone())));
        assert_eq!(next(Some(&volume), Some(&at(&volume))), Step::Nothing);
        assert_eq!(next(None, None), Step::Nothing);
    }

    #[test]
    fn what_was_decided_goes_to_the_ledger_before_what_was_seen_goes_to_the_remote_store() {
        let decided = claimed_by("pvc-1");

        assert_eq!(next(Some(&lost()), Some(&at(&decided))), Step::Take);
        let told = LocalVolume { spec: decided.spec.clone(), ..lost() };
        let tell = Step::Tell(Box::new(told.status.clone()));
        assert_eq!(next(Some(&told), Some(&at(&decided))), tell);
    }

    #[test]
    fn what_somebody_deleted_is_made_anew_as_soon_as_the_ledger_knows_what_was_decided_and_not_before()
     {
        let decided = claimed_by("pvc-1");
        let deleted = Recorded { deleting: true, ..at(&decided) };
        let told = LocalVolume { spec: decided.spec.clone(), ..lost() };

        assert_eq!(next(None, Some(&deleted)), Step::Adopt);
        assert_eq!(next(Some(&available()), Some(&deleted)), Step::Take);
        assert_eq!(next(Some(&told), Some(&deleted)), Step::Publish(Box::new(told.clone())));
    }

    #[test]
    fn the_ledger_learns_that_its_node_is_gone_unless_the_volume_was_seen_on_another() {
        let seen_on = |uid: &str, mut volume: LocalVolume| {
            volume.status.node_uid = Some(uid.into());
            volume
        };
        let known = seen_on("uid-1", claimed_by("pvc-1"));
        let gone = known.node_gone(jiff::Timestamp::UNIX_EPOCH).unwrap();
        let gone = LocalVolume { status: gone, ..known.clone() };
        let again = seen_on("uid-2", claimed_by("pvc-1"));

        assert_eq!(next(Some(&known), Some(&at(&gone))), Step::Mourn);
        let learnt = LocalVolume { status: known.gone_with(&gone).unwrap(), ..known };
        assert_eq!(next(Some(&learnt), Some(&at(&gone))), Step::Nothing);
        assert_eq!(
            next(Some(&again), Some(&at(&gone))),
            Step::Tell(Box::new(again.status.clone()))
        );
    }

    #[test]
    fn a_remote_store_that_was_set_back_does_not_set_a_tenancy_back() {
        let mut ahead = available();
        ahead.spec.tenancy = Tenancy(9);
        ahead.status.clean_for = Some(Tenancy(9));

        assert_eq!(
            next(Some(&ahead), Some(&at(&available()))),
            Step::Replace(Box::new(ahead.clone()))
        );
    }

    #[test]
    fn a_tenancy_that_has_ended_does_not_begin_again_in_a_remote_store_that_was_set_back() {
        let held = claimed_by("pvc-1");
        let ended = LocalVolume { spec: held.released(Tenancy(1)).unwrap(), ..held.clone() };
        let again = claimed_by("pvc-2");

        for remote in [held, again] {
            let step = next(Some(&ended), Some(&at(&remote)));
            assert_eq!(step, Step::Replace(Box::new(ended.clone())));
            assert_eq!(learnt(&ended, Some(&remote.spec)), ended.spec);
        }
    }

    #[test]
    fn of_two_claims_that_were_given_one_number_neither_gets_at_the_data() {
        let (mine, other) = (claimed_by("pvc-1"), claimed_by("pvc-2"));

        let Step::Replace(twice) = next(Some(&mine), Some(&at(&other))) else { panic!() };

        assert_eq!((twice.spec.tenancy, &twice.spec.claim), (Tenancy(2), &None));
        assert!(!twice.is_clean() && !twice.needs_cleaning() && !twice.is_claimable());
        assert_eq!(learnt(&mine, Some(&other.spec)), mine.spec);
    }
}
