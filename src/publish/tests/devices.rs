use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

use super::super::*;
use super::world::{in_world, mounted, mounts_at, pool, raw, with_flags, with_type};
use crate::host::mount::fixture::{Disk, bind_file, mount, unmount};
use crate::host::mount::{Kind, Seen};
use crate::source;
use crate::volume::AccessMode::{SingleNodeMultiWriter, SingleNodeWriter};
use crate::volume::{Bytes, CapacityRange, NewVolumes};

#[test]
fn a_blank_device_is_formatted_once_and_keeps_its_data() {
    in_world(async |world| {
        let disk = Disk::blank(16);
        let id = world.device(&disk, Mode::Filesystem).await;
        let access = with_flags(SingleNodeWriter, &["discard", "noatime"]);

        world.published(&id, "t1", access.clone()).await;
        fs::write(world.target("t1").join("file"), "x").unwrap();
        let format = world.volume(&id.volume).await.status.format.unwrap();
        assert_eq!((format.fs_type.as_str(), format.done), ("ext4", true));

        world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        world.publisher.unstage(world.unstage(&id)).await.unwrap();
        world.published(&id, "t2", access).await;
        assert_eq!(fs::read(world.target("t2").join("file")).unwrap(), b"x");
    });
}

#[test]
fn several_targets_show_one_file_system_and_each_goes_alone() {
    in_world(async |world| {
        let disk = Disk::blank(16);
        let id = world.device(&disk, Mode::Filesystem).await;
        let access = mounted(SingleNodeMultiWriter);

        for _ in 0..2 {
            world.published(&id, "t1", access.clone()).await;
            world.published(&id, "t2", access.clone()).await;
        }
        fs::write(world.target("t1").join("file"), "x").unwrap();
        assert_eq!((mounts_at(&world.target("t1")), mounts_at(&world.staging())), (1, 1));
        world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();

        assert_eq!(fs::read(world.target("t2").join("file")).unwrap(), b"x");
    });
}

#[test]
fn a_device_with_something_on_it_is_never_formatted() {
    in_world(async |world| {
        let disk = Disk::blank(16);
        disk.open().write_all_at(b"precious", 512 << 10).unwrap();
        let id = world.device(&disk, Mode::Filesystem).await;

        let request = world.stage(&id, mounted(SingleNodeWriter));
        let error = world.staged(request).await.unwrap_err();

        assert!(matches!(error, Error::NotBlank { .. }), "{error}");
        let mut kept = [0; 8];
        disk.open().read_exact_at(&mut kept, 512 << 10).unwrap();
        assert_eq!(&kept, b"precious");
        let volume = world.volume(&id.volume).await;
        assert!(volume.status.format.is_none() && volume.status.published.is_empty());
    });
}

#[test]
fn a_member_of_a_raid_is_not_mounted_for_the_file_system_that_it_seems_to_be() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 16);
        // A superblock of Linux RAID, version 1.0: 8 KiB before the end.
        disk.open().write_all_at(&0xa92b_4efc_u32.to_le_bytes(), (16 << 20) - 8192).unwrap();
        disk.open().write_all_at(&1_u32.to_le_bytes(), (16 << 20) - 8188).unwrap();
        let id = world.device(&disk, Mode::Filesystem).await;

        let request = world.stage(&id, mounted(SingleNodeWriter));
        let error = world.staged(request).await.unwrap_err();

        assert!(matches!(error, Error::NotBlank { .. }), "{error}");
        assert_eq!(mounts_at(&world.staging()), 0);
    });
}

#[test]
fn what_a_tenant_writes_never_keeps_it_from_its_own_file_system() {
    in_world(async |world| {
        let disk = Disk::blank(16);
        let id = world.device(&disk, Mode::Filesystem).await;
        let request = world.stage(&id, mounted(SingleNodeWriter));
        world.staged(request.clone()).await.unwrap();
        world.publisher.unstage(world.unstage(&id)).await.unwrap();
        disk.open().write_all_at(&0xa92b_4efc_u32.to_le_bytes(), (16 << 20) - 8192).unwrap();
        disk.open().write_all_at(&1_u32.to_le_bytes(), (16 << 20) - 8188).unwrap();

        world.staged(request).await.unwrap();
    });
}

/// A disk with a file system that no tenant was given, and with a file in it if `full`.
fn found(base: &Path, full: bool) -> Disk {
    let disk = Disk::formatted("ext4", 16);
    let place = base.join("found");
    mount("ext4", disk.path(), &place);
    if full {
        fs::write(place.join("file"), "x").unwrap();
    }
    unmount(&place);
    disk
}

#[test]
fn a_file_system_with_data_that_no_tenant_was_given_is_not_handed_out() {
    in_world(async |world| {
        let disk = found(&world.base, true);
        let id = world.device(&disk, Mode::Filesystem).await;

        let request = world.stage(&id, mounted(SingleNodeWriter));
        let error = world.staged(request.clone()).await.unwrap_err();
        assert!(matches!(error, Error::NotBlank { .. }), "{error}");
        assert_eq!(mounts_at(&world.staging()), 0);

        world.configure(Pool { new_volumes: NewVolumes::Accept, ..pool() });
        world.staged(request).await.unwrap();
        assert!(world.staging().join("file").exists());
    });
}

#[test]
fn what_lies_in_lost_and_found_is_data_too() {
    in_world(async |world| {
        let disk = found(&world.base, false);
        let place = world.base.join("recovered");
        mount("ext4", disk.path(), &place);
        fs::write(place.join("lost+found/#12"), "somebody's").unwrap();
        unmount(&place);
        let id = world.device(&disk, Mode::Filesystem).await;

        let request = world.stage(&id, mounted(SingleNodeWriter));
        let error = world.staged(request).await.unwrap_err();

        assert!(matches!(error, Error::NotBlank { .. }), "{error}");
    });
}

#[test]
fn an_empty_file_system_that_a_wipe_left_is_used_and_then_the_tenants() {
    in_world(async |world| {
        let disk = found(&world.base, false);
        let id = world.device(&disk, Mode::Filesystem).await;
        let request = world.stage(&id, with_type(SingleNodeWriter, "xfs"));
        let error = world.staged(request).await.unwrap_err();
        assert!(matches!(&error, Error::FsType { has: Some(has), .. } if has == "ext4"), "{error}");

        for _ in 0..2 {
            let request = world.stage(&id, with_type(SingleNodeWriter, "ext4"));
            world.staged(request).await.unwrap();
            fs::write(world.staging().join("file"), "x").unwrap();
            world.publisher.unstage(world.unstage(&id)).await.unwrap();
        }
    });
}

#[test]
fn a_format_that_was_begun_and_not_finished_is_begun_again() {
    in_world(async |world| {
        let disk = Disk::blank(16);
        let id = world.device(&disk, Mode::Filesystem).await;
        world.publisher.record_format(&id, "ext4", false).await.unwrap();
        disk.open().write_all_at(&[0x5a; 4096], 1024).unwrap();

        world.published(&id, "t1", mounted(SingleNodeWriter)).await;

        assert!(world.volume(&id.volume).await.status.format.unwrap().done);
    });
}

/// Where the superblock of ext4 has the UUID.
fn uuid(disk: &Disk) -> [u8; 16] {
    let mut uuid = [0; 16];
    disk.open().read_exact_at(&mut uuid, 1024 + 104).unwrap();
    uuid
}

#[test]
fn a_file_system_that_came_after_a_format_was_begun_is_never_made_anew() {
    for full in [true, false] {
        in_world(async |world| {
            let disk = found(&world.base, full);
            let before = uuid(&disk);
            let id = world.device(&disk, Mode::Filesystem).await;
            world.publisher.record_format(&id, "ext4", false).await.unwrap();

            match world.staged(world.stage(&id, mounted(SingleNodeWriter))).await {
                Ok(()) => assert!(!full),
                Err(error) => assert!(full && matches!(error, Error::NotBlank { .. }), "{error}"),
            }
            assert_eq!(uuid(&disk), before);
        });
    }
}

#[test]
fn what_a_format_that_was_begun_left_and_cannot_be_mounted_is_made_anew() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 16);
        let before = uuid(&disk);
        // The group descriptors, without which there is no file system.
        disk.open().write_all_at(&[0; 2048], 2048).unwrap();
        let id = world.device(&disk, Mode::Filesystem).await;
        world.publisher.record_format(&id, "ext4", false).await.unwrap();

        world.published(&id, "t1", mounted(SingleNodeWriter)).await;

        assert_ne!(uuid(&disk), before);
    });
}

#[test]
fn a_format_that_could_not_begin_leaves_no_record_of_one() {
    in_world(async |world| {
        let disk = Disk::blank(16);
        let id = world.device(&disk, Mode::Filesystem).await;
        let program = fs::canonicalize("/usr/sbin/mkfs.ext4").unwrap();
        fs::write(world.base.join("nothing"), "").unwrap();
        bind_file(&world.base.join("nothing"), &program);
        let request = world.stage(&id, mounted(SingleNodeWriter));

        let error = world.staged(request.clone()).await.unwrap_err();
        let Error::Format { source: crate::host::format::Error::NotInstalled { .. }, .. } = error
        else {
            panic!("{error}")
        };
        assert_eq!(world.volume(&id.volume).await.status.format, None);
        unmount(&program);
        // What is no program, though it may be run: it is found and cannot be started.
        fs::write(world.base.join("nonsense"), [0x7f, b'E', b'L', b'F', 0, 0]).unwrap();
        fs::set_permissions(world.base.join("nonsense"), fs::Permissions::from_mode(0o755))
            .unwrap();
        bind_file(&world.base.join("nonsense"), &program);
        let error = world.staged(request.clone()).await.unwrap_err();
        let Error::Format { source: crate::host::format::Error::Run { .. }, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(world.volume(&id.volume).await.status.format, None);
        unmount(&program);
        world.staged(request).await.unwrap();
    });
}

#[test]
fn a_file_system_that_is_gone_is_not_made_again_for_the_same_tenant() {
    in_world(async |world| {
        let disk = Disk::blank(16);
        let id = world.device(&disk, Mode::Filesystem).await;
        let request = world.stage(&id, mounted(SingleNodeWriter));
        world.staged(request.clone()).await.unwrap();
        world.publisher.unstage(world.unstage(&id)).await.unwrap();
        disk.open().write_all_at(&[0; 4096], 0).unwrap();

        let error = world.staged(request).await.unwrap_err();

        assert!(matches!(error, Error::FilesystemGone { .. }), "{error}");
    });
}

#[test]
fn a_swapped_disk_is_never_staged() {
    in_world(async |world| {
        let (disk, other) = (Disk::blank(16), Disk::blank(16));
        let id = world.device(&disk, Mode::Filesystem).await;
        fs::remove_file(world.base.join("pool/disk")).unwrap();
        symlink(other.path(), world.base.join("pool/disk")).unwrap();

        let request = world.stage(&id, mounted(SingleNodeWriter));
        let error = world.staged(request).await.unwrap_err();

        let Error::Source { source: source::Error::Replaced { .. }, .. } = error else {
            panic!("{error}");
        };
        let mut head = vec![0; 1 << 20];
        other.open().read_exact_at(&mut head, 0).unwrap();
        assert!(head.iter().all(|byte| *byte == 0), "the other disk was written to");
    });
}

#[test]
fn xfs_is_made_where_it_is_asked_for_and_grows_with_its_device() {
    in_world(async |world| {
        let disk = Disk::blank(320);
        let id = world.device(&disk, Mode::Filesystem).await;
        world.published(&id, "t1", with_type(SingleNodeWriter, "xfs")).await;
        let before = world.publisher.stats(&id, &world.target("t1")).await.unwrap();
        let ask = |mib: u64| ExpandNode {
            id: id.clone(),
            path: world.target("t1"),
            range: CapacityRange::at_least(Bytes(mib << 20)),
        };
        let error = world.publisher.expand(ask(640)).await.unwrap_err();
        assert!(matches!(error, Error::Size { .. }), "{error}");

        disk.grow(640);
        for _ in 0..2 {
            assert_eq!(world.publisher.expand(ask(640)).await.unwrap(), Bytes(640 << 20));
        }

        let after = world.publisher.stats(&id, &world.target("t1")).await.unwrap();
        assert!(after.bytes.total > before.bytes.total + (300 << 20), "{before:?} {after:?}");
    });
}

#[test]
fn a_raw_device_is_at_its_target_and_nothing_is_at_its_staging_path() {
    in_world(async |world| {
        let disk = Disk::blank(4);
        let id = world.device(&disk, Mode::Block).await;
        fs::create_dir(world.staging()).unwrap();

        for _ in 0..3 {
            world.published(&id, "t1", raw(SingleNodeWriter)).await;
        }
        assert_eq!((mounts_at(&world.target("t1")), mounts_at(&world.staging())), (1, 0));
        let node = Seen::at(&world.target("t1")).unwrap().kind;
        assert_eq!(node, Seen::at(disk.path()).unwrap().kind);
        let tenant = fs::OpenOptions::new().write(true).open(world.target("t1")).unwrap();
        tenant.write_all_at(b"tenant", 1 << 20).unwrap();
        tenant.sync_all().unwrap();
        drop(tenant);

        let stats = world.publisher.stats(&id, &world.target("t1")).await.unwrap();
        assert_eq!((stats.bytes.total, stats.bytes.used, stats.inodes), (4 << 20, None, None));
        assert_eq!(world.publisher.stats(&id, &world.staging()).await.unwrap(), stats);
        let range = CapacityRange::at_least(Bytes(4 << 20));
        let ask = ExpandNode { id: id.clone(), path: world.staging(), range };
        assert_eq!(world.publisher.expand(ask).await.unwrap(), Bytes(4 << 20));
        let error = world.publisher.unstage(world.unstage(&id)).await.unwrap_err();
        assert!(matches!(error, Error::StillPublished { .. }), "{error}");
        for _ in 0..2 {
            world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        }
        assert!(!world.target("t1").exists());
        world.publisher.unstage(world.unstage(&id)).await.unwrap();
        assert!(world.recorded(&id).await.is_empty());
        let mut written = [0; 6];
        disk.open().read_exact_at(&mut written, 1 << 20).unwrap();
        assert_eq!(&written, b"tenant");
    });
}

#[test]
fn a_raw_device_is_not_published_over_a_directory_nor_a_file_with_something_in_it_removed() {
    in_world(async |world| {
        let disk = Disk::blank(4);
        let id = world.device(&disk, Mode::Block).await;
        fs::create_dir(world.target("directory")).unwrap();
        fs::write(world.target("file"), "precious").unwrap();
        world.staged(world.stage(&id, raw(SingleNodeWriter))).await.unwrap();

        let request = world.publish(&id, "directory", raw(SingleNodeWriter));
        let error = world.publisher.publish(request).await.unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        let request = world.publish(&id, "file", raw(SingleNodeWriter));
        world.publisher.publish(request).await.unwrap();
        let error = world.publisher.unpublish(world.unpublish(&id, "file")).await.unwrap_err();
        assert!(matches!(error, Error::LeftBehind { .. }), "{error}");

        assert_eq!(fs::read(world.target("file")).unwrap(), b"precious");
        assert_eq!(Seen::at(&world.target("file")).unwrap().kind, Kind::File(8));
    });
}
