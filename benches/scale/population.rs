//! A cluster's objects, as the API server has them: volumes as agents write them, half of them claimed, and what
//! Kubernetes and external-provisioner keep beside them.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth::inventory::crd::{LocalVolumeStatus, Object};
use berth::volume::{
    Bytes, Claim, CleanMethod, CleanPolicy, CleanReason, Condition, Conditions, FilesystemIdentity,
    Fingerprint, HealthReason, LocalVolume, Mode, PersistentVolumeClaim, Place, RootAttributes,
    Spec, Status, Tenancy, VolumeName,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The namespace of Berth and its sidecars.
pub const NAMESPACE: &str = "berth-system";
/// Pools, and a StorageClass of each pool's name.
pub const POOLS: [&str; 4] = ["fast-nvme", "fast-ssd", "large-hdd", "scratch"];
/// Volumes on each node.
pub const ON_A_NODE: usize = 20;

/// So many volumes, on as many nodes as they need.
#[derive(Debug, Clone, Copy)]
pub struct Population {
    pub volumes: usize,
    pub half_claimed: bool,
}

impl Population {
    pub fn nodes(self) -> usize {
        self.volumes.div_ceil(ON_A_NODE)
    }

    /// A volume by its number.
    pub fn volume(self, number: usize) -> LocalVolume {
        let free = volume(&node(number / ON_A_NODE), number);
        if !self.is_claimed(number) {
            return free;
        }
        let claim = Claim {
            name: claim_name(number).parse().unwrap(),
            pvc: Some(PersistentVolumeClaim {
                namespace: format!("team-{}", number % 50),
                name: format!("data-database-{}", number % 100),
            }),
            range: berth::volume::CapacityRange::default(),
            at: Timestamp::UNIX_EPOCH,
        };
        let policy = CleanPolicy { method: CleanMethod::Delete, verify: false };
        LocalVolume { spec: free.claimed(claim, policy).unwrap(), ..free }
    }

    /// The volumes that are claimed.
    pub fn claimed(self) -> impl Iterator<Item = LocalVolume> {
        (0..self.volumes)
            .filter(move |number| self.is_claimed(*number))
            .map(move |number| self.volume(number))
    }

    /// Every other volume of each pool, where any is.
    fn is_claimed(self, number: usize) -> bool {
        self.half_claimed && (number / POOLS.len()).is_multiple_of(2)
    }
}

pub fn node(number: usize) -> String {
    format!("worker-{number:05}.example.internal")
}

fn claim_name(number: usize) -> String {
    format!("pvc-{}", uid("claim", number))
}

/// A UUID of its own for each number.
pub fn uid(kind: &str, number: usize) -> String {
    let hex = hash(&format!("{kind}-{number}"));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// 128 bits of a hash, in hexadecimal.
fn hash(text: &str) -> String {
    let digest = Sha256::digest(text);
    let bits = digest.iter().take(16).fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    format!("{bits:032x}")
}

/// A free, clean volume: a file system of its own on a disk.
pub fn volume(node: &str, number: usize) -> LocalVolume {
    let pool = POOLS[number % POOLS.len()];
    let entry = format!("disk-{:02}", number % ON_A_NODE);
    let uuid = uid("filesystem", number);
    let fingerprint = Fingerprint::Directory {
        filesystem: FilesystemIdentity {
            fs_type: "ext4".into(),
            uuid: Some(uuid.as_str().into()),
            device_number: None,
        },
        inode: 2,
        born: None,
    };
    let (node, pool) = (node.parse().unwrap(), pool.parse().unwrap());
    let path = format!("/mnt/{pool}/{entry}");
    LocalVolume {
        name: VolumeName::compose(&node, &pool, &entry, &fingerprint.identity()),
        status: status(path, fingerprint, &uuid, number),
        spec: Spec {
            node,
            pool,
            mode: Mode::Filesystem,
            tenancy: Tenancy(29_393_640),
            claim: None,
            clean: None,
            clean_asked: None,
            cordoned: false,
        },
    }
}

fn status(path: String, fingerprint: Fingerprint, uuid: &str, number: usize) -> Status {
    let healthy = format!("{path} is present and can be read");
    let clean = format!("{path} was empty when it was found");
    Status {
        path: path.into(),
        fingerprint,
        place: Some(Place {
            on: [format!("filesystem {uuid}"), format!("wwn eui.{number:032x}")].into(),
            root: "/".into(),
            disk: [format!("wwn eui.{number:032x}")].into(),
            attached: true,
        }),
        other_paths: [].into(),
        // Sizes of real disks: many alike, and a few of their own.
        capacity: Bytes((100 + (number % 37) as u64 * 25) << 30),
        fs_type: Some("ext4".into()),
        clean_for: Some(Tenancy(29_393_640)),
        accepted: false,
        conditions: Conditions {
            healthy: condition(HealthReason::Present, healthy),
            clean: condition(CleanReason::FoundEmpty, clean),
        },
        cleaning: None,
        last_wipe: None,
        published: Vec::new(),
        own_mounts: Vec::new(),
        host_mounts: Vec::new(),
        root: Some(Arc::new(RootAttributes {
            uid: 0,
            gid: 0,
            mode: 0o755,
            xattrs: BTreeMap::new(),
            flags: None,
        })),
        format: None,
        node_uid: Some(uid("node", number / ON_A_NODE).into()),
    }
}

fn condition<R>(reason: R, message: String) -> Condition<R> {
    Condition { status: true, reason, message: message.into(), since: Timestamp::UNIX_EPOCH }
}

/// A volume's object, with what the API server adds.
pub fn object(volume: &LocalVolume, number: usize) -> Value {
    let mut object = serde_json::to_value(Object::incomplete(volume)).unwrap();
    object["status"] = serde_json::to_value(LocalVolumeStatus::from(volume)).unwrap();
    let spec = fields(&json!({"metadata": {"finalizers": 0}, "spec": object["spec"]}));
    let status = fields(&json!({"status": object["status"]}));
    let finalizers =
        if volume.spec.claim.is_some() { json!(["berth.dev/claimed"]) } else { json!([]) };
    object["metadata"] = json!({
        "name": volume.name, "uid": uid("volume", number), "finalizers": finalizers,
        "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 3,
        "managedFields": [managed("", &spec), managed("status", &status)],
    });
    object
}

fn managed(subresource: &str, fields: &Value) -> Value {
    json!({
        "manager": "berth", "operation": "Update", "apiVersion": "berth.dev/v1alpha1",
        "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields,
        "subresource": subresource,
    })
}

/// Who owns which field, in the API server's words.
fn fields(of: &Value) -> Value {
    let Value::Object(of) = of else { return json!({}) };
    let owned = of.iter().map(|(key, value)| (format!("f:{key}"), fields(value)));
    owned.collect::<Map<_, _>>().into()
}

/// The reservation of a claim that `volume` holds.
pub fn lease(volume: &LocalVolume) -> Value {
    let claim = &volume.spec.claim.as_ref().unwrap().name;
    let hex = hash(claim.as_str());
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": format!("berth-claim-{hex}"), "namespace": NAMESPACE,
            "labels": {"berth.dev/reservation": "claim"},
            "annotations": {
                "berth.dev/claim": claim, "berth.dev/volume": volume.name,
                "berth.dev/volume-version": "1",
                "berth.dev/spec": serde_json::to_string(&volume.spec).unwrap(),
            },
            "managedFields": [managed("", &json!({"f:metadata": {"f:annotations": {
                ".": {}, "f:berth.dev/claim": {}, "f:berth.dev/volume": {},
                "f:berth.dev/volume-version": {}, "f:berth.dev/spec": {},
            }, "f:labels": {".": {}, "f:berth.dev/reservation": {}}}, "f:spec": {"f:holderIdentity": {}}}))],
        },
        "spec": {"holderIdentity": volume.name},
    })
}

/// The metadata of a Node, which is all of it that the controller asks for.
pub fn node_metadata(number: usize) -> Value {
    let name = node(number);
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {
            "name": name, "uid": uid("node", number),
            "labels": {
                "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
                "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": "zone-a",
            },
            "annotations": {"node.alpha.kubernetes.io/ttl": "300"},
        },
    })
}

pub fn storage_class(pool: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": pool},
        "provisioner": "berth.dev", "parameters": {"pool": pool},
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

/// What external-provisioner makes for each node and class.
pub fn capacity(node_number: usize, class: &str) -> Value {
    let fields = json!({
        "f:capacity": {}, "f:maximumVolumeSize": {}, "f:metadata": {"f:generateName": {},
        "f:labels": {".": {}, "f:csi.storage.k8s.io/drivername": {}, "f:csi.storage.k8s.io/managed-by": {}},
        "f:ownerReferences": {".": {}}}, "f:nodeTopology": {}, "f:storageClassName": {},
    });
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity",
        "metadata": {
            "name": format!("csisc-{node_number:05}-{class}"), "namespace": NAMESPACE, "generateName": "csisc-",
            "labels": {
                "csi.storage.k8s.io/drivername": "berth.dev",
                "csi.storage.k8s.io/managed-by": "external-provisioner-berth-controller",
            },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "controller": true, "kind": "Deployment",
                "name": "berth-controller", "uid": uid("deployment", 0),
            }],
            "managedFields": [managed("", &fields)],
        },
        "capacity": "0", "maximumVolumeSize": "0", "storageClassName": class,
        "nodeTopology": {"matchLabels": {"topology.berth.dev/node": node(node_number)}},
    })
}
