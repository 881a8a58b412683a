use jiff::Timestamp;
use proptest::prelude::*;

use super::fixture::*;
use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn cleaning(tenancy: u64) -> Cleaning {
    Cleaning {
        tenancy: Tenancy(tenancy),
        method: CleanMethod::Delete,
        started: NOW,
        entries: 0,
        bytes: Bytes(0),
        remount: None,
    }
}

#[test]
fn a_volume_whose_agent_may_not_know_of_its_release_outlives_its_node() {
    let claimed = claimed_by("pvc-1");

    assert!(available().goes_with_its_node());
    assert!(!claimed.goes_with_its_node());
    assert!(!released().goes_with_its_node());
}

#[test]
fn a_claim_begins_the_next_tenancy_and_records_how_to_wipe_after_it() {
    let spec = available().claimed(claim("pvc-1"), delete()).unwrap();

    assert_eq!(spec.tenancy, Tenancy(1));
    assert_eq!(spec.clean, Some(delete()));
}

#[test]
fn a_held_dirty_lost_or_cordoned_volume_is_not_claimed() {
    let held = claimed_by("pvc-1");
    let dirty = released();
    let mut lost = available();
    lost.status.conditions.healthy = holds(false, HealthReason::Missing);
    let mut cordoned = available();
    cordoned.spec.cordoned = true;

    for volume in [held, dirty, lost, cordoned] {
        assert!(!volume.is_claimable());
        assert!(volume.claimed(claim("pvc-2"), delete()).is_err());
    }
}

#[test]
fn a_late_release_of_an_old_tenancy_leaves_the_new_tenant_alone() {
    let mut volume = released();
    volume.status = volume.cleaned(Tenancy(1), &delete(), CleanReason::Wiped, NOW).unwrap();
    volume.spec = volume.claimed(claim("pvc-2"), delete()).unwrap();

    let refused = volume.released(Tenancy(1)).unwrap_err();

    assert_eq!(refused, Ended { asked: Tenancy(1), latest: Tenancy(2) });
}

#[test]
fn a_tenancy_ends_while_the_volume_is_mounted_and_what_follows_waits_for_that() {
    let mut volume = published(claimed_by("pvc-1"));

    volume.spec = volume.released(Tenancy(1)).unwrap();

    assert!(volume.needs_cleaning() && !volume.is_claimable());
    assert_eq!(volume.phase(), Phase::Cleaning);
    assert_eq!(volume.cleaned(Tenancy(1), &delete(), CleanReason::Wiped, NOW), None);
    volume.status.published.clear();
    volume.status = volume.cleaned(Tenancy(1), &delete(), CleanReason::Wiped, NOW).unwrap();
    assert!(volume.is_claimable());
}

#[test]
fn a_person_does_not_release_a_volume_that_a_tenant_has_mounted() {
    let volume = published(claimed_by("pvc-1"));

    let refused = volume.may_be_released(Tenancy(1));

    let paths = vec!["/var/lib/kubelet/pod".into()];
    assert_eq!(refused, Err(ReleaseRefused::Published { paths }));
    assert_eq!(claimed_by("pvc-1").may_be_released(Tenancy(1)), Ok(()));
}

#[test]
fn a_volume_that_is_mounted_is_neither_given_away_nor_said_to_be_clean() {
    let place = Published {
        path: "/pods/1".into(),
        staging: false,
        read_only: false,
        access: AccessMode::SingleNodeWriter,
        flags: None,
    };
    let (mut free, mut wiped) = (available(), released());
    for volume in [&mut free, &mut wiped] {
        volume.status.published.push(place.clone());
    }

    let refused = free.claimed(claim("pvc-1"), delete()).unwrap_err();
    assert_eq!(refused, ClaimRefused::Published { paths: vec!["/pods/1".into()] });
    assert!(!free.is_claimable());
    assert_eq!(free.phase(), Phase::Dirty);
    assert_eq!(wiped.cleaned(Tenancy(1), &delete(), CleanReason::Wiped, NOW), None);
}

#[test]
fn a_second_release_of_the_same_tenancy_changes_nothing() {
    let volume = released();

    assert_eq!(volume.released(Tenancy(1)).unwrap(), volume.spec);
}

#[test]
fn a_newly_found_volume_with_data_waits_for_an_order_and_a_released_one_does_not() {
    let mut found = available();
    found.status.clean_for = None;

    assert!(!found.needs_cleaning());
    assert_eq!(found.phase(), Phase::Dirty);
    found.spec = found.ordered_clean(delete());
    assert!(found.needs_cleaning());
    assert!(released().needs_cleaning());
}

#[test]
fn an_order_to_wipe_does_not_change_the_policy_that_a_tenant_was_promised() {
    let volume = claimed_by("pvc-1");
    let weaker = CleanPolicy { method: CleanMethod::None, verify: false };

    assert_eq!(volume.ordered_clean(weaker.clone()), volume.spec);
    assert_eq!(volume.asked_to_clean(weaker, NOW), volume.spec);
}

#[test]
fn only_an_order_that_was_carried_out_is_taken_back() {
    let mut done = released();
    done.status = done.cleaned(Tenancy(1), &delete(), CleanReason::Wiped, NOW).unwrap();

    assert_eq!(done.withdrawn_clean().clean, None);
    for due in [released(), claimed_by("pvc-1")] {
        assert_eq!(due.withdrawn_clean(), due.spec);
    }
}

#[test]
fn a_wipe_of_another_tenancy_than_the_latest_never_makes_a_volume_clean() {
    let volume = released();

    assert_eq!(volume.cleaned(Tenancy(0), &delete(), CleanReason::Wiped, NOW), None);
    assert_eq!(volume.cleaning(cleaning(0), &delete(), NOW), None);
    assert_eq!(claimed_by("pvc-1").cleaned(Tenancy(1), &delete(), CleanReason::Wiped, NOW), None);
}

#[test]
fn an_order_given_during_a_wipe_is_not_carried_out_by_the_wipe_before_it() {
    let mut volume = released();
    volume.status = volume.cleaning(cleaning(1), &delete(), NOW).unwrap();
    let shred = CleanPolicy { method: CleanMethod::Shred { passes: 3 }, verify: true };
    volume.spec = volume.ordered_clean(shred.clone());

    assert_eq!(volume.cleaned(Tenancy(1), &delete(), CleanReason::Wiped, NOW), None);
    assert_eq!(volume.cleaning(cleaning(1), &delete(), NOW), None);
    assert!(volume.cleaned(Tenancy(1), &shred, CleanReason::Wiped, NOW).is_some());
}

#[test]
fn to_wipe_nothing_is_never_ordered() {
    let volume = released();

    let none = CleanPolicy { method: CleanMethod::None, verify: false };

    assert_eq!(volume.ordered_clean(none), volume.spec);
}

#[test]
fn the_phase_follows_the_life_of_a_volume() {
    let mut volume = available();
    assert_eq!(volume.phase(), Phase::Available);
    volume.spec = volume.claimed(claim("pvc-1"), delete()).unwrap();
    assert_eq!(volume.phase(), Phase::Claimed);
    volume.spec = volume.released(Tenancy(1)).unwrap();
    assert_eq!(volume.phase(), Phase::Cleaning);
    volume.status = volume.cleaning(cleaning(1), &delete(), NOW).unwrap();
    assert_eq!(volume.phase(), Phase::Cleaning);
    volume.status = volume.not_cleaned(CleanReason::WipeFailed, "not wiped", NOW);
    assert_eq!(volume.phase(), Phase::Dirty);
    volume.status = volume.cleaned(Tenancy(1), &delete(), CleanReason::Wiped, NOW).unwrap();
    assert_eq!(volume.phase(), Phase::Available);
    volume.status.conditions.healthy = holds(false, HealthReason::Missing);
    assert_eq!(volume.phase(), Phase::Lost);
}

#[derive(Debug, Clone)]
enum Step {
    Claim,
    Release(u64),
    Order,
    Clean(u64),
    Fail,
    Cordon(bool),
    Lose(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Claim),
        4 => (0_u64..6).prop_map(Step::Release),
        1 => Just(Step::Order),
        4 => (0_u64..6).prop_map(Step::Clean),
        1 => Just(Step::Fail),
        1 => any::<bool>().prop_map(Step::Cordon),
        1 => any::<bool>().prop_map(Step::Lose),
    ]
}

/// A volume with the data that is really on it, kept apart from what the inventory believes.
#[derive(Debug)]
struct World {
    volume: LocalVolume,
    data_of: Option<Tenancy>,
}

impl World {
    fn step(&mut self, step: &Step) {
        let volume = &mut self.volume;
        match step {
            Step::Claim => {
                if let Ok(spec) = volume.claimed(claim("pvc"), delete()) {
                    assert_eq!(self.data_of, None, "a tenant was given another's data");
                    assert!(spec.tenancy > volume.spec.tenancy);
                    self.data_of = Some(spec.tenancy);
                    volume.spec = spec;
                }
            }
            Step::Release(tenancy) => {
                if let Ok(spec) = volume.released(Tenancy(*tenancy)) {
                    assert!(
                        volume.spec.claim.is_none() || Tenancy(*tenancy) == volume.spec.tenancy
                    );
                    volume.spec = spec;
                }
            }
            Step::Order => volume.spec = volume.ordered_clean(delete()),
            Step::Clean(tenancy) => {
                if let Some(status) =
                    volume.cleaned(Tenancy(*tenancy), &delete(), CleanReason::Wiped, NOW)
                {
                    assert!(volume.spec.claim.is_none(), "a tenant's volume was wiped");
                    self.data_of = None;
                    volume.status = status;
                }
            }
            Step::Fail => {
                volume.status = volume.not_cleaned(CleanReason::WipeFailed, "x", NOW);
            }
            Step::Cordon(cordoned) => volume.spec = volume.cordoned(*cordoned),
            Step::Lose(lost) => {
                volume.status.conditions.healthy = holds(!lost, HealthReason::Missing);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_order_of_steps_gives_a_tenant_anothers_data_or_wipes_a_tenants(
        steps in proptest::collection::vec(step(), 0..60)
    ) {
        let mut world = World { volume: available(), data_of: None };
        for step in &steps {
            world.step(step);
        }
    }

    #[test]
    fn every_released_healthy_volume_can_become_claimable_again(
        steps in proptest::collection::vec(step(), 0..60)
    ) {
        let mut world = World { volume: available(), data_of: None };
        for step in &steps {
            world.step(step);
        }
        let tenancy = world.volume.spec.tenancy;
        for step in [Step::Lose(false), Step::Cordon(false), Step::Release(tenancy.0), Step::Clean(tenancy.0)] {
            world.step(&step);
        }
        prop_assert!(world.volume.is_claimable());
    }

    #[test]
    fn a_volume_survives_being_written_down(steps in proptest::collection::vec(step(), 0..10)) {
        let mut world = World { volume: available(), data_of: None };
        for step in &steps {
            world.step(step);
        }
        let text = serde_json::to_string(&world.volume).unwrap();
        prop_assert_eq!(serde_json::from_str::<LocalVolume>(&text).unwrap(), world.volume);
    }
}

fn published(mut volume: LocalVolume) -> LocalVolume {
    volume.status.published.push(Published {
        path: "/var/lib/kubelet/pod".into(),
        staging: false,
        read_only: false,
        access: AccessMode::SingleNodeWriter,
        flags: None,
    });
    volume
}

#[test]
fn a_volume_of_a_node_that_is_gone_is_lost_and_mounted_nowhere() {
    let volume = published(claimed_by("pvc-1"));

    let gone = LocalVolume { status: volume.node_gone(Timestamp::now()).unwrap(), ..volume };

    assert_eq!(gone.phase(), Phase::Lost);
    assert!(gone.released(gone.spec.tenancy).unwrap().claim.is_none());
    assert_eq!(gone.node_gone(Timestamp::now()), None);
}

#[test]
fn a_volume_that_is_mounted_for_its_tenant_is_not_forgotten_though_it_is_lost() {
    let mut volume = claimed_by("pvc-1");
    volume.status.conditions.healthy = holds(false, HealthReason::Missing);
    assert_eq!(volume.may_be_forgotten(), Ok(()));

    let refused = published(volume).may_be_forgotten();

    assert_eq!(
        refused,
        Err(ForgetRefused::Published { paths: vec!["/var/lib/kubelet/pod".into()] })
    );
}

#[test]
fn what_names_are_made_of_is_the_same_in_every_release() {
    let filesystem = |uuid: Option<&str>, number: Option<&str>| FilesystemIdentity {
        fs_type: "ext4".into(),
        uuid: uuid.map(Into::into),
        device_number: number.map(Into::into),
    };
    let directory = |filesystem, born| Fingerprint::Directory { filesystem, inode: 12, born };
    let device = DeviceIdentity::Wwn("naa.5".into());

    for (fingerprint, identity) in [
        (directory(filesystem(Some("u"), None), Some(-5)), "directory\0ext4\0uuid\0u\u{0}12\0-5"),
        (
            directory(filesystem(None, Some("8:1")), None),
            "directory\0ext4\0number\u{0}8:1\u{0}12\0-",
        ),
        (Fingerprint::Device { device, size: Bytes(1) }, "device\0wwn\0naa.5"),
    ] {
        assert_eq!(String::from_utf8(fingerprint.identity()).unwrap(), identity);
    }
}
