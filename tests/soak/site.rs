//! The host's 200 volumes, of every kind, and the configurations by which they are offered.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use crate::dice::Dice;
use crate::support::{Host, MIB};

/// What a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory in the pool's directory.
    Directory,
    /// A tmpfs, mounted at the entry.
    Tmpfs,
    /// A directory elsewhere, bound to the entry.
    Bind,
    /// A symlink to a directory elsewhere.
    Link,
    /// A symlink to a loop device, given away as a raw device.
    Raw,
    /// A symlink to a loop device, on which Berth makes a file system for each tenant.
    Device,
    /// An ext4 on a loop device, which the administrator made and mounted; it is reformatted after each tenant.
    Ext4,
}

/// One volume, as the administrator made it.
#[derive(Debug, Clone)]
pub struct Site {
    pub kind: Kind,
    /// The entry in the pool's directory.
    pub path: PathBuf,
    /// Where it lies: the directory that is bound or linked to, the loop device, or the entry itself.
    pub source: PathBuf,
    /// The UUID that its file system had at first.
    pub uuid: Option<[u8; 16]>,
}

/// Each pool, how many volumes it has, and what its configuration says beside path and `match`.
const POOLS: [(&str, Kind, usize, &str); 7] = [
    ("plain", Kind::Directory, 60, "accept: [directory], capacity: 4Mi"),
    ("mounts", Kind::Tmpfs, 70, "accept: [mount]"),
    ("binds", Kind::Bind, 20, "accept: [mount], capacity: 2Mi"),
    ("links", Kind::Link, 20, "accept: [mount, directory], capacity: 2Mi"),
    ("raw", Kind::Raw, 10, "mode: Block, clean: {method: zero, verify: true}"),
    ("disks", Kind::Device, 10, "accept: [device]"),
    ("ext4", Kind::Ext4, 10, "accept: [mount], clean: {method: reformat}"),
];

/// Volumes of a host.
pub const VOLUMES: usize = 200;
/// The pool of volumes that come and go while the server runs.
pub const VISITORS: &str = "visitors";
/// A pool that is configured at times only, and its volumes then.
pub const EXTRA: (&str, usize) = ("extra", 5);
/// Bytes of a raw device: all of it is read in each audit.
pub const RAW: u64 = 2 * MIB;
/// Bytes of a device that gets a file system: enough for an ext4 with a journal.
const DISK: u64 = 16 * MIB;

/// Makes them all.
pub fn make(host: &mut Host) -> Vec<Site> {
    let mut sites = Vec::new();
    for (pool, kind, count, _) in POOLS {
        sites.extend((0..count).map(|number| one(host, pool, kind, number)));
    }
    for number in 0..EXTRA.1 {
        host.directory(EXTRA.0, &format!("v{number}"));
    }
    host.pool(VISITORS);
    assert_eq!(sites.len(), VOLUMES);
    sites
}

fn one(host: &mut Host, pool: &'static str, kind: Kind, number: usize) -> Site {
    let entry = format!("v{number:03}");
    let path = host.pool(pool).join(&entry);
    let elsewhere = host.path("disks").join(format!("{pool}-{entry}"));
    let source = match kind {
        Kind::Directory => host.directory(pool, &entry),
        Kind::Tmpfs => host.tmpfs(pool, &entry, (2 + number as u64 % 3) * MIB),
        Kind::Bind => {
            fs::create_dir(&elsewhere).unwrap();
            host.bind(&elsewhere, pool, &entry);
            elsewhere
        }
        Kind::Link => {
            fs::create_dir(&elsewhere).unwrap();
            symlink(&elsewhere, &path).unwrap();
            elsewhere
        }
        Kind::Raw => host.block(pool, &entry, RAW),
        Kind::Device => host.block(pool, &entry, DISK),
        Kind::Ext4 => {
            host.filesystem("ext4", pool, &entry, DISK);
            let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let line = table.lines().find(|line| line.contains(&format!(" {} ", path.display())));
            line.unwrap().split(" - ext4 ").nth(1).unwrap().split(' ').next().unwrap().into()
        }
    };
    let uuid = (kind == Kind::Ext4).then(|| ext4_uuid(&source).unwrap());
    Site { kind, path, source, uuid }
}

/// The UUID in the superblock of an ext4; nothing where there is none.
pub fn ext4_uuid(device: &Path) -> Option<[u8; 16]> {
    let mut superblock = [0; 1024];
    File::open(device).unwrap().read_exact_at(&mut superblock, 1024).unwrap();
    let magic = superblock[0x38..0x3A] == [0x53, 0xEF];
    magic.then(|| superblock[0x68..0x78].try_into().unwrap())
}

/// The pools that tenants ask for, each with how many of them do: of some more than there are volumes.
pub fn tenants() -> impl Iterator<Item = (&'static str, Kind, usize)> {
    POOLS.into_iter().map(|(pool, kind, count, _)| {
        let tenants = if count <= 10 { count + 2 } else { count - count / 10 };
        (pool, kind, tenants)
    })
}

/// The configuration that offers everything.
pub fn whole(host: &Host) -> String {
    let pools = POOLS.map(|(pool, _, _, text)| line(host, pool, "v*", text));
    format!("pools:\n{}{}", pools.concat(), line(host, VISITORS, "*", "accept: [mount]"))
}

/// One that is refused.
pub const BROKEN: &str = "pools: {plain: {path: /nowhere, clen: 1}}";

/// One that offers less, or otherwise.
pub fn other(host: &Host, dice: &mut Dice) -> String {
    let mut text = String::from("pools:\n");
    for (pool, kind, _, settings) in POOLS {
        let more = ["", ", mountOptions: [nosuid, nodev]", ", newVolumes: requireEmpty"];
        let more = if kind == Kind::Raw { "" } else { dice.pick(&more) };
        let settings = match kind {
            Kind::Raw if dice.chance(30) => "mode: Block, clean: {method: discard}",
            Kind::Raw if dice.chance(30) => "mode: Block, clean: {method: shred, passes: 1}",
            _ => settings,
        };
        match dice.roll(10) {
            0 => {}
            1 => text += &line(host, pool, "v*[0-4]", &format!("{settings}{more}")),
            _ => text += &line(host, pool, "v*", &format!("{settings}{more}")),
        }
    }
    if dice.chance(50) {
        text += &line(host, EXTRA.0, "*", "accept: [directory]");
    }
    // Its volumes have no other pool; a tenant of theirs waits while it is away.
    if dice.chance(90) {
        text += &line(host, VISITORS, "*", "accept: [mount]");
    }
    text
}

fn line(host: &Host, pool: &str, globs: &str, settings: &str) -> String {
    format!("  {pool}: {{path: {}, match: [\"{globs}\"], {settings}}}\n", host.pool(pool).display())
}
