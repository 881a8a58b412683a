//! What Berth's parts may do to what is theirs, asked with the tokens that they have: what the admission policies say beyond
//! the roles. What the roles say is in `can_i`, and what is refused of everything else in `refused`.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::calls::{assert_all_allowed, assert_all_refused, delete, patch, post};
use crate::harness::{Cluster, NAMESPACE, eventually, volume_of};

/// Fails unless the API server refused for lack of permission, with a message that has `part`.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(answer: kube::Result<T>, part: &str) {
    match answer {
        Err(kube::Error::Api(status)) if status.is_forbidden() || status.is_invalid() => {
            assert!(status.message.contains(part), "{}", status.message);
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// Waits until the admission policies are in force: the API server hears of them a moment after they are made.
pub(crate) async fn policies_in_force(agent: &Client, other: &str) {
    let volumes = Cluster::volumes(agent);
    let probe = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the policies are in force", async || {
        volumes.create(&probe, &volume_of(other, "probe")).await.err()
    })
    .await;
    let nodes: Api<Node> = Api::all(agent.clone());
    let probe = PatchParams { dry_run: true, ..PatchParams::default() };
    let label = Patch::Merge(json!({"metadata": {"labels": {"probe": "1"}}}));
    eventually("the policies are in force", async || {
        nodes.patch(other, &probe, &label).await.err()
    })
    .await;
}

#[tokio::test]
async fn an_agent_writes_volumes_of_its_own_node_alone() {
    let cluster = Cluster::with_berth().await;
    let agent = cluster.agent_on("node-a").await;
    policies_in_force(&agent, "node-b").await;
    let (all, own) = (Cluster::volumes(&cluster.client), Cluster::volumes(&agent));
    for left_of_another_run in ["permissions-a", "permissions-b", "permissions-c"] {
        let _ = all.delete(left_of_another_run, &DeleteParams::default()).await;
    }
    all.create(&PostParams::default(), &volume_of("node-b", "permissions-b")).await.unwrap();
    let change = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
    let status = json!({"path": "/mnt/fast-disks/other", "capacity": 1 << 20, "fingerprint": {"kind": "directory"}, "conditions": []});
    let status = Patch::Merge(json!({ "status": status }));
    let (patch, delete) = (PatchParams::default(), DeleteParams::default());

    let created = own.create(&PostParams::default(), &volume_of("node-a", "permissions-a")).await;
    let changed = own.patch("permissions-a", &patch, &change).await;
    let foreign_created =
        own.create(&PostParams::default(), &volume_of("node-b", "permissions-c")).await;
    let foreign_changed = own.patch("permissions-b", &patch, &change).await;
    let foreign_status = own.patch_status("permissions-b", &patch, &status).await;
    let foreign_deleted = own.delete("permissions-b", &delete).await;
    let deleted = own.delete("permissions-a", &delete).await;

    created.unwrap();
    changed.unwrap();
    deleted.unwrap();
    assert_refused(foreign_created, "the agent on node-a may not write a volume of node-b");
    assert_refused(foreign_changed, "the agent on node-a may not touch a volume of node-b");
    assert_refused(foreign_status, "the agent on node-a may not touch a volume of node-b");
    assert_refused(foreign_deleted, "the agent on node-a may not touch a volume of node-b");
    all.delete("permissions-b", &delete).await.unwrap();
}

#[tokio::test]
async fn an_agents_token_that_no_pod_has_writes_nothing() {
    let cluster = Cluster::with_berth().await;
    policies_in_force(&cluster.agent_on("node-a").await, "node-b").await;
    let unbound = cluster.account("berth-node", None).await;

    let created = Cluster::volumes(&unbound)
        .create(&PostParams::default(), &volume_of("node-a", "permissions-d"))
        .await;

    assert_refused(created, "bound to a pod that runs on a node");
}

#[tokio::test]
async fn an_agent_takes_the_start_up_taint_off_its_own_node_and_changes_nothing_else() {
    let cluster = Cluster::with_berth().await;
    let agent = cluster.agent_on("node-a").await;
    policies_in_force(&agent, "node-b").await;
    let (all, own): (Api<Node>, Api<Node>) = (Api::all(cluster.client.clone()), Api::all(agent));
    let taint = |key: &str| json!({"key": key, "effect": "PreferNoSchedule"});
    let taints = |taints: Value| Patch::Merge(json!({"spec": {"taints": taints}}));
    let both = taints(json!([taint("berth.dev/agent-not-ready"), taint("example.com/kept")]));
    let patch = PatchParams::default();
    for node in ["node-a", "node-b"] {
        all.patch(node, &patch, &both).await.unwrap();
    }
    let kept = taints(json!([taint("example.com/kept")]));

    let more = json!([
        taint("berth.dev/agent-not-ready"),
        taint("example.com/kept"),
        taint("example.com/new")
    ]);
    let added = own.patch("node-a", &patch, &taints(more)).await;
    let too_many_removed = own.patch("node-a", &patch, &taints(json!([]))).await;
    let cordoned =
        own.patch("node-a", &patch, &Patch::Merge(json!({"spec": {"unschedulable": true}}))).await;
    let labelled = own
        .patch("node-a", &patch, &Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}})))
        .await;
    let foreign = own.patch("node-b", &patch, &kept).await;
    let removed = own.patch("node-a", &patch, &kept).await;

    assert_refused(added, "may take away berth.dev/agent-not-ready alone");
    assert_refused(too_many_removed, "may take away berth.dev/agent-not-ready alone");
    assert_refused(cordoned, "may change its taints alone");
    assert_refused(labelled, "may change its taints alone");
    assert_refused(foreign, "the agent on node-a may not change the Node node-b");
    let left = removed.unwrap().spec.unwrap().taints.unwrap();
    assert_eq!(
        left.iter().map(|taint| taint.key.as_str()).collect::<Vec<_>>(),
        ["example.com/kept"]
    );
    for node in ["node-a", "node-b"] {
        all.patch(node, &patch, &taints(json!([]))).await.unwrap();
    }
}

#[tokio::test]
async fn an_agent_cannot_take_the_lead_of_the_controllers_nor_a_claims_name() {
    let cluster = Cluster::with_berth().await;
    let agent = cluster.agent_on("node-a").await;
    let (all, own): (Api<Lease>, Api<Lease>) =
        (Api::namespaced(cluster.client.clone(), NAMESPACE), Api::namespaced(agent, NAMESPACE));
    let lead = eventually("somebody leads", async || all.get_opt("berth-dev").await.unwrap()).await;
    let mut taken = lead.clone();
    taken.spec.get_or_insert_default().holder_identity = Some("node-a".to_owned());
    let metadata = ObjectMeta { name: Some("berth-claim-0".into()), ..ObjectMeta::default() };
    let reservation = Lease { metadata, spec: None };

    let replaced = own.replace("berth-dev", &PostParams::default(), &taken).await;
    let deleted = own.delete("berth-dev", &DeleteParams::default()).await;
    let reserved = own.create(&PostParams::default(), &reservation).await;

    assert_refused(replaced, "cannot update resource");
    assert_refused(deleted, "cannot delete resource");
    assert_refused(reserved, "cannot create resource");
    let still = all.get("berth-dev").await.unwrap();
    assert_eq!(still.metadata.uid, lead.metadata.uid);
}

#[tokio::test]
async fn nobody_but_a_controller_deletes_what_keeps_a_claim_from_two_volumes() {
    let cluster = Cluster::with_berth().await;
    let controller = cluster.account("berth-controller", None).await;
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases");
    let reservation = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "kept", "namespace": NAMESPACE, "labels": {"berth.dev/reservation": "claim"}},
    });
    post(&leases, reservation).sent_by(&controller).await.unwrap();
    let (one, all) = (delete(format!("{leases}/kept")), delete(&leases));
    eventually("the policies are in force", async || {
        one.tried().sent_by(&cluster.client).await.err()
    })
    .await;

    assert_all_refused(&cluster.client, &[one.clone(), all.tried()], "two volumes").await;
    assert_all_allowed(&controller, std::slice::from_ref(&one)).await;

    // The way out that the refusal names.
    let bare = patch(&one.path, json!({"metadata": {"labels": {"berth.dev/reservation": null}}}));
    bare.sent_by(&cluster.client).await.unwrap();
    one.sent_by(&cluster.client).await.unwrap();
}
