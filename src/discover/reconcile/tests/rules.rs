use super::super::super::found::{Defect, Depth, Sight};
use super::super::{Change, depth};
use super::world::*;
use crate::volume::{
    CleanMethod, CleanPolicy, CleanReason, HealthReason, LocalVolume, NewVolumes, Phase, Status,
};

#[test]
fn an_empty_source_is_offered_and_one_that_holds_data_is_dirty_until_somebody_decides() {
    let mut host = Host::new();

    host.settle(&found(&[("fast/v1", mounted(1)), ("fast/v2", full(mounted(2)))]));

    assert_eq!(phases(&host), [Phase::Available, Phase::Dirty]);
    let clean = &host.at("fast/v2").status.conditions.clean;
    assert_eq!(clean.reason, CleanReason::FoundData);
    assert!(clean.message.contains("berth clean node-a-fast-v2-"), "{}", clean.message);
}

#[test]
fn data_that_was_there_first_is_offered_or_wiped_as_the_pool_says() {
    for (policy, phase) in
        [(NewVolumes::Accept, Phase::Available), (NewVolumes::Clean, Phase::Cleaning)]
    {
        let mut host = Host::new();
        host.pool("fast").new_volumes = policy;

        host.settle(&v1(full(mounted(1))));

        assert_eq!(phases(&host), [phase]);
        assert_eq!(host.recorded[0].needs_cleaning(), policy == NewVolumes::Clean);
    }
}

#[test]
fn what_is_mounted_for_a_tenant_without_a_record_is_a_persons_to_decide_whatever_the_pool_says() {
    for policy in [NewVolumes::RequireEmpty, NewVolumes::Accept, NewVolumes::Clean] {
        let mut host = Host::new();
        host.pool("fast").new_volumes = policy;
        let mut staged = mounted(1);
        staged.mounts = vec!["/fast/v1".into(), "/kubelet/staging".into()];

        host.settle(&v1(staged));

        let volume = host.recorded[0].clone();
        assert_eq!(volume.status.conditions.clean.reason, CleanReason::FoundInUse);
        assert_eq!(volume.status.own_mounts, ["/fast/v1"]);
        // Also when the tenant's mount is gone, and whatever is in it.
        for later in [mounted(1), full(mounted(1))] {
            host.settle(&v1(later));
            assert_eq!(phases(&host), [Phase::Dirty]);
            assert!(!host.recorded[0].needs_cleaning());
        }
    }
}

#[test]
fn a_policy_that_changes_later_decides_about_data_that_was_found_before() {
    for (policy, phase) in
        [(NewVolumes::Accept, Phase::Available), (NewVolumes::Clean, Phase::Cleaning)]
    {
        let mut host = Host::new();
        host.settle(&v1(full(mounted(1))));

        host.pool("fast").new_volumes = policy;
        host.settle(&v1(full(mounted(1))));

        assert_eq!(phases(&host), [phase]);
    }
}

#[test]
fn a_device_among_directories_that_was_found_with_data_is_wiped_as_its_pool_wipes_devices() {
    let zero = CleanPolicy { method: CleanMethod::Zero, verify: false };
    for wiped_from_the_start in [true, false] {
        let mut host = Host::new();
        host.pool("fast").clean_devices = Some(zero.clone());
        if !wiped_from_the_start {
            host.settle(&v1(full(device(1))));
        }
        host.pool("fast").new_volumes = NewVolumes::Clean;

        host.settle(&v1(full(device(1))));

        assert_eq!(host.recorded[0].spec.clean, Some(zero.clone()));
    }
}

#[test]
fn a_volume_that_was_emptied_by_hand_is_offered_and_one_that_was_filled_is_offered_no_more() {
    let mut host = Host::new();
    host.settle(&v1(full(mounted(1))));

    host.settle(&v1(mounted(1)));
    assert_eq!(phases(&host), [Phase::Available]);
    host.settle(&v1(full(mounted(1))));
    assert_eq!(phases(&host), [Phase::Dirty]);
}

#[test]
fn that_the_data_on_a_volume_was_accepted_is_known_while_it_is_held_and_until_it_is_wiped() {
    let mut host = Host::new();
    host.pool("fast").new_volumes = NewVolumes::Accept;
    host.settle(&v1(full(mounted(1))));
    assert!(host.at("fast/v1").status.accepted);

    host.claim("fast/v1");
    host.settle(&v1(full(mounted(1))));
    assert!(host.at("fast/v1").status.accepted);

    let now = host.now;
    let volume = host.at("fast/v1");
    volume.spec = volume.released(volume.spec.tenancy).unwrap();
    volume.status = cleaned(volume, now);
    host.settle(&v1(mounted(1)));
    assert!(!host.at("fast/v1").status.accepted);
}

fn cleaned(volume: &LocalVolume, now: jiff::Timestamp) -> Status {
    let order = volume.spec.clean.as_ref().unwrap();
    volume.cleaned(volume.spec.tenancy, order, CleanReason::Wiped, now).unwrap()
}

fn wiped(host: &mut Host, method: CleanMethod) {
    host.claim("fast/v1");
    let now = host.now;
    let volume = host.at("fast/v1");
    volume.spec.clean.as_mut().unwrap().method = method;
    volume.spec = volume.released(volume.spec.tenancy).unwrap();
    volume.status = cleaned(volume, now);
}

#[test]
fn a_wiped_volume_that_was_filled_is_dirty_and_the_order_that_was_carried_out_does_not_apply() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    wiped(&mut host, CleanMethod::Delete);

    let plan = host.plan(&v1(full(mounted(1))));
    assert_eq!(plan.changes, [Change::Withdraw(host.recorded[0].name.clone())]);
    assert!(plan.wants_another());
    host.settle(&v1(full(mounted(1))));

    assert_eq!(phases(&host), [Phase::Dirty]);
    assert!(!host.recorded[0].needs_cleaning());
}

#[test]
fn a_free_volume_is_looked_at_again_as_long_as_it_is_taken_to_be_empty() {
    let mut host = Host::new();
    host.settle(&found(&[("fast/v1", device(1))]));
    let found_empty = host.at("fast/v1").clone();
    wiped(&mut host, CleanMethod::Discard);
    let by_us = host.at("fast/v1").clone();
    let mut by_command = by_us.clone();
    let command = CleanMethod::Command { command: vec!["/bin/x".into()], timeout: 1 };
    by_command.spec.clean.as_mut().unwrap().method = command;
    let mut back = found_empty.clone();
    back.status.conditions.healthy.status = false;
    host.claim("fast/v1");
    let held = host.at("fast/v1").clone();

    for (volume, thorough, expected) in [
        (&found_empty, true, Depth::Glance),
        (&found_empty, false, Depth::None),
        (&by_us, true, Depth::Glance),
        (&by_command, true, Depth::None),
        (&back, false, Depth::Glance),
        (&held, true, Depth::None),
    ] {
        assert_eq!(depth(volume, thorough), expected, "{volume:?}");
    }
}

#[test]
fn a_volume_that_is_as_it_was_is_not_written_again() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    host.now = "2026-11-25T00:00:00Z".parse().unwrap();

    assert_eq!(host.plan(&v1(mounted(1))).changes, []);
}

#[test]
fn of_two_paths_to_one_source_the_first_is_offered_and_the_other_reported() {
    let mut host = Host::new();
    let both = found(&[("fast/v1", mounted(1)), ("slow/v9", mounted(1))]);

    let plan = host.settle(&both);

    assert_eq!(host.recorded.len(), 1);
    assert_eq!(host.recorded[0].status.path, "/mnt/fast/v1");
    let of = "/mnt/fast/v1".to_owned();
    assert_eq!(defects(&plan), [("/mnt/slow/v9", &Defect::Duplicate { of })]);
}

#[test]
fn of_two_paths_to_one_source_the_recorded_one_stays() {
    let mut host = Host::new();
    host.settle(&found(&[("fast/v2", mounted(1))]));

    let plan = host.settle(&found(&[("fast/v1", mounted(1)), ("fast/v2", mounted(1))]));

    assert_eq!(host.recorded[0].status.path, "/mnt/fast/v2");
    assert_eq!(defects(&plan).len(), 1);
}

#[test]
fn a_volume_that_moved_within_its_pool_is_followed() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    host.claim("fast/v1");

    host.settle(&found(&[("fast/v2", mounted(1))]));

    assert_eq!(health(&mut host, "fast/v2"), HealthReason::Present);
}

#[test]
fn what_lies_within_another_source_is_reported_and_not_offered() {
    let mut host = Host::new();

    let plan =
        host.settle(&found(&[("fast/a", directory(1, "/x/y")), ("fast/b", directory(1, "/x"))]));

    assert_eq!(host.recorded.len(), 1);
    assert_eq!(host.recorded[0].status.path, "/mnt/fast/b");
    let with = "/mnt/fast/b".to_owned();
    assert_eq!(defects(&plan), [("/mnt/fast/a", &Defect::Overlaps { with })]);
}

#[test]
fn what_contains_a_recorded_volume_comes_too_late_to_be_offered() {
    let mut host = Host::new();
    host.settle(&found(&[("fast/a", directory(1, "/x/y"))]));
    host.claim("fast/a");

    let plan =
        host.settle(&found(&[("fast/a", directory(1, "/x/y")), ("fast/b", directory(1, "/x"))]));

    assert_eq!(host.recorded.len(), 1);
    assert_eq!(defects(&plan).len(), 1);
}

#[test]
fn a_free_volume_that_was_moved_into_a_held_one_is_offered_no_more() {
    let mut host = Host::new();
    let inner = |root: &str| {
        let mut seen = directory(1, "/inner");
        seen.facts.root = root.into();
        seen.facts.place.root = root.into();
        found(&[("fast/inner", seen), ("fast/outer", directory(1, "/outer"))])
    };
    host.settle(&inner("/inner"));
    host.claim("fast/outer");

    let plan = host.settle(&inner("/outer/inner"));

    assert_eq!(host.recorded.len(), 1);
    assert_eq!(defects(&plan).len(), 1);
}

#[test]
fn what_a_pool_does_not_accept_is_reported_by_what_it_is() {
    let mut host = Host::new();
    host.pool("fast").accept.directory = false;
    host.pool("fast").accept.device = false;
    host.pool("slow").mode = crate::volume::Mode::Block;
    let mut around = mounted(3);
    around.holds_its_pool = true;

    let plan = host.settle(&sights_found([
        ("fast/around", Sight::Source(Box::new(around))),
        ("fast/device", Sight::Source(Box::new(device(1)))),
        ("fast/file", Sight::Unsuitable),
        ("fast/link", Sight::Nothing),
        ("fast/plain", Sight::Source(Box::new(directory(1, "/a")))),
        ("slow/mount", Sight::Source(Box::new(mounted(2)))),
    ]));

    assert_eq!(host.recorded, []);
    let found: Vec<_> = defects(&plan).into_iter().map(|(_, defect)| defect.clone()).collect();
    assert_eq!(
        found,
        [
            Defect::HoldsItsPool,
            Defect::NotAccepted("a block device"),
            Defect::Unsuitable,
            Defect::Nothing,
            Defect::NotAccepted("a plain directory"),
            Defect::NotAccepted("a mount point"),
        ]
    );
}

#[test]
fn mounts_are_the_administrators_only_while_nobody_holds_the_volume() {
    let mut host = Host::new();
    let at = |mounts: &[&str]| {
        let mut seen = mounted(1);
        seen.mounts = mounts.iter().map(|mount| (*mount).to_owned()).collect();
        v1(seen)
    };
    host.settle(&at(&["/mnt/fast/v1"]));
    host.settle(&at(&["/mnt/fast/v1", "/srv"]));
    host.claim("fast/v1");
    host.settle(&at(&["/mnt/fast/v1", "/srv", "/pods/1"]));
    assert_eq!(host.at("fast/v1").status.own_mounts, ["/mnt/fast/v1", "/srv"]);

    let volume = host.at("fast/v1");
    volume.spec = volume.released(volume.spec.tenancy).unwrap();
    host.settle(&at(&["/mnt/fast/v1", "/srv", "/pods/1"]));

    assert_eq!(host.at("fast/v1").status.own_mounts, ["/mnt/fast/v1", "/srv"]);
}

#[test]
fn what_the_host_has_mounted_of_a_free_volume_is_the_administrators_too_and_the_kubelets_is_not() {
    let mut host = Host::new();
    let at = |mounts: Option<&[&str]>| {
        let mut seen = mounted(1);
        seen.host_mounts = mounts.map(|all| all.iter().map(|one| (*one).to_owned()).collect());
        v1(seen)
    };
    host.settle(&at(Some(&["/fast/v1", "/backing/v1", "/kubelet/pods/left"])));
    assert_eq!(host.at("fast/v1").status.host_mounts, ["/fast/v1", "/backing/v1"]);

    host.settle(&at(Some(&["/fast/v1", "/srv"])));
    host.settle(&at(None));
    host.claim("fast/v1");
    host.settle(&at(Some(&["/fast/v1", "/srv", "/tenants"])));

    assert_eq!(host.at("fast/v1").status.host_mounts, ["/fast/v1", "/srv"]);
}

#[test]
fn a_held_volume_is_said_to_be_in_use_by_its_claim() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    host.claim("fast/v1");

    host.settle(&v1(full(mounted(1))));

    let clean = &host.at("fast/v1").status.conditions.clean;
    assert_eq!((clean.status, clean.reason), (false, CleanReason::InUse));
    assert!(clean.message.contains("pvc-of-"), "{}", clean.message);
}

#[test]
fn a_candidate_that_nobody_looked_into_waits_for_another_scan() {
    let mut unlooked = mounted(1);
    unlooked.contents = None;

    let plan = Host::new().plan(&v1(unlooked));

    assert!(!plan.changes.iter().any(|change| matches!(change, Change::Add(_))));
}
