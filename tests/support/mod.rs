//! What every integration test stands on: a host of its own (a private mount namespace with a directory that vanishes
//! with it), the real binary started in it, and clients of its socket.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "each test binary uses a part of it, and a test panics where something is not as it must be"
)]

pub mod berth;
pub mod held;
pub mod inject;
pub mod requests;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::berth::host::loopback::LoopDevice;
use ::berth::host::namespace;
use tempfile::TempDir;

pub use berth::Berth;
pub use held::HeldMkfs;

/// A mebibyte.
pub const MIB: u64 = 1 << 20;

/// A host for one test: whatever is mounted here is seen by this test and the processes that it starts, and is gone
/// with it.
pub struct Host {
    directory: TempDir,
    loops: Vec<(LoopDevice, File)>,
    disks: PathBuf,
}

impl Host {
    /// Moves the calling thread into a mount namespace of its own and gives it a fresh directory. Needs root.
    pub fn new() -> Self {
        namespace::enter_private().expect("integration tests need root: run them with sudo");
        let directory = tempfile::Builder::new().prefix("berth-test-").tempdir().unwrap();
        mount(&["-t", "tmpfs", "-o", "size=1g,mode=755", "tmpfs"], directory.path());
        for name in ["pools", "disks", "run", "state", "kubelet", "outside"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory, loops: Vec::new(), disks: std::env::temp_dir() }
    }

    /// Has the disks that are attached from now on in memory, where nothing waits for the machine's own.
    pub fn keep_disks_in_memory(&mut self) {
        self.disks = self.path("disks");
    }

    /// A path beneath the host's directory.
    pub fn path(&self, beneath: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(beneath)
    }

    /// The directory of `pool`, made when it is not there.
    pub fn pool(&self, pool: &str) -> PathBuf {
        let path = self.path("pools").join(pool);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Mounts a tmpfs of `size` bytes as `entry` of `pool`: a volume of exactly that size.
    pub fn tmpfs(&self, pool: &str, entry: &str, size: u64) -> PathBuf {
        let path = self.pool(pool).join(entry);
        fs::create_dir_all(&path).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "tmpfs"], &path);
        path
    }

    /// Makes a plain directory as `entry` of `pool`.
    pub fn directory(&self, pool: &str, entry: &str) -> PathBuf {
        let path = self.pool(pool).join(entry);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Bind-mounts `source` as `entry` of `pool`.
    pub fn bind(&self, source: &Path, pool: &str, entry: &str) -> PathBuf {
        let path = self.directory(pool, entry);
        mount(&["--bind", source.to_str().unwrap()], &path);
        path
    }

    /// Attaches a loop device of `size` bytes; it lives as long as the host.
    pub fn device(&mut self, size: u64) -> PathBuf {
        let file = tempfile::tempfile_in(&self.disks).unwrap();
        file.set_len(size).unwrap();
        let device = LoopDevice::attach(&file).unwrap();
        let path = device.path().to_owned();
        self.loops.push((device, file));
        path
    }

    /// Makes a loop device `size` bytes large.
    pub fn grow(&self, device: &Path, size: u64) {
        let (device, file) = self.loops.iter().find(|(one, _)| one.path() == device).unwrap();
        file.set_len(size).unwrap();
        device.grow().unwrap();
    }

    /// Attaches a loop device and links it as `entry` of `pool`.
    pub fn block(&mut self, pool: &str, entry: &str, size: u64) -> PathBuf {
        let device = self.device(size);
        std::os::unix::fs::symlink(&device, self.pool(pool).join(entry)).unwrap();
        device
    }

    /// Makes a file system on a new loop device of `size` bytes and mounts it as `entry` of `pool`.
    pub fn filesystem(&mut self, fs_type: &str, pool: &str, entry: &str, size: u64) -> PathBuf {
        let device = self.device(size);
        make_filesystem(fs_type, &device);
        let path = self.directory(pool, entry);
        mount(&["-t", fs_type, device.to_str().unwrap()], &path);
        path
    }

    /// Detaches every loop device; those in use go with their last user.
    pub fn detach_devices(&mut self) {
        self.loops.clear();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // What is mounted on the directory would keep it from being removed.
        let _ = namespace::detach(self.directory.path());
    }
}

/// Makes a file system on a device.
pub fn make_filesystem(fs_type: &str, device: &Path) {
    let mut command = Command::new(format!("mkfs.{fs_type}"));
    command.arg(if fs_type.starts_with("ext") { "-F" } else { "-f" }).arg("-q").arg(device);
    run(&mut command);
}

/// Runs mount(8) with `arguments` on `path`.
pub fn mount(arguments: &[&str], path: &Path) {
    run(Command::new("mount").args(arguments).arg(path));
}

/// Unmounts what is topmost at `path`, also while the server happens to look at it.
pub fn unmount(path: &Path) {
    let begun = std::time::Instant::now();
    let busy = |output: &std::process::Output| {
        String::from_utf8_lossy(&output.stderr).contains("target is busy")
    };
    loop {
        let output = Command::new("umount").arg(path).output().unwrap();
        if output.status.success() {
            return;
        }
        let patient = begun.elapsed() < std::time::Duration::from_secs(10);
        assert!(patient && busy(&output), "{}: {output:?}", path.display());
        std::thread::yield_now();
    }
}

/// Runs a command of the machine that must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// How many mounts of this namespace stand at `path`.
pub fn mounts_at(path: &Path) -> usize {
    let table = ::berth::host::mountinfo::MountTable::read().unwrap();
    table.iter().filter(|mount| mount.mount_point == path).count()
}

/// Every name, type, size and content checksum beneath `path`, in order: equal exactly when nothing changed by one byte.
pub fn fingerprint_of_tree(path: &Path) -> Vec<String> {
    use sha2::{Digest, Sha256};
    let mut lines = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        let facts = fs::symlink_metadata(&path).unwrap();
        let mut line =
            format!("{} {:o} {} {}", path.display(), facts.mode(), facts.uid(), facts.gid());
        if facts.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if facts.is_file() {
            let mut hash = Sha256::new();
            let mut file = File::open(&path).unwrap();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut content).unwrap();
            hash.update(&content);
            line = format!("{line} {:x?}", &hash.finalize()[..]);
        }
        lines.push(line);
    }
    lines.sort();
    lines
}
