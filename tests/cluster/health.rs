//! What a pod's status says of the health of its volumes. The kubelet asks behind the gate CSIVolumeHealth, which
//! `tests/cluster/run` turns on.

use crate::disks::{DISKS, NODES};
use crate::harness::{Cluster, eventually};
use crate::tenants::{IDLE, ON_NODE_A, claim, claim_of, pod_of, spec_of};

impl Cluster {
    /// What is wrong with the volumes of a pod, by its status: `VOLUME: STATUS REASON` each.
    fn ailments(&self, pod: &str) -> String {
        let each = "{range .healthConditions[*]}{.status} {.reason}{end}";
        let path = format!("jsonpath={{range .status.volumeHealth[*]}}{{.name}}: {each};{{end}}");
        self.kubectl(&["get", "pod", pod, "-o", &path])
    }

    /// Waits until that is what is wrong with the volumes of a pod.
    async fn ails(&self, pod: &str, ailments: &str) {
        eventually(&format!("the status of {pod} says {ailments:?}"), async || {
            (self.ailments(pod) == ailments).then_some(())
        })
        .await;
    }

    /// Waits until that is what is wrong with Berth's storage on a node, by its CSINode: `STATUS REASON`.
    async fn storage_ails(&self, node: &str, ailment: &str) {
        let each = "{range .healthConditions[*]}{.status} {.reason}{end}";
        let path = format!(
            "jsonpath={{range .status.storageHealth[?(@.name==\"berth.dev\")]}}{each}{{end}}"
        );
        eventually(&format!("the CSINode of {node} says {ailment:?}"), async || {
            let told = self.kubectl(&["get", "csinode", node, "-o", &path]);
            (told == ailment).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_lost_mount_shows_in_the_status_of_its_pod_until_it_is_back() {
    let cluster = Cluster::with_disks().await;
    cluster.plug("node-a", "raw", "r1", 64);
    cluster.available(NODES.len() * DISKS.len() + 1).await;
    let volumes = "volumes: [{name: data, persistentVolumeClaim: {claimName: data}}, {name: raw, \
        persistentVolumeClaim: {claimName: raw}}]";
    let container = "volumeMounts: [{name: data, mountPath: /data}], volumeDevices: [{name: raw, devicePath: /dev/raw}]";
    let raw = "storageClassName: raw, volumeMode: Block, accessModes: [ReadWriteOnce]";
    let user = pod_of("user", &spec_of(&format!("{ON_NODE_A}, {volumes}"), container, IDLE));
    cluster.apply(&(claim("data", "100Mi") + &claim_of("raw", "32Mi", raw) + &user));
    let uid = cluster.running("user").await.metadata.uid.unwrap();
    let volume = cluster.held_by("data").await;
    let bound = cluster.kubectl(&["get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}"]);
    let target = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/{bound}/mount");
    let host = |command: &[&str]| cluster.on_node("node-a", command);

    host(&["umount", &target]);
    cluster.ails("user", "data: Inaccessible NotMounted;").await;
    host(&["mount", "--bind", &volume.path, &target]);
    cluster.ails("user", "data: ;").await;
    // Now the bare directory is seen beneath.
    host(&["umount", "--lazy", &volume.path]);
    cluster.ails("user", "data: Inaccessible Replaced;").await;
    cluster.storage_ails("node-a", "StorageDegraded Replaced").await;
    host(&["mount", "--bind", &target, &volume.path]);
    cluster.ails("user", "data: ;").await;
    cluster.storage_ails("node-a", "").await;

    assert_eq!(cluster.running("user").await.metadata.uid.unwrap(), uid);
    cluster.clear().await;
}
