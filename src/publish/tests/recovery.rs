use std::fs;

use super::super::*;
use super::world::{World, in_world, mounted, mounts_at, raw};
use crate::host::mount::fixture::{Disk, bind, unmount};
use crate::volume::AccessMode::{SingleNodeMultiWriter, SingleNodeWriter};

async fn recorded(world: &World, id: &VolumeId) -> Vec<PathBuf> {
    world.recorded(id).await.into_iter().map(|place| place.path.into()).collect()
}

#[test]
fn a_staged_volume_is_recorded_before_the_call_is_answered() {
    in_world(async |world| {
        let id = world.directory("v1").await;

        world.publisher.stage(world.stage(&id, mounted(SingleNodeWriter))).await.unwrap();
        assert_eq!(recorded(world, &id).await, [world.staging()]);
        let released = world.volume(&id.volume).await.released(id.tenancy);
        assert!(released.is_err(), "it is in use");

        world.publisher.unstage(world.unstage(&id)).await.unwrap();
        assert!(recorded(world, &id).await.is_empty());
    });
}

#[test]
fn every_target_is_recorded_before_the_process_ends() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        for target in ["t1", "t2", "t3"] {
            world.published(&id, target, mounted(SingleNodeMultiWriter)).await;
        }
        world.publisher.unpublish(world.unpublish(&id, "t2")).await.unwrap();

        world.publisher.drain().await;

        let expected = [world.target("t1"), world.target("t3"), world.staging()];
        assert_eq!(recorded(world, &id).await, expected);
        let late = world.publisher.unpublish(world.unpublish(&id, "t1")).await;
        assert!(matches!(late, Err(Error::Stopping { .. })), "{late:?}");
    });
}

#[test]
fn a_volume_that_could_not_be_staged_is_not_recorded_as_in_use() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        fs::write(world.staging(), "").unwrap();

        let request = world.stage(&id, mounted(SingleNodeWriter));
        assert!(world.publisher.stage(request).await.is_err());

        world.publisher.drain().await;
        assert!(recorded(world, &id).await.is_empty());
    });
}

#[test]
fn after_a_restart_the_rules_still_know_every_target() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        world.publisher.drain().await;

        let publisher = world.restarted().await;

        let again = world.publish(&id, "t1", mounted(SingleNodeWriter));
        publisher.publish(again.clone()).await.unwrap();
        let other = publisher.publish(Publish { read_only: true, ..again }).await;
        assert!(matches!(other, Err(Error::Incompatible { .. })), "{other:?}");
        let second = publisher.publish(world.publish(&id, "t2", mounted(SingleNodeWriter))).await;
        assert!(matches!(second, Err(Error::Elsewhere { .. })), "{second:?}");
        assert_eq!(mounts_at(&world.target("t1")), 1);
        publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        publisher.unstage(world.unstage(&id)).await.unwrap();
        publisher.drain().await;
        assert!(recorded(world, &id).await.is_empty());
    });
}

#[test]
fn a_target_that_a_crash_kept_from_the_record_is_found_by_its_mount() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.publisher.stage(world.stage(&id, mounted(SingleNodeWriter))).await.unwrap();
        bind(&world.base.join("pool/v1"), &world.target("t1"));

        let publisher = world.restarted().await;

        let second = publisher.publish(world.publish(&id, "t2", mounted(SingleNodeWriter))).await;
        assert!(matches!(second, Err(Error::Elsewhere { .. })), "{second:?}");
        let unstaged = publisher.unstage(world.unstage(&id)).await;
        assert!(matches!(unstaged, Err(Error::StillPublished { .. })), "{unstaged:?}");
        publisher.drain().await;
        assert_eq!(recorded(world, &id).await, [world.target("t1"), world.staging()]);
    });
}

#[test]
fn a_raw_device_that_a_crash_kept_from_the_record_is_found_by_its_mount() {
    in_world(async |world| {
        let disk = Disk::blank(4);
        let id = world.device(&disk, Mode::Block).await;
        fs::create_dir(world.staging()).unwrap();
        world.published(&id, "t1", raw(SingleNodeWriter)).await;
        world.publisher.drain().await;
        let record = world.inventory.modify_status(&id.volume, |volume| {
            let mut status = volume.status.clone();
            status.published.retain(|place| place.staging);
            Some(status)
        });
        record.await.unwrap();

        let publisher = world.restarted().await;

        let unstaged = publisher.unstage(world.unstage(&id)).await;
        assert!(matches!(unstaged, Err(Error::StillPublished { .. })), "{unstaged:?}");
        publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        publisher.unstage(world.unstage(&id)).await.unwrap();
        publisher.drain().await;
    });
}

#[test]
fn what_a_reboot_unmounted_is_no_longer_recorded() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        world.publisher.drain().await;
        unmount(&world.target("t1"));
        unmount(&world.staging());

        let publisher = world.restarted().await;
        publisher.drain().await;

        assert!(recorded(world, &id).await.is_empty());
    });
}

#[test]
fn a_lost_volume_is_taken_away_by_its_record_after_a_restart() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        world.publisher.drain().await;
        unmount(&world.base.join("pool/v1"));

        let publisher = world.restarted().await;

        publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        publisher.unstage(world.unstage(&id)).await.unwrap();
        publisher.drain().await;
        assert_eq!((mounts_at(&world.staging()), world.target("t1").exists()), (0, false));
    });
}

#[test]
fn what_a_caller_began_and_gave_up_goes_on_to_its_end() {
    in_world(async |world| {
        let disk = Disk::blank(64);
        let id = world.device(&disk, Mode::Filesystem).await;
        let request = world.stage(&id, mounted(SingleNodeWriter));

        let mut call = Box::pin(world.publisher.stage(request.clone()));
        let begun = futures_util::future::select(&mut call, Box::pin(tokio::task::yield_now()));
        drop(begun.await);
        drop(call);
        let meanwhile = world.publisher.stage(request.clone()).await;
        assert!(matches!(meanwhile, Err(Error::Pending { .. })), "{meanwhile:?}");

        world.publisher.drain().await;
        assert_eq!(mounts_at(&world.staging()), 1);
        assert!(world.volume(&id.volume).await.status.format.unwrap().done);
    });
}
