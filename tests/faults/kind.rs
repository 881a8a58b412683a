//! The kinds of volumes that live through faults, and what of them can be seen without the server.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use berth::csi::proto::csi_v1::VolumeCapability;
use rustix::fs::OFlags;

use crate::support::{Host, MIB, requests};

/// What a tenant leaves, by which the next one would know.
const SECRET: &[u8] = b"the first tenant's secret";
/// The size of a volume that holds a file system.
const SIZE: u64 = 16 * MIB;
/// The size of a raw one, which is read whole again and again.
const RAW: u64 = 4 * MIB;

/// What a volume is and how it is wiped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A plain directory, emptied.
    Directory,
    /// A mounted tmpfs, emptied.
    Tmpfs,
    /// A device that is formatted for each tenant.
    Formatted,
    /// A mounted file system that is made anew.
    Reformatted,
    /// A raw device, zeroed.
    Zeroed,
    /// A raw device, discarded.
    Discarded,
}

impl Kind {
    /// The entry of a pool that is such a volume.
    pub(crate) fn make(self, host: &mut Host) -> PathBuf {
        match self {
            Self::Directory => host.directory("fast", "v1"),
            Self::Tmpfs => host.tmpfs("fast", "v1", SIZE),
            Self::Reformatted => host.filesystem("ext4", "fast", "v1", SIZE),
            Self::Formatted => host.block("fast", "v1", SIZE),
            Self::Zeroed | Self::Discarded => host.block("fast", "v1", RAW),
        }
    }

    /// The configuration of the pool.
    pub(crate) fn config(self, host: &Host) -> String {
        let of_pool = match self {
            Self::Directory => "accept: [directory], clean: {method: delete, verify: true}",
            Self::Tmpfs => "accept: [mount], clean: {method: delete}",
            Self::Formatted => "accept: [device], fsType: ext4, clean: {method: delete}",
            Self::Reformatted => "accept: [mount], clean: {method: reformat}",
            Self::Zeroed => "mode: Block, clean: {method: zero, verify: true}",
            Self::Discarded => "mode: Block, clean: {method: discard}",
        };
        format!("pools: {{fast: {{path: {}, {of_pool}}}}}", host.pool("fast").display())
    }

    pub(crate) fn is_raw(self) -> bool {
        matches!(self, Self::Zeroed | Self::Discarded)
    }

    pub(crate) fn capability(self) -> VolumeCapability {
        if self.is_raw() { requests::raw() } else { requests::mounted() }
    }

    /// Whether the volume is mounted at the staging path.
    pub(crate) fn is_mounted_when_staged(self) -> bool {
        self == Self::Formatted
    }

    /// A tenant writes at its target.
    pub(crate) fn write(self, target: &Path) {
        if self.is_raw() {
            let mut device = File::options().write(true).open(target).unwrap();
            for offset in [0, RAW / 2 + 512, RAW - MIB] {
                device.seek(SeekFrom::Start(offset)).unwrap();
                device.write_all(SECRET).unwrap();
            }
            device.sync_all().unwrap();
            return;
        }
        fs::create_dir_all(target.join("a/b")).unwrap();
        for name in ["data", "a/one", "a/b/two"] {
            fs::write(target.join(name), SECRET).unwrap();
        }
        fs::hard_link(target.join("data"), target.join("a/link")).unwrap();
        std::os::unix::fs::symlink("/etc", target.join("a/out")).unwrap();
    }

    /// Whether the tenant finds at its target all that it wrote.
    pub(crate) fn is_whole(self, target: &Path) -> bool {
        if self.is_raw() {
            let mut start = vec![0; SECRET.len()];
            let read = File::open(target).and_then(|mut device| device.read_exact(&mut start));
            return read.is_ok() && start == SECRET;
        }
        let files = ["data", "a/one", "a/b/two", "a/link"];
        files.iter().all(|name| fs::read(target.join(name)).is_ok_and(|found| found == SECRET))
    }

    /// What there is at `path`, the volume's own or a target, for whom it was given to next; `None` for nothing.
    pub(crate) fn remains(self, path: &Path) -> Option<String> {
        if self.is_raw() {
            let bytes = fs::read(path).unwrap();
            let at = bytes.iter().position(|byte| *byte != 0)?;
            return Some(format!("byte {at} of {} is not zero", path.display()));
        }
        let found = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let mut found = found.filter(|path| !path.ends_with("lost+found"));
        found.next().map(|path| format!("{} is there", path.display()))
    }

    /// What remains on the volume itself where that can be seen from outside.
    pub(crate) fn remains_on(self, source: &Path) -> Option<String> {
        // What is on a device without a file system shows once the next one is made.
        if self == Self::Formatted { None } else { self.remains(source) }
    }

    /// Whether nobody holds the device of the volume.
    pub(crate) fn is_let_go(self, source: &Path) -> bool {
        let exclusive = i32::try_from(OFlags::EXCL.bits()).unwrap();
        let is_device = self.is_raw() || self == Self::Formatted;
        !is_device || File::options().read(true).custom_flags(exclusive).open(source).is_ok()
    }
}

/// How many mounts stand at each place beneath `root`, by the kernel's own table and without the product's reader of it.
pub(crate) fn mounts(root: &Path) -> BTreeMap<PathBuf, usize> {
    let mut found = BTreeMap::new();
    for line in fs::read_to_string("/proc/thread-self/mountinfo").unwrap().lines() {
        let point = PathBuf::from(line.split(' ').nth(4).unwrap().replace("\\040", " "));
        if point.starts_with(root) {
            *found.entry(point).or_default() += 1;
        }
    }
    found
}
