use std::fs;
use std::os::unix::fs::{FileExt, symlink};

use super::world::{World, in_world};
use crate::host::device::{self, Access};
use crate::host::mount::fixture::{Disk, bind, mount, unmount};
use crate::host::signature::{self, Contents};
use crate::volume::{CleanMethod, CleanReason, Mode, VolumeName};

const MIB: usize = 8;

/// A disk full of a tenant's data, and its volume.
async fn full(world: &World, mode: Mode, method: CleanMethod) -> (Disk, VolumeName) {
    let disk = Disk::blank(MIB as u64);
    let path = world.base.join("disk");
    symlink(disk.path(), &path).unwrap();
    let name = world.released(&path, mode, method).await;
    disk.open().write_all_at(&vec![0xA5; MIB << 20], 0).unwrap();
    (disk, name)
}

fn reads_zero(disk: &Disk) -> bool {
    let whole = fs::read(disk.path()).unwrap();
    whole.len() == MIB << 20 && whole.iter().all(|byte| *byte == 0)
}

fn wiped_by(method: CleanMethod) {
    in_world(async |world| {
        let (disk, name) = full(world, Mode::Block, method).await;

        world.cleaned(&name).await;

        assert!(reads_zero(&disk));
    });
}

#[test]
fn a_discarded_device_reads_zero_to_its_last_byte() {
    wiped_by(CleanMethod::Discard);
}

#[test]
fn a_zeroed_device_reads_zero_to_its_last_byte() {
    wiped_by(CleanMethod::Zero);
}

#[test]
fn a_shredded_device_reads_zero_to_its_last_byte() {
    wiped_by(CleanMethod::Shred { passes: 2 });
}

#[test]
fn a_device_that_somebody_holds_is_not_wiped_until_it_is_let_go() {
    in_world(async |world| {
        let (disk, name) = full(world, Mode::Block, CleanMethod::Zero).await;
        let holder = device::open(disk.path(), Access::ReadExclusive).unwrap();

        let said = world.refused(&name, CleanReason::StillInUse).await;
        assert!(said.contains("whoever holds"), "{said}");
        assert_eq!(fs::read(disk.path()).unwrap()[0], 0xA5);

        drop(holder);
        world.cleaned(&name).await;
        assert!(reads_zero(&disk));
    });
}

#[test]
fn a_device_whose_node_is_mounted_for_a_pod_is_not_wiped() {
    in_world(async |world| {
        let (disk, name) = full(world, Mode::Block, CleanMethod::Zero).await;
        let target = world.base.join("target");
        fs::write(&target, "").unwrap();
        let source = crate::host::mount::Seen::at(disk.path()).unwrap();
        let clone =
            crate::host::mount::Detached::clone_of(std::os::fd::AsFd::as_fd(&source), &target);
        let spot = crate::host::mount::Spot::open(&target, None).unwrap();
        clone.unwrap().attach(&spot.look().unwrap().unwrap(), &target).unwrap();

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains("target"), "{said}");
        unmount(&target);
        world.cleaned(&name).await;
    });
}

#[test]
fn a_device_of_a_filesystem_pool_is_erased_after_a_tenant_had_a_file_system_on_it() {
    in_world(async |world| {
        let disk = Disk::blank(320);
        let path = world.base.join("disk");
        symlink(disk.path(), &path).unwrap();
        let name = world.released(&path, Mode::Filesystem, CleanMethod::Delete).await;
        crate::host::format::make(&disk.open(), disk.path(), "ext4", None).unwrap();
        let inside = world.base.join("mounted");
        mount("ext4", disk.path(), &inside);
        fs::write(inside.join("data"), vec![0xA5; 40 << 20]).unwrap();
        unmount(&inside);

        world.cleaned(&name).await;

        let contents = || signature::contents(&disk.open(), disk.path()).unwrap();
        assert_eq!(contents(), Contents::Erased);
        for fs_type in ["ext4", "xfs"] {
            crate::host::format::make(&disk.open(), disk.path(), fs_type, None).unwrap();
            let Contents::Signatures(found) = contents() else { panic!("{:?}", contents()) };
            assert!(found.iter().all(|signature| signature.name == fs_type), "{found:?}");
        }
    });
}

#[test]
fn a_device_whose_signatures_alone_a_command_took_off_is_not_taken_for_a_blank_one() {
    in_world(async |world| {
        let disk = Disk::blank(MIB as u64);
        let path = world.base.join("disk");
        symlink(disk.path(), &path).unwrap();
        let command = vec!["/bin/true".to_owned()];
        let method = CleanMethod::Command { command, timeout: 60 };
        let name = world.released(&path, Mode::Filesystem, method).await;

        world.cleaned(&name).await;

        let contents = signature::contents(&disk.open(), disk.path()).unwrap();
        assert_eq!(contents, Contents::Erased);
    });
}

#[test]
fn a_device_that_does_not_read_zero_after_its_command_is_not_offered() {
    in_world(async |world| {
        let command = vec!["/bin/true".to_owned()];
        let method = CleanMethod::Command { command, timeout: 60 };
        let (_disk, name) = full(world, Mode::Block, method).await;

        let said = world.refused(&name, CleanReason::VerifyFailed).await;

        assert!(said.contains("at byte 0"), "{said}");
    });
}

#[test]
fn a_mount_of_a_file_system_on_the_device_keeps_it_from_being_wiped() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 16);
        let path = world.base.join("disk");
        symlink(disk.path(), &path).unwrap();
        let name = world.released(&path, Mode::Filesystem, CleanMethod::Reformat).await;
        let pod = world.base.join("pod");
        mount("ext4", disk.path(), &pod);
        bind(&pod, &world.base.join("pod2"));

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains("pod2"), "{said}");
    });
}
