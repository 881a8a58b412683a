//! Nodes that are gone: what becomes of their volumes and claims, and of what comes back under their name.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::ListParams;
use kube::runtime::conditions::{is_deleted, is_pod_running};
use serde_json::Value;

use crate::disks::{DISKS, Volume};
use crate::harness::{Cluster, NAMESPACE, eventually};

/// A grace period that a scenario can wait for.
const SHORT: &str = "controller.nodeGrace=3s";
/// Keeps the controllers away from the node that goes, where nobody could read what they say.
const ON_NODE_A: &str = "controller.nodeSelector.kubernetes\\.io/hostname=node-a";
/// A class whose claims are deleted with their node.
const RECOVERING: &str = "storageClasses.recovering.pool=fast-disks,storageClasses.recovering.deleteClaimsOfLostNodes=true";

/// A StatefulSet of one, on node-b as long as there is one, whose pod says how often its volume was started on.
fn stateful(name: &str, class: &str) -> String {
    format!(
        "
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: {name}}}
spec:
  serviceName: {name}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              preference: {{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [node-b]}}]}}
      containers:
        - name: main
          image: berth.test/busybox:1
          imagePullPolicy: Never
          command: [sh, -c, 'echo started >> /data/starts && exec sleep 1000000']
          volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
    - metadata: {{name: data}}
      spec:
        storageClassName: {class}
        accessModes: [ReadWriteOnce]
        resources: {{requests: {{storage: 32Mi}}}}
"
    )
}

/// What is said of a volume whose node is gone.
fn gone(volume: &Volume) -> String {
    let Volume { name, path, node, .. } = volume;
    format!("local volume {name}: {path} was on node {node}, which is no longer in the cluster")
}

impl Cluster {
    fn stateful_pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    fn stateful_claims(&self) -> Api<PersistentVolumeClaim> {
        Api::default_namespaced(self.client.clone())
    }

    /// Waits until the pod of the StatefulSet runs, and returns it.
    async fn stateful_pod(&self, name: &str) -> Pod {
        let name = format!("{name}-0");
        self.wait_for(self.stateful_pods(), &name, is_pod_running()).await.unwrap()
    }

    /// How often a container started on the volume, as is written in its directory.
    fn starts(&self, volume: &Volume) -> usize {
        let file = format!("{}/starts", volume.path);
        self.on_node(&volume.node, &["cat", &file]).lines().count()
    }

    /// The volumes of node-b.
    async fn volumes_of_node_b(&self) -> Vec<Volume> {
        let volumes = self.local_volumes().await.into_iter();
        volumes.filter(|volume| volume.node == "node-b").collect()
    }

    /// Waits until every volume of node-b was seen by an agent on the Node of this UID.
    async fn seen_on(&self, uid: &str) {
        let all = ListParams::default().fields("spec.node=node-b");
        eventually("the agent on the new Node has seen every volume", async || {
            let volumes = Self::volumes(&self.client).list(&all).await.ok()?.items;
            let recorded = |pointer| move |data: &Value| data.pointer(pointer).cloned();
            let is_seen =
                |data: &Value| recorded("/status/nodeUid")(data).is_some_and(|seen| seen == uid);
            (volumes.len() == DISKS.len() && volumes.iter().all(|volume| is_seen(&volume.data)))
                .then_some(())
        })
        .await;
    }

    /// Waits until a controller has noticed that the Node of this UID is gone.
    async fn noticed(&self, uid: &str) {
        let controllers = ["-l", "app.kubernetes.io/component=controller", "-o", "name"];
        let on_node_a = ["get", "pods", "-n", NAMESPACE, "--field-selector=spec.nodeName=node-a"];
        let list = [&on_node_a[..], &controllers].concat();
        let log = |pod: &str| self.kubectl(&["logs", "-n", NAMESPACE, pod, "-c", "berth"]);
        eventually("a controller misses the Node", async || {
            self.kubectl(&list).lines().any(|pod| log(pod).contains(uid)).then_some(())
        })
        .await;
    }

    /// Waits until the claim's volume is Lost since its node is gone, and its people were told.
    async fn lost_for(&self, claim: &str) -> Volume {
        let lost = eventually("the claimed volume is lost", async || {
            let mut volumes = self.local_volumes().await.into_iter();
            volumes.find(|volume| volume.claim.as_deref() == Some(claim) && volume.phase == "Lost")
        })
        .await;
        self.event(claim, &gone(&lost)).await;
        lost
    }
}

#[tokio::test]
async fn a_node_that_is_back_within_the_grace_period_has_lost_nothing() {
    let cluster = Cluster::with_disks().await;
    cluster.install(&["--set", ON_NODE_A]);
    cluster.apply(&stateful("kept", "fast-disks"));
    cluster.stateful_pod("kept").await;
    let held = cluster.held_by("data-kept-0").await;
    let volumes = cluster.volumes_of_node_b().await;
    let before = cluster.node_uid("node-b").await;

    cluster.kubectl(&["delete", "node", "node-b"]);
    cluster.noticed(&before).await;
    cluster.restart_kubelet("node-b");
    let uid = cluster.new_node("node-b", &before).await;
    cluster.seen_on(&uid).await;

    assert_eq!(cluster.volumes_of_node_b().await, volumes);
    assert!(cluster.starts(&held) > 0);
    cluster.stateful_pod("kept").await;
    cluster.install(&[]);
    cluster.clear().await;
}

#[tokio::test]
async fn a_node_that_is_back_after_the_grace_period_with_its_disks_still_has_what_is_claimed() {
    let cluster = Cluster::with_disks().await;
    cluster.install(&["--set", ON_NODE_A, "--set", SHORT]);
    cluster.apply(&stateful("kept", "fast-disks"));
    cluster.stateful_pod("kept").await;
    let held = cluster.held_by("data-kept-0").await;
    let before = cluster.node_uid("node-b").await;

    cluster.kubectl(&["delete", "node", "node-b"]);
    cluster.lost_for("data-kept-0").await;
    cluster.restart_kubelet("node-b");
    let uid = cluster.new_node("node-b", &before).await;
    cluster.seen_on(&uid).await;

    assert_eq!(cluster.held_by("data-kept-0").await, held);
    assert!(cluster.starts(&held) > 0);
    cluster.stateful_pod("kept").await;
    cluster.install(&[]);
    cluster.clear().await;
}

#[tokio::test]
async fn claims_on_a_lost_node_stay_unless_their_class_says_otherwise_and_another_machine_gets_none()
 {
    let cluster = Cluster::with_disks().await;
    cluster.install(&["--set", ON_NODE_A, "--set", SHORT, "--set", RECOVERING]);
    cluster.apply(&(stateful("kept", "fast-disks") + &stateful("recovering", "recovering")));
    let old = cluster.stateful_pod("recovering").await.metadata.uid.unwrap();
    cluster.stateful_pod("kept").await;
    let kept = cluster.held_by("data-kept-0").await;
    let given_up = cluster.held_by("data-recovering-0").await;
    let bound = cluster.stateful_claims().get("data-kept-0").await.unwrap();
    let before = cluster.node_uid("node-b").await;

    cluster.power("off", "node-b");
    cluster.kubectl(&["delete", "node", "node-b"]);
    let lost = cluster.lost_for("data-kept-0").await;
    cluster.event(bound.spec.unwrap().volume_name.as_ref().unwrap(), &gone(&kept)).await;
    cluster.event("data-recovering-0", &gone(&given_up)).await;
    cluster.wait_for(cluster.stateful_pods(), "recovering-0", is_deleted(&old)).await;
    cluster.stateful_pod("recovering").await;
    let recovered = cluster.held_by("data-recovering-0").await;
    // The one that was given up was never wiped: its agent may come back without having heard of that.
    eventually("what nobody holds and nobody held is removed", async || {
        (cluster.volumes_of_node_b().await.len() == 2).then_some(())
    })
    .await;

    assert_eq!((kept.node.as_str(), given_up.node.as_str()), ("node-b", "node-b"));
    assert_eq!((&lost.name, &lost.uid), (&kept.name, &kept.uid));
    let still = cluster.stateful_claims().get("data-kept-0").await.unwrap().metadata;
    assert_eq!((still.uid, still.deletion_timestamp), (bound.metadata.uid, None));
    assert_eq!((recovered.node.as_str(), cluster.starts(&recovered)), ("node-a", 1));

    cluster.replace_machine("node-b");
    cluster.power("on", "node-b");
    cluster.new_node("node-b", &before).await;
    another_machine_gets_nothing(&cluster, &lost).await;
    cluster.install(&[]);
    cluster.kubectl(&["delete", "storageclass", "recovering"]);
    cluster.clear().await;
}

/// What a machine that comes in the place of the lost one has: its own disks and nothing else.
async fn another_machine_gets_nothing(cluster: &Cluster, lost: &Volume) {
    for (name, _) in DISKS {
        // At the paths of the old ones. Not tmpfs: on this kernel one may have the number of one that is gone.
        let script = format!(
            "mkdir -p /mnt/disks/{name} /mnt/fast-disks/{name} && mount --bind /mnt/disks/{name} /mnt/fast-disks/{name}"
        );
        cluster.on_node("node-b", &["sh", "-c", &script]);
    }
    let free = eventually("the new disks are volumes", async || {
        let mut volumes = cluster.volumes_of_node_b().await;
        volumes.retain(|volume| volume.phase == "Available");
        (volumes.len() == DISKS.len()).then_some(volumes)
    })
    .await;
    cluster.event("kept-0", &lost.name).await;

    let pod = cluster.stateful_pods().get("kept-0").await.unwrap();
    assert_ne!(pod.status.unwrap().phase.as_deref(), Some("Running"));
    let paths = free.iter().map(|volume| volume.path.as_str()).collect::<Vec<_>>();
    assert!(paths.contains(&lost.path.as_str()), "{paths:?}");
    let files = cluster.on_node("node-b", &["find", "/mnt/disks", "-type", "f"]);
    assert_eq!(files, "");
    let now = cluster.volumes_of_node_b().await;
    let of_claim = now.into_iter().filter(|volume| volume.claim.is_some()).collect::<Vec<_>>();
    assert_eq!(of_claim, std::slice::from_ref(lost));
}
