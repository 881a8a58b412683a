//! Which system calls change the host, and what is told of one.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use libseccomp::ScmpNotifReq;

/// The calls that the kernel asks about.
pub(super) const ALL: [&str; 61] = [
    // Files and devices written to and made durable.
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "copy_file_range",
    "sendfile",
    "fallocate",
    "ftruncate",
    "truncate",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "syncfs",
    "sync",
    "ioctl",
    // Names.
    "open",
    "openat",
    "openat2",
    "creat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "unlink",
    "unlinkat",
    "rmdir",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "bind",
    // Attributes.
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "utimensat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    // Mounts.
    "mount",
    "umount2",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "pivot_root",
    "swapon",
    "swapoff",
];

/// Flags of an open that changes something: `O_CREAT`, `O_TRUNC`.
pub(super) const CHANGING: [u64; 2] = [0o100, 0o1000];

/// Which argument of a call has the flags that say whether it changes something, where the filter can tell by itself.
pub(super) fn flags_at(name: &str) -> Option<u32> {
    match name {
        "open" => Some(1),
        "openat" => Some(2),
        _ => None,
    }
}

/// The ioctls that change something; numbers of x86-64.
const IOCTLS: [(u64, &str); 13] = [
    (0x1277, "BLKDISCARD"),
    (0x127d, "BLKSECDISCARD"),
    (0x127f, "BLKZEROOUT"),
    (0x1261, "BLKFLSBUF"),
    (0x125f, "BLKRRPART"),
    (0x4008_6602, "FS_IOC_SETFLAGS"),
    (0x401c_5820, "FS_IOC_FSSETXATTR"),
    (0x4008_6610, "EXT4_IOC_RESIZE_FS"),
    (0x4010_586e, "XFS_IOC_FSGROWFSDATA"),
    (0x4c00, "LOOP_SET_FD"),
    (0x4c01, "LOOP_CLR_FD"),
    (0x4c07, "LOOP_SET_CAPACITY"),
    (0x4c0a, "LOOP_CONFIGURE"),
];

/// A call that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The call, for example `pwrite64` or `BLKZEROOUT`.
    pub name: &'static str,
    /// The program that made it, where it was not the server itself.
    pub program: Option<String>,
    /// The file or device that was open, for calls on one.
    pub file: Option<PathBuf>,
}

impl Call {
    /// What is asked about, if it changes something.
    pub(super) fn of(request: &ScmpNotifReq) -> Option<Self> {
        let name = request.data.syscall.get_name().ok()?;
        let name = *ALL.iter().find(|known| **known == name)?;
        let process = PathBuf::from(format!("/proc/{}", request.pid));
        let arguments = &request.data.args;
        let (name, file) = match name {
            "ioctl" => (IOCTLS.iter().find(|(number, _)| *number == arguments[1])?.1, None),
            "openat2" => {
                is_changing(&process, arguments[2])?;
                (name, None)
            }
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "fallocate"
            | "ftruncate" | "fsync" | "fdatasync" | "sync_file_range" => {
                (name, Some(written(&process, arguments[0])?))
            }
            _ => (name, None),
        };
        let program = fs::read_link(process.join("exe")).ok()?;
        let program = program.file_name()?.to_string_lossy().into_owned();
        Some(Self { name, program: (program != "berth").then_some(program), file })
    }
}

/// Whether the flags of an openat2(2), at `how` in the memory of a process, change something.
fn is_changing(process: &Path, how: u64) -> Option<()> {
    let mut flags = [0; 8];
    File::open(process.join("mem")).ok()?.read_exact_at(&mut flags, how).ok()?;
    let flags = u64::from_ne_bytes(flags);
    CHANGING.iter().any(|flag| flags & flag != 0).then_some(())
}

/// The file or block device that a descriptor is of; nothing for sockets, pipes, the log and the like.
fn written(process: &Path, descriptor: u64) -> Option<PathBuf> {
    let link = process.join(format!("fd/{}", descriptor & u64::from(u32::MAX)));
    let kind = fs::metadata(&link).ok()?.file_type();
    let path = fs::read_link(link).ok()?;
    let is_log = path.file_name().is_some_and(|name| name == "berth.log");
    let lasts = kind.is_file() || kind.is_block_device() || kind.is_dir();
    (lasts && !is_log && !path.starts_with("/proc")).then_some(path)
}
