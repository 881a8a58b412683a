//! Whether anything still uses a volume (rule 5, never under a running pod): what mount tables say of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Error;
use crate::host::DeviceNumber;
use crate::host::mountinfo::{Mount, MountTable};
use crate::source::Facts;
use crate::volume::{Fingerprint, LocalVolume};

/// [`Error::InUse`] if a mount of the volume remains that is not the administrator's own, or one within it.
///
/// In this mount namespace every mount counts that shows the volume's root or what lies beneath it, except the ones
/// that were there while the volume was free. In others, as far as `/proc` shows them, one whose mount point ends in
/// one of those paths is taken for a mirror of them (containers that see the host do that), and any other counts. A mount
/// of anything at a place within the volume counts anywhere: a program that wipes would go into it, and to remove its
/// mount point takes it away from whoever uses it.
pub(super) fn require_unused(volume: &LocalVolume, facts: &Facts) -> Result<(), Error> {
    let published = volume.status.published.iter().map(|place| place.path.clone());
    let mut by: BTreeSet<String> = published.collect();
    let own = Own::of(volume);
    let table = MountTable::read()?;
    let node = Node::of(volume, &table);
    by.extend(here(shows(&table, facts, node.as_ref()), &own));
    by.extend(within(&table, facts).map(named));
    for table in other_tables() {
        match table {
            Ok(table) => {
                by.extend(elsewhere(shows(&table, facts, node.as_ref()), &own));
                by.extend(within(&table, facts).map(named_elsewhere));
            }
            Err(process) => drop(by.insert(process)),
        }
    }
    if by.is_empty() { Ok(()) } else { Err(Error::InUse { by: by.into_iter().collect() }) }
}

/// What holds the file system of a device beside its mount at `place`, as far as `/proc` shows it: mounts of it in other
/// namespaces, but for those that go with that one, since mounts there follow the ones here.
pub(super) fn held_elsewhere(device: DeviceNumber, own: &Mount) -> Vec<String> {
    let peers: Vec<&[u8]> = groups(&own.propagation, &[b"shared:"]).collect();
    let follows = |mount: &Mount| {
        groups(&mount.propagation, &[b"shared:", b"master:"]).any(|group| peers.contains(&group))
    };
    let mut by = Vec::new();
    for table in other_tables() {
        match table {
            Ok(table) => {
                let others = table.iter().filter(|m| m.device == device && !follows(m));
                by.extend(others.map(named_elsewhere));
            }
            Err(process) => by.push(process),
        }
    }
    by
}

/// The numbers of the peer groups that a mount has of these kinds (mount_namespaces(7)).
fn groups<'a>(
    propagation: &'a OsStr,
    kinds: &'static [&'static [u8]],
) -> impl Iterator<Item = &'a [u8]> {
    let words = propagation.as_bytes().split(|byte| *byte == b' ');
    words.filter_map(|word| kinds.iter().find_map(|kind| word.strip_prefix(*kind)))
}

/// The places of a volume that are the administrator's.
struct Own(Vec<PathBuf>);

impl Own {
    fn of(volume: &LocalVolume) -> Self {
        let path = PathBuf::from(&volume.status.path);
        // A symlink's entry is mounted where it leads to.
        let resolved = std::fs::canonicalize(&path).ok();
        let own = volume.status.own_mounts.iter().map(PathBuf::from);
        Self(own.chain([path]).chain(resolved).collect())
    }

    fn has(&self, mount_point: &Path) -> bool {
        self.0.iter().any(|own| own == mount_point)
    }

    fn has_mirrored(&self, mount_point: &Path) -> bool {
        let ends = |own: &PathBuf| mount_point.ends_with(own.strip_prefix("/").unwrap_or(own));
        self.0.iter().any(ends)
    }
}

fn here<'a>(shown: impl Iterator<Item = &'a Mount>, own: &Own) -> Vec<String> {
    let others = shown.filter(|mount| !own.has(&mount.mount_point));
    others.map(named).collect()
}

/// A mount that is in the way, for a sentence.
pub(super) fn named(mount: &Mount) -> String {
    format!("a mount at {}", mount.mount_point.display())
}

fn named_elsewhere(mount: &Mount) -> String {
    format!("{} in another mount namespace", named(mount))
}

fn elsewhere<'a>(shown: impl Iterator<Item = &'a Mount>, own: &Own) -> Vec<String> {
    let others = shown.filter(|mount| !own.has_mirrored(&mount.mount_point));
    others.map(named_elsewhere).collect()
}

/// The mounts that stand on a place within the volume's directory, whatever they show and by whichever path it is reached.
fn within<'a>(table: &'a MountTable, facts: &'a Facts) -> impl Iterator<Item = &'a Mount> {
    let is_directory = matches!(facts.fingerprint, Fingerprint::Directory { .. });
    let parents: BTreeMap<u64, &Mount> = table.iter().map(|mount| (mount.id, mount)).collect();
    table.iter().filter(move |mount| {
        let parent = parents.get(&mount.parent).filter(|parent| parent.device == facts.device);
        let place = parent.and_then(|parent| parent.path_in_filesystem(&mount.mount_point));
        is_directory && place.is_some_and(|at| at != facts.root && at.starts_with(&facts.root))
    })
}

/// The mounts that show the volume: its directory or what lies beneath, a file system on the device, its device node.
fn shows<'a>(
    table: &'a MountTable,
    facts: &'a Facts,
    node: Option<&'a Node>,
) -> impl Iterator<Item = &'a Mount> {
    let is_device = matches!(facts.fingerprint, Fingerprint::Device { .. });
    table.iter().filter(move |mount| {
        if is_device {
            mount.device == facts.device
                || node.is_some_and(|node| mount.shows(node.device, &node.root))
        } else {
            mount.shows(facts.device, &facts.root)
        }
    })
}

/// Where a device's node lies: the file system (devtmpfs, nearly always) and the path within it.
struct Node {
    device: DeviceNumber,
    root: PathBuf,
}

impl Node {
    fn of(volume: &LocalVolume, table: &MountTable) -> Option<Self> {
        let path = std::fs::canonicalize(&volume.status.path).ok()?;
        let around = table.iter().filter(|mount| path.starts_with(&mount.mount_point));
        // Of mounts at one place the last is on top.
        let mount = around.max_by_key(|mount| mount.mount_point.components().count())?;
        Some(Self { device: mount.device, root: mount.path_in_filesystem(&path)? })
    }
}

/// The mount tables of the other mount namespaces that `/proc` shows, or in place of one a process that may have any
/// mount. A process that ends meanwhile, or that may not be looked at, is passed over.
///
/// A process sees what lies beneath its root directory: of a namespace the table of each different root is read.
fn other_tables() -> Vec<Result<MountTable, String>> {
    let link = |process: &Path, name| std::fs::read_link(process.join(name)).ok();
    let own = link(Path::new("/proc/thread-self"), "ns/mnt");
    let mut seen = BTreeSet::new();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    });
    let mut tables = Vec::new();
    for process in numbered.map(|entry| entry.path()) {
        let namespace = link(&process, "ns/mnt");
        if namespace.is_none() || namespace == own {
            continue;
        }
        let view = (namespace, link(&process, "root"));
        if seen.contains(&view) {
            continue;
        }
        match MountTable::read_from(&process.join("mountinfo")) {
            Ok(table) => {
                tables.push(Ok(table));
                seen.insert(view);
            }
            Err(error) if link(&process, "ns/mnt").is_some() => {
                tables.push(Err(format!("a process whose mounts cannot be told ({error})")));
            }
            Err(_) => {}
        }
    }
    tables
}
