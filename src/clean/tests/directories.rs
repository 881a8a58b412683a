use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::super::verify;
use super::world::{World, in_world};
use crate::host::attributes;
use crate::host::beneath::Directory;
use crate::host::mount::fixture::{Disk, bind, mount, tmpfs, unmount};
use crate::volume::{CleanMethod, CleanReason, LocalVolume, Mode};

pub(super) fn entries(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn command(script: &str, timeout: u64) -> CleanMethod {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    CleanMethod::Command { command, timeout }
}

async fn volume(
    world: &World,
    method: CleanMethod,
) -> (std::path::PathBuf, crate::volume::VolumeName) {
    let path = world.base.join("v1");
    tmpfs(&path);
    let name = world.released(&path, Mode::Filesystem, method).await;
    (path, name)
}

#[test]
fn a_released_volume_is_emptied_and_offered_again() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        fs::create_dir_all(path.join("a/b/c")).unwrap();
        fs::write(path.join("a/b/file"), "a tenant's").unwrap();

        let cleaned = world.cleaned(&name).await;

        assert_eq!(entries(&path), [""; 0]);
        assert_eq!(cleaned.status.conditions.clean.reason, CleanReason::Wiped);
        assert_eq!(cleaned.status.cleaning, None);
    });
}

#[test]
fn the_root_directory_looks_as_it_did_when_it_was_found() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let before = mode(&path);
        std::os::unix::fs::chown(&path, Some(1000), Some(1000)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o2777)).unwrap();

        world.cleaned(&name).await;

        let facts = fs::metadata(&path).unwrap();
        let owner = (
            std::os::unix::fs::MetadataExt::uid(&facts),
            std::os::unix::fs::MetadataExt::gid(&facts),
        );
        assert_eq!((mode(&path), owner), (before, (0, 0)));
    });
}

#[test]
fn a_symlink_to_outside_goes_and_what_it_leads_to_stays() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        let outside = world.base.join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "another's").unwrap();
        symlink(&outside, path.join("link")).unwrap();
        fs::hard_link(outside.join("kept"), world.base.join("hard")).unwrap();

        world.cleaned(&name).await;

        assert_eq!(entries(&path), [""; 0]);
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "another's");
    });
}

#[test]
fn a_mount_beneath_the_volume_stops_the_wipe_and_nothing_in_it_is_touched() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        let nested = path.join("a/nested");
        tmpfs(&nested);
        fs::write(nested.join("kept"), "another's").unwrap();

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains(nested.to_str().unwrap()), "{said}");
        assert!(nested.join("kept").exists());
        unmount(&nested);
        world.cleaned(&name).await;
    });
}

#[test]
fn a_volume_is_not_wiped_while_a_mount_of_it_remains_and_is_when_that_has_gone() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        fs::create_dir(path.join("beneath")).unwrap();
        let target = world.base.join("pods/target");
        bind(&path.join("beneath"), &target);

        let said = world.refused(&name, CleanReason::StillInUse).await;
        assert!(said.contains("pods/target"), "{said}");
        assert_eq!(entries(&path), ["beneath"]);

        let (cancel, running) = world.clean();
        unmount(&target);
        world.until(&name, LocalVolume::is_claimable).await;
        cancel.cancel();
        running.await.unwrap();
    });
}

#[test]
fn the_administrators_own_mounts_do_not_keep_a_volume_from_being_wiped() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        let second = world.base.join("disks/second");
        bind(&path, &second);
        let own = |volume: &LocalVolume| {
            let mut status = volume.status.clone();
            status.own_mounts = vec![second.to_str().unwrap().into()];
            Some(status)
        };
        crate::inventory::Inventory::modify_status(&world.inventory, &name, own).await.unwrap();

        world.cleaned(&name).await;
    });
}

#[test]
fn the_empty_directory_beneath_a_lost_mount_is_not_taken_for_a_clean_volume() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        unmount(&path);
        fs::write(path.join("the host's"), "data").unwrap();

        let said = world.refused(&name, CleanReason::WipeFailed).await;

        assert!(said.contains("mount the right disk there"), "{said}");
        assert_eq!(entries(&path), ["the host's"]);
    });
}

#[test]
fn a_wipe_that_failed_is_tried_again_when_its_cause_is_gone() {
    in_world(async |world| {
        let marker = world.base.join("mended");
        let script = format!("test -e {}", marker.display());
        let (_, name) = volume(world, command(&script, 60)).await;
        let (cancel, running) = world.clean();
        world.until(&name, |v| v.status.conditions.clean.reason == CleanReason::WipeFailed).await;

        fs::write(marker, "").unwrap();

        world.until(&name, LocalVolume::is_claimable).await;
        cancel.cancel();
        running.await.unwrap();
    });
}

#[test]
fn a_wipe_that_an_agent_left_half_done_is_ended_by_the_next() {
    in_world(async |world| {
        let (path, name) = volume(world, command("sleep 600", 600)).await;
        for number in 0..100 {
            fs::write(path.join(number.to_string()), "").unwrap();
        }
        let (cancel, running) = world.clean();
        world.until(&name, |volume| volume.status.cleaning.is_some()).await;
        cancel.cancel();
        running.await.unwrap();
        let left = world.volume(&name).await;
        assert!(left.status.cleaning.is_some() && !left.is_claimable());

        world.order(&name, CleanMethod::Delete).await;
        world.cleaned(&name).await;

        assert_eq!(entries(&path), [""; 0]);
    });
}

#[test]
fn a_command_is_told_what_to_wipe_and_must_leave_nothing() {
    in_world(async |world| {
        let (path, name) = volume(world, command("rm -rf \"$BERTH_PATH\"/*", 60)).await;
        fs::write(path.join("data"), "").unwrap();

        world.cleaned(&name).await;

        assert_eq!(entries(&path), [""; 0]);
    });
}

#[test]
fn a_wipe_lets_the_reads_and_writes_of_others_go_first() {
    in_world(async |world| {
        let said = world.base.join("class");
        let script = format!("ionice > {}", said.display());
        let (_, name) = volume(world, command(&script, 60)).await;

        world.cleaned(&name).await;

        // A program has the class of the thread that started it.
        assert_eq!(fs::read_to_string(said).unwrap().trim(), "idle");
    });
}

#[test]
fn a_command_that_leaves_something_does_not_make_a_volume_clean() {
    in_world(async |world| {
        let (path, name) = volume(world, command("true", 60)).await;
        fs::write(path.join("data"), "").unwrap();

        let said = world.refused(&name, CleanReason::VerifyFailed).await;

        assert!(said.contains("v1/data was read back"), "{said}");
    });
}

#[test]
fn a_policy_of_none_leaves_the_data_to_the_next_tenant_and_says_so() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::None).await;
        fs::write(path.join("data"), "").unwrap();

        let left = world.cleaned(&name).await;

        assert_eq!(left.status.conditions.clean.reason, CleanReason::LeftAsIs);
        assert_eq!(entries(&path), ["data"]);
    });
}

#[test]
fn a_volume_that_is_left_as_it_is_is_not_offered_while_a_mount_of_it_remains() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::None).await;
        let target = world.base.join("pods/target");
        bind(&path, &target);

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains("pods/target"), "{said}");
        unmount(&target);
        assert_eq!(
            world.cleaned(&name).await.status.conditions.clean.reason,
            CleanReason::LeftAsIs
        );
    });
}

#[test]
fn an_order_that_is_given_during_a_wipe_takes_its_place() {
    in_world(async |world| {
        let (path, name) = volume(world, command("exec sleep 600", 600)).await;
        fs::write(path.join("data"), "").unwrap();
        let (cancel, running) = world.clean();
        world.until(&name, |volume| volume.status.cleaning.is_some()).await;

        world.order(&name, CleanMethod::Delete).await;

        world.until(&name, LocalVolume::is_claimable).await;
        assert_eq!(entries(&path), [""; 0]);
        cancel.cancel();
        running.await.unwrap();
    });
}

#[test]
fn lost_and_found_of_ext4_stays_and_what_was_put_in_it_goes() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 16);
        let path = world.base.join("v1");
        mount("ext4", disk.path(), &path);
        let name = world.released(&path, Mode::Filesystem, CleanMethod::Delete).await;
        fs::write(path.join("lost+found/hidden"), "").unwrap();
        fs::write(path.join("data"), "").unwrap();

        world.cleaned(&name).await;

        assert_eq!(entries(&path), ["lost+found"]);
        assert_eq!(entries(&path.join("lost+found")), [""; 0]);
    });
}

/// What a tenant with root can say to the next one by `lost+found` itself.
fn mark(lost_and_found: &Path) {
    let marked = attributes::Attributes {
        uid: 1000,
        gid: 1000,
        mode: 0o777,
        xattrs: [("user.message".into(), b"secret".to_vec())].into(),
        flags: Some(attributes::Flags { inode: 0x80, extended: 0x40, ..Default::default() }),
    };
    let open = fs::File::open(lost_and_found).unwrap();
    attributes::restore(&open, &marked, lost_and_found).unwrap();
}

#[test]
fn lost_and_found_carries_nothing_to_the_next_tenant() {
    for method in [CleanMethod::Delete, command("true", 60)] {
        in_world(async |world| {
            let disk = Disk::formatted("ext4", 16);
            let path = world.base.join("v1");
            mount("ext4", disk.path(), &path);
            let name = world.released(&path, Mode::Filesystem, method.clone()).await;
            let kept = path.join("lost+found");
            let look = || attributes::read(fs::File::open(&kept).unwrap(), &kept).unwrap();
            let before = look();
            mark(&kept);

            world.cleaned(&name).await;

            assert_eq!(look(), before);
        });
    }
}

#[test]
fn reading_back_sees_what_lost_and_found_looks_like() {
    let place = tempfile::tempdir().unwrap();
    let kept = place.path().join("lost+found");
    let root = |path: &Path| Directory::open(fs::File::open(path).unwrap().as_fd(), path).unwrap();
    assert!(verify::lost_and_found(&root(place.path())).is_ok());
    fs::create_dir(&kept).unwrap();
    mark(&kept);

    let refused = verify::lost_and_found(&root(place.path())).unwrap_err();

    assert!(refused.to_string().contains("lost+found"), "{refused}");
    fs::remove_dir(&kept).unwrap();
    fs::write(&kept, "a file of that name is no such directory").unwrap();
    assert!(verify::directory(&root(place.path()), true).is_err());
}
