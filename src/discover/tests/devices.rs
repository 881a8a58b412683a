use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::process::Command;

use super::world::*;
use crate::host::device::{self, Access};
use crate::host::mount::fixture::{Disk, mount, unmount};
use crate::host::{format, wipe};
use crate::volume::{Bytes, HealthReason, Mode, Phase};

const MIB: u64 = 1 << 20;

#[test]
fn a_blank_device_is_offered_and_one_with_a_signature_data_or_a_user_is_dirty() {
    in_world(async |world| {
        world.configure("fast", |pool| pool.mode = Mode::Block);
        let disks =
            [Disk::blank(16), Disk::formatted("ext4", 32), Disk::blank(16), Disk::blank(16)];
        disks[2].open().write_all_at(b"data", 16 * MIB - 4).unwrap();
        let _user = device::open(disks[3].path(), Access::ReadExclusive).unwrap();
        for (disk, entry) in disks.iter().zip(["blank", "ext4", "data", "used"]) {
            symlink(disk.path(), world.path("fast").join(entry)).unwrap();
        }

        world.start().await;

        for (entry, phase, said) in [
            ("fast/blank", Phase::Available, "empty"),
            ("fast/ext4", Phase::Dirty, "signatures of ext4"),
            ("fast/data", Phase::Dirty, "data at byte"),
            ("fast/used", Phase::Dirty, "uses"),
        ] {
            let volume = world.volume(entry).await;
            let message = &volume.status.conditions.clean.message;
            assert_eq!(volume.phase(), phase, "{message}");
            assert!(message.contains(said), "{message}");
        }
        assert_eq!(world.volume("fast/blank").await.status.capacity, Bytes(16 * MIB));
    });
}

#[test]
fn a_free_device_that_the_administrator_begins_to_use_is_offered_no_more_until_he_is_done() {
    in_world(async |world| {
        world.configure("fast", |pool| pool.mode = Mode::Block);
        world.rescan_often();
        let (found, wiped) = (Disk::blank(32), Disk::blank(32));
        for (disk, entry) in [(&found, "fast/found"), (&wiped, "fast/wiped")] {
            symlink(disk.path(), world.path(entry)).unwrap();
        }
        world.start().await;
        world.claim("fast/wiped").await;
        world.release("fast/wiped").await;
        world.wait_phase("fast/wiped", Phase::Available).await;

        for (disk, entry) in [(&found, "fast/found"), (&wiped, "fast/wiped")] {
            format::make(&disk.open(), disk.path(), "ext4", None).unwrap();
            mount("ext4", disk.path(), &world.path("srv"));
            let used = world.wait_phase(entry, Phase::Dirty).await;
            assert!(!used.needs_cleaning(), "{entry}");
            unmount(&world.path("srv"));

            wipe::zero(&disk.open(), disk.path(), 0, 32 * MIB).unwrap();
            world.wait_phase(entry, Phase::Available).await;
        }
    });
}

#[test]
fn a_device_node_that_stands_in_a_pool_is_offered_as_a_link_to_one_is() {
    in_world(async |world| {
        world.configure("fast", |pool| pool.mode = Mode::Block);
        let disk = Disk::blank(16);
        let node = [disk.path(), &world.path("fast/node")];
        assert!(Command::new("cp").arg("-a").args(node).status().unwrap().success());

        world.start().await;

        let volume = world.volume("fast/node").await;
        assert_eq!((volume.phase(), volume.status.capacity), (Phase::Available, Bytes(16 * MIB)));
    });
}

#[test]
fn two_links_to_one_blank_device_are_one_available_volume() {
    in_world(async |world| {
        world.configure("fast", |pool| pool.mode = Mode::Block);
        let disk = Disk::blank(16);
        for entry in ["a", "b"] {
            symlink(disk.path(), world.path("fast").join(entry)).unwrap();
        }

        world.start().await;

        assert_eq!(world.volume("fast/a").await.phase(), Phase::Available);
        assert!(world.wait_problems(1).await[0].contains("fast/b"));
    });
}

#[test]
fn a_device_that_grew_is_followed_upward_while_it_is_held() {
    in_world(async |world| {
        world.configure("fast", |pool| pool.mode = Mode::Block);
        let disk = Disk::blank(16);
        symlink(disk.path(), world.path("fast/d1")).unwrap();
        world.start().await;
        world.claim("fast/d1").await;

        disk.grow(24);

        world
            .wait("the device to grow", |volumes| volumes[0].status.capacity == Bytes(24 * MIB))
            .await;
        assert!(world.volume("fast/d1").await.spec.claim.is_some());
    });
}

#[test]
fn a_device_and_the_mount_of_its_file_system_are_not_both_offered() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        symlink(disk.path(), world.path("fast/device")).unwrap();
        mount("ext4", disk.path(), &world.path("fast/mount"));

        world.start().await;

        assert_eq!(world.volumes().await.len(), 1);
        assert_eq!(world.wait_problems(1).await.len(), 1);
        unmount(&world.path("fast/mount"));
    });
}

#[test]
fn a_link_to_a_device_that_is_removed_loses_a_held_volume_and_finds_it_under_another_name() {
    in_world(async |world| {
        world.configure("fast", |pool| pool.mode = Mode::Block);
        let disk = Disk::blank(16);
        symlink(disk.path(), world.path("fast/d1")).unwrap();
        world.start().await;
        world.claim("fast/d1").await;

        fs::remove_file(world.path("fast/d1")).unwrap();
        world.wait_health("fast/d1", HealthReason::Missing).await;
        symlink(disk.path(), world.path("fast/d2")).unwrap();

        world.wait_phase("fast/d2", Phase::Claimed).await;
        assert_eq!(world.volumes().await.len(), 1);
    });
}
