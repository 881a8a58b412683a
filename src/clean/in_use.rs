//! Whether anything still uses a volume (rule 5, never under a running pod): what mount tables say of it, and who has it
//! open.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Error;
use super::wipe::keeps_lost_and_found;
use crate::host::DeviceNumber;
use crate::host::beneath::{Directory, LOST_AND_FOUND};
use crate::host::holder::{self, Sought};
use crate::host::mountinfo::{Ground, Mount, MountTable};
use crate::host::namespace::HostNamespace;
use crate::source::{Facts, Source};
use crate::volume::{Fingerprint, LocalVolume};

/// [`Error::InUse`] if a mount of the volume remains that is not the administrator's own, or one within it.
///
/// In this mount namespace every mount counts that shows the volume's root or what lies beneath it, except the ones
/// that were there while the volume was free. In others, as far as `/proc` shows them, one counts unless its mount point is
/// the very directory at which one of the administrator's stands, here or on the host: containers that see the host have
/// mirrors of those, by whatever path, and a tenant has nothing there. A mount of anything at a place within the volume
/// counts anywhere: a program that wipes would go into it, and to remove its mount point takes it away from whoever uses
/// it.
///
/// Whoever has its root directory open, or the device, has what the next tenant puts there, mounted or not ([`holder`]).
/// What is open of the things beneath a directory is its user's own, and ends with them.
pub(super) fn require_unused(
    volume: &LocalVolume,
    source: &Source,
    host: HostNamespace,
) -> Result<(), Error> {
    require_unpublished(volume)?;
    let (mut by, tables) = mounts(volume, source, host)?;
    by.extend(holders(source, &tables)?);
    require_none(by)
}

/// As [`require_unused`], of what mount tables say alone, which is a small part of the work.
pub(super) fn require_unmounted(
    volume: &LocalVolume,
    source: &Source,
    host: HostNamespace,
) -> Result<(), Error> {
    require_unpublished(volume)?;
    require_none(mounts(volume, source, host)?.0)
}

fn require_none(by: BTreeSet<String>) -> Result<(), Error> {
    if by.is_empty() { Ok(()) } else { Err(Error::InUse { by: by.into_iter().collect() }) }
}

/// The mount table of a mount namespace, as [`holder::Tables`] has it.
type Table = (PathBuf, MountTable);

/// The mounts of the volume and within it that count, and the tables by which that is known.
fn mounts(
    volume: &LocalVolume,
    source: &Source,
    host: HostNamespace,
) -> Result<(BTreeSet<String>, Vec<Table>), Error> {
    let facts = source.facts();
    let mut by = BTreeSet::new();
    let table = MountTable::read()?;
    let own = Own::of(volume, &table, host.table()?.as_ref());
    let node = Node::of(volume, &table);
    by.extend(here(shows(&table, facts, node.as_ref()), &own));
    by.extend(within(&table, facts).map(named));
    let mut tables = Vec::new();
    for (namespace, table) in other_tables() {
        match table {
            Ok(table) => {
                let shown = shows(&table, facts, node.as_ref());
                by.extend(shown.filter(|m| !own.is_mirrored(&table, m)).map(named_elsewhere));
                by.extend(within(&table, facts).map(named_elsewhere));
                tables.push((namespace, table));
            }
            Err(process) => drop(by.insert(process)),
        }
    }
    tables.extend(own_namespace().map(|namespace| (namespace, table)));
    Ok((by, tables))
}

/// Who has the volume open.
fn holders(source: &Source, tables: &holder::Tables) -> Result<Vec<String>, Error> {
    if source.is_device() {
        let devices = holder::with_partitions(source.facts().device);
        return Ok(holder::of(Sought::Devices(&devices), tables)?);
    }
    let root = Directory::open(source.as_fd(), source.path())?;
    let mut stay = vec![root.id()];
    if keeps_lost_and_found(source) {
        // What else may be in its place is removed.
        stay.extend(root.enter(LOST_AND_FOUND).ok().map(|kept| kept.id()));
    }
    Ok(holder::of(Sought::Directories(&stay), tables)?)
}

/// [`Error::InUse`] if the volume is recorded to be anywhere for its tenant: then nothing else has to be looked at.
pub(crate) fn require_unpublished(volume: &LocalVolume) -> Result<(), Error> {
    let by: Vec<_> = volume.status.published.iter().map(|place| place.path.clone()).collect();
    if by.is_empty() { Ok(()) } else { Err(Error::InUse { by }) }
}

/// What holds the file system of a device beside its mount `own` of this namespace's `table`, as far as `/proc` shows it:
/// mounts of it in other namespaces, but for those that go with that one, since what is beneath them follows what is
/// beneath it (mount_namespaces(7)).
pub(super) fn held_elsewhere(device: DeviceNumber, own: &Mount, table: &MountTable) -> Vec<String> {
    let beneath = |table: &MountTable, mount: &Mount, kinds| {
        let beneath = table.by_id(mount.parent);
        beneath.map(|mount| groups(&mount.propagation, kinds)).unwrap_or_default()
    };
    let (peers, ground) = (beneath(table, own, &[b"shared:"]), table.ground_of(own));
    let follows = |table: &MountTable, mount: &Mount| {
        let led = beneath(table, mount, &[b"shared:", b"master:"]);
        !led.is_disjoint(&peers) && ground.is_some() && table.ground_of(mount) == ground
    };
    let mut by = Vec::new();
    for (_, table) in other_tables() {
        match table {
            Ok(table) => {
                let others = table.iter().filter(|m| m.device == device && !follows(&table, m));
                by.extend(others.map(named_elsewhere));
            }
            Err(process) => by.push(process),
        }
    }
    by
}

/// The numbers of the peer groups that a mount has of these kinds.
fn groups(propagation: &OsStr, kinds: &[&[u8]]) -> BTreeSet<Vec<u8>> {
    let words = propagation.as_bytes().split(|byte| *byte == b' ');
    let numbers = words.filter_map(|word| kinds.iter().find_map(|kind| word.strip_prefix(*kind)));
    numbers.map(<[u8]>::to_vec).collect()
}

/// The places of a volume that are the administrator's.
struct Own {
    /// By their paths in this namespace.
    paths: Vec<PathBuf>,
    /// By where they lie, those of the host's namespace among them.
    grounds: Vec<Ground>,
}

impl Own {
    fn of(volume: &LocalVolume, table: &MountTable, host: Option<&MountTable>) -> Self {
        let status = &volume.status;
        let path = PathBuf::from(&status.path);
        // A symlink's entry is mounted where it leads to.
        let resolved = std::fs::canonicalize(&path).ok();
        let own = status.own_mounts.iter().map(PathBuf::from);
        let paths: Vec<_> = own.chain([path]).chain(resolved).collect();
        let grounds = paths.iter().filter_map(|path| table.ground(path));
        let on_host = status.host_mounts.iter().map(Path::new);
        let on_host =
            host.into_iter().flat_map(|host| on_host.clone().filter_map(|at| host.ground(at)));
        let grounds = grounds.chain(on_host).collect();
        Self { paths, grounds }
    }

    fn has(&self, mount_point: &Path) -> bool {
        self.paths.iter().any(|own| own == mount_point)
    }

    /// Whether a mount of another namespace stands where one of these does.
    fn is_mirrored(&self, table: &MountTable, mount: &Mount) -> bool {
        table.ground_of(mount).is_some_and(|ground| self.grounds.contains(&ground))
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

/// The mounts that stand on a place within the volume's directory, whatever they show and by whichever path it is reached.
fn within<'a>(table: &'a MountTable, facts: &'a Facts) -> impl Iterator<Item = &'a Mount> {
    let is_directory = matches!(facts.fingerprint, Fingerprint::Directory { .. });
    table.iter().filter(move |mount| {
        let parent = table.by_id(mount.parent).filter(|parent| parent.device == facts.device);
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

/// The mount namespace of this thread.
fn own_namespace() -> Option<PathBuf> {
    std::fs::read_link("/proc/thread-self/ns/mnt").ok()
}

/// The mount tables of the other mount namespaces that `/proc` shows, or in place of one a process that may have any
/// mount. A process that ends meanwhile, or that may not be looked at, is passed over.
///
/// A process sees what lies beneath its root directory: of a namespace the table of each different root is read.
fn other_tables() -> Vec<(PathBuf, Result<MountTable, String>)> {
    let link = |process: &Path, name| std::fs::read_link(process.join(name)).ok();
    let own = own_namespace();
    let mut seen = BTreeSet::new();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    });
    let mut tables = Vec::new();
    for process in numbered.map(|entry| entry.path()) {
        let Some(namespace) = link(&process, "ns/mnt") else { continue };
        if Some(&namespace) == own.as_ref() {
            continue;
        }
        let view = (namespace.clone(), link(&process, "root"));
        if seen.contains(&view) {
            continue;
        }
        match MountTable::read_from(&process.join("mountinfo")) {
            Ok(table) => {
                tables.push((namespace, Ok(table)));
                seen.insert(view);
            }
            Err(error) if link(&process, "ns/mnt").is_some() => {
                let process = format!("a process whose mounts cannot be told ({error})");
                tables.push((namespace, Err(process)));
            }
            Err(_) => {}
        }
    }
    tables
}
