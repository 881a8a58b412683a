//! Each way to wipe on each kind of source, looked at afterwards by code that shares nothing with the wipe: a device is
//! read whole, past every cache, by a descriptor of the test's own, and so is the file that it is made of; a tree is
//! walked by its names. A pattern fills the whole device first, down to its last sector, and sizes are no round ones. What
//! is remembered of the wipe has to say what was seen.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::world::{World, in_world};
use crate::host::loopback::LoopDevice;
use crate::host::mount::fixture::{Disk, bind, mount, tmpfs, whole};
use crate::inventory::Inventory;
use crate::volume::{CleanMethod, CleanReason, Mode, Verified, VolumeName, WipeRecord, WipeResult};

/// What a tenant has on every place of a device: each 16 bytes say in which block they are.
pub(super) fn pattern(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + BLOCK);
    for block in 0..size.div_ceil(BLOCK) {
        bytes.extend_from_slice(format!("tenant{block:010}").repeat(BLOCK / 16).as_bytes());
    }
    bytes.truncate(size);
    bytes
}

const BLOCK: usize = 4096;

/// Where something of [`pattern`] is left: the first word of it, at whatever offset.
pub(super) fn tenants(bytes: &[u8]) -> Option<usize> {
    bytes.windows(6).position(|word| word == b"tenant")
}

/// A loop device with sectors of a size, over a file that the test keeps.
struct Sectors {
    device: LoopDevice,
    file: File,
}

impl Sectors {
    fn full(size: usize, sector: i32) -> Self {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&pattern(size), 0).unwrap();
        file.sync_all().unwrap();
        let device = LoopDevice::attach(&file).unwrap();
        device.set_sector(sector).unwrap();
        assert_eq!(tenants(&whole(device.path())), Some(0));
        Self { device, file }
    }

    fn medium(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.file.metadata().unwrap().len()).unwrap()];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }
}

pub(super) fn linked(world: &World, device: &Path) -> PathBuf {
    let path = world.base.join("disk");
    symlink(device, &path).unwrap();
    path
}

/// The one wipe that is remembered.
pub(super) async fn remembered(world: &World, name: &VolumeName) -> WipeRecord {
    let mut wipes = world.inventory.wipes().await.unwrap();
    let wipe = wipes.pop().unwrap();
    assert!(wipes.is_empty() && wipe.volume == *name, "{wipes:?}");
    assert_eq!(world.volume(name).await.last_wipe(), Some(wipe.clone()));
    wipe
}

/// Sizes that are no multiples of anything larger than a sector; the last is beyond one step of the wipe.
const SIZES: [(usize, i32); 3] =
    [((9 << 20) + 3 * 512, 512), ((9 << 20) + 3 * 4096, 4096), ((64 << 20) + 512, 512)];

fn leaves_only_zeros(method: &CleanMethod, passes: u64, verified: Verified) {
    for (size, sector) in SIZES {
        in_world(async |world| {
            let disk = Sectors::full(size, sector);
            let path = linked(world, disk.device.path());
            let policy =
                super::super::CleanPolicy { method: method.clone(), verify: method.is_read_back() };
            let name = world.released_by(&path, Mode::Block, policy).await;

            world.cleaned(&name).await;

            let (device, medium) = (whole(disk.device.path()), disk.medium());
            for bytes in [&device, &medium] {
                assert_eq!(bytes.len(), size);
                let left = bytes.iter().position(|byte| *byte != 0);
                assert_eq!(left, None, "{method} of {size} with sectors of {sector}");
            }
            let wipe = remembered(world, &name).await.wipe;
            assert_eq!((wipe.result, wipe.verified), (WipeResult::Wiped, verified));
            assert_eq!((wipe.bytes.0, wipe.entries), (passes * size as u64, 0));
            assert_eq!((wipe.tenancy.0, wipe.method, wipe.message), (1, method.brief(), None));
        });
    }
}

#[test]
fn discard_leaves_only_zeros() {
    leaves_only_zeros(&CleanMethod::Discard, 1, Verified::Samples);
}

#[test]
fn zero_leaves_only_zeros() {
    leaves_only_zeros(&CleanMethod::Zero, 1, Verified::Samples);
}

#[test]
fn shred_leaves_only_zeros() {
    leaves_only_zeros(&CleanMethod::Shred { passes: 2 }, 3, Verified::Samples);
}

#[test]
fn a_command_leaves_what_it_leaves_and_is_not_said_to_be_read_back() {
    let script = "head -c $BERTH_CAPACITY /dev/zero > $BERTH_PATH";
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    leaves_only_zeros(&CleanMethod::Command { command, timeout: 60 }, 0, Verified::Nothing);
}

#[test]
fn a_device_that_is_left_as_it_is_is_said_to_be() {
    in_world(async |world| {
        let (size, sector) = SIZES[0];
        let disk = Sectors::full(size, sector);
        let path = linked(world, disk.device.path());
        let name = world.released(&path, Mode::Block, CleanMethod::None).await;

        world.cleaned(&name).await;

        assert_eq!(whole(disk.device.path()), pattern(size));
        let wipe = remembered(world, &name).await.wipe;
        assert_eq!((wipe.result, wipe.verified), (WipeResult::LeftAsIs, Verified::Nothing));
    });
}

#[test]
fn an_erased_device_shows_nobody_what_was_on_it_and_a_file_system_made_on_it_holds_nothing_of_it() {
    for (fs_type, sector) in [("ext4", 512), ("ext4", 4096), ("xfs", 512)] {
        in_world(async |world| {
            let size = (320 << 20) + 4096 * 3;
            let disk = Sectors::full(size, sector);
            let path = linked(world, disk.device.path());
            let name = world.released(&path, Mode::Filesystem, CleanMethod::Delete).await;
            let mkfs = |fs_type: &str| {
                let force = if fs_type == "xfs" { "-f" } else { "-F" };
                let mut command = Command::new(format!("mkfs.{fs_type}"));
                assert!(
                    command.args([force, "-q"]).arg(disk.device.path()).status().unwrap().success()
                );
            };
            mkfs(fs_type);

            world.cleaned(&name).await;

            // What util-linux knows is not there, by its own look.
            let seen = Command::new("wipefs").arg("-n").arg(disk.device.path()).output().unwrap();
            assert!(seen.status.success() && seen.stdout.is_empty(), "{seen:?}");
            let bytes = whole(disk.device.path());
            let edges = [&bytes[..1 << 20], &bytes[bytes.len() - (1 << 20)..]];
            assert_eq!(edges.map(tenants), [None, None]);
            assert_eq!(remembered(world, &name).await.wipe.verified, Verified::Signatures);
            drop(bytes);

            // The next tenant has a file system on the old blocks, and reads none of them.
            for fs_type in ["ext4", "xfs"] {
                mkfs(fs_type);
                let inside = world.base.join(format!("mounted-{fs_type}"));
                mount(fs_type, disk.device.path(), &inside);
                let large = inside.join("large");
                let mut allocate = Command::new("fallocate");
                assert!(allocate.args(["-l", "64M"]).arg(&large).status().unwrap().success());
                let read = fs::read(large).unwrap();
                assert!(read.len() == 64 << 20 && read.iter().all(|byte| *byte == 0));
                crate::host::mount::fixture::unmount(&inside);
            }
        });
    }
}

/// Fills a directory with what tenants leave; gives how many entries that are.
fn furnish(root: &Path) -> u64 {
    let deep = root.join("a/b/c");
    fs::create_dir_all(&deep).unwrap();
    for number in 0..300 {
        fs::write(root.join(format!("a/{number}")), pattern(512)).unwrap();
    }
    fs::write(deep.join("x".repeat(255)), "tenant").unwrap();
    fs::write(root.join(".hidden"), "tenant").unwrap();
    fs::hard_link(root.join(".hidden"), deep.join("hard")).unwrap();
    symlink("/etc", root.join("link")).unwrap();
    symlink("nowhere", deep.join("dangling")).unwrap();
    let made = Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
    assert!(made.success());
    3 + 300 + 6
}

/// Every name beneath a directory, by a walk of the test's own; `lost+found` of ext4 is no tenant's.
fn walk(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.retain(|path| !path.ends_with("lost+found"));
    found
}

/// The kinds of directories that may be a volume.
const KINDS: [&str; 5] = ["directory", "tmpfs", "bind", "ext4", "xfs"];

/// Makes one at a path of the world; a disk beneath it lives as long as what is given back.
fn directory(world: &World, kind: &str) -> (PathBuf, Option<Disk>) {
    let path = world.base.join(kind);
    match kind {
        "tmpfs" => tmpfs(&path),
        "bind" => {
            let source = world.base.join("source");
            fs::create_dir(&source).unwrap();
            bind(&source, &path);
        }
        "ext4" | "xfs" => {
            let disk = Disk::formatted(kind, 320);
            mount(kind, disk.path(), &path);
            return (path, Some(disk));
        }
        _ => fs::create_dir(&path).unwrap(),
    }
    (path, None)
}

fn empties(kind: &str, method: CleanMethod, entries: Option<u64>) {
    in_world(async |world| {
        let (path, _disk) = directory(world, kind);
        let name = world.released(&path, Mode::Filesystem, method).await;
        let made = furnish(&path);
        assert_eq!(walk(&path).len() as u64, made);

        world.cleaned(&name).await;

        assert_eq!(walk(&path), Vec::<PathBuf>::new(), "{kind}");
        let wipe = remembered(world, &name).await.wipe;
        assert_eq!((wipe.result, wipe.verified), (WipeResult::Wiped, Verified::Listing), "{kind}");
        assert_eq!(wipe.entries, entries.unwrap_or(made), "{kind}");
    });
}

#[test]
fn delete_leaves_nothing_in_any_kind_of_directory() {
    for kind in KINDS {
        empties(kind, CleanMethod::Delete, None);
    }
}

#[test]
fn a_command_has_to_leave_nothing_in_any_kind_of_directory() {
    let script = "find $BERTH_PATH -mindepth 1 -delete; \
        test $(stat -f -c %T $BERTH_PATH) != ext2/ext3 || mkdir -m 700 -p $BERTH_PATH/lost+found";
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    for kind in KINDS {
        empties(kind, CleanMethod::Command { command: command.clone(), timeout: 60 }, Some(0));
    }
}

#[test]
fn reformat_leaves_nothing_in_a_file_system() {
    for kind in ["ext4", "xfs"] {
        empties(kind, CleanMethod::Reformat, Some(0));
    }
}

#[test]
fn what_is_left_as_it_is_is_every_byte_of_it() {
    in_world(async |world| {
        let (path, _disk) = directory(world, "tmpfs");
        let name = world.released(&path, Mode::Filesystem, CleanMethod::None).await;
        furnish(&path);
        let before = walk(&path);

        let volume = world.cleaned(&name).await;

        assert_eq!(walk(&path), before);
        assert_eq!(fs::read(path.join("a/0")).unwrap(), pattern(512));
        assert_eq!(volume.status.conditions.clean.reason, CleanReason::LeftAsIs);
        assert_eq!(remembered(world, &name).await.wipe.result, WipeResult::LeftAsIs);
    });
}
