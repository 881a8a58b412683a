use std::fs;

use super::super::*;
use super::world::{in_world, mounted, mounts_at, with_flags};
use crate::host::mount::fixture::{bind, tmpfs, unmount};
use crate::host::mount::{Attribute, Seen};
use crate::volume::AccessMode::{
    SingleNodeMultiWriter, SingleNodeReaderOnly, SingleNodeSingleWriter, SingleNodeWriter,
};

#[test]
fn a_volume_is_staged_published_and_taken_away_again() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let target = world.target("t1");

        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        fs::write(target.join("file"), "x").unwrap();
        assert!(world.base.join("pool/v1/file").exists());
        assert_eq!((mounts_at(&target), mounts_at(&world.staging())), (1, 0));
        assert!(!world.staging().join("file").exists());

        world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        assert!(!target.exists());
        world.publisher.unstage(world.unstage(&id)).await.unwrap();
        assert!(world.recorded(&id).await.is_empty());
        assert!(world.staging().exists(), "the staging directory is the caller's");
        assert!(world.base.join("pool/v1/file").exists());
    });
}

#[test]
fn every_call_may_be_repeated() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let access = mounted(SingleNodeWriter);

        for _ in 0..2 {
            for _ in 0..3 {
                world.published(&id, "t1", access.clone()).await;
            }
            for _ in 0..3 {
                world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
            }
            for _ in 0..3 {
                world.publisher.unstage(world.unstage(&id)).await.unwrap();
            }
        }
    });
}

#[test]
fn a_stacked_mount_is_never_made_by_a_repeated_publish() {
    in_world(async |world| {
        let id = world.directory("v1").await;

        for _ in 0..5 {
            world.published(&id, "t1", mounted(SingleNodeMultiWriter)).await;
        }

        assert_eq!((mounts_at(&world.target("t1")), mounts_at(&world.staging())), (1, 0));
    });
}

#[test]
fn mounts_that_somebody_stacked_all_go_with_one_unpublish() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        bind(&world.base.join("pool/v1"), &world.target("t1"));
        bind(&world.base.join("pool/v1"), &world.target("t1"));
        assert_eq!(mounts_at(&world.target("t1")), 3);

        world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();

        assert!(!world.target("t1").exists());
    });
}

#[test]
fn unpublish_never_deletes_what_lies_in_the_directory() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        fs::create_dir(world.target("t1")).unwrap();
        fs::write(world.target("t1").join("precious"), "x").unwrap();
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;

        for _ in 0..2 {
            let error = world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap_err();
            assert!(matches!(error, Error::LeftBehind { .. }), "{error}");
        }

        assert!(world.target("t1").join("precious").exists());
        assert_eq!(mounts_at(&world.target("t1")), 0);
    });
}

#[test]
fn what_is_mounted_beneath_a_volume_does_not_come_along() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        tmpfs(&world.base.join("pool/v1/nested"));
        fs::write(world.base.join("pool/v1/nested/secret"), "x").unwrap();

        world.published(&id, "t1", mounted(SingleNodeWriter)).await;

        assert!(world.target("t1").join("nested").exists());
        assert!(!world.target("t1").join("nested/secret").exists());
    });
}

#[test]
fn a_target_is_read_only_where_that_was_asked_for_and_nowhere_else() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "writer", mounted(SingleNodeMultiWriter)).await;
        let request = world.publish(&id, "reader", mounted(SingleNodeMultiWriter));
        let request = Publish { read_only: true, ..request };

        world.publisher.publish(request.clone()).await.unwrap();
        world.publisher.publish(request).await.unwrap();

        assert!(fs::write(world.target("reader").join("file"), "x").is_err());
        fs::write(world.target("writer").join("file"), "x").unwrap();
        assert!(world.target("reader").join("file").exists());
    });
}

#[test]
fn a_reader_only_volume_is_read_only_though_nobody_says_so_again() {
    in_world(async |world| {
        let id = world.directory("v1").await;

        world.published(&id, "t1", mounted(SingleNodeReaderOnly)).await;

        assert!(fs::write(world.target("t1").join("file"), "x").is_err());
    });
}

#[test]
fn flags_of_the_claim_and_of_its_pool_are_on_the_mount() {
    in_world(async |world| {
        let id = world.directory("v1").await;

        world.published(&id, "t1", with_flags(SingleNodeWriter, &["noexec", "noatime"])).await;

        let attributes = Seen::at(&world.target("t1")).unwrap().attributes;
        for wanted in [Attribute::NoExec, Attribute::NoAtime, Attribute::NoSuid] {
            assert!(attributes.has(wanted), "{wanted:?}");
        }
        assert!(!attributes.has(Attribute::NoDev));
    });
}

#[test]
fn several_targets_are_for_volumes_of_several_writers() {
    in_world(async |world| {
        for (number, mode, several) in [
            (1, SingleNodeMultiWriter, true),
            (2, SingleNodeWriter, false),
            (3, SingleNodeSingleWriter, false),
            (4, SingleNodeReaderOnly, false),
        ] {
            let id = world.directory(&format!("v{number}")).await;
            world.published(&id, "t1", mounted(mode)).await;

            let second = world.publisher.publish(world.publish(&id, "t2", mounted(mode))).await;
            let other = world
                .publisher
                .publish(Publish { read_only: true, ..world.publish(&id, "t3", mounted(mode)) });
            let other = other.await;

            for result in [second, other] {
                match result {
                    Ok(()) => assert!(several, "{mode:?}"),
                    Err(Error::Elsewhere { other, .. }) => {
                        assert!(!several && other == world.target("t1"), "{mode:?}");
                    }
                    Err(error) => panic!("{mode:?}: {error}"),
                }
            }
            for target in ["t1", "t2", "t3"] {
                world.publisher.unpublish(world.unpublish(&id, target)).await.unwrap();
            }
            world.publisher.unstage(world.unstage(&id)).await.unwrap();
        }
    });
}

#[test]
fn a_target_that_somebody_else_unmounted_keeps_nobody_away() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        unmount(&world.target("t1"));

        world.published(&id, "t2", mounted(SingleNodeWriter)).await;

        world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        world.publisher.unpublish(world.unpublish(&id, "t2")).await.unwrap();
    });
}

#[test]
fn stats_are_those_of_the_file_system_that_the_volume_is_on() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        let before = world.publisher.stats(&id, &world.target("t1")).await.unwrap();

        fs::write(world.target("t1").join("file"), vec![1; 1 << 20]).unwrap();

        let after = world.publisher.stats(&id, &world.target("t1")).await.unwrap();
        assert_eq!(after.bytes.used.unwrap() - before.bytes.used.unwrap(), 1 << 20);
        assert_eq!(before.bytes.available.unwrap() - after.bytes.available.unwrap(), 1 << 20);
        assert_eq!(after.bytes.total, before.bytes.total);
        let inodes = after.inodes.unwrap().used.unwrap() - before.inodes.unwrap().used.unwrap();
        assert_eq!(inodes, 1);
        assert_eq!(world.publisher.stats(&id, &world.staging()).await.unwrap(), after);
    });
}

#[test]
fn a_volume_that_is_not_at_a_path_has_no_stats_there() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let other = world.directory("v2").await;
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        fs::create_dir(world.target("t2")).unwrap();

        for path in ["some/path".into(), world.target("t2"), world.target("t3"), "".into()] {
            let error = world.publisher.stats(&id, &path).await.unwrap_err();
            assert!(matches!(error, Error::NotHere { .. }), "{path:?}: {error}");
        }
        let error = world.publisher.stats(&other, &world.target("t1")).await.unwrap_err();
        assert!(matches!(error, Error::NotHere { .. }), "{error}");
    });
}

#[test]
fn a_directory_expands_to_what_it_has_and_no_further() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        let has = world.volume(&id.volume).await.status.capacity;
        let ask = |path, bytes| ExpandNode {
            id: id.clone(),
            path,
            range: crate::volume::CapacityRange::at_least(crate::volume::Bytes(bytes)),
        };

        for path in [world.target("t1"), world.staging()] {
            assert_eq!(world.publisher.expand(ask(path.clone(), has.0)).await.unwrap(), has);

            let error = world.publisher.expand(ask(path, has.0 + 1)).await.unwrap_err();
            assert!(matches!(error, Error::Size { capacity, .. } if capacity == has), "{error}");
        }
        for path in ["some/path".into(), world.base.join("staging")] {
            let error = world.publisher.expand(ask(path, 1)).await.unwrap_err();
            assert!(matches!(error, Error::NotHere { .. }), "{error}");
        }
    });
}
