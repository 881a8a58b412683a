//! What attackers do, over and over, until they are told that it is over.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{
    CWD, FileType, IFlags, Mode, OFlags, RenameFlags, ResolveFlags, mknodat, openat2, renameat_with,
};

/// Attackers of one directory, all by its path: they have nothing open between two steps.
pub(crate) struct Attack<'a> {
    pub(crate) volume: &'a Path,
    /// Where symlinks lead, and what is mounted over the directories.
    pub(crate) decoy: &'a Path,
    pub(crate) over: &'a AtomicBool,
    /// Steps that were taken.
    pub(crate) steps: &'a AtomicU64,
}

/// One attacker: does its step for the number that it is given.
pub(crate) type Attacker = fn(&Attack<'_>, u64);

/// All of them.
pub(crate) const ALL: [Attacker; 7] = [fill, swap, exchange, storm, plant_nodes, lock, mount_over];
/// Those that only ever make what a plain process may make.
pub(crate) const PLAIN: [Attacker; 5] = [fill, swap, exchange, storm, plant_nodes];

/// Directories that are mounted over.
const OVER: u64 = 7;

impl Attack<'_> {
    /// Runs one attacker until it is over. No step has to succeed: the cleaner may have been there first.
    pub(crate) fn run(&self, attacker: Attacker) {
        let mut number = 0;
        while !self.over.load(Ordering::Relaxed) {
            attacker(self, number);
            number += 1;
            self.steps.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.volume.join(name)
    }
}

/// Writes a file, and through no symlink: in its container those of a tenant lead nowhere outside, and here one that was
/// left in the place of a directory would have the attacker itself write into the decoy.
fn put(path: impl AsRef<Path>) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    if let Ok(file) = openat2(CWD, path.as_ref(), flags, mode, ResolveFlags::NO_SYMLINKS) {
        let _ = rustix::io::write(&file, b"a tenant's");
    }
}

/// Makes files and directories as fast as it can, and again those that are gone: a file system that is full takes many times
/// as long to remove anything, on btrfs above all.
pub(crate) fn fill(attack: &Attack<'_>, number: u64) {
    let number = number % 20_000;
    let within = attack.at(format!("fill-{}/{}", number % 7, number % 50));
    let _ = fs::create_dir_all(&within);
    put(within.join(number.to_string()));
}

/// Puts a symlink in the place of a directory with files, and the directory back.
fn swap(attack: &Attack<'_>, _: u64) {
    let (swapped, aside) = (attack.at("swap"), attack.at("swap-aside"));
    let _ = fs::create_dir_all(swapped.join("deep/deeper"));
    put(swapped.join("deep/deeper/1"));
    let _ = fs::rename(&swapped, &aside);
    let _ = symlink(attack.decoy, &swapped);
    let _ = fs::remove_file(&swapped);
    let _ = fs::rename(&aside, &swapped);
}

/// Exchanges a directory with a symlink in one step (renameat2(2), `RENAME_EXCHANGE`), `lost+found` among them.
fn exchange(attack: &Attack<'_>, number: u64) {
    let name = ["deep", "lost+found", "exchange"][usize::try_from(number % 3).unwrap()];
    let (directory, link) = (attack.at(name), attack.at("exchange-link"));
    let _ = fs::create_dir(&directory);
    put(directory.join("1"));
    let _ = symlink(attack.decoy, &link);
    let _ = renameat_with(CWD, &directory, CWD, &link, RenameFlags::EXCHANGE);
    let _ = renameat_with(CWD, &directory, CWD, &link, RenameFlags::EXCHANGE);
}

/// Moves what is there to other depths under other names, what the cleaner has put aside too.
fn storm(attack: &Attack<'_>, number: u64) {
    let Ok(entries) = fs::read_dir(attack.volume.join("fill-0")) else { return };
    let names = entries.flatten().map(|entry| entry.path()).take(20);
    for (position, path) in names.enumerate() {
        let to = attack.at(format!("storm-{}", (number + position as u64) % 5));
        let _ = fs::create_dir(&to);
        let _ = fs::rename(&path, to.join(format!("moved-{number}-{position}")));
        let _ = fs::rename(attack.at(".berth-wipe-1"), to.join("put back"));
    }
}

/// Leaves what must not be opened, and names that must not be read as anything.
pub(crate) fn plant_nodes(attack: &Attack<'_>, number: u64) {
    let directory = attack.at(format!("nodes-{}", number % 3));
    let _ = fs::create_dir(&directory);
    let mode = Mode::from_raw_mode(0o666);
    // A pipe that nobody writes to, /dev/null, a loop device, and the watchdog, which to open is to start.
    let nodes = [
        (FileType::Fifo, "pipe", 0, 0),
        (FileType::CharacterDevice, "null", 1, 3),
        (FileType::BlockDevice, "disk", 7, 250),
        (FileType::CharacterDevice, "watchdog", 10, 130),
    ];
    for (kind, name, major, minor) in nodes {
        let device = rustix::fs::makedev(major, minor);
        let _ = mknodat(CWD, directory.join(name), kind, mode, device);
    }
    let _ = UnixListener::bind(directory.join("socket"));
    for name in odd_names() {
        put(directory.join(OsStr::from_bytes(&name)));
    }
    let program = directory.join("program");
    let _ = fs::write(&program, "#!/bin/sh");
    let _ = fs::set_permissions(&program, fs::Permissions::from_mode(0o6755));
    let _ = fs::set_permissions(&directory, fs::Permissions::from_mode(0o000));
}

/// Names that are no text, as long as they can be, or look like something else.
pub(crate) fn odd_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b"-rf"[..],
        b"--",
        b"...",
        b". ",
        b" ",
        b"*",
        b"\\",
        b"\n",
        b"$(reboot)",
        b"\x1b[2J",
        b"\x01\x02\x7f",
        "\u{202e}txt".as_bytes(),
        b".berth-wipe-1",
        b".berth-wipe-2",
    ]
    .map(<[u8]>::to_vec)
    .into();
    names.push(vec![0xFF; 255]);
    names.push(vec![b'\n'; 255]);
    names
}

/// Sets flags that forbid removal, again as soon as they are taken off.
fn lock(attack: &Attack<'_>, number: u64) {
    let file = attack.at(format!("locked-{}", number % 3));
    put(&file);
    if let Ok(open) = fs::File::open(&file) {
        let _ = rustix::fs::ioctl_setflags(&open, IFlags::IMMUTABLE);
    }
}

/// Mounts the decoy over a directory, as the cleaner may be about to open it, and takes that away. Nobody else works in
/// these directories: it would work in the decoy.
fn mount_over(attack: &Attack<'_>, number: u64) {
    let directory = attack.at(format!("over-{}", number % OVER));
    let _ = fs::create_dir_all(directory.join("inner"));
    if rustix::mount::mount_bind(attack.decoy, &directory).is_ok() {
        std::thread::yield_now();
        unmount(&directory);
    }
}

fn unmount(path: &Path) {
    let how = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
    let _ = rustix::mount::unmount(path, how);
}

/// Takes away the mounts that an attacker may have left.
pub(crate) fn undo(volume: &Path) {
    for number in 0..OVER {
        let path = volume.join(format!("over-{number}"));
        while crate::support::mounts_at(&path) > 0 {
            unmount(&path);
        }
    }
}
