//! Whether anything still uses a volume (rule 5, never under a running pod): what mount tables say of it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Error;
use crate::host::DeviceNumber;
use crate::host::mountinfo::{Mount, MountTable};
use crate::source::Facts;
use crate::volume::{Fingerprint, LocalVolume};

/// [`Error::InUse`] if a mount of the volume remains that is not the administrator's own.
///
/// In this mount namespace every mount counts that shows the volume's root or what lies beneath it, except the ones
/// that were there while the volume was free. In others, as far as `/proc` shows them, one whose mount point ends in
/// one of those paths is taken for a mirror of them (containers that see the host do that), and any other counts.
pub(super) fn require_unused(volume: &LocalVolume, facts: &Facts) -> Result<(), Error> {
    let published = volume.status.published.iter().map(|place| place.path.clone());
    let mut by: BTreeSet<String> = published.collect();
    let own = Own::of(volume);
    let table = MountTable::read()?;
    let node = Node::of(volume, &table);
    by.extend(here(shows(&table, facts, node.as_ref()), &own));
    for table in other_namespaces() {
        by.extend(elsewhere(shows(&table, facts, node.as_ref()), &own));
    }
    if by.is_empty() { Ok(()) } else { Err(Error::InUse { by: by.into_iter().collect() }) }
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

fn elsewhere<'a>(shown: impl Iterator<Item = &'a Mount>, own: &Own) -> Vec<String> {
    let others = shown.filter(|mount| !own.has_mirrored(&mount.mount_point));
    others.map(|mount| format!("{} in another mount namespace", named(mount))).collect()
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

/// The mount tables of the other mount namespaces that `/proc` shows, each once. A process that ends meanwhile, or that
/// may not be looked at, is passed over.
fn other_namespaces() -> Vec<MountTable> {
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/mnt")).ok();
    let mut seen: BTreeSet<OsString> = BTreeSet::new();
    seen.extend(namespace(Path::new("/proc/thread-self")).map(PathBuf::into_os_string));
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    });
    let mut tables = Vec::new();
    for process in numbered.map(|entry| entry.path()) {
        let Some(namespace) = namespace(&process) else { continue };
        if seen.insert(namespace.into_os_string()) {
            tables.extend(MountTable::read_from(&process.join("mountinfo")));
        }
    }
    tables
}
