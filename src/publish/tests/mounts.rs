//! What a call asks of the kernel, and where a target lies among volumes.

use std::fs::OpenOptions;

use super::super::*;
use super::world::{in_world, in_world_of_one_thread, mounted};
use crate::host::format;
use crate::host::identify;
use crate::host::mount::fixture::{Disk, bind, mount};
use crate::host::mountinfo::tests::{is_asked, reads};
use crate::volume::AccessMode::SingleNodeWriter;

const UUID: &str = "5f3c1e3a-0f6e-4c39-9f0a-2b1d6a3f7c55";

/// How many mount tables the one thread that blocks has read.
async fn read_so_far() -> usize {
    tokio::task::spawn_blocking(reads).await.unwrap()
}

#[test]
fn a_call_costs_the_same_however_many_mounts_there_are() {
    in_world_of_one_thread(async |world| {
        // Kernels before 6.13 have to be read everything from.
        if !is_asked() {
            return;
        }
        let id = world.directory("v1").await;
        let before = read_so_far().await;

        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        world.publisher.stats(&id, &world.target("t1")).await.unwrap();
        world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        world.publisher.unstage(world.unstage(&id)).await.unwrap();

        assert_eq!(read_so_far().await, before);
    });
}

#[test]
fn a_volume_of_which_no_place_is_recorded_is_no_target_either() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let other = world.directory("v2").await;
        world.publisher.stage(world.stage(&id, mounted(SingleNodeWriter))).await.unwrap();
        let forget = |volume: &LocalVolume| Some(Status { place: None, ..volume.status.clone() });
        world.inventory.modify_status(&other.volume, forget).await.unwrap();
        bind(&world.base.join("pool/v2"), &world.target("within"));

        let request = world.publish(&id, "within/t1", mounted(SingleNodeWriter));
        let refused = world.publisher.publish(request).await.unwrap_err();

        assert!(matches!(refused, Error::Path { .. }), "{refused}");
        let request = world.publish(&id, "t1", mounted(SingleNodeWriter));
        world.publisher.publish(request).await.unwrap();
    });
}

#[test]
fn a_disk_that_is_a_copy_of_a_volumes_is_not_the_volume() {
    in_world(async |world| {
        let (disk, copy) = (Disk::blank(16), Disk::blank(16));
        for disk in [&disk, &copy] {
            let file = OpenOptions::new().read(true).write(true).open(disk.path()).unwrap();
            format::make(&file, disk.path(), "ext4", Some(UUID)).unwrap();
        }
        let id = world.directory("v1").await;
        mount("ext4", disk.path(), &world.base.join("pool/v2"));
        world.recorded_volume("v2").await;
        mount("ext4", copy.path(), &world.target("copy"));
        bind(&world.base.join("pool/v2"), &world.target("volume"));
        let access = || mounted(SingleNodeWriter);
        world.publisher.stage(world.stage(&id, access())).await.unwrap();

        world.publisher.publish(world.publish(&id, "copy/t1", access())).await.unwrap();
        world.publisher.unpublish(world.unpublish(&id, "copy/t1")).await.unwrap();
        let within = world.publisher.publish(world.publish(&id, "volume/t1", access())).await;

        assert!(matches!(within, Err(Error::Path { .. })), "{within:?}");
        let device = |path: PathBuf| {
            let file = identify::open(&path).unwrap();
            identify::node(std::os::fd::AsFd::as_fd(&file), &path).unwrap().device
        };
        assert_ne!(device(world.target("copy")), device(world.target("volume")));
    });
}
