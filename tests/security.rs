//! What docs/security.md says is so: each threat has a test that there is, and the manifests ask of a cluster and its nodes
//! for what is written there and nothing else.
#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/security.md")).unwrap()
}

/// The text of every file of code beneath the folders that hold tests.
fn code() -> String {
    let mut all = String::new();
    let mut open: Vec<_> = ["src", "tests", "fuzz"].map(|folder| root().join(folder)).into();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            open.extend(entries.filter(|path| !path.ends_with("target")));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all += &fs::read_to_string(path).unwrap();
        }
    }
    all
}

/// The cells of the rows of every table whose last column is `test`.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let mut rows = Vec::new();
    let mut in_table = false;
    for line in page.lines() {
        let Some(cells) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
            in_table = false;
            continue;
        };
        let cells: Vec<_> = cells.split(" | ").map(str::trim).collect();
        if cells.last() == Some(&"test") {
            in_table = true;
        } else if in_table && !cells[0].starts_with("---") {
            rows.push(cells);
        }
    }
    rows
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a test is named as tests are: a sentence.
fn is_sentence(name: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    name.split('_').count() >= 4 && name.split('_').all(is_word)
}

fn is_path(name: &str) -> bool {
    ["src/", "tests/", "fuzz/", "csi-sanity/"].iter().any(|folder| name.starts_with(folder))
}

#[test]
fn every_threat_names_a_test_that_there_is() {
    let (page, code) = (page(), code());
    let rows = rows(&page);
    assert!(rows.len() > 50, "the tables of threats are not read: {} rows", rows.len());
    let mut wrong = Vec::new();

    for row in &rows {
        let tests: Vec<_> = quoted(row.last().unwrap()).collect();
        if !tests.iter().any(|test| is_sentence(test) || is_path(test)) {
            wrong.push(format!("no test: {}", row[0]));
        }
    }
    for name in quoted(&page) {
        let is_there = match name {
            _ if is_path(name) => root().join(name).exists(),
            _ if is_sentence(name) => code.contains(&format!("fn {name}(")),
            _ => true,
        };
        if !is_there {
            wrong.push(format!("there is no {name}"));
        }
    }

    assert!(wrong.is_empty(), "docs/security.md:\n{}", wrong.join("\n"));
}

/// The objects that `deploy/berth.yaml` makes.
fn objects() -> Vec<Value> {
    let text = fs::read_to_string(root().join("deploy/berth.yaml")).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

fn object(kind: &str) -> Value {
    objects().into_iter().find(|object| object["kind"] == kind).unwrap()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// The pod of a workload and its containers by their names.
fn pod(kind: &str) -> (Value, Vec<(String, Value)>) {
    let pod = object(kind)["spec"]["template"]["spec"].clone();
    let named = |one: Value| (one["name"].as_str().unwrap().to_owned(), one);
    let containers = list(&pod["containers"]).into_iter().map(named).collect();
    (pod, containers)
}

fn unprivileged() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
    })
}

#[test]
fn a_controllers_pod_reaches_nothing_of_its_node() {
    let (pod, containers) = pod("Deployment");

    for (name, container) in &containers {
        assert_eq!(container["securityContext"], unprivileged(), "{name}");
    }
    let user = json!({
        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
    });
    assert_eq!(pod["securityContext"], user);
    for shared in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
        assert_eq!(pod[shared], Value::Null, "{shared}");
    }
    for volume in list(&pod["volumes"]) {
        assert_eq!(volume["hostPath"], Value::Null, "{volume}");
    }
    let memory = json!({"name": "csi", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
    assert!(list(&pod["volumes"]).contains(&memory));
}

#[test]
fn an_agents_pod_has_of_its_node_what_it_needs_and_its_sidecar_only_the_sockets() {
    let (pod, containers) = pod("DaemonSet");
    let contexts: Vec<_> = containers
        .iter()
        .map(|(name, one)| (name.as_str(), one["securityContext"].clone()))
        .collect();
    let mut registrar = unprivileged();
    registrar["runAsUser"] = json!(0);
    let agent = json!({"privileged": true, "readOnlyRootFilesystem": true, "runAsUser": 0});

    assert_eq!(contexts, [("berth", agent), ("registrar", registrar)]);
    assert_eq!(pod["hostPID"], true);
    for not_shared in ["hostNetwork", "hostIPC", "initContainers"] {
        assert_eq!(pod[not_shared], Value::Null, "{not_shared}");
    }
    let volumes = list(&pod["volumes"]);
    let of_node = volumes.iter().filter_map(|volume| volume["hostPath"]["path"].as_str());
    let expected = BTreeSet::from([
        "/dev",
        "/mnt/fast-disks",
        "/var/lib/berth",
        "/var/lib/kubelet/plugins",
        "/var/lib/kubelet/plugins/berth.dev",
        "/var/lib/kubelet/plugins_registry",
        "/var/lib/kubelet/pods",
    ]);
    assert_eq!(of_node.collect::<BTreeSet<_>>(), expected);
    let registrars: Vec<_> =
        list(&containers[1].1["volumeMounts"]).iter().map(|one| one["name"].clone()).collect();
    assert_eq!(registrars, ["csi", "registration"]);
}

#[test]
fn only_what_speaks_to_the_api_server_has_a_token() {
    let mut having = Vec::new();
    for kind in ["DaemonSet", "Deployment"] {
        let (pod, containers) = pod(kind);
        assert_eq!(pod["automountServiceAccountToken"], false, "{kind}");
        let has =
            |one: &Value| list(&one["volumeMounts"]).iter().any(|mount| mount["name"] == "token");
        having.extend(containers.into_iter().filter(|(_, one)| has(one)).map(|(name, _)| name));
    }

    assert_eq!(having, ["berth", "berth", "provisioner", "resizer"]);
}

#[test]
fn no_role_has_a_wildcard_a_secret_or_a_way_to_more_rights() {
    let roles = ["ClusterRole", "Role"];
    let is_role = |object: &Value| roles.iter().any(|kind| object["kind"] == *kind);
    let mut wrong = Vec::new();
    for role in objects().into_iter().filter(is_role) {
        for rule in list(&role["rules"]) {
            let words: Vec<_> = ["apiGroups", "resources", "verbs"]
                .iter()
                .flat_map(|key| list(&rule[key]))
                .collect();
            let never = [
                "*",
                "secrets",
                "configmaps",
                "escalate",
                "bind",
                "impersonate",
                "deletecollection",
                "nodes/proxy",
                "pods/exec",
                "serviceaccounts/token",
            ];
            wrong.extend(
                never
                    .iter()
                    .filter(|never| words.contains(&json!(never)))
                    .map(|word| format!("{word}: {rule}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_admission_policy_is_bound_and_fails_closed() {
    let of = |kind: &str| {
        objects().into_iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>()
    };
    let policies = of("ValidatingAdmissionPolicy");
    let bindings = of("ValidatingAdmissionPolicyBinding");
    let bound: BTreeSet<_> =
        bindings.iter().map(|one| one["spec"]["policyName"].to_string()).collect();
    let named: BTreeSet<_> =
        policies.iter().map(|one| one["metadata"]["name"].to_string()).collect();

    assert_eq!((bound, policies.len()), (named, 7));
    for one in &policies {
        assert_eq!(one["spec"]["failurePolicy"], "Fail", "{one}");
    }
    for one in &bindings {
        assert_eq!(one["spec"]["validationActions"], json!(["Deny"]), "{one}");
    }
}

#[test]
fn the_network_reaches_the_port_of_metrics_and_no_other() {
    let policy = object("NetworkPolicy");

    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]));
    assert_eq!(
        policy["spec"]["ingress"],
        json!([{"ports": [{"port": "metrics", "protocol": "TCP"}]}])
    );
}
