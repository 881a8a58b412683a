//! What a tenant leaves behind.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64};

use berth::volume::CleanReason;
use rustix::fs::{AtFlags, Mode, OFlags, XattrFlags, mkdirat, openat};

use crate::attack::{self, Attack};
use crate::census::{looks, xattrs};
use crate::support::{self, MIB};
use crate::world::{World, can_make, proves};

/// Levels of the deepest tree, and where it is one of many; the path of either is longer than a path may be.
const LEVELS: (usize, usize) = (10_000, 1_000);
/// Entries of the largest directory, and where everything is to be proved.
const ENTRIES: (usize, usize) = (10_000, 120_000);

/// A tree that no path leads to the end of, made from the outside in.
fn deep(at: &Path, levels: usize) {
    fs::create_dir_all(at).unwrap();
    let mut inner = rustix::fs::open(at, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for level in 0..levels {
        let name = if level % 50 == 0 { "x".repeat(255) } else { "d".to_owned() };
        mkdirat(&inner, &name, Mode::RWXU).unwrap();
        inner = openat(&inner, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let file = OFlags::CREATE | OFlags::WRONLY;
    openat(&inner, "at the end", file, Mode::RUSR).unwrap();
}

fn chattr(flags: &str, path: &Path) -> bool {
    Command::new("chattr")
        .arg(flags)
        .arg(path)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// Everything at once that can be left in a volume; `fs_type` may not have all of it.
fn leave_everything(world: &World, fs_type: &str) {
    let (volume, decoy) = (&world.target, &world.decoy);
    for (name, to) in
        [("to the root", "/"), ("to itself", "."), ("up", "../.."), ("nowhere", "x/y")]
    {
        symlink(to, volume.join(name)).unwrap();
    }
    symlink(decoy, volume.join("to the decoy")).unwrap();
    symlink(decoy.join("1"), volume.join("to a file")).unwrap();
    symlink("loop", volume.join("loop")).unwrap();
    let (over, steps) = (AtomicBool::new(false), AtomicU64::new(0));
    let attack = Attack { volume, decoy, over: &over, steps: &steps };
    for number in 0..3 {
        attack::plant_nodes(&attack, number);
    }
    for name in attack::odd_names() {
        let directory = volume.join("odd").join(OsStr::from_bytes(&name));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("file"), "").unwrap();
    }
    for number in 0..300 {
        fs::create_dir(volume.join(format!(".berth-wipe-{number}"))).unwrap_or_default();
    }
    let levels = if proves() || fs_type == "ext4" { LEVELS.0 } else { LEVELS.1 };
    deep(&volume.join("deep"), levels);
    let many = volume.join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..if proves() { ENTRIES.1 } else { ENTRIES.0 } {
        let node = (rustix::fs::FileType::RegularFile, Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, many.join(number.to_string()), node.0, node.1, 0)
            .unwrap();
    }
    let huge = File::create(volume.join("huge")).unwrap();
    // As long as the file system allows.
    let longest = [1 << 40, 1 << 34].into_iter().find(|length| huge.set_len(*length).is_ok());
    huge.write_all_at(b"at the end", longest.unwrap() - 100).unwrap();
    fs::hard_link(volume.join("huge"), volume.join("odd/linked")).unwrap();
    let locked = volume.join("locked/inner");
    fs::create_dir_all(&locked).unwrap();
    fs::write(locked.join("file"), "").unwrap();
    for (flag, path) in
        [("+i", locked.join("file")), ("+a", locked.clone()), ("+i", volume.join("locked"))]
    {
        assert!(chattr(flag, &path) || fs_type == "tmpfs", "{}", path.display());
    }
    look_different(volume);
}

/// The root directory, with everything of it changed that can be.
fn look_different(root: &Path) {
    let none = XattrFlags::empty();
    rustix::fs::setxattr(root, "user.message", b"to the next tenant", none).unwrap();
    rustix::fs::setxattr(root, "trusted.message", b"to the next tenant", none).unwrap();
    // An ACL (acl(5)): its version, then the owner, user 1000, the group, the mask, and everybody.
    let everything: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 7, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in everything {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    for name in ["system.posix_acl_access", "system.posix_acl_default"] {
        rustix::fs::setxattr(root, name, &acl, none).unwrap();
    }
    std::os::unix::fs::chown(root, Some(1000), Some(1000)).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o7777)).unwrap();
    assert!(xattrs(root).len() >= 4);
    for flag in ["+A", "+d", "+S", "+D", "+T", "+C", "+c"] {
        chattr(flag, root);
    }
    // Quotas count for a project; what is made in the directory does too.
    let _ = Command::new("chattr")
        .args(["-p", "4242"])
        .arg(root)
        .stderr(std::process::Stdio::null())
        .status();
    chattr("+P", root);
    // Last, since it forbids the rest.
    chattr("+a", root);
}

#[test]
fn everything_that_a_tenant_can_leave_goes_and_the_root_looks_as_it_did() {
    for fs_type in ["tmpfs", "ext4", "xfs", "btrfs", "overlay"] {
        if !can_make(fs_type) {
            continue;
        }
        eprintln!("{fs_type}");
        let world = World::of_directories(fs_type, "{method: delete}");
        leave_everything(&world, fs_type);

        world.release();

        world.require_clean();
    }
}

#[test]
fn everything_that_a_tenant_can_leave_on_a_file_system_of_its_own_goes() {
    for (fs_type, clean) in [("ext4", "delete"), ("xfs", "reformat")] {
        let world = World::of_mounts(fs_type, &format!("{{method: {clean}}}"));
        leave_everything(&world, fs_type);
        if fs_type == "ext4" {
            fs::remove_dir(world.source.join("lost+found")).ok();
            chattr("-a", &world.source);
            fs::remove_dir(world.source.join("lost+found")).unwrap();
            symlink(&world.decoy, world.source.join("lost+found")).unwrap();
        }

        world.release();

        world.require_clean();
    }
}

#[test]
fn lost_and_found_that_a_tenant_made_its_own_looks_as_mkfs_makes_it() {
    let world = World::of_mounts("ext4", "{method: delete}");
    let kept = world.source.join("lost+found");
    let before = looks(&kept);
    fs::create_dir_all(kept.join("a/b")).unwrap();
    look_different(&kept);

    world.release();

    world.require_clean();
    assert_eq!(looks(&kept), before);
}

/// A directory that holds its project and what is moved into it (`EXDEV`) is no mount, and a deep tree in it goes.
#[test]
fn a_tenants_project_does_not_keep_a_deep_tree_from_being_deleted() {
    let world = World::of_directories("xfs", "{method: delete}");
    deep(&world.target.join("deep"), 300);
    let io = |command: &str| {
        support::run(Command::new("xfs_io").args(["-c", command]).arg(&world.target));
    };
    io("chproj 4242");
    io("chattr +P");

    world.release();

    world.require_clean();
}

#[test]
fn subvolumes_of_btrfs_go_read_only_ones_too_however_deep_they_are() {
    if !can_make("btrfs") {
        return;
    }
    let world = World::of_directories("btrfs", "{method: delete}");
    let btrfs = |arguments: &[&str], path: &Path| {
        support::run(Command::new("btrfs").args(arguments).arg(path));
    };
    let subvolume = world.target.join("subvolume");
    btrfs(&["subvolume", "create"], &subvolume);
    btrfs(&["subvolume", "create"], &subvolume.join("nested"));
    deep(&subvolume.join("nested/deep"), 300);
    deep(&subvolume.join("deep"), 300);
    fs::write(subvolume.join("file"), "a tenant's").unwrap();
    for path in [subvolume.join("nested"), subvolume] {
        let set = ["property", "set", path.to_str().unwrap(), "ro"];
        btrfs(&set, Path::new("true"));
    }

    world.release();

    world.require_clean();
}

/// The kernel lists 64 KiB of names and no more, and XFS takes more than that.
#[test]
fn more_attributes_than_can_be_listed_are_said_to_stay_and_the_volume_is_not_offered() {
    let world = World::of_directories("xfs", "{method: delete}");
    for number in 0..400 {
        let name = format!("user.{number:03}{}", "x".repeat(240));
        rustix::fs::setxattr(&world.target, name, b"", XattrFlags::empty()).unwrap();
    }

    world.release();

    world.wait_said(CleanReason::WipeFailed, "more extended attributes than the kernel lists");
    world.require_nothing_else_touched();
}

#[test]
fn a_file_that_the_system_swaps_to_is_waited_for_and_everything_else_goes() {
    let world = World::of_directories("ext4", "{method: delete}");
    let swap = world.source.join("swap");
    let file = File::create(&swap).unwrap();
    file.write_all_at(&vec![0; 4 << 20], 0).unwrap();
    file.sync_all().unwrap();
    fs::set_permissions(&swap, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(world.source.join("other"), "a tenant's").unwrap();
    support::run(Command::new("mkswap").arg(&swap));
    support::run(Command::new("swapon").arg(&swap));
    let off = SwapOff(&swap);

    world.release();

    let said = world.wait_said(CleanReason::StillInUse, "swapoff");
    drop(off);
    assert!(said.contains(swap.to_str().unwrap()), "{said}");
    world.clean_again();
    world.require_clean();
}

struct SwapOff<'a>(&'a Path);

impl Drop for SwapOff<'_> {
    fn drop(&mut self) {
        let _ = Command::new("swapoff").arg(self.0).status();
    }
}

/// What is in an open file is its user's own, and goes with it: neither a descriptor of a file nor a loop device over one
/// reaches what the next tenant makes.
#[test]
fn open_files_loop_devices_over_files_leases_and_working_directories_beneath_are_not_waited_for() {
    let world = World::of_directories("ext4", "{method: delete}");
    let inner = world.source.join("inner");
    fs::create_dir(&inner).unwrap();
    let image =
        File::options().read(true).write(true).create_new(true).open(inner.join("image")).unwrap();
    image.set_len(4 * MIB).unwrap();
    let device = berth::host::loopback::LoopDevice::attach(&image).unwrap();
    File::options().write(true).open(device.path()).unwrap().write_all_at(b"kept", 0).unwrap();
    let mut works_there = Command::new("/bin/cat")
        .current_dir(&inner)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();

    world.release();

    world.require_clean();
    let mut read = [0; 4];
    File::open(device.path()).unwrap().read_exact_at(&mut read, 0).unwrap();
    assert_eq!(&read, b"kept");
    works_there.kill().unwrap();
    works_there.wait().unwrap();
    let gone = rustix::fs::statat(&image, "", AtFlags::EMPTY_PATH).unwrap();
    assert_eq!(gone.st_nlink, 0);
}
