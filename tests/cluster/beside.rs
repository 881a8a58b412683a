//! Beside local volumes that are made by hand, the static way: neither touches what is the other's.

use kube::api::DeleteParams;

use crate::disks::{DISKS, NODES};
use crate::harness::{Cluster, eventually};
use crate::tenants::{ON_NODE_A, WRITE, claim, claim_of, pod_of, spec_on};

/// The class of what is made by hand.
const CLASS: &str = "
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: by-hand}, provisioner: kubernetes.io/no-provisioner, \
volumeBindingMode: WaitForFirstConsumer}
";

/// A local volume on node-a, as an administrator writes one, and a claim and a pod of the same name on it.
fn by_hand(name: &str, path: &str) -> String {
    let volume = format!(
        "\n---\n{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: {name}}}, spec: {{storageClassName: by-hand, \
         capacity: {{storage: 64Mi}}, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Retain, \
         local: {{path: {path}}}, nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: \
         [{{key: kubernetes.io/hostname, operator: In, values: [node-a]}}]}}]}}}}}}}}\n"
    );
    let asks =
        format!("storageClassName: by-hand, accessModes: [ReadWriteOnce], volumeName: {name}");
    volume + &claim_of(name, "50Mi", &asks) + &pod_of(name, &spec_on(name, ON_NODE_A, WRITE))
}

impl Cluster {
    /// Runs a script on node-a and returns what it prints.
    fn on_node_a(&self, script: &str) -> String {
        self.on_node("node-a", &["sh", "-c", script])
    }

    /// Waits until the file that the pod on the local volume writes is there.
    async fn written_in(&self, path: &str) {
        eventually(&format!("{path}/file is written"), async || {
            let read = self.on_node_a(&format!("cat {path}/file 2>/dev/null || true"));
            (read == "of-the-first-tenant\n").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_local_volume_that_is_made_by_hand_keeps_its_data_and_berth_its_own_disks() {
    let cluster = Cluster::with_disks().await;
    // A file system of its own, and one that a volume of the pool lies on too.
    cluster.on_node_a(
        "umount -l /mnt/other /mnt/shared 2>/dev/null; mkdir -p /mnt/other /mnt/shared && mount -t tmpfs other /mnt/other && mount -t tmpfs shared /mnt/shared && \
         mkdir -p /mnt/other/x /mnt/shared/own /mnt/shared/berth /mnt/fast-disks/v6 && \
         mount --bind /mnt/shared/berth /mnt/fast-disks/v6",
    );
    let disks = NODES.len() * DISKS.len() + 1;
    let free = cluster.available(disks).await;
    let shared = free.iter().find(|volume| volume.path == "/mnt/fast-disks/v6").unwrap();

    let hands = by_hand("other", "/mnt/other/x") + &by_hand("own", "/mnt/shared/own");
    cluster.apply(&(CLASS.to_owned() + &hands));
    let large = format!("{}Mi", shared.mebibytes);
    let on_shared = pod_of("tenant", &spec_on("shared", ON_NODE_A, WRITE));
    let on_disk = pod_of("another", &spec_on("disk", ON_NODE_A, WRITE));
    cluster.apply(&(claim("shared", &large) + &on_shared + &claim("disk", "100Mi") + &on_disk));
    for pod in ["other", "own", "tenant", "another"] {
        cluster.running(pod).await;
    }
    let held = [cluster.held_by("shared").await, cluster.held_by("disk").await];
    for path in ["/mnt/other/x", "/mnt/shared/own", "/mnt/fast-disks/v6", "/mnt/fast-disks/v2"] {
        cluster.written_in(path).await;
    }
    let all = cluster.local_volumes().await;
    cluster.kubectl(&["delete", "pods,persistentvolumeclaims", "--all"]);
    cluster.kubectl(&["delete", "persistentvolumes", "other", "own"]);
    let after = cluster.available(disks).await;
    let left = cluster.on_node_a(
        "cat /mnt/other/x/file /mnt/shared/own/file && ls -A /mnt/fast-disks/v6 /mnt/fast-disks/v2",
    );
    cluster.clear().await;
    cluster.on_node_a("umount /mnt/other /mnt/shared && rmdir /mnt/other /mnt/shared");

    assert_eq!(held.map(|volume| volume.path), ["/mnt/fast-disks/v6", "/mnt/fast-disks/v2"]);
    assert_eq!(all.len(), disks, "{all:?}");
    assert!(all.iter().all(|volume| volume.path.starts_with("/mnt/fast-disks/")), "{all:?}");
    assert_eq!(after.len(), disks);
    let mine = "of-the-first-tenant\n";
    assert_eq!(left, format!("{mine}{mine}/mnt/fast-disks/v2:\n\n/mnt/fast-disks/v6:\n"));
}

#[tokio::test]
async fn a_disk_of_the_pool_that_a_local_volume_uses_is_wiped_by_order_and_not_under_its_pod() {
    let cluster = Cluster::with_berth().await;
    cluster.clear().await;
    cluster.on_node_a(
        "mkdir -p /mnt/new /mnt/fast-disks/v1 && mount -t tmpfs -o size=64M,mode=755 v1 /mnt/new && touch /mnt/new/old && \
         mount --bind /mnt/new /mnt/fast-disks/v1 && umount /mnt/new",
    );
    let dirty = eventually("what holds data is dirty", async || {
        cluster.local_volumes().await.into_iter().find(|volume| volume.phase == "Dirty")
    })
    .await;
    cluster.apply(&(CLASS.to_owned() + &by_hand("hand", "/mnt/fast-disks/v1")));
    cluster.running("hand").await;
    cluster.written_in("/mnt/fast-disks/v1").await;

    let ordered = cluster.berth(&["clean", &dirty.name]);
    let said = eventually("the volume says what it waits for", async || {
        let conditions =
            ["get", "localvolume", &dirty.name, "-o", "jsonpath={.status.conditions.*.message}"];
        Some(cluster.kubectl(&conditions)).filter(|text| text.contains("/var/lib/kubelet/pods/"))
    })
    .await;
    let under_the_pod = cluster.on_node_a("ls -A /mnt/fast-disks/v1");
    cluster.pods().delete("hand", &DeleteParams::default()).await.unwrap();
    cluster.again_available(&dirty).await;

    assert!(ordered.contains("is to be wiped"), "{ordered}");
    assert_eq!(under_the_pod, "file\nold\n", "{said}");
    assert_eq!(cluster.on_node_a("ls -A /mnt/fast-disks/v1"), "");
    cluster.clear().await;
}
