//! When an agent is ready, and what waits for that.

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::storage::v1::CSINode;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::harness::{Cluster, eventually};

const TAINT: &str = "berth.dev/agent-not-ready";

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

#[tokio::test]
async fn an_agent_that_is_ready_is_registered_with_its_kubelet() {
    let cluster = Cluster::with_berth().await;
    let csi_nodes: Api<CSINode> = Api::all(cluster.client.clone());

    eventually("the agent is ready", async || cluster.agent("node-a").await.filter(is_ready)).await;

    let drivers = csi_nodes.get("node-a").await.unwrap().spec.drivers;
    assert!(drivers.iter().any(|driver| driver.name == "berth.dev"), "{drivers:?}");
}

#[tokio::test]
async fn a_ready_agent_takes_the_start_up_taint_off_its_node() {
    let cluster = Cluster::with_berth().await;
    eventually("the agent is ready", async || cluster.agent("node-b").await.filter(is_ready)).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let taint = json!({"key": TAINT, "effect": "NoSchedule"});
    let tainted = Patch::Merge(json!({"spec": {"taints": [taint]}}));

    nodes.patch("node-b", &PatchParams::default(), &tainted).await.unwrap();

    eventually("the taint is off", async || {
        let taints = nodes.get("node-b").await.ok()?.spec?.taints.unwrap_or_default();
        (!taints.iter().any(|taint| taint.key == TAINT)).then_some(())
    })
    .await;
}
