//! Mounts and disks that tests start from. For use in a private mount namespace (`namespace::isolated`).

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::mount::MountPropagationFlags;

use super::{Attributes, Detached, Spot};
use crate::host::format;
use crate::host::loopback::LoopDevice;
use crate::host::namespace;

/// Mounts a new tmpfs at `path`, a directory that is made if need be.
pub(crate) fn tmpfs(path: &Path) {
    attach(Detached::filesystem("tmpfs", Path::new("tmpfs"), &[]).unwrap(), path);
}

/// Mounts the file system of type `fs_type` on `device` at `path`.
pub(crate) fn mount(fs_type: &str, device: &Path, path: &Path) {
    attach(Detached::filesystem(fs_type, device, &[]).unwrap(), path);
}

/// Bind-mounts `source` at `path`.
pub(crate) fn bind(source: &Path, path: &Path) {
    let source = super::Seen::at(source).unwrap();
    attach(Detached::clone_of(std::os::fd::AsFd::as_fd(&source), path).unwrap(), path);
}

/// Bind-mounts `source` at `path` as a container runtime does: anew, and with none of its flags.
pub(crate) fn bind_anew(source: &Path, path: &Path) {
    std::fs::create_dir_all(path).unwrap();
    rustix::mount::mount_bind(source, path).unwrap();
    let flags = rustix::mount::MountFlags::BIND;
    rustix::mount::mount_remount(path, flags, c"").unwrap();
}

/// Bind-mounts the file `source` at `path`, a file that is there.
pub(crate) fn bind_file(source: &Path, path: &Path) {
    let source = super::Seen::at(source).unwrap();
    let mount = Detached::clone_of(std::os::fd::AsFd::as_fd(&source), path).unwrap();
    mount.restrict(Attributes::default()).unwrap();
    let target = Spot::open(path, None).unwrap().look().unwrap().unwrap();
    mount.attach(&target, path).unwrap();
}

/// Takes away the topmost mount at `path`.
pub(crate) fn unmount(path: &Path) {
    Spot::open(path, None).unwrap().unmount().unwrap();
}

/// Makes the mount at `path` one that the kernel does not clone.
pub(crate) fn forbid_clones(path: &Path) {
    rustix::mount::mount_change(path, MountPropagationFlags::UNBINDABLE).unwrap();
}

/// Makes mounts at `path` propagate, as those in the kubelet's directory do.
pub(crate) fn share(path: &Path) {
    rustix::mount::mount_change(path, MountPropagationFlags::SHARED).unwrap();
}

fn attach(mount: Detached, path: &Path) {
    std::fs::create_dir_all(path).unwrap();
    mount.restrict(Attributes::default()).unwrap();
    let target = Spot::open(path, None).unwrap().look().unwrap().unwrap();
    mount.attach(&target, path).unwrap();
}

/// A loop device over a file that takes no space until it is written to.
pub(crate) struct Disk {
    device: LoopDevice,
    file: File,
}

impl Disk {
    /// A blank one of `mib` MiB.
    pub(crate) fn blank(mib: u64) -> Self {
        let file = tempfile::tempfile().unwrap();
        file.set_len(mib << 20).unwrap();
        Self { device: LoopDevice::attach(&file).unwrap(), file }
    }

    /// One with a file system.
    pub(crate) fn formatted(fs_type: &str, mib: u64) -> Self {
        let disk = Self::blank(mib);
        format::make(&disk.open(), disk.path(), fs_type, None).unwrap();
        disk
    }

    pub(crate) fn path(&self) -> &Path {
        self.device.path()
    }

    pub(crate) fn open(&self) -> File {
        OpenOptions::new().read(true).write(true).open(self.path()).unwrap()
    }

    /// Makes it `mib` MiB large.
    pub(crate) fn grow(&self, mib: u64) {
        self.file.set_len(mib << 20).unwrap();
        self.device.grow().unwrap();
    }
}

/// Every byte of a device, from the device: past the page cache, by a descriptor that is opened now.
pub(crate) fn whole(path: &Path) -> Vec<u8> {
    const PIECE: usize = 1 << 20;
    let direct = OFlags::DIRECT.bits().cast_signed();
    let mut device = OpenOptions::new().read(true).custom_flags(direct).open(path).unwrap();
    let mut buffer = vec![0; 2 * PIECE];
    let start = buffer.as_ptr().align_offset(4096);
    let piece = &mut buffer[start..start + PIECE];
    let mut bytes = Vec::new();
    loop {
        match device.read(piece).unwrap() {
            0 => return bytes,
            length => bytes.extend_from_slice(&piece[..length]),
        }
    }
}

/// A directory that whatever was mounted in it leaves with it.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is mounted on the directory would keep it from being removed.
        let _ = namespace::detach(self.0.path());
    }
}

/// A directory of this test's own, on a tmpfs that nobody else sees.
pub(crate) fn scratch() -> (Scratch, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    tmpfs(directory.path());
    let path = directory.path().to_owned();
    (Scratch(directory), path)
}
