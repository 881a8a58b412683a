//! Real calls of somebody who took over a part and has its token, that its role allows and that are refused all the same:
//! a role has no words for whose volume, claim or Node it is, nor for which of its fields.

use http::Method;
use k8s_openapi::api::authentication::v1::TokenRequestSpec;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::calls::{
    BERTH, CORE, Call, assert_all_allowed, assert_all_refused, call, delete, patch, post,
};
use crate::disks::Volume;
use crate::harness::{Cluster, NAMESPACE, eventually};
use crate::permissions::policies_in_force;

/// The first free volume of a node.
fn of<'a>(volumes: &'a [Volume], node: &str) -> &'a Volume {
    volumes.iter().find(|volume| volume.node == node).unwrap()
}

/// A claim that begins on this volume.
fn beginning(volume: &Volume) -> Call {
    let claim = json!({"name": "pvc-1", "at": "2026-01-01T00:00:00Z", "range": {"required": 1}});
    let spec =
        json!({"tenancy": volume.tenancy + 1, "claim": claim, "clean": {"method": "delete"}});
    patch(format!("{BERTH}/{}", volume.name), json!({ "spec": spec }))
}

#[tokio::test]
async fn an_agent_begins_no_claim_and_tells_of_its_volumes_alone() {
    let cluster = Cluster::with_disks().await;
    let agent = cluster.agent_on("node-a").await;
    policies_in_force(&agent, "node-b").await;
    let controller = cluster.account("berth-controller", None).await;
    let volumes = cluster.local_volumes().await;
    let (own, foreign) = (of(&volumes, "node-a"), of(&volumes, "node-b"));
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let about = |kind: &str, name: &str| {
        let regarding = json!({"kind": kind, "name": name, "apiVersion": "berth.dev/v1alpha1"});
        json!({
            "metadata": {"name": "refused", "namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "regarding": regarding, "action": "Test", "reason": "Test", "type": "Normal",
            "reportingController": "berth.dev", "reportingInstance": "node-a",
        })
    };
    let cleaned = json!({"status": {"cleanFor": foreign.tenancy, "accepted": true}});
    let ordered = json!({"spec": {"clean": {"method": "delete"}, "cordoned": true}});
    let named_alike = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "LocalVolume", "metadata": {"name": "refused-b"},
        "spec": {"node": "node-b", "pool": "fast-disks", "mode": "Filesystem", "tenancy": 1},
    });
    let foreign = format!("{BERTH}/{}", foreign.name);

    assert_all_refused(&agent, &[beginning(own).tried()], "may end a claim and begin none").await;
    assert_all_refused(
        &agent,
        &[
            patch(&foreign, ordered),
            patch(format!("{foreign}/status"), cleaned),
            patch(&foreign, json!({"metadata": {"finalizers": []}})),
            delete(&foreign),
        ],
        "may not touch a volume of node-b",
    )
    .await;
    assert_all_refused(&agent, &[post(BERTH, named_alike)], "may not write a volume of node-b")
        .await;
    let moved = json!({"spec": {"node": "node-b"}});
    assert_all_refused(&agent, &[patch(format!("{BERTH}/{}", own.name), moved)], "node").await;
    let of_others =
        ["Pod", "PersistentVolumeClaim", "Node"].map(|kind| post(events, about(kind, "data")));
    assert_all_refused(&agent, &of_others, "events of LocalVolumes alone").await;

    assert_all_allowed(&controller, &[beginning(own)]).await;
    assert_all_allowed(&agent, &[post(events, about("LocalVolume", &own.name))]).await;
    assert_eq!(cluster.local_volumes().await, volumes);
}

#[tokio::test]
async fn a_node_object_is_not_changed_by_an_agent_whichever_way_it_asks() {
    let cluster = Cluster::with_berth().await;
    let agent = cluster.agent_on("node-a").await;
    policies_in_force(&agent, "node-b").await;
    let node = format!("{CORE}/nodes/node-a");
    // Whoever could add an owner that is not there would have the Node deleted, and made anew as it likes.
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "none", "uid": "none"}]);

    let changes = [
        json!({"metadata": {"ownerReferences": owner}}),
        json!({"metadata": {"annotations": {"a": "b"}}}),
        json!({"metadata": {"finalizers": ["example.com/kept"]}}),
        json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}),
        json!({"spec": {"unschedulable": true}}),
        json!({"spec": {"podCIDR": "10.0.0.0/24"}}),
        json!({"spec": {"providerID": "other://node"}}),
    ];
    let calls: Vec<_> = changes.into_iter().map(|change| patch(&node, change)).collect();

    assert_all_refused(&agent, &calls, "").await;
}

/// A PersistentVolume whose data is at `source`.
fn persistent_volume(name: &str, source: (&str, Value)) -> Value {
    let (kind, source) = source;
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                 "persistentVolumeReclaimPolicy": "Retain", kind: source},
    })
}

#[tokio::test]
async fn a_controller_reaches_no_volume_of_another_driver_nor_a_nodes_directories() {
    let cluster = Cluster::with_berth().await;
    let controller = cluster.account("berth-controller", None).await;
    let volumes = format!("{CORE}/persistentvolumes");
    let csi = |driver: &str| ("csi", json!({"driver": driver, "volumeHandle": "one"}));
    let other = persistent_volume("refused-pv", csi("other.example"));
    let (other, berths) = (other.to_string(), persistent_volume("allowed-pv", csi("berth.dev")));
    cluster.apply(&other);
    let of_other = format!("{volumes}/refused-pv");
    let path = json!({"path": "/"});
    let kept = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
    let alone = "may write PersistentVolumes of berth.dev alone";

    let made = [
        ("hostPath", path.clone()),
        ("local", path),
        ("nfs", json!({"server": "10.0.0.1", "path": "/"})),
        csi("other.example"),
    ];
    let made = made.map(|source| post(&volumes, persistent_volume("refused-new", source)));
    eventually("the policies are in force", async || {
        made[0].tried().sent_by(&controller).await.err()
    })
    .await;
    assert_all_refused(&controller, &made[..1], alone).await;
    assert_all_refused(&controller, &made[2..], alone).await;
    assert_all_refused(&controller, &[patch(&of_other, kept), delete(&of_other)], alone).await;

    assert_all_allowed(&controller, &[post(&volumes, berths)]).await;
    cluster.kubectl(&["delete", "pv", "refused-pv", "--wait=false"]);
}

#[tokio::test]
async fn a_controller_changes_claims_of_its_driver_alone_and_of_those_no_wish() {
    let cluster = Cluster::with_berth().await;
    let controller = cluster.account("berth-controller", None).await;
    let claims = format!("{CORE}/namespaces/default/persistentvolumeclaims");
    let claim = |name: &str, driver: &str| {
        let annotations = json!({"volume.kubernetes.io/storage-provisioner": driver, "volume.kubernetes.io/selected-node": "node-a"});
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "default", "annotations": annotations},
            "spec": {"storageClassName": "none", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        })
    };
    for (name, driver) in [("refused-other", "other.example"), ("refused-own", "berth.dev")] {
        cluster.apply(&claim(name, driver).to_string());
    }
    let now = |name: &str| -> Value {
        serde_json::from_str(&cluster.kubectl(&["get", "pvc", name, "-o", "json"])).unwrap()
    };
    let put = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut object = now(name);
        change(&mut object);
        call(Method::PUT, format!("{claims}/{name}"), object)
    };
    let unselected = |object: &mut Value| {
        object["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .remove("volume.kubernetes.io/selected-node");
    };
    let wished = |object: &mut Value| object["spec"]["storageClassName"] = "fast-disks".into();
    let unprotected = |object: &mut Value| object["metadata"]["finalizers"] = json!([]);
    let bound = |object: &mut Value| object["spec"]["volumeName"] = "pvc-of-somebody".into();
    eventually("the policies are in force", async || {
        put("refused-other", &unselected).tried().sent_by(&controller).await.err()
    })
    .await;

    assert_all_refused(
        &controller,
        &[put("refused-other", &unselected)],
        "provisioned by berth.dev alone",
    )
    .await;
    let changes: [&dyn Fn(&mut Value); 2] = [&unprotected, &bound];
    let changes = changes.map(|change| put("refused-own", change));
    assert_all_refused(&controller, &changes, "annotations and status alone").await;
    assert_all_refused(&controller, &[put("refused-own", &wished)], "").await;

    assert_all_allowed(&controller, &[put("refused-own", &unselected)]).await;
    cluster.kubectl(&["delete", "pvc", "refused-other", "refused-own", "--wait=false"]);
}

#[tokio::test]
async fn a_controller_says_of_no_volume_that_it_is_clean_or_another() {
    let cluster = Cluster::with_disks().await;
    let controller = cluster.account("berth-controller", None).await;
    let volumes = cluster.local_volumes().await;
    let status = format!("{BERTH}/{}/status", volumes[0].name);
    let changes = [
        json!({"accepted": true}),
        json!({"cleanFor": null}),
        json!({"fingerprint": {"inode": "7"}}),
        json!({"path": "/etc"}),
        json!({"capacity": 1}),
        json!({"ownMounts": ["/var/lib/kubelet"]}),
        json!({"nodeUid": "other"}),
    ];
    let changes = changes.map(|change| patch(&status, json!({ "status": change })));
    eventually("the policies are in force", async || {
        changes[0].tried().sent_by(&controller).await.err()
    })
    .await;

    assert_all_refused(&controller, &changes[..2], "that its node is gone, and nothing else").await;
    assert_all_refused(&controller, &changes[2..], "").await;

    let gone = json!({"status": {"phase": "Lost", "published": []}});
    assert_all_allowed(&controller, &[patch(&status, gone)]).await;
    assert_eq!(cluster.local_volumes().await, volumes);
}

#[tokio::test]
async fn a_token_that_is_bound_to_no_pod_or_to_one_that_is_gone_or_is_for_others_writes_nothing() {
    let cluster = Cluster::with_disks().await;
    policies_in_force(&cluster.agent_on("node-a").await, "node-b").await;
    let volumes = cluster.local_volumes().await;
    let own = format!("{BERTH}/{}", of(&volumes, "node-a").name);
    let writes = [
        patch(&own, json!({"spec": {"cordoned": true}})),
        patch(format!("{own}/status"), json!({"status": {"accepted": true}})),
        delete(&own),
    ];
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: refused, namespace: berth-system}, spec: {nodeName: node-a, \
        serviceAccountName: berth-node, terminationGracePeriodSeconds: 0, containers: [{name: main, image: 'berth.test/pause:1', imagePullPolicy: Never}]}}";
    cluster.apply(pod);

    let unbound = cluster.account("berth-node", None).await;
    let bound = cluster.account("berth-node", Some("refused".into())).await;
    let audiences = vec!["vault.example".to_owned()];
    let for_others = TokenRequestSpec { audiences: Some(audiences), ..TokenRequestSpec::default() };
    let for_others = cluster.token_of("berth-node", for_others).await;

    assert_all_refused(&unbound, &writes, "bound to a pod that runs on a node").await;
    assert_all_allowed(&bound, &writes[..1]).await;
    assert!(is_unknown(&cluster.client_with(for_others), &writes[0]).await);
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete("refused", &at_once).await.unwrap();
    eventually("the token of a pod that is gone is none", async || {
        is_unknown(&bound, &writes[0]).await.then_some(())
    })
    .await;
    assert_eq!(cluster.local_volumes().await, volumes);
}

/// Whether the API server knows nobody of this token.
async fn is_unknown(who: &Client, call: &Call) -> bool {
    match call.tried().sent_by(who).await {
        Err(kube::Error::Api(status)) => status.code == 401,
        _ => false,
    }
}
