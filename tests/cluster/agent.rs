//! When an agent is ready.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::CSINode;
use kube::Api;

use crate::harness::{Cluster, eventually};

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
