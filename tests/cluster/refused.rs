//! Real calls of somebody who took over a part and has its token, about all that is not its own: each is refused by the
//! roles. What is refused is named here; that nothing else is allowed is said by `can_i`.

use http::Method;
use serde_json::json;

use crate::calls::{
    BERTH, CORE, Call, assert_all_refused, call, delete, every_write, everything, get, patch, post,
};
use crate::harness::{Cluster, NAMESPACE};

/// What neither part may so much as read, in whatever namespace.
fn nobodys_business() -> Vec<Call> {
    let mut calls = Vec::new();
    for namespace in [NAMESPACE, "default", "kube-system"] {
        let core = format!("{CORE}/namespaces/{namespace}");
        for kind in ["secrets", "configmaps", "serviceaccounts", "services", "podtemplates"] {
            calls.extend(everything(&format!("{core}/{kind}")));
        }
        calls.extend(every_write(&format!("{core}/pods")));
        calls.push(get(format!("{core}/pods")));
        for part in ["exec", "attach", "portforward", "eviction", "binding", "ephemeralcontainers"]
        {
            calls.push(post(format!("{core}/pods/one/{part}"), json!({})));
        }
        calls.push(get(format!("{core}/pods/one/log")));
        for account in ["berth-node", "berth-controller", "default"] {
            calls.push(post(format!("{core}/serviceaccounts/{account}/token"), json!({})));
        }
        calls.extend(every_write(&format!("/apis/apps/v1/namespaces/{namespace}/daemonsets")));
        let roles = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        calls.extend(everything(&format!("{roles}/rolebindings")));
        calls.extend(everything(&format!("{roles}/roles")));
        calls.extend(every_write(&format!(
            "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
        )));
    }
    for kind in [
        "rbac.authorization.k8s.io/v1/clusterroles",
        "rbac.authorization.k8s.io/v1/clusterrolebindings",
        "admissionregistration.k8s.io/v1/validatingadmissionpolicies",
        "admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
        "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
        "apiextensions.k8s.io/v1/customresourcedefinitions",
        "certificates.k8s.io/v1/certificatesigningrequests",
        "storage.k8s.io/v1/csidrivers",
        "storage.k8s.io/v1/volumeattachments",
    ] {
        calls.extend(everything(&format!("/apis/{kind}")));
    }
    calls.extend(every_write("/apis/storage.k8s.io/v1/storageclasses"));
    calls.extend(every_write("/apis/storage.k8s.io/v1/csinodes"));
    calls.extend(
        ["proxy/stats", "proxy/logs", "proxy/run"]
            .map(|at| get(format!("{CORE}/nodes/node-b/{at}"))),
    );
    calls.push(patch(format!("{CORE}/nodes/node-b/status"), json!({"status": {"phase": "x"}})));
    calls.push(delete(format!("{CORE}/nodes/node-b")));
    calls.push(post(format!("{CORE}/nodes"), json!({"metadata": {"name": "one"}})));
    // Somebody else's Leases: the kubelets', and who leads in the cluster.
    for namespace in ["kube-node-lease", "kube-system", "default"] {
        calls.extend(everything(&format!(
            "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        )));
    }
    calls
}

fn lists_of_claims_and_volumes() -> Vec<Call> {
    let mut calls = everything(&format!("{CORE}/persistentvolumes"));
    for namespace in ["default", NAMESPACE] {
        let claims = format!("{CORE}/namespaces/{namespace}/persistentvolumeclaims");
        calls.extend(everything(&claims));
        calls.push(patch(format!("{claims}/one/status"), json!({"status": {}})));
    }
    calls
}

#[tokio::test]
async fn an_agent_is_refused_whatever_is_not_its_nodes_volumes() {
    let cluster = Cluster::with_berth().await;
    let agent = cluster.agent_on("node-a").await;
    let mut calls = nobodys_business();
    calls.extend(lists_of_claims_and_volumes());
    calls.push(get(format!("{CORE}/namespaces/{NAMESPACE}/pods/one")));
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases");
    calls.push(get(&leases));
    calls.extend(every_write(&leases));
    calls.push(get("/apis/storage.k8s.io/v1/storageclasses"));
    calls
        .extend(everything("/apis/storage.k8s.io/v1/namespaces/berth-system/csistoragecapacities"));
    calls.extend(every_write(&format!("{CORE}/namespaces/default/events")));
    calls.push(get("/apis/events.k8s.io/v1/namespaces/default/events"));
    calls.push(patch(format!("{CORE}/nodes/node-a/status"), json!({"status": {"phase": "x"}})));
    calls.push(call(
        Method::PUT,
        format!("{CORE}/nodes/node-a"),
        json!({"metadata": {"name": "node-a"}}),
    ));
    calls.push(delete(format!("{CORE}/nodes/node-a")));
    // To write another's whole object, or all at once.
    calls.push(call(Method::PUT, format!("{BERTH}/one"), json!({"metadata": {"name": "one"}})));
    calls.push(call(
        Method::PUT,
        format!("{BERTH}/one/status"),
        json!({"metadata": {"name": "one"}}),
    ));
    calls.push(delete(BERTH));

    assert_all_refused(&agent, &calls, "cannot").await;
}

#[tokio::test]
async fn a_controller_is_refused_pods_secrets_nodes_and_what_agents_find() {
    let cluster = Cluster::with_berth().await;
    let controller = cluster.account("berth-controller", None).await;
    let mut calls = nobodys_business();
    calls.extend(every_write(&format!("{CORE}/nodes")));
    calls.push(patch(format!("{CORE}/nodes/node-a"), json!({"spec": {"unschedulable": true}})));
    calls.extend([get(format!("{CORE}/namespaces/default/pods/one")), get(format!("{CORE}/pods"))]);
    calls.push(get(format!("{CORE}/secrets")));
    let claims = format!("{CORE}/namespaces/default/persistentvolumeclaims");
    calls.push(post(&claims, json!({"metadata": {"name": "one"}})));
    calls.extend([
        patch(format!("{claims}/one"), json!({})),
        delete(format!("{claims}/one")),
        delete(claims),
    ]);
    calls.push(delete(format!("{CORE}/persistentvolumes")));
    calls.push(post(BERTH, json!({"metadata": {"name": "one"}})));
    calls.push(call(Method::PUT, format!("{BERTH}/one"), json!({"metadata": {"name": "one"}})));
    calls.push(call(
        Method::PUT,
        format!("{BERTH}/one/status"),
        json!({"metadata": {"name": "one"}}),
    ));
    calls.push(delete(BERTH));
    calls.extend(everything("/apis/storage.k8s.io/v1/namespaces/default/csistoragecapacities"));
    calls.push(get(format!("{CORE}/events")));

    assert_all_refused(&controller, &calls, "cannot").await;
}

#[tokio::test]
async fn a_parts_token_stands_for_nobody_else() {
    let cluster = Cluster::with_berth().await;
    for account in ["berth-node", "berth-controller"] {
        let token = cluster.token(account, None).await;

        for whom in ["system:admin", "system:serviceaccount:berth-system:berth-controller"] {
            let (token, whom) = (format!("--token={token}"), format!("--as={whom}"));
            let refused = cluster.kubectl_refused(&[&token, &whom, "get", "nodes"]);

            assert!(refused.contains("cannot impersonate"), "{account} as {whom}: {refused}");
        }
    }
}

#[tokio::test]
async fn whoever_is_no_part_of_berth_sees_and_changes_none_of_it() {
    let cluster = Cluster::with_berth().await;
    let stranger = cluster.account("default", None).await;
    let mut calls = nobodys_business();
    calls.extend(lists_of_claims_and_volumes());
    calls.extend(everything(BERTH));
    calls.push(patch(format!("{BERTH}/one/status"), json!({"status": {}})));
    calls
        .extend(everything(&format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases")));
    calls.extend(everything(&format!(
        "/apis/storage.k8s.io/v1/namespaces/{NAMESPACE}/csistoragecapacities"
    )));
    calls.push(get(format!("{CORE}/namespaces/{NAMESPACE}/pods/one")));
    calls.push(post("/apis/events.k8s.io/v1/namespaces/default/events", json!({})));

    assert_all_refused(&stranger, &calls, "cannot").await;
}
