use std::fs;
use std::os::unix::fs::symlink;

use super::super::*;
use super::world::{each_kind, in_world, mounted, mounts_at, raw, with_flags, with_type};
use crate::host::mount::fixture::{bind, forbid_clones, tmpfs, unmount};
use crate::source;
use crate::volume::AccessMode::{SingleNodeMultiWriter, SingleNodeSingleWriter, SingleNodeWriter};

#[test]
fn a_lost_mount_is_never_published() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.publisher.stage(world.stage(&id, mounted(SingleNodeWriter))).await.unwrap();
        unmount(&world.base.join("pool/v1"));

        let request = world.publish(&id, "t1", mounted(SingleNodeWriter));
        let error = world.publisher.publish(request).await.unwrap_err();

        let Error::Source { source: source::Error::Replaced { .. }, .. } = error else {
            panic!("{error}");
        };
        assert!(!world.target("t1").exists());
        let other = world.base.join("staging/other");
        let request =
            Stage { staging: other.clone(), ..world.stage(&id, mounted(SingleNodeWriter)) };
        assert!(matches!(world.publisher.stage(request).await, Err(Error::Source { .. })));
        assert!(!other.exists());
    });
}

#[test]
fn a_lost_volume_is_taken_away_all_the_same() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        unmount(&world.base.join("pool/v1"));
        fs::remove_dir(world.base.join("pool/v1")).unwrap();

        world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        world.publisher.unstage(world.unstage(&id)).await.unwrap();

        assert!(!world.target("t1").exists());
        assert!(world.staging().exists());
        assert!(world.recorded(&id).await.is_empty());
    });
}

#[test]
fn a_foreign_mount_is_neither_mounted_upon_nor_taken_away() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let access = mounted(SingleNodeWriter);
        tmpfs(&world.staging());
        let error = world.publisher.stage(world.stage(&id, access.clone())).await.unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        assert!(world.publisher.unstage(world.unstage(&id)).await.is_err());
        assert_eq!(mounts_at(&world.staging()), 1);
        unmount(&world.staging());

        world.publisher.stage(world.stage(&id, access.clone())).await.unwrap();
        tmpfs(&world.staging());
        let request = world.publish(&id, "t1", access.clone());
        let error = world.publisher.publish(request).await.unwrap_err();
        assert!(matches!(error, Error::NotStaged { .. }), "{error}");
        for result in [
            world.publisher.stage(world.stage(&id, access.clone())).await,
            world.publisher.unstage(world.unstage(&id)).await,
        ] {
            assert!(matches!(result, Err(Error::Occupied { .. })), "{result:?}");
        }
        assert_eq!(mounts_at(&world.staging()), 1);
        unmount(&world.staging());

        tmpfs(&world.target("t1"));
        let error = world.publisher.publish(world.publish(&id, "t1", access)).await.unwrap_err();
        let Error::Occupied { found: Found::Mount { fs_type, .. }, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(fs_type, "tmpfs");
        let error = world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        assert_eq!(mounts_at(&world.target("t1")), 1);
    });
}

#[test]
fn a_foreign_mount_upon_our_own_is_refused_and_so_ours_stays() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        tmpfs(&world.target("t1"));

        let error = world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap_err();

        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        assert_eq!(mounts_at(&world.target("t1")), 2);
    });
}

#[test]
fn the_administrators_own_mount_of_a_volume_is_no_target() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.publisher.stage(world.stage(&id, mounted(SingleNodeWriter))).await.unwrap();
        let own = world.base.join("pool/v1");
        let second = world.base.join("pool/second");
        bind(&own, &second);
        let text = second.to_str().unwrap().to_owned();
        let record = world.inventory.modify_status(&id.volume, |volume| {
            Some(Status { own_mounts: vec![text.clone()], ..volume.status.clone() })
        });
        record.await.unwrap();

        for path in [own, second] {
            let request = world.publish(&id, "t1", mounted(SingleNodeWriter));
            let publish = Publish { target: path.clone(), ..request };
            let unpublish = Unpublish { id: id.clone(), target: path.clone() };
            for result in
                [world.publisher.publish(publish).await, world.publisher.unpublish(unpublish).await]
            {
                assert!(matches!(result, Err(Error::Path { .. })), "{result:?}");
            }
            assert_eq!(mounts_at(&path), 1);
        }
    });
}

#[test]
fn the_same_target_with_other_arguments_is_refused() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeMultiWriter)).await;
        let again = |access| world.publish(&id, "t1", access);

        for request in [
            Publish { read_only: true, ..again(mounted(SingleNodeMultiWriter)) },
            again(mounted(SingleNodeSingleWriter)),
            again(with_flags(SingleNodeMultiWriter, &["noexec"])),
            again(with_flags(SingleNodeMultiWriter, &["noatime"])),
        ] {
            let error = world.publisher.publish(request).await.unwrap_err();
            assert!(matches!(error, Error::Incompatible { .. }), "{error}");
        }
        let error = world.publisher.stage(world.stage(&id, mounted(SingleNodeWriter))).await;
        assert!(matches!(error, Err(Error::Incompatible { .. })), "{error:?}");
    });
}

#[test]
fn a_volume_that_is_not_staged_is_not_published() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let request = world.publish(&id, "t1", mounted(SingleNodeWriter));
        let refused = async |request: Publish| {
            let error = world.publisher.publish(request).await.unwrap_err();
            assert!(matches!(error, Error::NotStaged { .. }), "{error}");
        };

        refused(request.clone()).await;
        world.publisher.stage(world.stage(&id, mounted(SingleNodeWriter))).await.unwrap();
        refused(Publish { staging: PathBuf::new(), ..request.clone() }).await;
        refused(Publish { staging: world.base.join("staging"), ..request.clone() }).await;
        fs::remove_dir(world.staging()).unwrap();
        refused(request.clone()).await;
        fs::write(world.staging(), "").unwrap();
        refused(request.clone()).await;

        assert!(!world.target("t1").exists());
        fs::remove_file(world.staging()).unwrap();
        world.publisher.stage(world.stage(&id, mounted(SingleNodeWriter))).await.unwrap();
        world.publisher.publish(request).await.unwrap();
    });
}

#[test]
fn a_volume_that_is_published_is_not_unstaged() {
    each_kind(async |world, id| {
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;

        let before = mounts_at(&world.staging());
        let error = world.publisher.unstage(world.unstage(&id)).await.unwrap_err();

        let Error::StillPublished { targets, .. } = &error else { panic!("{error}") };
        assert_eq!(targets, &[world.target("t1")]);
        assert_eq!(mounts_at(&world.staging()), before);
        world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        world.publisher.publish(world.publish(&id, "t1", mounted(SingleNodeWriter))).await.unwrap();
    });
}

#[test]
fn a_mount_that_the_kernel_does_not_clone_is_refused_and_leaves_nothing_behind() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        forbid_clones(&world.base.join("pool/v1"));

        world.publisher.stage(world.stage(&id, mounted(SingleNodeWriter))).await.unwrap();

        let request = world.publish(&id, "t1", mounted(SingleNodeWriter));
        let error = world.publisher.publish(request).await.unwrap_err();

        assert!(matches!(error, Error::NoClone { .. }), "{error}");
        assert!(!world.target("t1").exists());
    });
}

#[test]
fn a_volume_in_use_is_not_taken_away_behind_its_users_back() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.published(&id, "t1", mounted(SingleNodeWriter)).await;
        let user = fs::File::create(world.target("t1").join("file")).unwrap();

        let error = world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        assert_eq!(mounts_at(&world.target("t1")), 1);

        drop(user);
        world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
    });
}

#[test]
fn an_id_that_names_no_tenancy_of_this_node_is_not_found() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let mut elsewhere =
            crate::volume::fixture::on("node-b", "fast", "v9", crate::volume::Bytes(1));
        let claim = crate::volume::fixture::claim("v9");
        elsewhere.spec = elsewhere.claimed(claim, crate::volume::fixture::delete()).unwrap();
        let remote = elsewhere.id().unwrap();
        world.inventory.add(elsewhere).await.unwrap();
        let next = VolumeId { tenancy: id.tenancy.next(), ..id.clone() };
        let unknown: VolumeId = "nobody-0123456789abcdef@1".parse().unwrap();

        for wrong in [next, remote, unknown] {
            let access = mounted(SingleNodeWriter);
            for result in [
                world.publisher.stage(world.stage(&wrong, access.clone())).await,
                world.publisher.publish(world.publish(&wrong, "t1", access)).await,
                world.publisher.stats(&wrong, Path::new("some/path")).await.map(drop),
            ] {
                assert!(matches!(result, Err(Error::NotFound { .. })), "{wrong}: {result:?}");
            }
            world.publisher.unpublish(world.unpublish(&wrong, "t1")).await.unwrap();
            world.publisher.unstage(world.unstage(&wrong)).await.unwrap();
        }
    });
}

#[test]
fn a_late_call_about_an_old_tenancy_leaves_the_new_tenant_alone() {
    each_kind(async |world, old| {
        let new = world.next_tenancy(&old).await;
        world.published(&new, "t1", mounted(SingleNodeWriter)).await;
        let before = mounts_at(&world.staging());

        for result in [
            world.publisher.unpublish(world.unpublish(&old, "t1")).await,
            world.publisher.unstage(world.unstage(&old)).await,
        ] {
            assert!(matches!(result, Err(Error::Occupied { .. })), "{result:?}");
        }

        assert_eq!((mounts_at(&world.target("t1")), mounts_at(&world.staging())), (1, before));
        world.publisher.drain().await;
        assert_eq!(world.recorded(&new).await.len(), 2);
    });
}

#[test]
fn what_an_ended_tenancy_left_mounted_can_still_be_taken_away() {
    each_kind(async |world, old| {
        world.published(&old, "t1", mounted(SingleNodeWriter)).await;
        world.next_tenancy(&old).await;

        world.publisher.unpublish(world.unpublish(&old, "t1")).await.unwrap();
        world.publisher.unstage(world.unstage(&old)).await.unwrap();

        assert!(!world.target("t1").exists());
        assert_eq!(mounts_at(&world.staging()), 0);
    });
}

#[test]
fn a_volume_is_had_as_what_it_is() {
    in_world(async |world| {
        let id = world.directory("v1").await;

        let error = world.publisher.stage(world.stage(&id, raw(SingleNodeWriter))).await;
        assert!(matches!(error, Err(Error::AccessType { .. })), "{error:?}");
        let request = world.stage(&id, with_type(SingleNodeWriter, "xfs"));
        let error = world.publisher.stage(request).await.unwrap_err();
        assert!(
            matches!(&error, Error::FsType { has: Some(has), .. } if has == "tmpfs"),
            "{error}"
        );

        for fs_type in ["tmpfs", ""] {
            let request = world.stage(&id, with_type(SingleNodeWriter, fs_type));
            world.publisher.stage(request).await.unwrap();
        }
    });
}

#[test]
fn a_flag_that_the_volume_cannot_have_mounts_nothing() {
    in_world(async |world| {
        let id = world.directory("v1").await;

        let request = world.stage(&id, with_flags(SingleNodeWriter, &["discard"]));
        let error = world.publisher.stage(request).await.unwrap_err();
        assert!(matches!(error, Error::Flag { .. }), "{error}");

        assert!(!world.staging().exists());
        assert!(world.recorded(&id).await.is_empty());
    });
}

#[test]
fn a_path_that_is_no_target_is_refused() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        world.publisher.stage(world.stage(&id, mounted(SingleNodeWriter))).await.unwrap();
        fs::write(world.target("file"), "").unwrap();
        fs::create_dir(world.base.join("elsewhere")).unwrap();
        symlink(world.base.join("elsewhere"), world.target("link")).unwrap();
        let at = |target: PathBuf| {
            let request = world.publish(&id, "t1", mounted(SingleNodeWriter));
            world.publisher.publish(Publish { target, ..request })
        };

        for path in ["relative".into(), world.target("../x"), "/".into(), world.target("no/x")] {
            let result = at(path).await;
            assert!(matches!(result, Err(Error::Path { .. })), "{result:?}");
        }
        let long = world.target(&"x".repeat(300));
        assert!(matches!(at(long.clone()).await, Err(Error::Path { .. })));
        let stats = world.publisher.stats(&id, &long).await;
        assert!(matches!(stats, Err(Error::NotHere { .. })), "{stats:?}");
        world
            .publisher
            .unpublish(Unpublish { id: id.clone(), target: long.clone() })
            .await
            .unwrap();
        let beneath = Unpublish { id: id.clone(), target: long.join("x") };
        world.publisher.unpublish(beneath).await.unwrap();
        for name in ["file", "link"] {
            let result = at(world.target(name)).await;
            assert!(matches!(result, Err(Error::Occupied { .. })), "{result:?}");
        }
        let result = at(world.staging()).await;
        assert!(matches!(result, Err(Error::Occupied { .. })), "{result:?}");
    });
}

#[test]
fn nothing_is_mounted_outside_the_allowed_directories() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        symlink("../staging", world.target("escape")).unwrap();
        let publisher = world.limited_to("pods");
        let stage = |staging| Stage { staging, ..world.stage(&id, mounted(SingleNodeWriter)) };

        for path in [world.staging(), world.target("escape/x"), world.base.join("pods")] {
            let error = publisher.stage(stage(path)).await.unwrap_err();
            assert!(matches!(error, Error::Path { .. }), "{error}");
        }
        publisher.stage(stage(world.target("staged"))).await.unwrap();

        assert!(!world.staging().exists());
        publisher.drain().await;
    });
}

#[test]
fn a_volume_whose_pool_is_gone_is_not_mounted_anew_and_can_be_taken_away() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let access = mounted(SingleNodeMultiWriter);
        world.published(&id, "t1", access.clone()).await;
        world.pools.send_replace(std::sync::Arc::default());

        let error = world.publisher.publish(world.publish(&id, "t2", access)).await.unwrap_err();
        assert!(matches!(error, Error::PoolGone { .. }), "{error}");

        world.publisher.unpublish(world.unpublish(&id, "t1")).await.unwrap();
        world.publisher.unstage(world.unstage(&id)).await.unwrap();
    });
}
