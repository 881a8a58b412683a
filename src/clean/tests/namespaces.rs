//! Mounts that other mount namespaces have of a volume, or within it.

use std::fs;
use std::path::Path;

use super::super::{Error, wipe};
use super::directories::entries;
use super::world::{World, in_world};
use crate::host::mount::fixture::{Disk, mount, share, tmpfs};
use crate::host::mountinfo::MountTable;
use crate::host::namespace::fixture::Other;
use crate::inventory::Inventory;
use crate::volume::{CleanMethod, CleanReason, LocalVolume, Mode, Status, VolumeName};

async fn volume(world: &World, method: CleanMethod) -> (std::path::PathBuf, VolumeName) {
    let path = world.base.join("v1");
    tmpfs(&path);
    let name = world.released(&path, Mode::Filesystem, method).await;
    fs::create_dir_all(path.join("a/nested")).unwrap();
    (path, name)
}

/// Records where the host had the volume mounted while it was free.
async fn on_host(world: &World, name: &VolumeName, path: &Path) {
    let point = path.to_str().unwrap().to_owned();
    let record = |volume: &LocalVolume| {
        Some(Status { host_mounts: vec![point.clone()], ..volume.status.clone() })
    };
    world.inventory.modify_status(name, record).await.unwrap();
}

/// A script that mounts `path` at `at` too, and takes that away when it is told to.
fn mounted_for_a_while(path: &Path, at: &Path) -> String {
    let (path, at) = (path.display(), at.display());
    format!(
        "mkdir -p {at}; mount --bind {path} {at}; echo ready; read line; umount {at}; echo ready; exec sleep 600"
    )
}

#[test]
fn what_the_host_had_of_a_volume_that_was_free_does_not_keep_it_from_being_wiped() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        let backing = world.base.join("backing");
        let host = Other::with(&mounted_for_a_while(&path, &backing));
        world.host.set(host.as_host());
        // A container sees the host at a path of its own, and mounts there stay where they are.
        let view = world.base.join("view");
        for directory in [&view, &backing] {
            fs::create_dir_all(directory).unwrap();
        }
        let container = Other::with(&format!(
            "mount --bind {path} {backing}; mount --rbind {base} {view}; umount {path} {backing}; echo ready; exec sleep 600",
            path = path.display(),
            backing = backing.display(),
            base = world.base.display(),
            view = view.display(),
        ));
        on_host(world, &name, &backing).await;

        world.cleaned(&name).await;

        assert!(entries(&path).is_empty());
        container.end();
    });
}

#[test]
fn what_the_host_has_of_a_volume_since_it_was_claimed_counts_until_it_is_gone() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        let (backing, left) = (world.base.join("backing"), world.base.join("pods/left"));
        let mut host = Other::with(&mounted_for_a_while(&path, &left));
        world.host.set(host.as_host());
        on_host(world, &name, &backing).await;
        let (cancel, running) = world.clean();

        let refused = |v: &LocalVolume| v.status.conditions.clean.reason == CleanReason::StillInUse;
        let said = world.until(&name, refused).await.status.conditions.clean.message;
        assert!(said.contains("pods/left in another mount namespace"), "{said}");
        assert_eq!(entries(&path), ["a"]);
        host.go_on();

        world.until(&name, LocalVolume::is_claimable).await;
        cancel.cancel();
        running.await.unwrap();
    });
}

#[test]
fn a_tenants_mount_that_ends_in_the_path_of_an_own_one_counts() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        let pod = world.base.join("pod");
        let within = pod.join(path.strip_prefix("/").unwrap());
        fs::create_dir(&pod).unwrap();
        let other = Other::with(&format!(
            "mount -t tmpfs tmpfs {}; {}",
            pod.display(),
            mounted_for_a_while(&path, &within)
        ));
        world.host.set(other.as_host());
        on_host(world, &name, &path).await;

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains(within.to_str().unwrap()), "{said}");
        assert_eq!(entries(&path), ["a"]);
        other.end();
        world.cleaned(&name).await;
    });
}

#[test]
fn a_disk_that_the_host_keeps_mounted_elsewhere_is_not_taken_from_its_place_for_a_moment() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        let (path, private) = (world.base.join("v1"), world.base.join("private"));
        tmpfs(&private);
        share(&world.base);
        mount("ext4", disk.path(), &path);
        let name = world.released(&path, Mode::Filesystem, CleanMethod::Reformat).await;
        let id = |path: &Path| MountTable::read().unwrap().at(path).unwrap().id;
        let before = id(&path);
        // Both are of one peer group: what is mounted beneath the one appears beneath the other, and no more than that.
        let backing = private.join("backing");
        let mut host = Other::propagating("unchanged", &mounted_for_a_while(&path, &backing));
        world.host.set(host.as_host());
        on_host(world, &name, &backing).await;

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains("backing in another mount namespace"), "{said}");
        assert!(!said.contains("v1 in another"), "what follows does not keep it: {said}");
        assert_eq!(id(&path), before, "it was unmounted and mounted again");
        host.go_on();
        world.cleaned(&name).await;
        assert_eq!(entries(&path), ["lost+found"]);
    });
}

#[test]
fn a_mount_that_the_first_process_of_its_namespace_cannot_see_counts() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        let (elsewhere, jail) = (world.base.join("elsewhere"), world.base.join("jail"));
        fs::create_dir(&elsewhere).unwrap();
        fs::create_dir(&jail).unwrap();
        // The process with the smaller number has another root directory, beneath which the mount does not lie.
        let other = Other::with(&format!(
            "mount --bind {} {}; mount --bind / {jail}; sleep 600 >/dev/null &
             exec chroot {jail} sh -c 'echo ready; exec sleep 600'",
            path.display(),
            elsewhere.display(),
            jail = jail.display(),
        ));

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains("elsewhere in another mount namespace"), "{said}");
        assert_eq!(entries(&path), ["a"]);
        other.end();
        world.cleaned(&name).await;
    });
}

#[test]
fn what_another_namespace_has_mounted_within_a_volume_counts() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        let nested = path.join("a/nested");
        let other = Other::with(&format!(
            "mount -t tmpfs tmpfs {}; echo ready; exec sleep 600",
            nested.display()
        ));

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains("nested in another mount namespace"), "{said}");
        assert!(nested.exists());
        other.end();
        world.cleaned(&name).await;
    });
}

#[test]
fn a_program_is_not_run_over_a_mount_within_the_volume() {
    in_world(async |world| {
        let command = ["/bin/sh", "-c", "rm -rf $BERTH_PATH/*"].map(str::to_owned).to_vec();
        let (path, name) = volume(world, CleanMethod::Command { command, timeout: 60 }).await;
        let nested = path.join("a/nested");
        tmpfs(&nested);
        fs::write(nested.join("kept"), "another's").unwrap();

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains(nested.to_str().unwrap()), "{said}");
        assert!(nested.join("kept").exists());
    });
}

#[test]
fn a_disk_that_another_namespace_keeps_mounted_is_not_taken_from_its_place_for_a_moment() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        let path = world.base.join("v1");
        mount("ext4", disk.path(), &path);
        let name = world.released(&path, Mode::Filesystem, CleanMethod::Reformat).await;
        let id = |path: &Path| MountTable::read().unwrap().at(path).unwrap().id;
        let before = id(&path);
        let other = Other::with("echo ready; exec sleep 600");

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains("v1 in another mount namespace"), "{said}");
        assert_eq!(id(&path), before, "it was unmounted and mounted again");
        other.end();
        world.cleaned(&name).await;
        assert_eq!(entries(&path), ["lost+found"]);
    });
}

#[test]
fn who_has_a_volume_open_is_looked_for_before_it_is_touched_and_then_before_anything_is_recorded() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        let script = format!("exec 3< {}; echo ready; exec sleep 600", path.display());
        let other = Other::with(&script);
        let ready = |volume: &LocalVolume| wipe::require_ready(volume, world.host.get());
        assert!(ready(&world.volume(&name).await).is_ok());

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains("which has it open"), "{said}");
        assert_eq!(entries(&path), ["a"]);
        assert!(matches!(ready(&world.volume(&name).await), Err(Error::InUse { .. })));
        other.end();
        world.cleaned(&name).await;
    });
}
