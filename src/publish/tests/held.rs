//! Devices that somebody else has mounted or open.

use std::os::fd::AsFd;

use super::super::*;
use super::world::{in_world, mounted, mounts_at};
use crate::host::device;
use crate::host::mount::fixture::{Disk, mount};
use crate::volume::AccessMode::SingleNodeWriter;

#[test]
fn a_device_that_somebody_uses_is_neither_formatted_nor_mounted() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 16);
        mount("ext4", disk.path(), &world.base.join("theirs"));
        let id = world.device(&disk, Mode::Filesystem).await;

        let request = world.stage(&id, mounted(SingleNodeWriter));
        let error = world.publisher.stage(request).await.unwrap_err();

        assert!(matches!(error, Error::Held { .. }), "{error}");
        assert_eq!(mounts_at(&world.staging()), 0);
    });
}

#[test]
fn a_tenants_device_that_somebody_holds_is_mounted_when_they_let_it_go() {
    in_world(async |world| {
        let disk = Disk::blank(16);
        let id = world.device(&disk, Mode::Filesystem).await;
        let request = world.stage(&id, mounted(SingleNodeWriter));
        world.staged(request.clone()).await.unwrap();
        world.publisher.unstage(world.unstage(&id)).await.unwrap();
        let opened = disk.open();
        let held = device::reopen(opened.as_fd(), disk.path(), device::Access::ReadExclusive);

        let error = world.publisher.stage(request.clone()).await.unwrap_err();

        assert!(matches!(error, Error::Held { .. }), "{error}");
        drop(held.unwrap());
        world.staged(request).await.unwrap();
    });
}
