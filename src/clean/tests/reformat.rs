//! Reformatting real disks: the right one or none, the mount put back as it was, a crash at each step.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use super::super::reformat::plan;
use super::directories::entries;
use super::world::{World, in_world};
use crate::host::format;
use crate::host::mount::fixture::{Disk, mount, tmpfs, unmount};
use crate::host::mount::{Attribute, Detached, Spot};
use crate::host::mountinfo::{MountTable, has_option};
use crate::host::namespace::isolated;
use crate::inventory::Inventory;
use crate::source::Source;
use crate::volume::{
    Bytes, CleanMethod, CleanReason, Cleaning, LocalVolume, Mode, Remount, VolumeName,
};

/// A disk with a tenant's data on it, mounted by way of `device`, and its volume.
async fn mounted_by(world: &World, fs_type: &str, device: &Path) -> (PathBuf, VolumeName) {
    let path = world.base.join("v1");
    mount(fs_type, device, &path);
    let name = world.released(&path, Mode::Filesystem, CleanMethod::Reformat).await;
    fs::write(path.join("data"), "a tenant's").unwrap();
    (path, name)
}

/// Records that an earlier agent has begun to reformat a volume.
async fn begun(world: &World, name: &VolumeName) -> Remount {
    let volume = world.volume(name).await;
    let remount = plan(&volume, &Source::open(&volume).unwrap()).unwrap();
    let cleaning = Cleaning {
        tenancy: volume.spec.tenancy,
        method: CleanMethod::Reformat,
        started: jiff::Timestamp::UNIX_EPOCH,
        entries: 0,
        bytes: Bytes(0),
        remount: Some(remount.clone()),
    };
    let begun = |volume: &LocalVolume| {
        let mut status = volume.status.clone();
        status.cleaning = Some(Box::new(cleaning.clone()));
        Some(status)
    };
    world.inventory.modify_status(name, begun).await.unwrap();
    remount
}

fn reformatted(fs_type: &'static str, mib: u64) {
    in_world(async |world| {
        let disk = Disk::formatted(fs_type, mib);
        let (path, name) = mounted_by(world, fs_type, disk.path()).await;

        let cleaned = world.cleaned(&name).await;

        assert!(!path.join("data").exists());
        assert!(Source::open(&cleaned).is_ok(), "it is not the same volume any more");
        assert_eq!(cleaned.name, name);
    });
}

#[test]
fn a_reformatted_ext4_volume_is_the_same_volume_and_empty() {
    reformatted("ext4", 32);
}

#[test]
fn a_reformatted_xfs_volume_is_the_same_volume_and_empty() {
    reformatted("xfs", 320);
}

/// What an agent has done to the disk before it was cut off.
fn cut_off_after(did: impl FnOnce(&Disk, &Path, &Remount) + Send) {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        let (path, name) = mounted_by(world, "ext4", disk.path()).await;
        let remount = begun(world, &name).await;
        did(&disk, &path, &remount);

        let cleaned = world.cleaned(&name).await;

        assert_eq!(entries(&path), ["lost+found"]);
        assert!(Source::open(&cleaned).is_ok() && cleaned.status.cleaning.is_none());
        let table = MountTable::read().unwrap();
        assert_eq!(table.iter().filter(|mount| mount.mount_point == path).count(), 1);
    });
}

#[test]
fn a_reformat_cut_off_before_anything_was_done_is_ended_by_the_next_agent() {
    cut_off_after(|_, _, _| ());
}

#[test]
fn a_reformat_cut_off_after_the_mount_was_taken_away_is_ended_by_the_next_agent() {
    cut_off_after(|_, path, _| unmount(path));
}

#[test]
fn a_reformat_cut_off_while_the_file_system_was_made_is_ended_by_the_next_agent() {
    cut_off_after(|disk, path, _| {
        unmount(path);
        disk.open().write_all_at(&vec![0; 1 << 20], 0).unwrap();
    });
}

#[test]
fn a_reformat_cut_off_before_the_mount_was_put_back_is_ended_by_the_next_agent() {
    cut_off_after(|disk, path, remount| {
        unmount(path);
        format::make(&disk.open(), disk.path(), "ext4", Some(&remount.uuid)).unwrap();
    });
}

#[test]
fn a_reformat_cut_off_before_its_end_was_recorded_is_ended_by_the_next_agent() {
    cut_off_after(|disk, path, remount| {
        unmount(path);
        format::make(&disk.open(), disk.path(), "ext4", Some(&remount.uuid)).unwrap();
        mount("ext4", disk.path(), path);
    });
}

#[test]
fn a_reformat_is_resumed_though_the_names_of_the_disks_have_changed() {
    // Mounted again at the next boot, or not.
    for is_mounted in [true, false] {
        in_world(async |world| {
            let (disk, other) = (Disk::formatted("ext4", 32), Disk::formatted("ext4", 32));
            let alias = world.base.join("sdb");
            symlink(disk.path(), &alias).unwrap();
            let (path, name) = mounted_by(world, "ext4", &alias).await;
            begun(world, &name).await;
            unmount(&path);
            fs::remove_file(&alias).unwrap();
            symlink(other.path(), &alias).unwrap();
            let before = fs::read(other.path()).unwrap();
            if is_mounted {
                mount("ext4", disk.path(), &path);
            }

            world.cleaned(&name).await;

            assert_eq!(entries(&path), ["lost+found"]);
            assert!(fs::read(other.path()).unwrap() == before, "another disk was formatted");
        });
    }
}

#[test]
fn a_reformatted_file_system_keeps_its_label() {
    in_world(async |world| {
        let disk = Disk::blank(32);
        let names = format::Names { uuid: None, label: Some("data-1") };
        format::make_again(&disk.open(), disk.path(), "ext4", names, &|| false).unwrap();
        let (_, name) = mounted_by(world, "ext4", disk.path()).await;

        world.cleaned(&name).await;

        let label = format::label(&disk.open(), disk.path(), "ext4").unwrap();
        assert_eq!(label.as_deref(), Some("data-1"));
    });
}

#[test]
fn another_order_than_a_reformat_that_was_cut_off_is_carried_out_once_the_mount_is_back() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        let (path, name) = mounted_by(world, "ext4", disk.path()).await;
        begun(world, &name).await;
        unmount(&path);
        let mark = world.base.join("mark");
        let script = format!("mountpoint -q $BERTH_PATH && touch {}", mark.display());
        let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        world.order(&name, CleanMethod::Command { command, timeout: 60 }).await;

        world.cleaned(&name).await;

        assert!(mark.exists(), "the order was not carried out");
        assert_eq!(entries(&path), ["lost+found"]);
    });
}

#[test]
fn a_disk_that_took_the_name_of_the_volumes_disk_is_not_formatted() {
    in_world(async |world| {
        let (disk, other) = (Disk::formatted("ext4", 32), Disk::formatted("ext4", 32));
        let before = fs::read(other.path()).unwrap();
        let alias = world.base.join("sdb");
        symlink(disk.path(), &alias).unwrap();
        let (path, name) = mounted_by(world, "ext4", &alias).await;
        fs::remove_file(&alias).unwrap();
        symlink(other.path(), &alias).unwrap();

        let said = world.refused(&name, CleanReason::WipeFailed).await;

        assert!(said.contains("sdb is device"), "{said}");
        assert!(fs::read(other.path()).unwrap() == before, "another disk was formatted");
        assert!(path.join("data").exists());
    });
}

#[test]
fn a_disk_that_holds_another_file_system_by_now_is_not_formatted() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        let (path, name) = mounted_by(world, "ext4", disk.path()).await;
        begun(world, &name).await;
        unmount(&path);
        format::make(&disk.open(), disk.path(), "ext4", None).unwrap();
        let before = fs::read(disk.path()).unwrap();

        let said = world.refused(&name, CleanReason::WipeFailed).await;

        assert!(said.contains("UUID"), "{said}");
        assert!(fs::read(disk.path()).unwrap() == before, "somebody's file system was formatted");
    });
}

#[test]
fn what_was_mounted_over_the_place_meanwhile_is_not_mounted_over_in_turn() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        let (path, name) = mounted_by(world, "ext4", disk.path()).await;
        begun(world, &name).await;
        unmount(&path);
        tmpfs(&path);
        fs::write(path.join("kept"), "another's").unwrap();

        let said = world.refused(&name, CleanReason::StillInUse).await;
        assert!(said.contains("v1"), "{said}");
        assert!(path.join("kept").exists());

        unmount(&path);
        world.cleaned(&name).await;
        assert_eq!(entries(&path), ["lost+found"]);
    });
}

#[test]
fn a_mount_is_put_back_with_the_options_that_it_had() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        let path = world.base.join("v1");
        fs::create_dir(&path).unwrap();
        let spot = Spot::open(&path, None).unwrap();
        let options = ["commit=17", "errors=remount-ro"];
        let detached = Detached::filesystem("ext4", disk.path(), &options).unwrap();
        let strict = [Attribute::NoSuid, Attribute::NoExec, Attribute::StrictAtime];
        detached.restrict(strict.into_iter().collect()).unwrap();
        detached.attach(&spot.look().unwrap().unwrap(), &path).unwrap();
        let options = || {
            let table = MountTable::read().unwrap();
            let mount = table.at(&path).unwrap();
            (mount.options.clone(), mount.super_options.clone())
        };
        let before = options();
        let name = world.released(&path, Mode::Filesystem, CleanMethod::Reformat).await;

        world.cleaned(&name).await;

        assert_eq!(options(), before);
        assert!(has_option(&before.1, "commit=17") && !has_option(&before.0, "relatime"));
    });
}

#[test]
fn a_disk_that_is_mounted_in_another_namespace_too_stays_mounted_and_as_it_is() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        let (path, name) = mounted_by(world, "ext4", disk.path()).await;
        // A copy of this namespace has a copy of every mount, at the same places.
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (leave, may_leave) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            isolated(move || {
                ready.send(()).unwrap();
                let _ = may_leave.recv();
            });
        });
        is_ready.recv().unwrap();

        let said = world.refused(&name, CleanReason::StillInUse).await;
        assert!(said.contains("whoever holds"), "{said}");
        assert!(path.join("data").exists(), "the administrator's mount is gone");

        drop(leave);
        other.join().unwrap();
        world.cleaned(&name).await;
        assert_eq!(entries(&path), ["lost+found"]);
    });
}

#[test]
fn a_reformat_of_what_is_no_whole_file_system_is_refused_by_its_reason() {
    in_world(async |world| {
        let path = world.base.join("plain");
        fs::create_dir(&path).unwrap();
        let name = world.released(&path, Mode::Filesystem, CleanMethod::Reformat).await;

        let said = world.refused(&name, CleanReason::WipeFailed).await;

        assert!(said.contains("reformat needs a whole file system"), "{said}");
    });
}
