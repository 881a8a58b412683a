//! Mounts that other mount namespaces have of a volume, or within it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::directories::entries;
use super::world::{World, in_world};
use crate::host::mount::fixture::{Disk, mount, tmpfs};
use crate::host::mountinfo::MountTable;
use crate::host::process;
use crate::volume::{CleanMethod, CleanReason, Mode, VolumeName};

/// Processes in a mount namespace of their own, in which nothing follows this one's.
struct Other(Child);

impl Other {
    /// Runs `script` there and waits until it says that it is ready.
    fn with(script: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script]);
        let mut child = command.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        Self(child)
    }

    fn end(self) {
        drop(self);
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        process::kill_group(self.0.id());
        self.0.wait().unwrap();
    }
}

async fn volume(world: &World, method: CleanMethod) -> (std::path::PathBuf, VolumeName) {
    let path = world.base.join("v1");
    tmpfs(&path);
    let name = world.released(&path, Mode::Filesystem, method).await;
    fs::create_dir_all(path.join("a/nested")).unwrap();
    (path, name)
}

#[test]
fn a_mount_that_the_first_process_of_its_namespace_cannot_see_counts() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        let (elsewhere, jail) = (world.base.join("elsewhere"), world.base.join("jail"));
        fs::create_dir(&elsewhere).unwrap();
        fs::create_dir(&jail).unwrap();
        // The process with the smaller number has another root directory, beneath which the mount does not lie.
        let other = Other::with(&format!(
            "mount --bind {} {}; mount --bind / {jail}; sleep 600 >/dev/null &
             exec chroot {jail} sh -c 'echo ready; exec sleep 600'",
            path.display(),
            elsewhere.display(),
            jail = jail.display(),
        ));

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains("elsewhere in another mount namespace"), "{said}");
        assert_eq!(entries(&path), ["a"]);
        other.end();
        world.cleaned(&name).await;
    });
}

#[test]
fn what_another_namespace_has_mounted_within_a_volume_counts() {
    in_world(async |world| {
        let (path, name) = volume(world, CleanMethod::Delete).await;
        let nested = path.join("a/nested");
        let other = Other::with(&format!(
            "mount -t tmpfs tmpfs {}; echo ready; exec sleep 600",
            nested.display()
        ));

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains("nested in another mount namespace"), "{said}");
        assert!(nested.exists());
        other.end();
        world.cleaned(&name).await;
    });
}

#[test]
fn a_program_is_not_run_over_a_mount_within_the_volume() {
    in_world(async |world| {
        let command = ["/bin/sh", "-c", "rm -rf $BERTH_PATH/*"].map(str::to_owned).to_vec();
        let (path, name) = volume(world, CleanMethod::Command { command, timeout: 60 }).await;
        let nested = path.join("a/nested");
        tmpfs(&nested);
        fs::write(nested.join("kept"), "another's").unwrap();

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains(nested.to_str().unwrap()), "{said}");
        assert!(nested.join("kept").exists());
    });
}

#[test]
fn a_disk_that_another_namespace_keeps_mounted_is_not_taken_from_its_place_for_a_moment() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        let path = world.base.join("v1");
        mount("ext4", disk.path(), &path);
        let name = world.released(&path, Mode::Filesystem, CleanMethod::Reformat).await;
        let id = |path: &Path| MountTable::read().unwrap().at(path).unwrap().id;
        let before = id(&path);
        let other = Other::with("echo ready; exec sleep 600");

        let said = world.refused(&name, CleanReason::StillInUse).await;

        assert!(said.contains("v1 in another mount namespace"), "{said}");
        assert_eq!(id(&path), before, "it was unmounted and mounted again");
        other.end();
        world.cleaned(&name).await;
        assert_eq!(entries(&path), ["lost+found"]);
    });
}
