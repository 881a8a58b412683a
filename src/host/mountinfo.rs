//! The mount table of a mount namespace: `/proc/PID/mountinfo` (proc_pid_mountinfo(5)), read as bytes.
//!
//! Paths and options may hold any byte but NUL; the kernel escapes space, tab, line feed and backslash in octal. A
//! line that cannot be read is an error and never a gap: a mount that is not seen could be unmounted, or wiped, by mistake.

mod asked;
mod origin;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{DeviceNumber, Errno, Error, Result};
pub(super) use asked::UNIQUE_ID;
use origin::Origin;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its id, unique among the mounts that exist now, and reused later.
    pub id: u64,
    /// The id of the mount that it lies on.
    pub parent: u64,
    /// The number of the file system's device, as `st_dev` shows it.
    pub device: DeviceNumber,
    /// Which directory (or file) of the file system is its root; `/` unless it is a bind mount or a subvolume.
    pub root: PathBuf,
    /// Where it is mounted, seen from the root directory of the process.
    pub mount_point: PathBuf,
    /// Options of this mount, comma-separated.
    pub options: OsString,
    /// `shared:N`, `master:N`, `propagate_from:N`, `unbindable`, separated by spaces; empty for a private mount.
    pub propagation: OsString,
    /// The type of the file system, with its subtype, for example `fuse.sshfs`.
    pub fs_type: OsString,
    /// What is mounted, for example `/dev/sdb`; free text of the file system.
    pub source: OsString,
    /// Options of the file system, comma-separated.
    pub super_options: OsString,
}

impl Mount {
    /// The mount that `file`, an open descriptor, was reached through; `path` is for messages. The kernel is asked for this
    /// one alone (statmount(2)); where it cannot say (before Linux 6.13), the whole table is read. `ESTALE` if it was
    /// unmounted meanwhile, lazily say.
    pub fn of(file: BorrowedFd<'_>, path: &Path) -> Result<Self> {
        if let Some(mount) = asked::mount_of(file) {
            return Ok(mount);
        }
        let id = super::identify::node(file, path)?.mount;
        let table = MountTable::read()?;
        let mount = id.and_then(|id| table.by_id(id)).cloned();
        mount.ok_or_else(|| Error::of("find the mount", path)(Errno::STALE))
    }

    /// Whether the mount, or the whole file system, is read-only.
    pub fn is_read_only(&self) -> bool {
        has_option(&self.options, "ro") || has_option(&self.super_options, "ro")
    }

    /// Whether this mount shows `root` of the file system on `device`, or something beneath it.
    pub fn shows(&self, device: DeviceNumber, root: &Path) -> bool {
        self.device == device && self.root.starts_with(root)
    }

    /// Where `path`, which lies on this mount, is within the file system.
    pub fn path_in_filesystem(&self, path: &Path) -> Option<PathBuf> {
        let beneath = path.strip_prefix(&self.mount_point).ok()?;
        Some(if beneath.as_os_str().is_empty() {
            self.root.clone()
        } else {
            self.root.join(beneath)
        })
    }
}

/// Where a mount point lies: the file system, and the place within it. It is the same in every namespace that shows the
/// place, by whichever path.
pub type Ground = (DeviceNumber, PathBuf);

/// Whether `options`, comma-separated, has `option`.
pub fn has_option(options: &OsStr, option: &str) -> bool {
    options.as_bytes().split(|b| *b == b',').any(|o| o == option.as_bytes())
}

/// Every mount of a namespace, in the kernel's order: of two at one mount point the later one is on top.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountTable {
    mounts: Vec<Mount>,
    /// Where in `mounts` each is, by what is asked for: whoever looks at every volume asks for each.
    by_id: HashMap<u64, usize>,
    by_mount_point: HashMap<PathBuf, usize>,
    /// By the device, and in the order of what is shown of it.
    by_root: HashMap<DeviceNumber, BTreeMap<PathBuf, Vec<usize>>>,
    origin: Origin,
}

impl MountTable {
    /// Reads the table of the calling thread, which is that of its process unless the thread has left it.
    pub fn read() -> Result<Self> {
        Self::read_from(Path::new("/proc/thread-self/mountinfo"))
    }

    /// Reads the table at `path`: `/proc/PID/mountinfo`.
    pub fn read_from(path: &Path) -> Result<Self> {
        #[cfg(test)]
        tests::count_read();
        let mut text = Vec::new();
        let opened = File::open(path).and_then(|mut file| {
            file.read_to_end(&mut text)?;
            Ok(file)
        });
        let file = opened.map_err(Error::of_io("read", path))?;
        let table = Self::parse(&text).map_err(|MalformedLine| Error {
            call: "parse",
            path: path.to_owned(),
            errno: Errno::BADMSG,
        })?;
        Ok(Self { origin: file.into(), ..table })
    }

    /// Whether nothing was mounted or unmounted since it was read. In one that is not current any more the id of a mount may
    /// be that of another, which is gone.
    pub fn is_current(&self) -> bool {
        self.origin.is_current()
    }

    /// Parses the text of a mountinfo file.
    pub fn parse(text: &[u8]) -> std::result::Result<Self, MalformedLine> {
        let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let mounts = lines.map(|line| parse_line(line).ok_or(MalformedLine));
        Ok(Self::of(mounts.collect::<std::result::Result<_, _>>()?))
    }

    fn of(mounts: Vec<Mount>) -> Self {
        let mut table = Self { mounts, ..Self::default() };
        for (index, mount) in table.mounts.iter().enumerate() {
            table.by_id.insert(mount.id, index);
            // The later one lies on top.
            table.by_mount_point.insert(mount.mount_point.clone(), index);
            let on = table.by_root.entry(mount.device).or_default();
            on.entry(mount.root.clone()).or_default().push(index);
        }
        table
    }

    /// Every mount.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Mount> {
        self.mounts.iter()
    }

    /// The topmost mount whose mount point is exactly `path`.
    pub fn at(&self, path: &Path) -> Option<&Mount> {
        self.by_mount_point.get(path).map(|index| &self.mounts[*index])
    }

    /// The mount with this id.
    pub fn by_id(&self, id: u64) -> Option<&Mount> {
        self.by_id.get(&id).map(|index| &self.mounts[*index])
    }

    /// The mounts of the file system on `device`.
    pub fn on(&self, device: DeviceNumber) -> impl Iterator<Item = &Mount> {
        self.showing(device, Path::new("/"))
    }

    /// The mount that `path`, in which nothing is a symlink, lies on.
    pub fn around(&self, path: &Path) -> Option<&Mount> {
        path.ancestors().find_map(|path| self.at(path))
    }

    /// Where `path`, in which nothing is a symlink, lies, whatever is mounted at it.
    pub fn ground(&self, path: &Path) -> Option<Ground> {
        let around = self.around(path.parent()?)?;
        Some((around.device, around.path_in_filesystem(path)?))
    }

    /// Where the mount point of `mount` lies; of mounts that lie one upon the other, that of the lowest. Absent where the
    /// table does not have what it lies on, as for the root.
    pub fn ground_of(&self, mount: &Mount) -> Option<Ground> {
        let next = |mount: &&Mount| self.by_id(mount.parent);
        let stack = std::iter::successors(self.by_id(mount.parent), next);
        // A table in which mounts lie upon each other in a circle has no lowest one.
        let mut stack = stack.take(self.mounts.len());
        let beneath = stack.find(|beneath| beneath.mount_point != mount.mount_point)?;
        Some((beneath.device, beneath.path_in_filesystem(&mount.mount_point)?))
    }

    /// The mounts that show `root` of the file system on `device`, or something beneath it.
    pub fn showing(&self, device: DeviceNumber, root: &Path) -> impl Iterator<Item = &Mount> {
        // Paths are ordered by their components, so what lies beneath follows at once.
        let on = self.by_root.get(&device).into_iter();
        let from = on.flat_map(|on| on.range(root.to_owned()..));
        let shown = from.take_while(|(shown, _)| shown.starts_with(root));
        let mut shown: Vec<_> = shown.flat_map(|(_, indices)| indices).collect();
        shown.sort_unstable();
        shown.into_iter().map(|index| &self.mounts[*index])
    }
}

/// A line of the mount table that does not have the documented form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line of the mount table does not have the documented form")]
pub struct MalformedLine;

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = device_number(fields.next()?)?;
    let root = unescape(fields.next()?)?.into();
    let mount_point = unescape(fields.next()?)?.into();
    let options = unescape(fields.next()?)?;
    let mut propagation: Vec<&[u8]> = Vec::new();
    loop {
        match fields.next()? {
            b"-" => break,
            tag => propagation.push(tag),
        }
    }
    let propagation = OsString::from_vec(propagation.join(&b' '));
    let fs_type = unescape(fields.next()?)?;
    // A file system without a source name leaves the field empty, which splitting keeps.
    let source = unescape(fields.next()?)?;
    let super_options = unescape(fields.next().unwrap_or_default())?;
    Some(Mount {
        id,
        parent,
        device,
        root,
        mount_point,
        options,
        propagation,
        fs_type,
        source,
        super_options,
    })
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn device_number(field: &[u8]) -> Option<DeviceNumber> {
    let colon = field.iter().position(|b| *b == b':')?;
    Some(DeviceNumber { major: number(&field[..colon])?, minor: number(&field[colon + 1..])? })
}

/// Undoes the kernel's `\ooo`. A backslash that no three octal digits follow is malformed.
fn unescape(field: &[u8]) -> Option<OsString> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        if *first != b'\\' {
            plain.push(*first);
            rest = after;
            continue;
        }
        let digits = after.get(..3)?;
        let value = digits.iter().try_fold(0_u16, |value, digit| match digit {
            b'0'..=b'7' => Some(value * 8 + u16::from(digit - b'0')),
            _ => None,
        })?;
        plain.push(u8::try_from(value).ok()?);
        rest = &after[3..];
    }
    Some(OsString::from_vec(plain))
}

#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
#[cfg(test)]
pub(crate) mod tests;
