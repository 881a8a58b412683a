use std::fs;

use super::super::*;
use super::world::{World, each_kind, in_world, mounted, mounts_at, raw};
use crate::host::mount::fixture::{Disk, bind, tmpfs, unmount};
use crate::inventory::embedded::Embedded;
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
    each_kind(async |world, id| {
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        world.publisher.drain().await;
        unmount(&world.target("t1"));
        let was_mounted = mounts_at(&world.staging()) > 0;
        if was_mounted {
            unmount(&world.staging());
        }

        world.restarted().await.drain().await;

        // A directory is staged for as long as the caller keeps the one that stands for it.
        let kept = recorded(world, &id).await;
        assert_eq!(kept, if was_mounted { vec![] } else { vec![world.staging()] });
        fs::remove_dir(world.staging()).unwrap();
        world.restarted().await.drain().await;
        assert!(recorded(world, &id).await.is_empty());
    });
}

#[test]
fn a_directory_whose_mount_was_lost_over_a_restart_is_staged_when_it_is_back() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let (own, kept) = (world.base.join("pool/v1"), world.base.join("kept"));
        fs::create_dir(&kept).unwrap();
        bind(&own, &kept);
        world.publisher.stage(world.stage(&id, mounted(SingleNodeWriter))).await.unwrap();
        world.publisher.drain().await;
        unmount(&own);
        let publisher = world.restarted().await;
        let request = world.publish(&id, "t1", mounted(SingleNodeWriter));
        let lost = publisher.publish(request.clone()).await;
        assert!(matches!(lost, Err(Error::Source { .. })), "{lost:?}");

        bind(&kept, &own);
        publisher.publish(request).await.unwrap();

        assert_eq!(mounts_at(&world.target("t1")), 1);
        publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        publisher.unstage(world.unstage(&id)).await.unwrap();
        assert!(recorded(world, &id).await.is_empty());
        publisher.drain().await;
    });
}

/// Berth bound directories to their staging paths once.
#[test]
fn a_directory_that_an_earlier_version_bound_at_the_staging_path_is_used_and_taken_away() {
    for (restarts, lost) in [(false, false), (true, false), (true, true)] {
        in_world(async |world| {
            let id = world.directory("v1").await;
            let access = || mounted(SingleNodeWriter);
            world.publisher.stage(world.stage(&id, access())).await.unwrap();
            bind(&world.base.join("pool/v1"), &world.staging());
            world.publisher.stage(world.stage(&id, access())).await.unwrap();
            world.published(&id, "t1", access()).await;
            world.publisher.stats(&id, &world.staging()).await.unwrap();
            world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
            if lost {
                unmount(&world.base.join("pool/v1"));
            }

            let restarted = world.restarted().await;
            let publisher = if restarts { &restarted } else { &world.publisher };
            publisher.unstage(world.unstage(&id)).await.unwrap();

            assert_eq!(mounts_at(&world.staging()), 0, "{restarts} {lost}");
            assert!(world.staging().exists());
            assert!(recorded(world, &id).await.is_empty());
            restarted.drain().await;
        });
    }
}

#[test]
fn what_somebody_mounts_at_the_staging_path_of_a_lost_directory_is_not_taken_away() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.publisher.stage(world.stage(&id, mounted(SingleNodeWriter))).await.unwrap();
        world.publisher.drain().await;
        unmount(&world.base.join("pool/v1"));
        let publisher = world.restarted().await;
        tmpfs(&world.staging());

        let unstaged = publisher.unstage(world.unstage(&id)).await;

        assert!(matches!(unstaged, Err(Error::Occupied { .. })), "{unstaged:?}");
        assert_eq!(mounts_at(&world.staging()), 1);
        unmount(&world.staging());
        publisher.unstage(world.unstage(&id)).await.unwrap();
        publisher.drain().await;
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
        assert!(recorded(world, &id).await.is_empty());
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

/// A volume whose tenancy ended while a pod had it, and the agent that is restarted then.
async fn ended_meanwhile(world: &World, id: &VolumeId) -> Publisher<Embedded> {
    world.published(id, "t1", mounted(SingleNodeWriter)).await;
    world.publisher.drain().await;
    world.release(id).await;
    world.restarted().await
}

#[test]
fn where_an_ended_tenancy_is_is_known_until_it_is_taken_away_also_after_a_restart() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let publisher = ended_meanwhile(world, &id).await;

        let everywhere = recorded(world, &id).await;
        publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        publisher.drain().await;
        let publisher = world.restarted().await;
        publisher.drain().await;
        let staged = recorded(world, &id).await;
        let publisher = world.restarted().await;
        publisher.unstage(world.unstage(&id)).await.unwrap();

        assert_eq!(everywhere, [world.target("t1"), world.staging()]);
        assert_eq!(staged, [world.staging()]);
        assert!(recorded(world, &id).await.is_empty());
        assert_eq!((mounts_at(&world.target("t1")), world.target("t1").exists()), (0, false));
        publisher.drain().await;
    });
}

#[test]
fn a_target_of_an_ended_tenancy_that_a_crash_kept_from_the_record_is_found_by_its_mount() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.publisher.stage(world.stage(&id, mounted(SingleNodeWriter))).await.unwrap();
        bind(&world.base.join("pool/v1"), &world.target("t1"));
        world.release(&id).await;

        let publisher = world.restarted().await;

        let unstaged = publisher.unstage(world.unstage(&id)).await;
        assert!(matches!(unstaged, Err(Error::StillPublished { .. })), "{unstaged:?}");
        publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        publisher.unstage(world.unstage(&id)).await.unwrap();
        publisher.drain().await;
        assert!(recorded(world, &id).await.is_empty());
    });
}

#[test]
fn a_tenancy_that_ended_while_it_was_mounted_is_neither_staged_nor_published_again() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeMultiWriter)).await;
        world.release(&id).await;

        for publisher in [&world.publisher, &world.restarted().await] {
            let access = || mounted(SingleNodeMultiWriter);
            for late in [
                publisher.stage(world.stage(&id, access())).await,
                publisher.publish(world.publish(&id, "t1", access())).await,
                publisher.publish(world.publish(&id, "t2", access())).await,
            ] {
                assert!(matches!(late, Err(Error::NotFound { .. })), "{late:?}");
            }
            publisher.drain().await;
        }
        assert_eq!(recorded(world, &id).await, [world.target("t1"), world.staging()]);
    });
}
