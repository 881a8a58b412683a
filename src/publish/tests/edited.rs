//! Records that somebody has edited: what stands in one takes nothing away and mounts nothing that is not the volume's.

use std::fs;

use super::super::*;
use super::world::{in_world, mounted, mounts_at};
use crate::host::mount::fixture::{bind, tmpfs, unmount};
use crate::volume::AccessMode::SingleNodeWriter;
use crate::volume::Published;

fn published(path: &Path, staging: bool) -> Published {
    Published {
        path: path.to_str().unwrap().into(),
        staging,
        read_only: false,
        access: SingleNodeWriter,
        flags: None,
    }
}

#[test]
fn a_volume_that_somebody_had_claimed_by_saying_that_it_is_clean_is_not_staged() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        for clean_for in [None, Some(id.tenancy), Some(id.tenancy.next())] {
            let edit = world.inventory.modify_status(&id.volume, |volume| {
                Some(Status { clean_for, ..volume.status.clone() })
            });
            edit.await.unwrap();

            let request = world.stage(&id, mounted(SingleNodeWriter));
            let error = world.publisher.stage(request).await.unwrap_err();

            assert!(matches!(error, Error::NotClean { .. }), "{error}");
            assert!(!world.staging().exists() && world.recorded(&id).await.is_empty());
        }
    });
}

#[test]
fn what_a_record_says_of_places_outside_is_no_reason_to_unmount_anything() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let outside = world.base.join("outside");
        tmpfs(&outside);
        fs::write(outside.join("kept"), "x").unwrap();
        let edit = world.inventory.modify_status(&id.volume, |volume| {
            let places = [published(&outside, true), published(Path::new("/"), false)];
            Some(Status { published: places.into(), ..volume.status.clone() })
        });
        edit.await.unwrap();
        // Nothing says what the volume would show there.
        unmount(&world.base.join("pool/v1"));

        let publisher = world.limited_to("pods");
        publisher.restore().await.unwrap();
        for path in [outside.clone(), "/".into()] {
            let unpublish = Unpublish { id: id.clone(), target: path.clone() };
            let unstage = Unstage { id: id.clone(), staging: path };
            for refused in [publisher.unpublish(unpublish).await, publisher.unstage(unstage).await]
            {
                assert!(matches!(refused, Err(Error::Path { .. })), "{refused:?}");
            }
        }

        assert_eq!(
            (mounts_at(&outside), fs::read(outside.join("kept")).unwrap()),
            (1, b"x".into())
        );
        publisher.drain().await;
        assert!(world.recorded(&id).await.is_empty());
    });
}

#[test]
fn a_bind_mount_in_the_orchestrators_directory_leads_nowhere_else() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let outside = world.base.join("outside");
        fs::create_dir(&outside).unwrap();
        fs::create_dir(outside.join("empty")).unwrap();
        let bound = world.target("pod/bound");
        bind(&outside, &bound);
        let publisher = world.limited_to("pods");
        let staging = world.target("staging");
        let stage = world.stage(&id, mounted(SingleNodeWriter));
        let publish = world.publish(&id, "t1", mounted(SingleNodeWriter));
        publisher.stage(Stage { staging: staging.clone(), ..stage.clone() }).await.unwrap();

        for name in ["empty", "new"] {
            let path = bound.join(name);
            for refused in [
                publisher.stage(Stage { staging: path.clone(), ..stage.clone() }).await,
                publisher
                    .publish(Publish {
                        staging: staging.clone(),
                        target: path.clone(),
                        ..publish.clone()
                    })
                    .await,
                publisher.unpublish(Unpublish { id: id.clone(), target: path.clone() }).await,
                publisher.unstage(Unstage { id: id.clone(), staging: path.clone() }).await,
            ] {
                assert!(matches!(refused, Err(Error::Path { .. })), "{name}: {refused:?}");
            }
            assert!(matches!(publisher.stats(&id, &path).await, Err(Error::NotHere { .. })));
        }

        assert!(outside.join("empty").exists() && !outside.join("new").exists());
        publisher.unstage(Unstage { id: id.clone(), staging }).await.unwrap();
        publisher.drain().await;
        unmount(&bound);
    });
}

#[test]
fn an_agent_in_a_container_mounts_in_the_parts_of_the_kubelets_directory_that_it_has() {
    in_world(async |world| {
        let id = world.directory("v1").await;
        let pods = world.base.join("kubelet/pods");
        tmpfs(&pods);
        let publisher = world.limited_to("kubelet");
        let staging = pods.join("staging");
        let stage = world.stage(&id, mounted(SingleNodeWriter));

        publisher.stage(Stage { staging: staging.clone(), ..stage }).await.unwrap();
        let publish = world.publish(&id, "t1", mounted(SingleNodeWriter));
        let target = pods.join("t1");
        let publish = Publish { staging, target: target.clone(), ..publish };
        publisher.publish(publish).await.unwrap();

        assert_eq!(mounts_at(&target), 1);
        publisher.unpublish(Unpublish { id, target }).await.unwrap();
        publisher.drain().await;
        unmount(&pods);
    });
}
