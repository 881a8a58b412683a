use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::world::*;
use crate::host::mount::fixture::{Disk, bind, mount, tmpfs, unmount};
use crate::host::namespace::fixture::Other;
use crate::inventory::Inventory;
use crate::volume::{CleanReason, HealthReason, NewVolumes, Phase, fixture};

#[test]
fn every_kind_of_directory_is_found_and_each_bad_entry_is_reported_and_stops_no_other() {
    in_world(async |world| {
        tmpfs(&world.path("fast/mount"));
        tmpfs(&world.path("elsewhere/whole"));
        for directory in ["fast/plain", "fast/.hidden", "fast/lost+found", "elsewhere/whole/part"] {
            fs::create_dir(world.path(directory)).unwrap();
        }
        bind(&world.path("elsewhere/whole/part"), &world.path("fast/bind"));
        fs::create_dir(world.path("elsewhere/linked")).unwrap();
        symlink("../elsewhere/linked", world.path("fast/link")).unwrap();
        fs::write(world.path("fast/file"), "").unwrap();
        symlink("nowhere", world.path("fast/dangling")).unwrap();
        symlink(&world.base, world.path("fast/upward")).unwrap();
        fs::create_dir(world.path("fast").join(OsStr::from_bytes(b"latin\xe9"))).unwrap();

        world.start().await;

        let volumes = world.volumes().await;
        let mut found: Vec<_> = volumes.iter().map(|volume| entry(&volume.status.path)).collect();
        found.sort_unstable();
        assert_eq!(found, ["bind", "link", "mount", "plain"]);
        assert!(volumes.iter().all(crate::volume::LocalVolume::is_claimable), "{volumes:#?}");
        let problems = world.wait_problems(4).await.join("\n");
        for reported in ["fast/dangling", "fast/file", "latin", "fast/upward"] {
            assert!(problems.contains(reported), "{reported} in\n{problems}");
        }
    });
}

#[test]
fn a_bind_mount_of_what_holds_the_pool_is_not_offered_by_its_other_path() {
    in_world(async |world| {
        for (alias, of) in [("fast/self", "fast"), ("fast/around", "")] {
            bind(&world.path(of), &world.path(alias));
        }

        world.start().await;

        assert_eq!(world.volumes().await, []);
        for problem in world.wait_problems(2).await {
            assert!(problem.contains("the pool's own directory lies within it"), "{problem}");
        }
    });
}

#[test]
fn what_nothing_tells_is_found_by_the_next_full_scan() {
    in_world(async |world| {
        world.rescan_often();
        // The directory that it leads to is in no pool, and nobody watches it.
        symlink(world.path("elsewhere"), world.path("fast/link")).unwrap();
        world.start().await;
        world.wait_problem("fast/link").await;

        fs::create_dir(world.path("elsewhere")).unwrap();

        world.wait_phase("fast/link", Phase::Available).await;
    });
}

#[test]
fn what_comes_while_it_runs_is_told_and_found_at_once() {
    in_world(async |world| {
        world.start().await;

        tmpfs(&world.path("fast/mount"));
        world.wait_phase("fast/mount", Phase::Available).await;
        fs::create_dir(world.path("fast/plain")).unwrap();
        world.wait_phase("fast/plain", Phase::Available).await;
        fs::create_dir(world.path("elsewhere")).unwrap();
        symlink(world.path("elsewhere"), world.path("fast/link")).unwrap();
        world.wait_phase("fast/link", Phase::Available).await;
    });
}

#[test]
fn a_pool_is_found_once_its_directory_is_made() {
    in_world(async |world| {
        world.configure("slow", |_| ());
        world.start().await;
        assert!(world.wait_problems(1).await[0].contains("slow"));

        fs::create_dir_all(world.path("slow/v1")).unwrap();

        world.wait_phase("slow/v1", Phase::Available).await;
        world.wait_problems(0).await;
    });
}

#[test]
fn a_directory_that_holds_data_is_dirty_and_an_empty_lost_and_found_alone_is_nothing() {
    in_world(async |world| {
        fs::create_dir_all(world.path("fast/full/data")).unwrap();
        fs::create_dir_all(world.path("fast/new/lost+found")).unwrap();
        fs::create_dir_all(world.path("fast/recovered/lost+found/#12")).unwrap();
        fs::create_dir_all(world.path("fast/file")).unwrap();
        fs::write(world.path("fast/file/lost+found"), "data").unwrap();

        world.start().await;

        for (entry, phase) in [
            ("fast/full", Phase::Dirty),
            ("fast/new", Phase::Available),
            ("fast/recovered", Phase::Dirty),
            ("fast/file", Phase::Dirty),
        ] {
            assert_eq!(world.volume(entry).await.phase(), phase, "{entry}");
        }
    });
}

#[test]
fn a_wiped_directory_that_the_administrator_fills_is_dirty_and_not_wiped_again() {
    in_world(async |world| {
        world.rescan_often();
        fs::create_dir(world.path("fast/v1")).unwrap();
        world.start().await;
        world.claim("fast/v1").await;
        world.release("fast/v1").await;
        world.wait_phase("fast/v1", Phase::Available).await;

        fs::write(world.path("fast/v1/file"), "the administrator's").unwrap();

        let filled = world.wait_phase("fast/v1", Phase::Dirty).await;
        assert_eq!(filled.status.conditions.clean.reason, CleanReason::FoundData);
        assert!(!filled.needs_cleaning());
    });
}

#[test]
fn how_a_root_directory_looked_when_it_was_found_is_recorded() {
    in_world(async |world| {
        let path = world.path("fast/v1");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o2750)).unwrap();
        std::os::unix::fs::chown(&path, Some(1000), Some(2000)).unwrap();

        world.start().await;

        let root = world.volume("fast/v1").await.status.root.unwrap();
        assert_eq!((root.uid, root.gid, root.mode), (1000, 2000, 0o2750));
    });
}

#[test]
fn a_lost_mount_makes_a_held_volume_lost_until_it_returns_and_the_directory_beneath_is_not_offered()
{
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        let path = world.path("fast/v1");
        mount("ext4", disk.path(), &path);
        world.start().await;
        world.claim("fast/v1").await;
        let held = world.volume("fast/v1").await;

        unmount(&path);
        world.wait_health("fast/v1", HealthReason::Replaced).await;
        let problems = world.wait_problems(1).await;
        assert!(problems[0].contains("mount point"), "{problems:?}");
        mount("ext4", disk.path(), &path);

        let back = world.wait_phase("fast/v1", Phase::Claimed).await;
        assert_eq!(back.id(), held.id());
        assert_eq!(world.volumes().await.len(), 1);
        unmount(&path);
    });
}

#[test]
fn a_free_volume_whose_mount_is_lost_leaves_nothing_to_claim_on_the_disk_beneath() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        for entry in ["fast/v1", "fast/v2"] {
            mount("ext4", disk.path(), &world.path(entry));
        }
        world.start().await;
        assert!(world.volume("fast/v1").await.is_claimable());

        unmount(&world.path("fast/v1"));
        world.wait_phase("fast/v2", Phase::Available).await;
        world.wait_problem("fast/v1 is not offered").await;
        unmount(&world.path("fast/v2"));
        world.wait_health("fast/v2", HealthReason::Replaced).await;
        world.wait_problem("fast/v2 is not offered").await;
        assert_eq!(world.volumes().await.len(), 1);
        mount("ext4", disk.path(), &world.path("fast/v1"));

        world.wait_phase("fast/v1", Phase::Available).await;
        unmount(&world.path("fast/v1"));
    });
}

#[test]
fn a_part_of_a_held_volume_whose_mount_was_lost_is_neither_offered_nor_wiped() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        mount("ext4", disk.path(), &world.path("disk"));
        fs::create_dir_all(world.path("disk/data/db/rows")).unwrap();
        fs::create_dir(world.path("fast")).ok();
        bind(&world.path("disk/data"), &world.path("fast/v1"));
        world.configure("fast", |pool| pool.new_volumes = NewVolumes::Accept);
        world.start().await;
        world.claim("fast/v1").await;
        fs::create_dir(world.path("slow")).unwrap();
        world.configure("slow", |pool| pool.new_volumes = NewVolumes::Clean);
        bind(&world.path("disk/data/db"), &world.path("slow/inner"));
        world.wait_problem("slow/inner is not offered").await;

        unmount(&world.path("fast/v1"));
        world.wait_health("fast/v1", HealthReason::Replaced).await;

        world.wait_problem("slow/inner is not offered").await;
        assert_eq!(world.volumes().await.len(), 1);
        unmount(&world.path("slow/inner"));
        unmount(&world.path("disk"));
    });
}

#[test]
fn a_swapped_mount_is_another_volume_and_the_held_one_is_lost() {
    in_world(async |world| {
        let (first, second) = (Disk::formatted("ext4", 32), Disk::formatted("ext4", 32));
        let path = world.path("fast/v1");
        mount("ext4", first.path(), &path);
        world.start().await;
        world.claim("fast/v1").await;
        let held = world.volume("fast/v1").await;

        unmount(&path);
        mount("ext4", second.path(), &path);

        let other = world.wait_phase("fast/v1", Phase::Available).await;
        assert_ne!(other.name, held.name);
        let lost = world.inventory.get(&held.name).await.unwrap().volume;
        assert_eq!(lost.phase(), Phase::Lost);
        unmount(&path);
    });
}

#[test]
fn one_source_reached_by_two_paths_is_one_volume_and_the_second_path_is_reported() {
    in_world(async |world| {
        let path = world.path("fast/v1");
        tmpfs(&path);
        bind(&path, &world.path("fast/v2"));
        symlink(&path, world.path("fast/v3")).unwrap();

        world.start().await;

        let volumes = world.volumes().await;
        assert_eq!(volumes.len(), 1);
        assert_eq!(entry(&volumes[0].status.path), "v1");
        let problems = world.wait_problems(2).await;
        for (problem, path) in problems.iter().zip(["v2", "v3"]) {
            assert!(problem.contains(path) && problem.contains("same source"), "{problem}");
        }
    });
}

#[test]
fn a_free_volume_that_vanishes_is_removed() {
    in_world(async |world| {
        tmpfs(&world.path("fast/v1"));
        fs::create_dir(world.path("fast/v2")).unwrap();
        world.configure("fast", |pool| pool.accept.directory = false);
        world.start().await;
        world.wait_phase("fast/v1", Phase::Available).await;

        unmount(&world.path("fast/v1"));

        world.wait("nothing to be left", <[_]>::is_empty).await;
    });
}

#[test]
fn mounts_that_were_there_while_it_was_free_are_recorded_as_the_administrators() {
    in_world(async |world| {
        tmpfs(&world.path("fast/v1"));
        world.start().await;
        bind(&world.path("fast/v1"), &world.path("srv"));
        world.wait("both mounts", |volumes| volumes[0].status.own_mounts.len() == 2).await;
        world.claim("fast/v1").await;

        bind(&world.path("fast/v1"), &world.path("pods"));
        tmpfs(&world.path("fast/v2"));
        world.wait_phase("fast/v2", Phase::Available).await;

        let own = world.volume("fast/v1").await.status.own_mounts;
        let own: Vec<_> = own.iter().map(|path| entry(path)).collect();
        assert_eq!(own, ["v1", "srv"]);
    });
}

#[test]
fn mounts_that_only_the_host_shows_of_a_free_volume_are_recorded_and_no_tenants_among_them() {
    in_world(async |world| {
        tmpfs(&world.path("fast/v1"));
        let (source, backing) = (world.path("fast/v1"), world.path("backing"));
        let pod = world.path("pods/left");
        let host = Other::with(&format!(
            "for at in {} {}; do mkdir -p $at; mount --bind {} $at; done; echo ready; exec sleep 600",
            backing.display(),
            pod.display(),
            source.display()
        ));
        world.discovery = world
            .discovery
            .clone()
            .on_host(host.as_host())
            .tenants_beneath(vec![world.path("pods")]);

        world.start().await;

        let status = world.volume("fast/v1").await.status;
        let paths = |paths: &[String]| paths.iter().map(Into::into).collect::<Vec<PathBuf>>();
        let own = (paths(&status.own_mounts), paths(&status.host_mounts));
        assert_eq!(own, (vec![source.clone()], vec![source, backing]));
    });
}

#[test]
fn a_configuration_that_changes_takes_effect_at_once() {
    in_world(async |world| {
        fs::create_dir_all(world.path("fast/v1")).unwrap();
        fs::create_dir_all(world.path("slow/v1/data")).unwrap();
        world.start().await;

        world.configure("slow", |pool| pool.new_volumes = crate::volume::NewVolumes::Accept);
        let accepted = world.wait_phase("slow/v1", Phase::Available).await;
        assert_eq!(accepted.status.conditions.clean.reason, CleanReason::Accepted);
        world.claim("slow/v1").await;
        world.unconfigure("slow");
        world.unconfigure("fast");

        world.wait_health("slow/v1", HealthReason::PoolGone).await;
        world.wait("the free one to go", |volumes| volumes.len() == 1).await;
    });
}

#[test]
fn volumes_of_other_nodes_are_left_alone() {
    in_world(async |world| {
        let other = fixture::on("node-b", "fast", "v1", crate::volume::Bytes(1));
        world.inventory.add(other.clone()).await.unwrap();

        world.start().await;

        assert_eq!(world.volumes().await, [other]);
    });
}
