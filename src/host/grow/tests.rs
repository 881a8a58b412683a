use std::path::Path;

use super::*;
use crate::host::mount::Seen;
use crate::host::mount::fixture::{Disk, mount, scratch, tmpfs};
use crate::host::namespace::isolated;

fn size_of_filesystem(root: &Seen) -> u64 {
    let stat = fstatvfs(root).unwrap();
    stat.f_blocks * stat.f_frsize
}

/// Grows a mounted file system from `from` to `to` MiB, twice, and tells how many bytes it had and has.
fn grown(fs_type: &str, from: u64, to: u64) -> Result<(u64, u64)> {
    isolated(|| {
        let (_guard, base) = scratch();
        let disk = Disk::formatted(fs_type, from);
        mount(fs_type, disk.path(), &base.join("target"));
        let root = Seen::at(&base.join("target")).unwrap();
        let before = size_of_filesystem(&root);
        to_device(fs_type, root.as_fd(), disk.path(), from << 20)?;
        assert_eq!(size_of_filesystem(&root), before, "it fills its device already");

        disk.grow(to);
        to_device(fs_type, root.as_fd(), disk.path(), to << 20)?;
        to_device(fs_type, root.as_fd(), disk.path(), to << 20)?;
        Ok((before, size_of_filesystem(&root)))
    })
}

#[test]
fn ext4_grows_while_mounted_and_a_second_time_changes_nothing() {
    match grown("ext4", 32, 96) {
        Ok((before, after)) => assert!(after - before > 56 << 20, "from {before} to {after}"),
        // Some sandboxes withhold the one capability that ext4 asks for; nothing else may excuse a failure.
        Err(error) => {
            assert_eq!(error.errno, Errno::PERM, "{error}");
            assert!(!may_use_reserved_resources(), "{error}, with CAP_SYS_RESOURCE");
        }
    }
}

/// Whether this process has CAP_SYS_RESOURCE, capability 24.
fn may_use_reserved_resources() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() & 1 << 24 != 0
}

#[test]
fn xfs_grows_while_mounted_and_a_second_time_changes_nothing() {
    let (before, after) = grown("xfs", 320, 640).unwrap();

    assert!(after - before > 300 << 20, "grew from {before} to {after}");
}

#[test]
fn a_type_that_is_not_made_is_not_grown() {
    isolated(|| {
        let (_guard, base) = scratch();
        tmpfs(&base.join("target"));
        let root = Seen::at(&base.join("target")).unwrap();

        let error = to_device("tmpfs", root.as_fd(), Path::new("x"), 1 << 20).unwrap_err();

        assert_eq!(error.errno, Errno::OPNOTSUPP);
    });
}
