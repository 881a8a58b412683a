//! The nodes' disks, as an administrator makes them: bind mounts beneath the pool's directory; and what LocalVolumes say of them.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::harness::{Cluster, NAMESPACE, eventually};

/// The nodes that there are.
pub(crate) const NODES: [&str; 2] = ["node-a", "node-b"];
/// The disks of each node: what they are called, and how large they are in MiB on each of [`NODES`].
pub(crate) const DISKS: [(&str, [u64; 2]); 5] = [
    ("v1", [64, 64]),
    ("v2", [128, 128]),
    ("v3", [192, 192]),
    ("v4", [256, 256]),
    ("v5", [320, 640]),
];

/// What a LocalVolume says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Volume {
    pub(crate) node: String,
    pub(crate) path: String,
    pub(crate) mebibytes: u64,
    pub(crate) phase: String,
    /// The PersistentVolumeClaim that has it.
    pub(crate) claim: Option<String>,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) tenancy: u64,
}

impl Volume {
    /// What the object says; nothing before an agent has said where the volume is.
    fn of(object: DynamicObject) -> Option<Self> {
        let text =
            |pointer: &str| object.data.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            node: text("/spec/node")?,
            path: text("/status/path")?,
            mebibytes: object.data.pointer("/status/capacity")?.as_u64()? >> 20,
            phase: text("/status/phase")?,
            claim: text("/spec/claim/pvc/name"),
            name: object.metadata.name?,
            uid: object.metadata.uid?,
            tenancy: object.data.pointer("/spec/tenancy")?.as_u64()?,
        })
    }

    /// The CSI id of its latest tenancy.
    pub(crate) fn id(&self) -> String {
        format!("{}@{}", self.name, self.tenancy)
    }
}

impl Cluster {
    /// The cluster with Berth, where nothing is used and each node has its [`DISKS`], which are all known.
    pub(crate) async fn with_disks() -> Self {
        let cluster = Self::with_berth().await;
        cluster.clear().await;
        cluster.mount_all();
        cluster.available(NODES.len() * DISKS.len()).await;
        cluster
    }

    /// Mounts every node's [`DISKS`].
    pub(crate) fn mount_all(&self) {
        for (name, sizes) in DISKS {
            for (node, mebibytes) in NODES.into_iter().zip(sizes) {
                self.mount(node, name, mebibytes);
            }
        }
    }

    /// Bind-mounts a file system of its own into the pool, and nowhere else.
    pub(crate) fn mount(&self, node: &str, name: &str, mebibytes: u64) {
        let script = format!(
            "mkdir -p /mnt/new /mnt/fast-disks/{name} && mount -t tmpfs -o size={mebibytes}M,mode=755 {name} /mnt/new && \
             mount --bind /mnt/new /mnt/fast-disks/{name} && umount /mnt/new"
        );
        self.on_node(node, &["sh", "-c", &script]);
    }

    /// Takes away all that scenarios leave, also those that failed: workloads, claims, volumes, and the disks.
    pub(crate) async fn clear(&self) {
        let kinds = "deployments,statefulsets,pods,persistentvolumeclaims";
        self.kubectl(&["delete", kinds, "--all", "--wait=false"]);
        self.none_left::<Pod>(Api::default_namespaced(self.client.clone())).await;
        self.none_left::<PersistentVolumeClaim>(Api::default_namespaced(self.client.clone())).await;
        // What is retained or was made by hand stays until it is told to go.
        self.kubectl(&["delete", "persistentvolumes", "--all", "--wait=false"]);
        self.none_left::<PersistentVolume>(Api::all(self.client.clone())).await;
        self.kubectl(&["delete", "storageclasses", "--selector=!app.kubernetes.io/name"]);
        for volume in self.local_volumes().await.iter().filter(|volume| volume.claim.is_some()) {
            self.release(volume).await;
        }
        eventually("what was used is clean", async || {
            self.local_volumes()
                .await
                .iter()
                .all(|volume| volume.phase == "Available")
                .then_some(())
        })
        .await;
        let script = "for mount in /mnt/fast-disks/*; do \
             [ ! -e $mount ] || { umount -l $mount && rmdir $mount; } || exit 1; done; rm -f /mnt/raw/* /mnt/formatted/*";
        for node in NODES {
            self.on_node(node, &["sh", "-c", script]);
        }
        eventually("the disks are forgotten", async || {
            self.local_volumes().await.is_empty().then_some(())
        })
        .await;
        self.unplug_all();
    }

    async fn none_left<K>(&self, objects: Api<K>)
    where
        K: Clone + Debug + DeserializeOwned + Resource<DynamicType = ()>,
    {
        eventually(&format!("no {} is left", K::plural(&())), async || {
            objects.list(&ListParams::default()).await.ok()?.items.is_empty().then_some(())
        })
        .await;
    }

    /// Ends the claim on a volume as a person does, once no pod has it mounted any more.
    pub(crate) async fn release(&self, volume: &Volume) -> String {
        eventually(&format!("{} is mounted nowhere", volume.name), async || {
            let object = Self::volumes(&self.client).get(&volume.name).await.ok()?;
            let places = object.data.pointer("/status/published").and_then(Value::as_array);
            places.is_none_or(Vec::is_empty).then_some(())
        })
        .await;
        self.berth(&["release", &volume.id()])
    }

    /// `berth` as a person runs it on a cluster.
    pub(crate) fn berth(&self, arguments: &[&str]) -> String {
        let inside = ["-n", NAMESPACE, "exec", "deploy/berth-controller", "--", "berth"];
        self.kubectl(&[&inside, arguments].concat())
    }

    /// Waits until there are that many volumes and each is available, and returns them by node and path.
    pub(crate) async fn available(&self, count: usize) -> Vec<Volume> {
        eventually("every disk is an available volume", async || {
            let volumes = self.local_volumes().await;
            let ready = volumes.iter().all(|volume| volume.phase == "Available");
            (volumes.len() == count && ready).then_some(volumes)
        })
        .await
    }

    /// Waits until a volume has this claim and the agent has seen it, and returns the volume.
    pub(crate) async fn held_by(&self, claim: &str) -> Volume {
        eventually("a volume has the claim", async || {
            let mut volumes = self.local_volumes().await.into_iter();
            volumes
                .find(|volume| volume.claim.as_deref() == Some(claim) && volume.phase == "Claimed")
        })
        .await
    }

    /// All volumes that agents have described, by node and path.
    pub(crate) async fn local_volumes(&self) -> Vec<Volume> {
        let listed = Self::volumes(&self.client).list(&ListParams::default()).await.unwrap();
        let mut volumes = listed.items.into_iter().filter_map(Volume::of).collect::<Vec<_>>();
        volumes.sort();
        volumes
    }

    /// Waits until an event about the object `name` has `part` in its message, and returns the message.
    pub(crate) async fn event(&self, name: &str, part: &str) -> String {
        eventually(&format!("an event about {name} says {part:?}"), async || {
            self.events(name).await.into_iter().find(|message| message.contains(part))
        })
        .await
    }

    /// The messages of all events about the object `name`.
    pub(crate) async fn events(&self, name: &str) -> Vec<String> {
        let events: Api<Event> = Api::default_namespaced(self.client.clone());
        let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
        events
            .list(&about)
            .await
            .unwrap()
            .items
            .into_iter()
            .filter_map(|event| event.message)
            .collect()
    }
}
