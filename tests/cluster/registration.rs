//! How a node comes to have the driver: registration with the kubelet in both ways, again when the kubelet restarts, and
//! the taint that keeps pods away until the agent is ready.

use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::conditions::is_pod_running;
use serde_json::json;

use crate::disks::NODES;
use crate::harness::{Cluster, eventually};

const TAINT: &str = "berth.dev/agent-not-ready";

impl Cluster {
    /// What the node's CSINode says of the driver.
    async fn driver_on(&self, node: &str) -> Option<CSINodeDriver> {
        let nodes: Api<CSINode> = Api::all(self.client.clone());
        let drivers = nodes.get_opt(node).await.ok()??.spec.drivers;
        drivers.into_iter().find(|driver| driver.name == "berth.dev")
    }

    /// Waits until the kubelet of the node has taken the driver, and returns what it says of it.
    async fn registered(&self, node: &str) -> CSINodeDriver {
        eventually("the driver is registered", async || self.driver_on(node).await).await
    }

    /// Restarts the node's kubelet, which finds that its CSINode knows no driver.
    async fn restart_kubelet_that_knows_no_driver(&self, node: &str) {
        let nodes: Api<CSINode> = Api::all(self.client.clone());
        let nothing = Patch::Merge(json!({"spec": {"drivers": []}}));
        nodes.patch(node, &PatchParams::default(), &nothing).await.unwrap();
        self.restart_kubelet(node);
    }

    /// Runs a pod on the node with a claim of its own name, and returns the pod.
    async fn run_with_claim(&self, name: &str, node: &str) -> Pod {
        self.apply(&with_claim(name, node));
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        self.wait_for(pods, name, is_pod_running()).await.unwrap()
    }

    /// The names of the containers of the agent on node-a, and of a controller.
    fn containers(&self) -> (String, String) {
        let of = |component: &str| {
            let label = format!("app.kubernetes.io/component={component}");
            let names = "jsonpath={.items[0].spec.template.spec.containers[*].name}";
            let kinds = "daemonsets,deployments";
            self.kubectl(&["get", "-n", "berth-system", kinds, "-l", &label, "-o", names])
        };
        (of("node"), of("controller"))
    }
}

/// A pod that is kept to a node, and its claim.
fn with_claim(name: &str, node: &str) -> String {
    format!(
        "
---
{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: {name}}}, spec: {{storageClassName: fast-disks,
  accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 32Mi}}}}}}}}
---
{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeSelector: {{kubernetes.io/hostname: {node}}},
  terminationGracePeriodSeconds: 0, containers: [{{name: main, image: 'berth.test/busybox:1', imagePullPolicy: Never,
  command: [sh, -c, 'echo {name} > /data/file && exec sleep 1000000'], volumeMounts: [{{name: data, mountPath: /data}}]}}],
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: {name}}}}}]}}}}
"
    )
}

/// Both nodes have the driver, pods with claims run, and all is so again after a restart of a kubelet.
async fn registers_and_does_again(cluster: &Cluster) {
    for node in NODES {
        let driver = cluster.registered(node).await;
        assert_eq!(driver.node_id, node);
        assert_eq!(driver.topology_keys.unwrap_or_default(), ["topology.berth.dev/node"]);
    }
    let before = cluster.run_with_claim("before", "node-a").await;

    cluster.restart_kubelet_that_knows_no_driver("node-a").await;
    let driver = cluster.registered("node-a").await;
    cluster.run_with_claim("after", "node-a").await;

    assert_eq!(driver.node_id, "node-a");
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let still = pods.get("before").await.unwrap();
    assert_eq!(still.metadata.uid, before.metadata.uid);
    assert_eq!(still.status.unwrap().container_statuses.unwrap()[0].restart_count, 0);
    for name in ["before", "after"] {
        let file = cluster.kubectl(&["exec", name, "--", "cat", "/data/file"]);
        assert_eq!(file, format!("{name}\n"));
    }
}

#[tokio::test]
async fn the_sidecar_registers_the_driver_and_does_again_when_the_kubelet_restarts() {
    let cluster = Cluster::with_disks().await;
    let containers = cluster.containers();

    registers_and_does_again(&cluster).await;

    let with_sidecars = ("berth registrar", "berth provisioner resizer liveness-probe");
    assert_eq!((containers.0.as_str(), containers.1.as_str()), with_sidecars);
    cluster.clear().await;
}

#[tokio::test]
async fn an_agent_registers_itself_and_does_again_when_the_kubelet_restarts() {
    let cluster = Cluster::with_disks().await;
    cluster.install(&["--set", "node.registration=builtin,livenessProbe.enabled=false"]);
    let containers = cluster.containers();

    registers_and_does_again(&cluster).await;
    cluster.install(&[]);
    cluster.run_with_claim("by-the-sidecar-again", "node-a").await;

    let alone = ("berth", "berth provisioner resizer");
    assert_eq!((containers.0.as_str(), containers.1.as_str()), alone);
    cluster.clear().await;
}

#[tokio::test]
async fn a_new_node_gets_pods_once_its_agent_is_ready_and_keeps_every_taint_of_others() {
    let cluster = Cluster::with_disks().await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    cluster.kubectl(&["label", "node", "node-a", "agent=yes"]);
    cluster.install(&["--set", "node.nodeSelector.agent=yes"]);
    let before = cluster.node_uid("node-b").await;

    let taint =
        |key: &str, effect: &str| json!({"key": key, "value": "", "effect": effect}).to_string();
    let kept = "example.com/kept";
    let taints = format!("[{}, {}]", taint(TAINT, "NoSchedule"), taint(kept, "PreferNoSchedule"));
    cluster.configure_kubelet("node-b", &format!("registerWithTaints: {taints}"));
    cluster.kubectl(&["delete", "node", "node-b"]);
    cluster.restart_kubelet("node-b");
    cluster.new_node("node-b", &before).await;
    let registered = nodes.get("node-b").await.unwrap();
    cluster.apply(&with_claim("early", "node-b"));
    cluster.event("early", "untolerated taint").await;
    cluster.kubectl(&["label", "node", "node-b", "agent=yes"]);
    let pod = cluster.run_with_claim("early", "node-b").await;
    let ready = nodes.get("node-b").await.unwrap();

    assert_eq!(taints_of(&registered), [TAINT, kept]);
    assert_eq!(pod.spec.unwrap().node_name.as_deref(), Some("node-b"));
    assert_eq!(taints_of(&ready), [kept]);
    cluster.configure_kubelet("node-b", "");
    cluster.kubectl(&["taint", "node", "node-b", &format!("{kept}-")]);
    cluster.install(&[]);
    cluster.kubectl(&["label", "nodes", "--all", "agent-"]);
    cluster.clear().await;
}

#[tokio::test]
async fn a_taint_that_comes_back_is_taken_away_again() {
    let cluster = Cluster::with_berth().await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());

    cluster.kubectl(&["taint", "node", "node-b", &format!("{TAINT}=:NoSchedule")]);

    let is_off = |node: Option<&Node>| node.is_some_and(|node| taints_of(node).is_empty());
    cluster.wait_for(nodes, "node-b", is_off).await;
}

/// The keys of a node's taints, but for those that Kubernetes puts on it for a while.
fn taints_of(node: &Node) -> Vec<&str> {
    let taints: Option<&Vec<Taint>> = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let keys = taints.into_iter().flatten().map(|taint| taint.key.as_str());
    keys.filter(|key| !key.starts_with("node.kubernetes.io/")).collect()
}
