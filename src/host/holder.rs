//! Who has a directory or a device open, as far as `/proc` and the loop devices tell.
//!
//! To take a mount away does not end what somebody has open through it: a descriptor, which may have been handed on to a
//! process of another pod, a working or a root directory, a mapping. Mount tables show nothing of that, and an exclusive
//! open of a device (open(2), `O_EXCL`) is refused for other exclusive openers and not for these.
//!
//! This process itself does not count. What is seen of no process is not seen here: a descriptor that lies unread in a
//! socket.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags, openat, readlinkat, statx,
};
use rustix::path::Arg;

use super::device::{self, Access};
use super::mount::FileId;
use super::mountinfo::{Mount, MountTable};
use super::{DeviceNumber, Errno, Error, Result};

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub enum Sought<'a> {
    /// Any of these directories.
    Directories(&'a [FileId]),
    /// Any of these block devices, by whatever device node.
    Devices(&'a [DeviceNumber]),
}

/// The mount tables by which it is known where a question would hang: one for each mount namespace (the target of
/// `/proc/PID/ns/mnt`), as far as there are any.
pub type Tables = [(PathBuf, MountTable)];

/// File systems of which the kernel may ask a server that does not answer, though it is only asked what is known.
const OF_SERVERS: [&str; 3] = ["nfs", "nfs4", "9p"];
/// `KCMP_FILES` (kcmp(2)).
const SAME_DESCRIPTORS: libc::c_int = 2;
/// Bytes of names of descriptors that are read at once.
const LISTED: usize = 8 << 10;

/// Everything that holds what is `sought`, in words. A process that ends meanwhile, or that may not be looked at, is passed
/// over; one that cannot be looked at for want of descriptors or memory is an error, and not nobody.
pub fn of(sought: Sought<'_>, tables: &Tables) -> Result<Vec<String>> {
    let slow = Slow::among(tables);
    let mut mapped = BTreeSet::new();
    let mut found = Vec::new();
    for process in numbers(Path::new("/proc"))? {
        if process == std::process::id() {
            continue;
        }
        let place = PathBuf::from(format!("/proc/{process}"));
        if process_holds(&place, sought, &slow)? || maps(&place, sought, &slow, &mut mapped) {
            found.push(format!("process {process}{}, which has it open", named(&place)));
        }
    }
    if let Sought::Devices(devices) = sought {
        found.extend(loops_on(devices));
    }
    Ok(found)
}

/// The block device with this number and its partitions.
pub fn with_partitions(device: DeviceNumber) -> Vec<DeviceNumber> {
    let parts = device::sysfs::partitions(device).into_iter().map(|(_, number)| number);
    std::iter::once(device).chain(parts).collect()
}

/// The name that a process gave itself: whatever its tenant likes, so no more of it than letters.
fn named(process: &Path) -> String {
    let name = fs::read(process.join("comm")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(15).collect();
    if name.is_empty() { name } else { format!(" ({name})") }
}

/// The names in a directory of `/proc` that are numbers; none where that is gone, or may not be looked at.
fn numbers(directory: &Path) -> Result<Vec<u32>> {
    let failed = Error::of_io("read", directory);
    let listed = match fs::read_dir(directory) {
        Ok(listed) => listed,
        Err(error) if Errno::from_io_error(&error).is_some_and(is_passed_over) => {
            return Ok(vec![]);
        }
        Err(error) => return Err(failed(error)),
    };
    let numbers = listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers.collect())
}

/// Whether a process that it was answered for has ended or may not be looked at.
fn is_passed_over(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM)
}

/// Whether a thread of a process has it open or works in it. Threads may have descriptors of their own.
fn process_holds(process: &Path, sought: Sought<'_>, slow: &Slow<'_>) -> Result<bool> {
    let tasks = process.join("task");
    let mut looked_at: Vec<u32> = Vec::new();
    for number in numbers(&tasks)? {
        let Some(thread) = Thread::open(tasks.join(number.to_string()))? else { continue };
        if ["cwd", "root"].iter().any(|link| thread.works_in(link, sought, slow)) {
            return Ok(true);
        }
        if !looked_at.iter().any(|other| share_descriptors(*other, number)) {
            looked_at.push(number);
            if thread.has_open(sought, slow)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// What was opened in `/proc`; absent where it is to be passed over.
fn existing(opened: std::result::Result<OwnedFd, Errno>, place: &Path) -> Result<Option<OwnedFd>> {
    match opened {
        Ok(open) => Ok(Some(open)),
        Err(errno) if is_passed_over(errno) => Ok(None),
        Err(errno) => Err(Error::of("open", place)(errno)),
    }
}

/// A thread, as `/proc` shows it. What is in its directory is asked for from there: to walk to each of thousands of
/// descriptors from the root takes a fifth of the time of all of it.
struct Thread {
    place: PathBuf,
    directory: OwnedFd,
}

impl Thread {
    /// Absent where it is to be passed over.
    fn open(place: PathBuf) -> Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = existing(rustix::fs::open(&place, flags, Mode::empty()), &place)?;
        Ok(directory.map(|directory| Self { place, directory }))
    }

    fn works_in(&self, link: &str, sought: Sought<'_>, slow: &Slow<'_>) -> bool {
        if !matches!(sought, Sought::Directories(_)) {
            return false;
        }
        let Ok(path) = readlinkat(&self.directory, link, Vec::new()) else { return false };
        let path = Path::new(OsStr::from_bytes(path.to_bytes()));
        !slow.is_around(&self.place, path) && is(self.directory.as_fd(), link, sought)
    }

    fn has_open(&self, sought: Sought<'_>, slow: &Slow<'_>) -> Result<bool> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = openat(&self.directory, c"fd", flags, Mode::empty());
        let Some(open) = existing(open, &self.place)? else { return Ok(false) };
        let mut buffer = Vec::with_capacity(LISTED);
        let mut listed = RawDir::new(&open, buffer.spare_capacity_mut());
        while let Some(entry) = listed.next() {
            match entry {
                Ok(entry) if self.has(open.as_fd(), entry.file_name(), sought, slow) => {
                    return Ok(true);
                }
                Ok(_) => {}
                Err(errno) if is_passed_over(errno) => break,
                Err(errno) => return Err(Error::of("getdents64", &self.place)(errno)),
            }
        }
        Ok(false)
    }

    /// Whether the descriptor of this name in `fd` is of what is sought.
    fn has(&self, open: BorrowedFd<'_>, name: &CStr, sought: Sought<'_>, slow: &Slow<'_>) -> bool {
        // `.` and `..` are no links.
        let Ok(path) = readlinkat(open, name, Vec::new()) else { return false };
        let about = || {
            let number = OsStr::from_bytes(name.to_bytes());
            fs::read_to_string(self.place.join("fdinfo").join(number)).ok()
        };
        if path.to_bytes().starts_with(b"/") {
            let hangs = || slow.has(about().as_deref().and_then(mount_of));
            return (slow.ids.is_empty() || !hangs()) && is(open, name, sought);
        }
        // What has no path is named by its kind: `socket:[1]`, `anon_inode:inotify`.
        let watches = path.to_str().is_ok_and(|kind| kind.contains("notify"));
        watches && about().is_some_and(|about| about.lines().any(|line| watched(line, sought)))
    }
}

/// The id of the mount that a descriptor is on (proc_pid_fdinfo(5)).
fn mount_of(about: &str) -> Option<u64> {
    about.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

/// Whether a line says that a directory is watched (inotify(7), fanotify(7)): whoever does learns the names in it.
fn watched(line: &str, sought: Sought<'_>) -> bool {
    let Sought::Directories(files) = sought else { return false };
    let value = |key: &str| {
        let word = line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key))?;
        u64::from_str_radix(word, 16).ok()
    };
    let Some((inode, device)) = value("ino:").zip(value("sdev:")) else { return false };
    // The kernel's own form of a device number has 20 bits of minor.
    let (major, minor) = (u32::try_from(device >> 20), u32::try_from(device & 0xF_FFFF));
    let (Ok(major), Ok(minor)) = (major, minor) else { return false };
    files.contains(&FileId { device: DeviceNumber { major, minor }, inode })
}

/// Whether two threads have one table of descriptors. They are taken for two where that is not to be told.
fn share_descriptors(one: u32, other: u32) -> bool {
    // SAFETY: the call takes integers only and changes nothing.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, SAME_DESCRIPTORS, 0, 0) };
    order == 0
}

/// Whether what a link in `/proc` leads to is sought. Nothing is asked of its file system that it does not know.
fn is(directory: BorrowedFd<'_>, link: impl Arg, sought: Sought<'_>) -> bool {
    // AT_STATX_DONT_SYNC
    let how = AtFlags::NO_AUTOMOUNT | AtFlags::from_bits_retain(0x4000);
    let Ok(stat) = statx(directory, link, how, StatxFlags::TYPE | StatxFlags::INO) else {
        return false;
    };
    let number = |major, minor| DeviceNumber { major, minor };
    match sought {
        Sought::Directories(files) => {
            let device = number(stat.stx_dev_major, stat.stx_dev_minor);
            files.contains(&FileId { device, inode: stat.stx_ino })
        }
        Sought::Devices(devices) => {
            FileType::from_raw_mode(stat.stx_mode.into()) == FileType::BlockDevice
                && devices.contains(&number(stat.stx_rdev_major, stat.stx_rdev_minor))
        }
    }
}

/// Whether a process has a device mapped (mmap(2)), which lasts when its descriptor is closed. A file that was looked at
/// for another process, by its node, is none that is sought.
fn maps(
    process: &Path,
    sought: Sought<'_>,
    slow: &Slow<'_>,
    seen: &mut BTreeSet<(String, String)>,
) -> bool {
    if !matches!(sought, Sought::Devices(_)) {
        return false;
    }
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    String::from_utf8_lossy(&maps).lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(device), Some(inode)) =
            (fields.next(), fields.nth(2), fields.next())
        else {
            return false;
        };
        let node = (device.to_owned(), inode.to_owned());
        if inode == "0" || slow.is_on(device) || seen.contains(&node) {
            return false;
        }
        let found = is(CWD, process.join("map_files").join(without_zeros(range)), sought);
        if !found {
            seen.insert(node);
        }
        found
    })
}

/// A range of addresses as `map_files` names it (proc_pid_map_files(5)): `maps` fills with zeros.
fn without_zeros(range: &str) -> String {
    let trimmed = range.split('-').map(|end| end.trim_start_matches('0'));
    trimmed.map(|end| if end.is_empty() { "0" } else { end }).collect::<Vec<_>>().join("-")
}

/// The loop devices that show one of these devices.
fn loops_on(devices: &[DeviceNumber]) -> Vec<String> {
    let listed = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let attached = listed.filter(|entry| entry.path().join("loop/backing_file").exists());
    let mut found = Vec::new();
    for name in attached.map(|entry| entry.file_name()) {
        let path = Path::new("/dev").join(name);
        let Ok(open) = device::open(&path, Access::Read) else { continue };
        let behind = device::loop_file(&open, &path).ok().and_then(|file| file.of);
        if behind.is_some_and(|behind| devices.contains(&behind)) {
            found.push(format!("loop device {}", path.display()));
        }
    }
    found
}

/// The mounts of file systems that may not answer.
struct Slow<'a> {
    tables: &'a Tables,
    ids: BTreeSet<u64>,
    /// The numbers of their devices, as `maps` writes them.
    devices: BTreeSet<String>,
}

impl<'a> Slow<'a> {
    fn among(tables: &'a Tables) -> Self {
        let mounts = || tables.iter().flat_map(|(_, table)| table.iter()).filter(|m| is_slow(m));
        let number =
            |mount: &Mount| format!("{:02x}:{:02x}", mount.device.major, mount.device.minor);
        let (ids, devices) = (mounts().map(|m| m.id).collect(), mounts().map(number).collect());
        Self { tables, ids, devices }
    }

    fn has(&self, mount: Option<u64>) -> bool {
        mount.is_some_and(|id| self.ids.contains(&id))
    }

    fn is_on(&self, device: &str) -> bool {
        self.devices.contains(device)
    }

    /// Whether a path of a thread, as the thread sees it, lies on one.
    fn is_around(&self, thread: &Path, path: &Path) -> bool {
        if self.ids.is_empty() {
            return false;
        }
        let Ok(namespace) = fs::read_link(thread.join("ns/mnt")) else { return false };
        let mut tables = self.tables.iter().filter(|(of, _)| *of == namespace);
        tables.any(|(_, table)| table.around(path).is_some_and(is_slow))
    }
}

fn is_slow(mount: &Mount) -> bool {
    OF_SERVERS.iter().any(|server| mount.fs_type == *server)
}

#[cfg(test)]
mod tests;
