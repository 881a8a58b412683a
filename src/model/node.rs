//! The node's discovery on a host of the model: what a scan would find there, and what [`reconcile`] makes of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jiff::Timestamp;

use crate::discover::found::{Candidate, Contents, Depth, Found, Seen, Sight as Found1};
use crate::discover::reconcile::{Change, World, depth, reconcile};
use crate::host::DeviceNumber;
use crate::pool::{Pools, config};
use crate::source::Facts;
use crate::volume::fixture::on;
use crate::volume::{Bytes, LocalVolume, Place, VolumeName};

/// Where a tenant has a volume.
pub(super) const TARGET: &str = "/kubelet/target";
const SIZE: u64 = 1 << 30;

static POOLS: LazyLock<Pools> = LazyLock::new(|| {
    let text = "pools: {fast: {path: /mnt/fast, accept: [directory]}}";
    config::parse(text, Path::new("pools.yaml")).unwrap()
});
static NAMES: LazyLock<[VolumeName; 2]> =
    LazyLock::new(|| [0, 1].map(|volume| on("node-a", "fast", entry(volume), Bytes(SIZE)).name));

/// A volume as a scan sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    pub(super) volume: u8,
    pub(super) holds: bool,
    pub(super) mounted: bool,
    /// The UID of the Node object, where there is one.
    pub(super) node: Option<u8>,
    /// How often a record was begun before.
    pub(super) found: u8,
}

impl Sight {
    pub(super) fn packed(self) -> u16 {
        let bits = u16::from(self.volume) | u16::from(self.holds) << 1;
        let bits = bits | u16::from(self.mounted) << 2 | u16::from(self.found) << 3;
        bits | self.node.map_or(0, |node| u16::from(node) + 1) << 8
    }
}

/// What discovery makes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Discovered<T> {
    Nothing,
    Record(T),
    Gone,
}

fn entry(volume: u8) -> &'static str {
    ["v0", "v1"][usize::from(volume)]
}

pub(super) fn number_of(name: &VolumeName) -> u8 {
    u8::from(*name == NAMES[1])
}

/// What is to be written first; the next pass writes what is left.
pub(super) fn discover(known: Option<LocalVolume>, sight: Sight) -> Discovered<LocalVolume> {
    let found = Found { candidates: vec![candidate(known.as_ref(), sight)], ..Found::default() };
    let uid = sight.node.map(|node| node.to_string());
    // As many milliseconds as tenancies that an earlier record cannot have had.
    let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let now = Timestamp::from_millisecond(begun.as_millisecond() + i64::from(sight.found) * 40);
    let recorded: Vec<_> = known.into_iter().collect();
    let world = World {
        node: &"node-a".parse().unwrap(),
        node_uid: uid.as_deref(),
        pools: &POOLS,
        findings: &BTreeMap::new(),
        tenants: &[PathBuf::from("/kubelet")],
        now: now.unwrap(),
    };
    let changes = reconcile(&found, &recorded, world).changes;
    let Some(change) = changes.into_iter().next() else { return Discovered::Nothing };
    let known = recorded.into_iter().next();
    let record = match change {
        Change::Add(volume) => Some(*volume),
        Change::Status(_, status) => known.map(|known| LocalVolume { status: *status, ..known }),
        Change::Order(_, policy) => {
            known.map(|known| LocalVolume { spec: known.ordered_clean(policy), ..known })
        }
        Change::Withdraw(_) => {
            known.map(|known| LocalVolume { spec: known.withdrawn_clean(), ..known })
        }
        Change::Remove(_) => None,
    };
    record.map_or(Discovered::Gone, Discovered::Record)
}

fn candidate(known: Option<&LocalVolume>, sight: Sight) -> Candidate {
    let is_asked = known.is_none_or(|known| depth(known, true) != Depth::None);
    let contents = if sight.holds { Contents::Holds("files".into()) } else { Contents::Empty };
    let fingerprint = on("node-a", "fast", entry(sight.volume), Bytes(SIZE)).status.fingerprint;
    let root = format!("/{}", entry(sight.volume));
    let on = [format!("filesystem {}", sight.volume)].into();
    let facts = Facts {
        fingerprint,
        device: DeviceNumber { major: 8, minor: sight.volume.into() },
        root: PathBuf::from(&root),
        place: Place { on, root: root.into(), disk: [].into(), attached: false },
        is_mount: false,
        size: Bytes(SIZE),
        fs_type: Some("ext4".into()),
    };
    let seen = Seen {
        facts,
        mounts: sight.mounted.then(|| TARGET.to_owned()).into_iter().collect(),
        host_mounts: None,
        holds_its_pool: false,
        contents: is_asked.then_some(contents),
        root: None,
    };
    Candidate {
        pool: "fast".parse().unwrap(),
        entry: entry(sight.volume).to_owned(),
        path: format!("/mnt/fast/{}", entry(sight.volume)),
        sight: Found1::Source(Box::new(seen)),
    }
}
