//! The mount table of a mount namespace: `/proc/PID/mountinfo` (proc_pid_mountinfo(5)), read as bytes.
//!
//! Paths and options may hold any byte but NUL; the kernel escapes space, tab, line feed and backslash in octal. A
//! line that cannot be read is an error and never a gap: a mount that is not seen could be unmounted, or wiped, by mistake.

mod origin;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{DeviceNumber, Errno, Error, Result};
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
pub(crate) mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        static READS: Cell<usize> = const { Cell::new(0) };
    }

    /// How many mount tables this thread has read.
    pub(crate) fn reads() -> usize {
        READS.get()
    }

    pub(super) fn count_read() {
        READS.set(READS.get() + 1);
    }

    fn escape(path: &[u8]) -> Vec<u8> {
        path.iter()
            .flat_map(|byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                other => vec![*other],
            })
            .collect()
    }

    #[test]
    fn a_line_is_read_with_its_optional_fields() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime shared:7 master:1 - ext3 /dev/root rw,errors=continue\n";

        let table = MountTable::parse(line).unwrap();

        let mount = table.at(Path::new("/mnt 2")).unwrap();
        assert_eq!((mount.id, mount.parent), (36, 35));
        assert_eq!(mount.device, DeviceNumber { major: 98, minor: 0 });
        assert_eq!(mount.root, Path::new("/mnt1"));
        assert_eq!(mount.propagation, "shared:7 master:1");
        assert_eq!(mount.fs_type, "ext3");
        assert!(!mount.is_read_only());
    }

    #[test]
    fn of_two_mounts_at_one_place_the_later_is_on_top() {
        let table =
            MountTable::parse(b"1 0 0:1 / /a rw - t s rw\n2 1 0:2 / /a ro - t s rw\n").unwrap();

        assert_eq!(table.at(Path::new("/a")).unwrap().id, 2);
        assert!(table.at(Path::new("/a")).unwrap().is_read_only());
    }

    #[test]
    fn a_mount_without_a_source_name_is_read() {
        assert!(MountTable::parse(b"1 0 0:1 / /a rw - tmpfs  rw\n").is_ok());
    }

    #[test]
    fn a_malformed_line_is_an_error_and_not_a_gap() {
        for line in
            ["x", "1 0 0:1 / /a rw", "1 0 0 / /a rw - t s rw", "1 0 0:1 / /a\\04 rw - t s rw"]
        {
            assert_eq!(MountTable::parse(line.as_bytes()), Err(MalformedLine), "{line}");
        }
    }

    #[test]
    fn a_directory_beside_another_with_the_same_beginning_is_not_beneath_it() {
        let table = MountTable::parse(b"1 0 8:1 /data/v12 /a rw - ext4 s rw\n").unwrap();
        let device = DeviceNumber { major: 8, minor: 1 };

        assert_eq!(table.showing(device, Path::new("/data/v1")).count(), 0);
        assert_eq!(table.showing(device, Path::new("/data")).count(), 1);
    }

    #[test]
    fn what_a_directory_lies_on_is_the_nearest_mount_around_it() {
        let table = MountTable::parse(
            b"1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /mnt/a rw - ext4 b rw\n3 1 8:2 /x /b rw - ext4 b rw\n",
        )
        .unwrap();
        let around = |path: &str| table.around(Path::new(path)).unwrap().id;

        assert_eq!(["/mnt/ab", "/mnt/a", "/mnt/a/x/y", "/b/c"].map(around), [1, 2, 2, 3]);
        let on = |minor| table.on(DeviceNumber { major: 8, minor }).map(|mount| mount.id);
        assert_eq!(on(2).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn where_a_mount_point_lies_is_told_by_what_is_beneath_it_and_not_by_its_path() {
        // The host, with a mount upon another and one of a directory upon itself; a container that sees a part of it.
        let host = MountTable::parse(
            b"1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /mnt/v1 rw - ext4 b rw\n3 2 8:2 / /mnt/v1 rw - ext4 b rw\n\
              4 1 8:1 /mnt/v2 /mnt/v2 rw - ext4 a rw\n",
        )
        .unwrap();
        let container = MountTable::parse(
            b"5 9 0:30 / / rw - overlay o rw\n6 5 8:1 /mnt /host rw - ext4 a rw\n7 6 8:2 / /host/v1 rw - ext4 b rw\n\
              8 5 8:2 / /mnt/v1 rw - ext4 b rw\n",
        )
        .unwrap();
        let ground = |table: &MountTable, id| table.ground_of(table.by_id(id).unwrap());
        let on_root = |path: &str| Some((DeviceNumber { major: 8, minor: 1 }, path.into()));

        assert_eq!([2, 3].map(|id| ground(&host, id)), [on_root("/mnt/v1"), on_root("/mnt/v1")]);
        assert_eq!(ground(&host, 4), on_root("/mnt/v2"));
        for path in ["/mnt/v1", "/mnt/v2"] {
            assert_eq!(host.ground(Path::new(path)), on_root(path));
        }
        assert_eq!(ground(&container, 7), on_root("/mnt/v1"));
        assert_eq!(container.ground(Path::new("/host/v1")), on_root("/mnt/v1"));
        assert_ne!(ground(&container, 8), on_root("/mnt/v1"));
        assert_eq!((ground(&host, 1), ground(&container, 5)), (None, None));
    }

    #[test]
    fn the_table_of_this_process_is_read() {
        assert!(MountTable::read().unwrap().at(Path::new("/proc")).is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = MountTable::parse(&text);
        }

        #[test]
        fn any_mount_point_is_read_back(path in proptest::collection::vec(1_u8.., 1..100)) {
            let mut line = b"1 0 8:1 / ".to_vec();
            line.extend(escape(&path));
            line.extend(b" rw - ext4 /dev/sda rw\n");

            let table = MountTable::parse(&line).unwrap();

            prop_assert_eq!(table.iter().next().unwrap().mount_point.as_os_str().as_bytes(), &path[..]);
        }
    }
}
