//! Volumes for reading: a file system on a device is so by itself, whatever a container runtime makes of its mounts.

use std::fs;

use super::super::*;
use super::world::{in_world, mounted, with_flags};
use crate::host::Errno;
use crate::host::mount::fixture::{Disk, bind_anew, unmount};
use crate::volume::AccessMode::{SingleNodeReaderOnly, SingleNodeWriter};
use crate::volume::{Bytes, CapacityRange};

fn is_read_only(path: &Path) -> bool {
    let error = fs::write(path.join("file"), "x").unwrap_err();
    Errno::from_io_error(&error) == Some(Errno::ROFS)
}

#[test]
fn a_file_system_that_is_asked_for_read_only_is_so_in_every_mount_of_it() {
    for access in [with_flags(SingleNodeWriter, &["ro"]), mounted(SingleNodeReaderOnly)] {
        in_world(async |world| {
            let disk = Disk::blank(16);
            let id = world.device(&disk, Mode::Filesystem).await;
            world.published(&id, "t1", access.clone()).await;
            // A repeat is what it was.
            world.published(&id, "t1", access.clone()).await;

            let container = world.target("container");
            bind_anew(&world.target("t1"), &container);

            assert!(is_read_only(&world.target("t1")) && is_read_only(&container));
            unmount(&container);
        });
    }
}

#[test]
fn a_directory_is_not_to_be_had_read_only_by_a_mount_flag() {
    in_world(async |world| {
        let id = world.directory("v1").await;

        let request = world.stage(&id, with_flags(SingleNodeWriter, &["ro"]));
        let error = world.publisher.stage(request).await.unwrap_err();

        let Error::Flag { source, .. } = &error else { panic!("{error}") };
        assert!(source.to_string().contains("`readOnly` in the pod"), "{source}");
    });
}

#[test]
fn a_read_only_file_system_does_not_grow_and_says_so() {
    in_world(async |world| {
        let disk = Disk::blank(16);
        let id = world.device(&disk, Mode::Filesystem).await;
        world.published(&id, "t1", with_flags(SingleNodeWriter, &["ro"])).await;
        disk.grow(32);

        let request = ExpandNode {
            id: id.clone(),
            path: world.target("t1"),
            range: CapacityRange::at_least(Bytes(32 << 20)),
        };
        let error = world.publisher.expand(request).await.unwrap_err();

        assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    });
}
