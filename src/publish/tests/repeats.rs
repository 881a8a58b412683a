use std::fs;

use futures_util::future::join_all;

use super::super::*;
use super::world::{in_world, mounted, mounts_at, pool, raw, with_flags, with_type};
use crate::host::mount::fixture::{Disk, tmpfs, unmount};
use crate::host::mount::{Attribute, Seen};
use crate::volume::AccessMode::{SingleNodeMultiWriter, SingleNodeWriter};

#[test]
fn what_a_pool_adds_may_change_while_a_volume_is_mounted_and_holds_for_new_mounts() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let access = mounted(SingleNodeMultiWriter);
        world.published(&id, "t1", access.clone()).await;

        world.configure(Pool { mount_options: vec!["noexec".into(), "nodev".into()], ..pool() });
        world.published(&id, "t1", access.clone()).await;
        world.published(&id, "t2", access.clone()).await;
        world.configure(Pool { mount_options: Vec::new(), ..pool() });
        for target in ["t1", "t2"] {
            world.published(&id, target, access.clone()).await;
        }
        world.pools.send_replace(Arc::default());
        world.published(&id, "t1", access).await;

        let has = |target: &str, attribute| {
            Seen::at(&world.target(target)).unwrap().attributes.has(attribute)
        };
        assert!(!has("t1", Attribute::NoExec) && has("t2", Attribute::NoExec));
    });
}

#[test]
fn another_type_or_other_flags_of_the_file_system_are_other_arguments() {
    in_world(async |world| {
        let disk = Disk::blank(16);
        let id = world.device(&disk, Mode::Filesystem).await;
        let discard = with_flags(SingleNodeMultiWriter, &["discard"]);
        world.published(&id, "t1", discard.clone()).await;
        world.publisher.drain().await;
        let restarted = world.restarted().await;

        restarted
            .stage(world.stage(&id, with_flags(SingleNodeMultiWriter, &["discard,rw"])))
            .await
            .unwrap();
        restarted.publish(world.publish(&id, "t1", discard)).await.unwrap();
        for access in [
            mounted(SingleNodeMultiWriter),
            with_flags(SingleNodeMultiWriter, &["discard", "lazytime"]),
            with_type(SingleNodeMultiWriter, "xfs"),
        ] {
            for result in [
                restarted.stage(world.stage(&id, access.clone())).await,
                restarted.publish(world.publish(&id, "t1", access.clone())).await,
                restarted.publish(world.publish(&id, "t2", access)).await,
            ] {
                assert!(matches!(result, Err(Error::Incompatible { .. })), "{result:?}");
            }
        }
        assert_eq!(mounts_at(&world.target("t2")), 0);
        restarted.drain().await;
    });
}

#[test]
fn a_staged_directory_that_is_asked_for_with_another_type_is_there_with_other_arguments() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;

        world.published(&id, "t1", with_type(SingleNodeWriter, "tmpfs")).await;
        let request = world.stage(&id, with_type(SingleNodeWriter, "xfs"));
        let staged = world.publisher.stage(request).await;
        let request = world.publish(&id, "t1", with_type(SingleNodeWriter, "xfs"));
        let published = world.publisher.publish(request).await;

        for result in [staged, published] {
            assert!(matches!(result, Err(Error::Incompatible { .. })), "{result:?}");
        }
    });
}

#[test]
fn any_number_of_callers_get_stats_at_once_and_nobody_those_of_the_administrators_path() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        let target = world.target("t1");

        let answers = join_all((0..8).map(|_| world.publisher.stats(&id, &target))).await;

        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        world.publisher.stats(&id, &world.staging()).await.unwrap();
        let own = world.publisher.stats(&id, &world.base.join("pool/v1")).await;
        assert!(matches!(own, Err(Error::NotHere { .. })), "{own:?}");
        std::os::unix::fs::symlink(&target, world.target("link")).unwrap();
        world.publisher.stats(&id, &world.target("link")).await.unwrap();
    });
}

#[test]
fn a_volume_is_missed_where_it_was_put_and_where_it_is_said_to_be() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let expect = |staging: Option<&str>, targets: &[&str]| Expected {
            staging: staging.map(|name| world.base.join("staging").join(name)),
            targets: targets.iter().map(|name| world.target(name)).collect(),
        };
        let absent = async |expected| world.publisher.absent(&id, expected).await.unwrap();
        assert!(absent(Expected::default()).await.is_empty());
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;

        assert!(absent(Expected::default()).await.is_empty());
        assert!(absent(expect(Some("volume"), &["t1"])).await.is_empty());
        assert_eq!(absent(expect(None, &["t1", "t2"])).await, [world.target("t2")]);
        unmount(&world.target("t1"));
        assert_eq!(absent(Expected::default()).await, [world.target("t1")]);
        assert_eq!(absent(expect(Some("."), &[])).await, [world.base.join("staging/.")]);
        tmpfs(&world.staging());
        assert_eq!(absent(expect(Some("volume"), &[])).await, [world.staging()]);
        unmount(&world.staging());
        assert!(absent(expect(Some("volume"), &[])).await.is_empty());
        fs::remove_dir(world.staging()).unwrap();
        assert_eq!(absent(expect(Some("volume"), &[])).await, [world.staging()]);
    });
}

#[test]
fn a_file_system_is_missed_at_its_staging_path_when_it_is_not_mounted_there() {
    in_world(async |world| {
        let disk = Disk::blank(16);
        let id = world.device(&disk, Mode::Filesystem).await;
        world.staged(world.stage(&id, mounted(SingleNodeWriter))).await.unwrap();
        assert!(world.publisher.absent(&id, Expected::default()).await.unwrap().is_empty());
        unmount(&world.staging());

        let absent = world.publisher.absent(&id, Expected::default()).await.unwrap();
        let stats = world.publisher.stats(&id, &world.staging()).await;
        let published =
            world.publisher.publish(world.publish(&id, "t1", mounted(SingleNodeWriter)));

        assert_eq!(absent, [world.staging()]);
        assert!(matches!(stats, Err(Error::NotHere { .. })), "{stats:?}");
        assert!(matches!(published.await, Err(Error::NotStaged { .. })));
    });
}

#[test]
fn a_raw_device_is_not_missed_at_its_staging_path() {
    in_world(async |world| {
        let disk = Disk::blank(4);
        let id = world.device(&disk, Mode::Block).await;
        fs::create_dir(world.staging()).unwrap();
        world.published(&id, "t1", raw(SingleNodeWriter)).await;

        let absent = world.publisher.absent(&id, Expected::default()).await.unwrap();

        assert!(absent.is_empty(), "{absent:?}");
    });
}

#[test]
fn a_raw_device_is_missed_at_its_targets_and_nowhere_else_that_it_is_said_to_be_staged() {
    in_world(async |world| {
        let disk = Disk::blank(4);
        let id = world.device(&disk, Mode::Block).await;
        world.published(&id, "t1", raw(SingleNodeWriter)).await;
        let links = world.base.join("links");
        fs::create_dir(&links).unwrap();
        let absent = async || {
            let expected = Expected { staging: Some(links.clone()), targets: Vec::new() };
            world.publisher.absent(&id, expected).await.unwrap()
        };

        let while_there = absent().await;
        unmount(&world.target("t1"));
        let once_gone = absent().await;

        assert!(while_there.is_empty(), "{while_there:?}");
        assert_eq!(once_gone, [world.target("t1")]);
    });
}

#[test]
fn of_a_volume_that_is_gone_nothing_is_kept_however_late_it_is_spoken_of() {
    in_world(async |world| {
        let (id, other) = (world.directory("v1").await, world.directory("v2").await);
        let of_nobody = VolumeId { volume: "node-a-fast-v9-0".parse().unwrap(), ..id.clone() };
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        for id in [&id, &of_nobody] {
            world.publisher.unpublish(world.unpublish(id, "t1")).await.unwrap();
            world.publisher.unstage(world.unstage(id)).await.unwrap();
        }
        let know = |id| world.publisher.shared.places.know(id);
        assert!(know(&id), "an old record of it would be believed");

        let version = world.inventory.get(&id.volume).await.unwrap().version;
        world.inventory.remove(&id.volume, version).await.unwrap();
        world.published(&other, "t2", mounted(SingleNodeWriter)).await;

        assert_eq!([&id, &of_nobody, &other].map(know), [false, false, true]);
    });
}
