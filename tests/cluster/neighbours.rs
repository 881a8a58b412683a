//! Those beside Berth on a node or in its network: what a pod reaches of its sockets and files, and what Berth shows of the
//! claims that it serves.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use crate::disks::NODES;
use crate::harness::{Cluster, NAMESPACE, eventually};

/// The kubelet's directory of the sockets of drivers, and where it finds new ones.
const PLUGIN: &str = "/var/lib/kubelet/plugins/berth.dev";
const REGISTRY: &str = "/var/lib/kubelet/plugins_registry";

/// A container that tries something as `user` with a directory of the node at `/host`.
struct Try<'a> {
    name: &'a str,
    user: u32,
    host: &'a str,
    what: What<'a>,
}

enum What<'a> {
    /// To ask the server behind a socket in that directory.
    Ask(&'a str),
    /// Whatever a shell can.
    Shell(&'a str),
}

impl Try<'_> {
    fn container(&self) -> String {
        let Self { name, user, what, .. } = self;
        let (image, runs) = match what {
            What::Ask(socket) => (
                "berth.dev/berth:dev",
                format!("command: [berth, volumes, '--endpoint=unix:///host/{socket}']"),
            ),
            What::Shell(script) => {
                ("berth.test/busybox:1", format!("command: [sh, -c, '{script}']"))
            }
        };
        format!(
            "{{name: {name}, image: '{image}', imagePullPolicy: Never, {runs}, volumeMounts: [{{name: {name}, mountPath: /host}}], \
             securityContext: {{runAsUser: {user}, runAsGroup: {user}, allowPrivilegeEscalation: false, \
             capabilities: {{drop: [ALL]}}, seccompProfile: {{type: RuntimeDefault}}}}}}"
        )
    }
}

impl Cluster {
    /// Runs each in a container of one pod on node-a; how each ended, and what it printed.
    async fn try_in_a_pod(&self, tries: &[Try<'_>]) -> Vec<(i32, String)> {
        let containers: Vec<_> = tries.iter().map(Try::container).collect();
        let volumes = tries.iter().map(|one| {
            format!("{{name: {}, hostPath: {{path: {}, type: Directory}}}}", one.name, one.host)
        });
        let volumes: Vec<_> = volumes.collect();
        self.kubectl(&["delete", "pod", "neighbour", "--ignore-not-found", "--now"]);
        self.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: neighbour}}, spec: {{nodeName: node-a, restartPolicy: Never, \
             automountServiceAccountToken: false, containers: [{}], volumes: [{}]}}}}",
            containers.join(", "),
            volumes.join(", ")
        ));
        let ended = |pod: Option<&Pod>| {
            let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let pod = self.wait_for(self.pods(), "neighbour", ended).await.unwrap();
        let statuses = pod.status.unwrap().container_statuses.unwrap();
        let ends = tries.iter().map(|one| {
            let status = statuses.iter().find(|status| status.name == one.name).unwrap();
            let code = status.state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code;
            (code, self.kubectl(&["logs", "neighbour", "-c", one.name]))
        });
        let ends = ends.collect();
        self.kubectl(&["delete", "pod", "neighbour", "--now", "--wait=false"]);
        ends
    }

    /// Berth's pods, by what part they are.
    async fn berths(&self) -> Vec<(String, Pod)> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let berths = ListParams::default().labels("app.kubernetes.io/name=berth");
        let pods = pods.list(&berths).await.unwrap().items.into_iter();
        let living = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let part = |pod: &Pod| {
            pod.metadata.labels.as_ref().unwrap()["app.kubernetes.io/component"].clone()
        };
        living.map(|pod| (part(&pod), pod)).collect()
    }

    /// Takes [`TENANT`] away, and what the driver is told for it.
    fn forget_the_tenant(&self) {
        let none = r#"{"spec": {"tokenRequests": null}}"#;
        self.kubectl(&["patch", "csidriver", "berth.dev", "--type=merge", "-p", none]);
        self.kubectl(&["delete", "namespace", "telltale-namespace", "--ignore-not-found"]);
        self.kubectl(&["delete", "storageclass", "telltale-class", "--ignore-not-found"]);
    }

    /// What Berth serves at a path, over the API server's proxy.
    fn page(&self, pod: &Pod, path: &str) -> String {
        let name = pod.metadata.name.as_deref().unwrap();
        let at = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:9809/proxy{path}");
        self.kubectl(&["get", "--raw", &at])
    }
}

#[tokio::test]
async fn no_pods_user_reaches_a_socket_or_the_ledger_though_it_sees_their_directories() {
    let cluster = Cluster::with_berth().await;
    let ask = |name, user, host, socket| Try { name, user, host, what: What::Ask(socket) };
    let shell = |name, user, host, script| Try { name, user, host, what: What::Shell(script) };
    let own = "cat /host/inventory.redb; ls /host";

    let ends = cluster
        .try_in_a_pod(&[
            ask("csi", 1000, PLUGIN, "csi.sock"),
            ask("csi-as-controller", 65532, PLUGIN, "csi.sock"),
            ask("registration", 1000, REGISTRY, "berth.dev-reg.sock"),
            shell("registry", 1000, REGISTRY, "ls /host"),
            shell("ledger", 1000, "/var/lib/berth", own),
            // The controller's socket is in a directory of its pod that is open to all; the way there is not.
            shell("pods", 65532, "/var/lib/kubelet/pods", "ls /host"),
            // That it is the user who is refused, and nothing else.
            ask("csi-as-root", 0, PLUGIN, "csi.sock"),
        ])
        .await;

    let (root, others) = ends.split_last().unwrap();
    for (code, said) in others {
        assert_ne!(*code, 0, "{said}");
        let refused = ["Permission denied", "is private to the server's user"];
        assert!(refused.iter().any(|words| said.contains(words)), "{said}");
    }
    assert_eq!(root.0, 0, "{}", root.1);
}

#[tokio::test]
async fn sockets_and_the_ledger_are_their_owners_alone() {
    let cluster = Cluster::with_berth().await;
    let paths = "/var/lib/berth /var/lib/berth/inventory.redb /var/lib/kubelet/plugins/berth.dev/csi.sock \
        /var/lib/kubelet/plugins_registry/berth.dev-reg.sock /var/lib/kubelet/pods/*/volumes/kubernetes.io~empty-dir/csi/csi.sock";
    // Not every node has a controller.
    let script =
        format!("for path in {paths}; do [ ! -e $path ] || stat -c '%a %u %n' $path; done");

    let modes: String =
        NODES.iter().map(|node| cluster.on_node(node, &["sh", "-c", &script])).collect();

    let mut owners = BTreeSet::new();
    for line in modes.lines() {
        let (mode, rest) = line.split_once(' ').unwrap();
        let (owner, path) = rest.split_once(' ').unwrap();
        assert!(mode.ends_with("00"), "{line}");
        owners.insert((owner, path.rsplit('/').next().unwrap()));
    }
    let registration = ("0", "berth.dev-reg.sock");
    let ledger = [("0", "berth"), ("0", "inventory.redb")];
    let sockets = [("0", "csi.sock"), ("65532", "csi.sock"), registration];
    assert_eq!(owners, ledger.into_iter().chain(sockets).collect(), "{modes}");
}

/// The ports on which a process's network namespace listens, from the tables of the kernel.
fn listening(tables: &str) -> BTreeSet<u16> {
    let rows = tables.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // 0A is TCP_LISTEN.
    let listening = rows.filter(|row| row.get(3) == Some(&"0A"));
    listening
        .map(|row| u16::from_str_radix(row[1].rsplit(':').next().unwrap(), 16).unwrap())
        .collect()
}

#[tokio::test]
async fn a_pods_network_reaches_metrics_and_health_and_no_call_of_csi() {
    let cluster = Cluster::with_berth().await;
    let parts = cluster.berths().await;
    for (part, pod) in &parts {
        let status = pod.status.as_ref().unwrap();
        let (node, address) = (
            pod.spec.as_ref().unwrap().node_name.as_deref().unwrap(),
            status.pod_ip.as_deref().unwrap(),
        );
        let declared: BTreeSet<_> = pod
            .spec
            .as_ref()
            .unwrap()
            .containers
            .iter()
            .flat_map(|one| one.ports.iter().flatten())
            .map(|port| u16::try_from(port.container_port).unwrap())
            .collect();
        let tables = format!(
            "for one in /proc/[0-9]*; do case $(tr \"\\0\" \" \" 2>/dev/null <$one/cmdline) in \"berth {part} \"*|/*\"/berth {part} \"*) \
             cat $one/net/tcp $one/net/tcp6;; esac; done; true"
        );

        let open = listening(&cluster.on_node(node, &["sh", "-c", &tables]));

        assert!(
            open.contains(&9809) && open.is_subset(&declared),
            "{part} at {address}: {open:?} of {declared:?}"
        );
    }
    let other = parts
        .iter()
        .find(|(part, _)| part == "node")
        .unwrap()
        .1
        .status
        .as_ref()
        .unwrap()
        .pod_ip
        .clone()
        .unwrap();
    let script = format!(
        "for path in metrics healthz readyz; do wget -q -O - http://{other}:9809/$path >/dev/null && echo $path; done; \
         for path in \"\" debug csi.v1.Node/NodeGetInfo berth.operator.v1alpha1.Operator/ListVolumes; do \
         wget -q -O - http://{other}:9809/$path && echo served; wget -q -O - --post-data=x http://{other}:9809/$path && echo posted; done; true"
    );
    let shell = Try { name: "network", user: 1000, host: "/mnt", what: What::Shell(&script) };

    let ends = cluster.try_in_a_pod(&[shell]).await;

    assert_eq!(
        ends[0].1.lines().filter(|line| !line.starts_with("wget:")).collect::<Vec<_>>(),
        ["metrics", "healthz", "readyz"]
    );
}

/// A tenant all of whose names and secrets are told from anything else.
const TENANT: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: telltale-namespace}
---
apiVersion: v1
kind: Secret
metadata: {name: telltale-secret, namespace: telltale-namespace}
stringData: {password: telltale-password}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: telltale-class}
provisioner: berth.dev
volumeBindingMode: WaitForFirstConsumer
mountOptions: [noatime]
parameters:
  pool: fast-disks
  csi.storage.k8s.io/node-stage-secret-name: telltale-secret
  csi.storage.k8s.io/node-stage-secret-namespace: telltale-namespace
  csi.storage.k8s.io/node-publish-secret-name: telltale-secret
  csi.storage.k8s.io/node-publish-secret-namespace: telltale-namespace
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: telltale-claim, namespace: telltale-namespace, annotations: {telltale-annotation: telltale-value}, labels: {telltale-label: telltale-value}}
spec: {storageClassName: telltale-class, accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: telltale-pod, namespace: telltale-namespace}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: berth.test/busybox:1
      imagePullPolicy: Never
      command: [sh, -c, "echo telltale-contents > /data/telltale-file && exec sleep 1000000"]
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: telltale-claim}}]
"#;

/// What nobody may find out who reads what Berth writes: what is in a claim, and what it is opened with. A token of
/// Kubernetes begins with `eyJ`, which is `{"` in base64.
const SECRETS: [&str; 6] = [
    "telltale-password",
    "telltale-contents",
    "telltale-file",
    "telltale-value",
    "telltale-secret",
    "eyJ",
];

/// The labels of metrics, of which each has a bounded number of values.
const LABELS: [&str; 8] = ["pool", "phase", "method", "code", "outcome", "kind", "le", "version"];

/// The names of labels on a page of metrics.
fn labels(page: &str) -> BTreeSet<&str> {
    let series = page.lines().filter(|line| !line.starts_with('#'));
    let inside = series.filter_map(|line| line.split_once('{')?.1.rsplit_once('}'));
    inside
        .flat_map(|(labels, _)| labels.split("\",").filter_map(|one| Some(one.split_once('=')?.0)))
        .collect()
}

#[tokio::test]
async fn what_berth_shows_tells_nothing_of_what_is_in_a_claim_or_opens_it() {
    Cluster::with_berth().await.forget_the_tenant();
    let cluster = Cluster::with_disks().await;
    cluster.install(&["--set", "log.level=debug"]);
    // The kubelet then hands a token of the pod's own account to the driver.
    let tokens =
        r#"{"spec": {"tokenRequests": [{"audience": ""}, {"audience": "telltale-audience"}]}}"#;
    cluster.kubectl(&["patch", "csidriver", "berth.dev", "--type=merge", "-p", tokens]);
    cluster.apply(TENANT);
    let inside = ["-n", "telltale-namespace"];
    cluster.kubectl(
        &[&inside[..], &["wait", "--for=condition=Ready", "pod/telltale-pod", "--timeout=120s"]]
            .concat(),
    );
    let held = cluster.held_by("telltale-claim").await;
    let uid = cluster.kubectl(
        &[&inside[..], &["get", "pvc", "telltale-claim", "-o", "jsonpath={.metadata.uid}"]]
            .concat(),
    );
    let agents_page = eventually("the claim is counted", async || {
        let parts = cluster.berths().await;
        let counted = |(_, pod): &(String, Pod)| {
            let page = cluster.page(pod, "/metrics");
            page.contains("berth_volumes{pool=\"fast-disks\",phase=\"Claimed\"} 1").then_some(page)
        };
        parts.iter().filter(|(part, _)| part == "node").find_map(counted)
    })
    .await;
    assert!(agents_page.contains("method=\"NodePublishVolume\""), "{agents_page}");

    let mut logs = String::new();
    for (_, pod) in cluster.berths().await {
        let metrics = cluster.page(&pod, "/metrics");
        let pages =
            [metrics.clone(), cluster.page(&pod, "/healthz"), cluster.page(&pod, "/readyz")]
                .concat();
        let never = ["telltale", &uid, &held.name, "/mnt", "/var/lib", "eyJ", "node-a", "node-b"];
        let told: Vec<_> = never.iter().filter(|one| pages.contains(**one)).collect();
        assert!(told.is_empty(), "{told:?} in\n{pages}");
        let unbounded: Vec<_> =
            labels(&metrics).into_iter().filter(|one| !LABELS.contains(one)).collect();
        assert!(unbounded.is_empty(), "{unbounded:?}");
        let name = pod.metadata.name.as_deref().unwrap();
        logs += &cluster.kubectl(&["-n", NAMESPACE, "logs", name, "-c", "berth"]);
    }
    let events = cluster.kubectl(&["get", "events.events.k8s.io", "-A", "-o", "yaml"]);
    let events: String = events.split("\n- ").filter(|one| one.contains("berth.dev")).collect();
    let volumes = cluster.kubectl(&["get", "localvolumes", "-o", "yaml", "--show-managed-fields"]);
    assert!(logs.contains("NodePublishVolume") && logs.contains(&held.name), "{logs}");
    // What a LocalVolume says is who has it, by name: docs/security.md.
    assert!(volumes.contains("telltale-claim") && volumes.contains("telltale-namespace"));
    // So it does with which flags it is mounted, of which there is a list.
    assert!(
        volumes.contains("noatime") && !logs.contains("noatime") && !events.contains("noatime")
    );
    for (what, text) in [("logs", &logs), ("events", &events), ("LocalVolumes", &volumes)] {
        let told: Vec<_> = SECRETS.iter().filter(|one| text.contains(**one)).collect();
        assert!(told.is_empty(), "{told:?} in {what}:\n{text}");
    }

    cluster.forget_the_tenant();
}
