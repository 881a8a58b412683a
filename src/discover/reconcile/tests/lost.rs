use super::super::super::found::{Defect, Found, Sight};
use super::super::Seen;
use super::world::*;
use crate::health::Finding;
use crate::volume::{
    Bytes, CleanMethod, Cleaning, Fingerprint, HealthReason, NewVolumes, Phase, Remount, fixture,
};

fn cleaning(host: &mut Host, remount: Option<Remount>) {
    let volume = host.at("fast/v1");
    volume.status.cleaning = Some(Box::new(Cleaning {
        tenancy: volume.spec.tenancy,
        method: CleanMethod::Reformat,
        started: jiff::Timestamp::UNIX_EPOCH,
        entries: 0,
        bytes: Bytes(0),
        remount,
    }));
}

fn remount(seen: &Seen) -> Remount {
    Remount {
        label: None,
        source: "/dev/sdb".into(),
        device: seen.facts.fingerprint.clone(),
        fs_type: "ext4".into(),
        uuid: "u".into(),
        options: "rw".into(),
    }
}

#[test]
fn what_a_reformat_makes_is_not_taken_for_a_second_volume_before_it_has_ended() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    host.claim("fast/v1");
    let volume = host.at("fast/v1");
    volume.spec = volume.released(volume.spec.tenancy).unwrap();
    cleaning(&mut host, Some(remount(&mounted(1))));
    // XFS may have another root directory under the same UUID.
    let mut made = mounted(1);
    let Fingerprint::Directory { inode, .. } = &mut made.facts.fingerprint else { panic!() };
    *inode += 1;

    host.settle(&found(&[("fast/v1", made.clone()), ("slow/again", made)]));

    assert_eq!(host.recorded.len(), 1);
}

#[test]
fn a_held_volume_that_moved_to_another_pool_stays_where_it_was_claimed_and_is_not_offered_there() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    host.claim("fast/v1");

    host.settle(&found(&[("slow/v1", mounted(1))]));

    assert_eq!(host.recorded.len(), 1);
    assert_eq!(health(&mut host, "fast/v1"), HealthReason::PoolGone);
}

#[test]
fn a_free_volume_that_moved_to_another_pool_is_offered_there() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));

    host.settle(&found(&[("slow/v1", mounted(1))]));

    assert_eq!(host.recorded.len(), 1);
    assert_eq!(host.at("slow/v1").spec.pool.as_str(), "slow");
}

#[test]
fn a_free_clean_volume_that_vanishes_is_removed_and_its_numbers_are_not_given_again() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    let first = host.at("fast/v1").clone();

    host.settle(&Found::default());
    assert_eq!(host.recorded, []);
    host.now = "2026-11-24T06:00:05Z".parse().unwrap();
    host.settle(&v1(mounted(1)));

    let second = host.at("fast/v1");
    assert_eq!(second.name, first.name);
    assert!(second.spec.tenancy > first.spec.tenancy);
}

#[test]
fn a_held_a_dirty_a_cordoned_and_a_half_wiped_volume_that_vanish_are_lost_and_not_removed() {
    let held = |host: &mut Host| host.claim("fast/v1");
    let dirty = |host: &mut Host| host.at("fast/v1").status.clean_for = None;
    let cordoned = |host: &mut Host| host.at("fast/v1").spec.cordoned = true;
    let half_wiped = |host: &mut Host| cleaning(host, None);
    let states: [&dyn Fn(&mut Host); 4] = [&held, &dirty, &cordoned, &half_wiped];
    for state in states {
        let mut host = Host::new();
        host.settle(&v1(mounted(1)));
        state(&mut host);

        host.settle(&Found::default());

        assert_eq!(phases(&host), [Phase::Lost]);
        assert_eq!(health(&mut host, "fast/v1"), HealthReason::Missing);
        host.settle(&v1(mounted(1)));
        assert_eq!(health(&mut host, "fast/v1"), HealthReason::Present);
    }
}

#[test]
fn a_swapped_mount_is_told_and_the_new_disk_is_a_volume_of_its_own() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    host.claim("fast/v1");

    host.settle(&v1(mounted(2)));

    assert_eq!(phases(&host), [Phase::Lost, Phase::Available]);
    let healthy = &host.recorded[0].status.conditions.healthy;
    assert_eq!(healthy.reason, HealthReason::Replaced);
    assert!(healthy.message.contains("uuid-1") && healthy.message.contains("uuid-2"));
    assert_ne!(host.recorded[0].name, host.recorded[1].name);
}

#[test]
fn the_empty_directory_beneath_a_lost_mount_is_not_offered_in_its_place() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    host.claim("fast/v1");

    let plan = host.settle(&v1(directory(9, "/mnt/fast/v1")));

    assert_eq!(phases(&host), [Phase::Lost]);
    let volume = host.recorded[0].name.clone();
    assert_eq!(defects(&plan), [("/mnt/fast/v1", &Defect::Beneath { volume })]);
}

#[test]
fn a_device_that_shrank_is_not_the_recorded_one_and_not_offered_as_another_while_it_is_held() {
    let mut host = Host::new();
    host.settle(&v1(device(1)));
    host.claim("fast/v1");
    let mut smaller = device(1);
    let crate::volume::Fingerprint::Device { size, .. } = &mut smaller.facts.fingerprint else {
        unreachable!()
    };
    *size = Bytes(GIB);

    host.settle(&v1(smaller));

    assert_eq!(phases(&host), [Phase::Lost]);
}

#[test]
fn a_pool_that_left_the_configuration_keeps_what_is_held_and_nothing_else() {
    let mut host = Host::new();
    let here = found(&[
        ("fast/free", mounted(1)),
        ("fast/full", full(mounted(2))),
        ("fast/held", mounted(3)),
    ]);
    host.settle(&here);
    host.claim("fast/held");
    host.pools.remove(&"fast".parse().unwrap());

    host.settle(&Found::default());

    assert_eq!(host.recorded.len(), 1);
    assert_eq!(health(&mut host, "fast/held"), HealthReason::PoolGone);
}

#[test]
fn a_held_volume_that_its_pool_no_longer_selects_is_told_and_kept() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    host.claim("fast/v1");
    let mut found = Found::default();
    found.elsewhere.insert("/mnt/fast/v1".into(), Sight::Source(Box::new(mounted(1))));

    host.settle(&found);

    assert_eq!(health(&mut host, "fast/v1"), HealthReason::PoolGone);
}

#[test]
fn what_could_not_be_seen_is_not_removed() {
    let failed = Sight::Failed { reason: HealthReason::ProbeTimeout, message: "no answer".into() };
    let mut unreadable = Found::default();
    unreadable.unreadable.insert("fast".parse().unwrap(), "Input/output error".into());
    for (found, reason) in [
        (sights_found([("fast/v1", failed)]), HealthReason::ProbeTimeout),
        (unreadable, HealthReason::ReadError),
    ] {
        let mut host = Host::new();
        host.settle(&v1(mounted(1)));

        host.settle(&found);

        assert_eq!(phases(&host), [Phase::Lost]);
        assert_eq!(health(&mut host, "fast/v1"), reason);
    }
}

#[test]
fn what_nobody_looked_at_stays_as_it_was_and_keeps_its_place() {
    let mut host = Host::new();
    host.settle(&v1(directory(1, "/a")));

    let plan = host.plan(&sights_found([
        ("fast/v1", Sight::Untried),
        ("fast/v2", Sight::Source(Box::new(directory(1, "/a/b")))),
    ]));

    assert_eq!(plan.changes, []);
    assert_eq!(phases(&host), [Phase::Available]);
}

#[test]
fn a_volume_whose_mount_is_being_made_anew_is_expected_to_be_away() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    cleaning(&mut host, Some(remount(&device(1))));

    for found in [Found::default(), v1(directory(9, "/mnt/fast/v1"))] {
        assert_eq!(host.plan(&found).changes, []);
    }
}

#[test]
fn a_probes_finding_is_recorded_and_stands_until_another_probe() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    let name = host.at("fast/v1").name.clone();
    let finding = Finding { reason: HealthReason::ReadError, message: "it failed".into() };
    host.findings.insert(name.clone(), finding);

    host.settle(&v1(mounted(1)));
    assert_eq!(health(&mut host, "fast/v1"), HealthReason::ReadError);
    host.findings.clear();
    host.settle(&v1(mounted(1)));
    assert_eq!(health(&mut host, "fast/v1"), HealthReason::ReadError);

    let finding = Finding { reason: HealthReason::Present, message: "well".into() };
    host.findings.insert(name, finding);
    host.settle(&v1(mounted(1)));
    assert_eq!(phases(&host), [Phase::Available]);
}

#[test]
fn of_two_records_of_one_source_only_one_goes_on() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    let mut twin = fixture::named("twin", Bytes(GIB));
    twin.status.fingerprint = host.at("fast/v1").status.fingerprint.clone();
    twin.status.path = "/mnt/fast/v1".into();
    host.recorded.push(twin);
    host.claim("fast/v1");

    host.settle(&v1(mounted(1)));

    assert_eq!(phases(&host), [Phase::Claimed]);
}

#[test]
fn what_lies_within_a_held_volume_is_not_offered_while_that_cannot_be_seen() {
    let failed = || Sight::Failed { reason: HealthReason::ProbeTimeout, message: "no".into() };
    let inner = || ("slow/inner", Sight::Source(Box::new(full(directory(1, "/data/db")))));
    let outer = || directory(1, "/data");
    let mut unreadable = sights_found([inner()]);
    unreadable.unreadable.insert("fast".parse().unwrap(), "Input/output error".into());
    for found in [
        sights_found([inner()]),
        sights_found([("fast/v1", failed()), inner()]),
        sights_found([("fast/v1", Sight::Source(Box::new(mounted(9)))), inner()]),
        unreadable,
    ] {
        let mut host = Host::new();
        host.pool("slow").new_volumes = NewVolumes::Clean;
        host.settle(&v1(outer()));
        host.claim("fast/v1");

        let plan = host.settle(&found);

        let with = "/mnt/fast/v1".to_owned();
        assert!(defects(&plan).contains(&("/mnt/slow/inner", &Defect::Overlaps { with })));
        assert!(host.recorded.iter().all(|volume| volume.status.path != "/mnt/slow/inner"));
    }
}

#[test]
fn a_partition_of_a_held_disk_is_not_offered_while_the_disk_cannot_be_seen() {
    let mut host = Host::new();
    host.settle(&v1(device(1)));
    host.claim("fast/v1");

    host.settle(&found(&[("fast/v1-part1", partition(2, &device(1)))]));

    assert_eq!(phases(&host), [Phase::Lost]);
}

#[test]
fn a_dirty_and_a_cordoned_volume_keep_their_places_too() {
    let dirty = |host: &mut Host| host.at("fast/v1").status.clean_for = None;
    let cordoned = |host: &mut Host| host.at("fast/v1").spec.cordoned = true;
    let states: [&dyn Fn(&mut Host); 2] = [&dirty, &cordoned];
    for state in states {
        let mut host = Host::new();
        host.settle(&v1(directory(1, "/data")));
        state(&mut host);

        host.settle(&found(&[("slow/inner", directory(1, "/data/db"))]));

        assert_eq!(phases(&host), [Phase::Lost]);
    }
}

#[test]
fn the_empty_directory_beneath_the_lost_mount_of_a_free_volume_is_not_offered_until_that_returns_or_is_forgotten()
 {
    let mut host = Host::new();
    let beneath = || v1(directory(9, "/mnt/fast/v1"));
    host.settle(&v1(mounted(1)));

    let plan = host.settle(&beneath());
    assert_eq!(phases(&host), [Phase::Lost]);
    let volume = host.recorded[0].name.clone();
    assert_eq!(defects(&plan), [("/mnt/fast/v1", &Defect::Beneath { volume })]);
    host.settle(&v1(mounted(1)));
    assert_eq!(phases(&host), [Phase::Available]);

    host.settle(&beneath());
    host.recorded.clear();
    host.settle(&beneath());
    assert_eq!(phases(&host), [Phase::Available]);
}

#[test]
fn a_free_volume_whose_mount_point_is_removed_too_or_not_offered_by_its_pool_is_removed() {
    let mut host = Host::new();
    host.settle(&v1(mounted(1)));
    host.settle(&v1(directory(9, "/mnt/fast/v1")));

    host.settle(&Found::default());
    assert_eq!(host.recorded, []);

    host.pool("fast").accept.directory = false;
    host.settle(&v1(mounted(1)));
    host.settle(&v1(directory(9, "/mnt/fast/v1")));
    assert_eq!(host.recorded, []);
}

#[test]
fn a_plain_directory_that_was_made_anew_is_another_volume() {
    let mut host = Host::new();
    host.settle(&v1(directory(1, "/a")));
    let first = host.recorded[0].name.clone();

    host.settle(&v1(directory(1, "/b")));

    assert_eq!(phases(&host), [Phase::Available]);
    assert_ne!(host.recorded[0].name, first);
}

#[test]
fn the_empty_directory_that_one_of_two_mounts_of_a_volume_leaves_is_not_offered() {
    let both = || found(&[("fast/v1", mounted(1)), ("fast/v2", mounted(1))]);
    let beneath = || directory(9, "/beneath");
    for (left, other) in [("fast/v1", "fast/v2"), ("fast/v2", "fast/v1")] {
        for claimed in [true, false] {
            let mut host = Host::new();
            host.settle(&both());
            if claimed {
                host.claim("fast/v1");
            }

            let one = found(&[(left, beneath()), (other, mounted(1))]);
            let plan = host.settle(&one);

            assert_eq!(host.recorded.len(), 1);
            assert_eq!(host.recorded[0].status.path, format!("/mnt/{other}"));
            let volume = host.recorded[0].name.clone();
            assert_eq!(defects(&plan), [(&*format!("/mnt/{left}"), &Defect::Left { volume })]);

            // Removed and made again, it is no longer what a mount left.
            host.settle(&{
                let mut found = found(&[(other, mounted(1))]);
                found.elsewhere.insert(format!("/mnt/{left}"), Sight::Nothing);
                found
            });
            host.settle(&one);
            assert_eq!(host.recorded.len(), 2);
        }
    }
}
