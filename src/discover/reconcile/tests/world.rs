//! Hosts that tests start from: pools, sources, and what a scan of them finds.

use std::path::PathBuf;

use super::super::*;
use crate::discover::found::{Contents, Problem, Sight};
use crate::host::DeviceNumber;
use crate::pool::{Accept, FsType};
use crate::source::Facts;
use crate::volume::{
    Bytes, CleanMethod, DeviceIdentity, FilesystemIdentity, Fingerprint, HealthReason, Names,
    NewVolumes, Phase, Place, PoolName,
};

pub(crate) const GIB: u64 = 1 << 30;

/// The directory `root` of a file system of 100 GiB on the device `8:minor`, empty.
pub(crate) fn directory(minor: u32, root: &str) -> Seen {
    let filesystem = FilesystemIdentity {
        fs_type: "ext4".into(),
        uuid: Some(format!("uuid-{minor}").into()),
        device_number: None,
    };
    let inode = root
        .bytes()
        .fold(2_u64, |inode, byte| inode.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let fingerprint = Fingerprint::Directory { filesystem, inode, born: None };
    seen(minor, root, fingerprint, 100 * GIB, Some("ext4"))
}

/// A file system of its own, mounted.
pub(crate) fn mounted(minor: u32) -> Seen {
    let mut seen = directory(minor, "/");
    attach(&mut seen);
    seen
}

/// Makes it a mount.
pub(crate) fn attach(seen: &mut Seen) {
    seen.facts.is_mount = true;
    seen.facts.place.attached = true;
}

/// The blank block device `8:minor` of 10 GiB.
pub(crate) fn device(minor: u32) -> Seen {
    let device = DeviceIdentity::Serial(format!("serial-{minor}"));
    let size = Bytes(10 * GIB);
    seen(minor, "/", Fingerprint::Device { device, size }, size.0, None)
}

/// The partition `8:minor` of `disk`, blank.
pub(crate) fn partition(minor: u32, disk: &Seen) -> Seen {
    let mut seen = device(minor);
    seen.facts.place.disk.clone_from(&disk.facts.place.on);
    seen
}

fn seen(
    minor: u32,
    root: &str,
    fingerprint: Fingerprint,
    size: u64,
    fs_type: Option<&str>,
) -> Seen {
    let facts = Facts {
        fingerprint,
        device: DeviceNumber { major: 8, minor },
        root: PathBuf::from(root),
        place: Place {
            on: [format!("filesystem uuid-{minor}"), format!("number 8:{minor}")].into(),
            root: root.into(),
            disk: Names::default(),
            attached: fs_type.is_none(),
        },
        is_mount: false,
        size: Bytes(size),
        fs_type: fs_type.map(str::to_owned),
    };
    Seen {
        facts,
        mounts: Vec::new(),
        host_mounts: Some(Vec::new()),
        holds_its_pool: false,
        contents: Some(Contents::Empty),
        root: None,
    }
}

/// `seen`, with files in it.
pub(crate) fn full(mut seen: Seen) -> Seen {
    seen.contents = Some(Contents::Holds("files".into()));
    seen
}

/// A node with pools that accept everything.
pub(crate) struct Host {
    pub(crate) node: NodeName,
    pub(crate) node_uid: Option<String>,
    pub(crate) pools: Pools,
    pub(crate) findings: BTreeMap<VolumeName, Finding>,
    pub(crate) recorded: Vec<LocalVolume>,
    pub(crate) now: Timestamp,
}

impl Host {
    pub(crate) fn new() -> Self {
        let pools = ["fast", "slow"].map(|name| (name.parse().unwrap(), pool(name)));
        Self {
            node: "node-a".parse().unwrap(),
            node_uid: None,
            pools: pools.into(),
            findings: BTreeMap::new(),
            recorded: Vec::new(),
            now: "2026-11-24T06:00:00Z".parse().unwrap(),
        }
    }

    pub(crate) fn pool(&mut self, name: &str) -> &mut Pool {
        self.pools.get_mut(&name.parse::<PoolName>().unwrap()).unwrap()
    }

    pub(crate) fn plan(&self, found: &Found) -> Plan {
        let world = World {
            node: &self.node,
            node_uid: self.node_uid.as_deref(),
            pools: &self.pools,
            findings: &self.findings,
            tenants: &[PathBuf::from("/kubelet")],
            now: self.now,
        };
        reconcile(found, &self.recorded, world)
    }

    /// Plans and writes, and again until nothing is left to do.
    pub(crate) fn settle(&mut self, found: &Found) -> Plan {
        for _ in 0..5 {
            let plan = self.plan(found);
            if plan.changes.is_empty() {
                return plan;
            }
            self.write(&plan);
        }
        panic!("discovery does not come to rest on {found:?}: {:?}", self.recorded);
    }

    pub(crate) fn write(&mut self, plan: &Plan) {
        for change in plan.changes.clone() {
            match change {
                Change::Add(volume) => {
                    assert!(self.recorded.iter().all(|other| other.name != volume.name));
                    self.recorded.push(*volume);
                }
                Change::Status(name, status) => self.named(&name).status = *status,
                Change::Order(name, policy) => {
                    let volume = self.named(&name);
                    volume.spec = volume.ordered_clean(policy);
                }
                Change::Withdraw(name) => {
                    let volume = self.named(&name);
                    volume.spec = volume.withdrawn_clean();
                }
                Change::Remove(name) => {
                    let held = self.named(&name).spec.claim.is_some();
                    assert!(!held, "{name} was removed while it was held");
                    self.recorded.retain(|volume| volume.name != name);
                }
            }
        }
    }

    fn named(&mut self, name: &VolumeName) -> &mut LocalVolume {
        self.recorded.iter_mut().find(|volume| volume.name == *name).unwrap()
    }

    /// The volume recorded at the entry `path` (`fast/v1`).
    pub(crate) fn at(&mut self, path: &str) -> &mut LocalVolume {
        let path = format!("/mnt/{path}");
        self.recorded.iter_mut().find(|volume| volume.status.path == path).unwrap()
    }

    /// Gives the volume at `path` to a claim.
    pub(crate) fn claim(&mut self, path: &str) {
        let volume = self.at(path);
        let claim = crate::volume::fixture::claim(&format!("pvc-of-{}", volume.name));
        volume.spec = volume.claimed(claim, crate::volume::fixture::delete()).unwrap();
    }
}

fn pool(name: &str) -> Pool {
    Pool {
        name: name.parse().unwrap(),
        path: PathBuf::from(format!("/mnt/{name}")),
        mode: Mode::Filesystem,
        entries: globset::GlobSet::empty(),
        globs: Vec::new(),
        accept: Accept { mount: true, directory: true, device: true },
        new_volumes: NewVolumes::RequireEmpty,
        clean: CleanPolicy { method: CleanMethod::Delete, verify: false },
        clean_devices: None,
        capacity: None,
        fs_type: FsType::Ext4,
        mount_options: Vec::new(),
    }
}

/// What a scan finds: `fast/v1` is the entry `v1` of pool `fast`.
pub(crate) fn found(entries: &[(&str, Seen)]) -> Found {
    let sights = entries.iter().map(|(path, seen)| (*path, Sight::Source(Box::new(seen.clone()))));
    sights_found(sights)
}

/// As [`found`], with anything at the paths.
pub(crate) fn sights_found<'a>(sights: impl IntoIterator<Item = (&'a str, Sight)>) -> Found {
    let mut candidates: Vec<_> = sights
        .into_iter()
        .map(|(path, sight)| {
            let (pool, entry) = path.split_once('/').unwrap();
            let (pool, entry) = (pool.parse().unwrap(), entry.to_owned());
            Candidate { pool, entry, path: format!("/mnt/{path}"), sight }
        })
        .collect();
    candidates.sort_by(|one, other| one.path.cmp(&other.path));
    Found { candidates, ..Found::default() }
}

/// What a plan reports: the path and what is wrong.
pub(crate) fn defects(plan: &Plan) -> Vec<(&str, &Defect)> {
    plan.problems.iter().map(|Problem { path, defect, .. }| (path.as_str(), defect)).collect()
}

/// The phase of each recorded volume.
pub(crate) fn phases(host: &Host) -> Vec<Phase> {
    host.recorded.iter().map(LocalVolume::phase).collect()
}

/// Why the volume at `path` is or is not healthy.
pub(crate) fn health(host: &mut Host, path: &str) -> HealthReason {
    host.at(path).status.conditions.healthy.reason
}

/// A scan that finds `seen` at `fast/v1` and nothing else.
pub(crate) fn v1(seen: Seen) -> Found {
    found(&[("fast/v1", seen)])
}
