use super::super::super::found::{Defect, Found};
use super::world::*;
use crate::volume::{Bytes, FilesystemIdentity, Fingerprint};

fn capacities(host: &mut Host) -> Vec<u64> {
    let mut volumes: Vec<_> = host.recorded.iter().collect();
    volumes.sort_by(|one, other| one.status.path.cmp(&other.status.path));
    volumes.iter().map(|volume| volume.status.capacity.0 / GIB).collect()
}

fn three_directories() -> Found {
    found(&[
        ("fast/v1", directory(1, "/a")),
        ("fast/v2", directory(1, "/b")),
        ("slow/v1", directory(1, "/c")),
    ])
}

#[test]
fn a_device_and_a_whole_file_system_are_as_large_as_they_are() {
    let mut host = Host::new();

    host.settle(&found(&[("fast/disk", device(1)), ("fast/mount", mounted(2))]));

    assert_eq!(capacities(&mut host), [10, 100]);
}

#[test]
fn directories_of_one_file_system_share_it_across_pools() {
    let mut host = Host::new();

    host.settle(&three_directories());

    assert_eq!(capacities(&mut host), [33, 33, 33]);
}

#[test]
fn a_bind_mount_of_a_directory_shares_its_file_system_and_is_not_the_whole_of_it() {
    let mut host = Host::new();
    let bound = |root| {
        let mut seen = directory(1, root);
        attach(&mut seen);
        seen
    };

    host.settle(&found(&[("fast/v1", bound("/a")), ("fast/v2", bound("/b"))]));

    assert_eq!(capacities(&mut host), [50, 50]);
}

#[test]
fn subvolumes_of_one_btrfs_share_it() {
    let mut host = Host::new();
    let subvolume = |root: &str, id: &str| {
        let mut seen = directory(1, root);
        attach(&mut seen);
        let filesystem = FilesystemIdentity {
            fs_type: "btrfs".into(),
            uuid: Some(format!("uuid/{id}").into()),
            device_number: None,
        };
        seen.facts.fingerprint = Fingerprint::Directory { filesystem, inode: 256, born: None };
        seen
    };

    host.settle(&found(&[("fast/v1", subvolume("/@a", "1")), ("fast/v2", subvolume("/@b", "2"))]));

    assert_eq!(capacities(&mut host), [50, 50]);
}

#[test]
fn what_a_pool_declares_wins_and_the_others_share_the_rest() {
    let mut host = Host::new();
    host.pool("slow").capacity = Some(Bytes(40 * GIB));

    host.settle(&three_directories());

    assert_eq!(capacities(&mut host), [30, 30, 40]);
}

#[test]
fn a_holder_keeps_its_share_when_more_directories_come_and_the_rest_is_divided_anew() {
    let mut host = Host::new();
    host.settle(&found(&[("fast/v1", directory(1, "/a")), ("fast/v2", directory(1, "/b"))]));
    host.claim("fast/v1");

    host.settle(&three_directories());

    assert_eq!(capacities(&mut host), [50, 25, 25]);
}

#[test]
fn what_a_holder_was_promised_stays_promised_while_its_directory_is_away() {
    let mut host = Host::new();
    host.settle(&three_directories());
    host.claim("fast/v1");

    host.settle(&found(&[("fast/v2", directory(1, "/b")), ("slow/v1", directory(1, "/c"))]));

    assert_eq!(capacities(&mut host), [33, 33, 33]);
}

#[test]
fn a_held_volume_follows_its_source_upward_and_never_downward() {
    let mut host = Host::new();
    let sized = |size: u64| {
        let mut seen = mounted(1);
        seen.facts.size = Bytes(size * GIB);
        found(&[("fast/v1", seen)])
    };
    host.settle(&sized(100));
    host.claim("fast/v1");

    host.settle(&sized(200));
    assert_eq!(capacities(&mut host), [200]);
    host.settle(&sized(150));
    assert_eq!(capacities(&mut host), [200]);
}

#[test]
fn a_held_directory_follows_a_declared_size_that_grew() {
    let mut host = Host::new();
    host.pool("fast").capacity = Some(Bytes(10 * GIB));
    let here = found(&[("fast/v1", directory(1, "/a"))]);
    host.settle(&here);
    host.claim("fast/v1");

    for (declared, capacity) in [(20, 20), (5, 20)] {
        host.pool("fast").capacity = Some(Bytes(declared * GIB));
        host.settle(&here);
        assert_eq!(capacities(&mut host), [capacity]);
    }
}

#[test]
fn what_pools_declare_is_given_only_as_far_as_the_file_system_has_it() {
    let mut host = Host::new();
    host.pool("fast").capacity = Some(Bytes(80 * GIB));
    host.settle(&v1(directory(1, "/a")));
    host.claim("fast/v1");

    let plan = host.settle(&three_directories());

    // 20 are left for v2, and nothing for the directory that would share what is left.
    assert_eq!(capacities(&mut host), [80, 20]);
    let (given, declared) = (Bytes(20 * GIB), Bytes(80 * GIB));
    assert_eq!(
        defects(&plan),
        [
            ("/mnt/fast/v2", &Defect::Smaller { given, declared }),
            ("/mnt/slow/v1", &Defect::NoSpace)
        ]
    );
}

#[test]
fn declared_sizes_that_do_not_fit_together_are_cut_to_equal_parts() {
    let mut host = Host::new();
    for (pool, declared) in [("fast", 60), ("slow", 10)] {
        host.pool(pool).capacity = Some(Bytes(declared * GIB));
    }

    host.settle(&three_directories());

    assert_eq!(capacities(&mut host), [33, 33, 10]);
}

#[test]
fn a_holder_gets_no_more_than_there_is_when_what_is_declared_grows() {
    let mut host = Host::new();
    host.pool("fast").capacity = Some(Bytes(10 * GIB));
    let here = v1(directory(1, "/a"));
    host.settle(&here);
    host.claim("fast/v1");

    host.pool("fast").capacity = Some(Bytes(1000 * GIB));
    host.settle(&here);

    assert_eq!(capacities(&mut host), [100]);
}

#[test]
fn a_free_volume_for_which_no_space_is_left_is_one_no_more_and_one_of_no_size_never_becomes_one() {
    let mut host = Host::new();
    host.settle(&three_directories());
    host.pool("fast").capacity = Some(Bytes(50 * GIB));
    let mut nothing = mounted(2);
    nothing.facts.size = Bytes(0);

    host.settle(&three_directories());
    assert_eq!(capacities(&mut host), [50, 50]);
    let plan = host.settle(&found(&[("fast/v9", nothing)]));

    assert_eq!(host.recorded, []);
    assert_eq!(defects(&plan), [("/mnt/fast/v9", &Defect::NoSpace)]);
}
