//! That nodes are as Berth needs them, and that its image works on them.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use kube::runtime::conditions::{is_deleted, is_pod_running};

use crate::harness::Cluster;

#[tokio::test]
async fn mounts_travel_between_a_node_and_a_privileged_pod() {
    let cluster = Cluster::with_berth().await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: propagation}
spec:
  nodeName: node-a
  terminationGracePeriodSeconds: 0
  containers:
    - name: mounter
      image: berth.test/busybox:1
      imagePullPolicy: Never
      command: [sh, -c, "mkdir -p /mnt/up && mount -t tmpfs up /mnt/up && touch /mnt/up/from-the-pod && sleep 1000000"]
      securityContext: {privileged: true}
      volumeMounts: [{name: mnt, mountPath: /mnt, mountPropagation: Bidirectional}]
  volumes: [{name: mnt, hostPath: {path: /mnt/propagation, type: DirectoryOrCreate}}]
"#,
    );
    let pod = cluster.wait_for(pods.clone(), "propagation", is_pod_running()).await.unwrap();
    let in_pod = ["exec", "propagation", "--", "ls", "/mnt/down"];

    let up =
        "until [ -e /mnt/propagation/up/from-the-pod ]; do sleep 0.1; done; ls /mnt/propagation/up";
    let seen_on_node = cluster.on_node("node-a", &["timeout", "30", "sh", "-c", up]);
    let down = "cd /mnt/propagation && mkdir -p down && mount -t tmpfs down down && touch down/from-the-node";
    cluster.on_node("node-a", &["sh", "-c", down]);
    let seen_in_pod = cluster.kubectl_fed(&in_pod, "");
    let seen_on_other = cluster.on_node("node-b", &["ls", "/mnt"]);

    assert_eq!(seen_on_node, "from-the-pod\n");
    assert_eq!(seen_in_pod, "from-the-node\n");
    assert!(!seen_on_other.contains("propagation"), "{seen_on_other}");
    pods.delete("propagation", &DeleteParams::default()).await.unwrap();
    cluster.wait_for(pods, "propagation", is_deleted(&pod.metadata.uid.unwrap())).await;
    cluster.on_node("node-a", &["umount", "/mnt/propagation/up", "/mnt/propagation/down"]);
}

#[tokio::test]
async fn the_image_has_what_formatting_needs() {
    let cluster = Cluster::with_berth().await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let container = |name: &str, command: &str| {
        format!(
            "{{name: {name}, image: 'berth.dev/berth:dev', imagePullPolicy: Never, command: {command}, \
             securityContext: {{readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}}}"
        )
    };
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: image}}, spec: {{restartPolicy: Never, \
         initContainers: [{}, {}], containers: [{}]}}}}",
        container("ext4", "[mkfs.ext4, -V]"),
        container("xfs", "[mkfs.xfs, -V]"),
        container("berth", "[berth, --version]"),
    ));

    let ended = |pod: Option<&Pod>| {
        phase(pod).is_some_and(|phase| phase == "Succeeded" || phase == "Failed")
    };
    let pod = cluster.wait_for(pods.clone(), "image", ended).await.unwrap();

    assert_eq!(phase(Some(&pod)), Some("Succeeded"), "{:?}", pod.status);
    assert!(cluster.kubectl_fed(&["logs", "image"], "").starts_with("berth "));
    pods.delete("image", &DeleteParams::default()).await.unwrap();
}

fn phase(pod: Option<&Pod>) -> Option<&str> {
    pod?.status.as_ref()?.phase.as_deref()
}
