//! A volume's whole life on a cluster: found, claimed, written by a pod, given back, clean for the next.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::conditions::is_pod_running;

use crate::disks::{DISKS, NODES, Volume};
use crate::harness::{Cluster, NAMESPACE, eventually};
use crate::tenants::{IDLE, ON_NODE_A, WRITE, claim, pod, spec};

/// A size as the sidecar writes it, or in bytes, as Berth does.
fn mebibytes(quantity: &str) -> Option<u64> {
    let bytes = |text: &str| text.parse::<u64>().map(|bytes| bytes >> 20);
    quantity.strip_suffix("Mi").map_or_else(|| bytes(quantity), str::parse).ok()
}

#[tokio::test]
async fn each_bind_mount_becomes_a_volume_and_so_does_one_that_is_made_later() {
    let cluster = Cluster::with_berth().await;
    cluster.clear().await;
    cluster.agent_on("node-b").await;
    let before = cluster.agent("node-b").await.unwrap();

    cluster.mount_all();
    let found = cluster.available(NODES.len() * DISKS.len()).await;
    cluster.mount("node-b", "v6", 384);
    let later = cluster.available(found.len() + 1).await;

    let mut expected = Vec::new();
    for (place, node) in NODES.into_iter().enumerate() {
        for (name, sizes) in DISKS {
            expected.push((node.to_owned(), format!("/mnt/fast-disks/{name}"), sizes[place]));
        }
    }
    let seen = |volumes: &[Volume]| {
        let part = |volume: &Volume| (volume.node.clone(), volume.path.clone(), volume.mebibytes);
        volumes.iter().map(part).collect::<Vec<_>>()
    };
    assert_eq!(seen(&found), expected);
    expected.push(("node-b".to_owned(), "/mnt/fast-disks/v6".to_owned(), 384));
    assert_eq!(seen(&later), expected);
    let after = cluster.agent("node-b").await.unwrap();
    assert_eq!(after.metadata.uid, before.metadata.uid);
    assert_eq!(after.status.unwrap().container_statuses.unwrap()[0].restart_count, 0);
    cluster.clear().await;
}

#[tokio::test]
async fn a_claim_waits_for_its_pod_and_then_has_the_smallest_volume_that_fits() {
    let cluster = Cluster::with_disks().await;
    cluster.apply(&claim("data", "100Mi"));

    cluster.event("data", "waiting for first consumer").await;
    let unused = cluster.local_volumes().await;
    cluster.apply(&pod("writer", "restartPolicy: Always", WRITE));
    let writer = cluster.running("writer").await;
    let volume = cluster.held_by("data").await;

    assert!(unused.iter().all(|volume| volume.phase == "Available"), "{unused:?}");
    assert_eq!(Some(&volume.node), writer.spec.unwrap().node_name.as_ref());
    assert_eq!((volume.path.as_str(), volume.mebibytes), ("/mnt/fast-disks/v2", 128));
    let bound = ["get", "pvc", "data", "-o", "jsonpath={.status.phase} {.status.capacity.storage}"];
    assert_eq!(cluster.kubectl(&bound), "Bound 128Mi");
    assert_eq!(cluster.has_written(&volume).await, "of-the-first-tenant\n");
    cluster.clear().await;
}

#[tokio::test]
async fn the_next_claim_finds_nothing_of_the_one_before() {
    let cluster = Cluster::with_disks().await;
    cluster.apply(&(claim("data", "100Mi") + &pod("first", ON_NODE_A, WRITE)));
    cluster.running("first").await;
    let volume = cluster.held_by("data").await;
    let more = "touch /data/.hidden && mkdir -p /data/a/b && ln -s / /data/a/link";
    cluster.in_pod("first", &["sh", "-c", more]);

    cluster.give_back("first").await;
    cluster.again_available(&volume).await;
    let on_host = cluster.on_node(&volume.node, &["ls", "-A", &volume.path]);
    cluster.apply(&(claim("data", "100Mi") + &pod("second", ON_NODE_A, IDLE)));
    cluster.running("second").await;
    let next = cluster.held_by("data").await;
    let found = cluster.in_pod("second", &["ls", "-A", "/data"]);

    assert_eq!(on_host, "");
    assert_eq!((next.name, next.uid), (volume.name, volume.uid));
    assert_eq!(found, "");
    cluster.clear().await;
}

#[tokio::test]
async fn a_claim_too_large_for_a_node_goes_to_one_where_it_fits() {
    let cluster = Cluster::with_disks().await;
    let published: Api<CSIStorageCapacity> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    eventually("the capacity of both nodes is published", async || {
        let listed = published.list(&ListParams::default()).await.unwrap().items;
        let mut sizes = listed
            .into_iter()
            .filter(|capacity| capacity.storage_class_name == "fast-disks")
            .filter_map(|capacity| mebibytes(&capacity.maximum_volume_size?.0))
            .collect::<Vec<_>>();
        sizes.sort_unstable();
        (sizes == [320, 640]).then_some(())
    })
    .await;
    let rather_a = "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, \
        preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node-a]}]}}]}}";

    cluster.apply(&(claim("data", "400Mi") + &pod("large", rather_a, IDLE)));
    cluster.running("large").await;

    let volume = cluster.held_by("data").await;
    assert_eq!((volume.node.as_str(), volume.path.as_str()), ("node-b", "/mnt/fast-disks/v5"));
    let events = cluster.events("data").await;
    assert!(!events.iter().any(|message| message.contains("failed to provision")), "{events:?}");
    cluster.clear().await;
}

#[tokio::test]
async fn two_replicas_share_a_claim_and_a_pod_elsewhere_is_told_why_it_cannot() {
    let cluster = Cluster::with_disks().await;
    let template = spec("restartPolicy: Always", IDLE);
    let sharing = format!(
        "\n---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: sharing}}, spec: {{replicas: 2, selector: \
         {{matchLabels: {{app: sharing}}}}, template: {{metadata: {{labels: {{app: sharing}}}}, spec: {template}}}}}}}\n"
    );

    cluster.apply(&(claim("data", "100Mi") + &sharing));
    cluster.kubectl(&["rollout", "status", "deployment/sharing", "--timeout=120s"]);
    let volume = cluster.held_by("data").await;
    let other = NODES.into_iter().find(|node| **node != volume.node).unwrap();
    let selected = format!("nodeSelector: {{kubernetes.io/hostname: {other}}}");
    cluster.apply(
        &(pod("selected", &selected, IDLE) + &pod("named", &format!("nodeName: {other}"), IDLE)),
    );
    cluster.event("selected", "didn't match PersistentVolume's node affinity").await;
    let named = cluster.event("named", "NodeAffinity check failed").await;

    let replicas = ["get", "pods", "-l", "app=sharing", "-o", "jsonpath={.items[*].spec.nodeName}"];
    assert_eq!(cluster.kubectl(&replicas), format!("{0} {0}", volume.node));
    for pinned in ["selected", "named"] {
        let pod = cluster.pods().get(pinned).await.unwrap();
        assert_ne!(pod.status.unwrap().phase.as_deref(), Some("Running"), "{named}");
    }
    cluster.clear().await;
}

#[tokio::test]
async fn an_agents_restart_leaves_pods_and_their_volumes_alone() {
    let cluster = Cluster::with_disks().await;
    cluster.apply(&(claim("data", "100Mi") + &pod("writer", ON_NODE_A, WRITE)));
    let before = cluster.running("writer").await;
    let held = cluster.held_by("data").await;
    let agents: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let agent = cluster.agent("node-a").await.unwrap().metadata;

    agents.delete(agent.name.as_ref().unwrap(), &DeleteParams::default()).await.unwrap();
    let next = eventually("another agent is there", async || {
        cluster.agent("node-a").await.filter(|next| next.metadata.uid != agent.uid)
    })
    .await;
    cluster.wait_for(agents, &next.metadata.name.unwrap(), is_pod_running()).await;
    let after = cluster.running("writer").await;
    let still_held = cluster.held_by("data").await;
    let file = cluster.in_pod("writer", &["cat", "/data/file"]);
    cluster.give_back("writer").await;
    cluster.again_available(&held).await;

    assert_eq!(after.metadata.uid, before.metadata.uid);
    assert_eq!(after.status.unwrap().container_statuses.unwrap()[0].restart_count, 0);
    assert_eq!(still_held, held);
    assert_eq!(file, "of-the-first-tenant\n");
    assert_eq!(cluster.on_node(&held.node, &["ls", "-A", &held.path]), "");
    cluster.clear().await;
}
