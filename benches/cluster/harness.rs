//! The cluster, Berth in it, and what they answer.

use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

/// The node whose volumes are claimed.
pub const NODE: &str = "node-a";
/// The node that has many volumes.
pub const OTHER: &str = "node-b";
/// Where the chart is installed.
pub const NAMESPACE: &str = "berth-system";
/// The label of nodes that have an agent, so that one can be taken away.
const AGENT: &str = "bench-agent";
/// How long anything may take. It only bounds a failure.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// A booted cluster in which Berth runs.
pub struct Cluster {
    pub client: Client,
    config: Config,
    /// The directory that holds all of it.
    pub state: PathBuf,
    /// Whether it was booted here, and is to be ended here.
    own: bool,
}

impl Cluster {
    /// The cluster that runs, or else one that is booted, with Berth installed.
    pub async fn running() -> Self {
        let state = std::env::var_os("BERTH_CLUSTER_STATE")
            .map_or_else(|| root().join("target/cluster/bench"), PathBuf::from);
        let own = !state.join("number").exists();
        if own {
            let image = root().join("target/image/berth.tar");
            assert!(image.exists(), "there is no {}: make image", image.display());
            shell(&state, "\"$here/up\" \"$1\"", &[image.to_str().unwrap()], "");
        }
        let kubeconfig = Kubeconfig::read_from(state.join("admin.kubeconfig")).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        let client = Client::try_from(config.clone()).unwrap();
        let cluster = Self { client, config, state, own };
        for node in [NODE, OTHER] {
            cluster.set_agent(node, true).await;
        }
        let install = format!(
            "\"$here/render\" -f tests/cluster/values.yaml --set-string node.nodeSelector.{AGENT}=yes | administrator apply -f -
             for one in daemonset/berth-node deployment/berth-controller; do
                 administrator rollout status -n {NAMESPACE} $one --timeout=180s
             done"
        );
        cluster.shell(&install, &[], "");
        let volumes = cluster.all("berth.dev", "v1alpha1", "LocalVolume");
        let there = volumes.list(&ListParams::default()).await.unwrap().items;
        assert!(there.is_empty(), "there are volumes on the cluster already");
        cluster
    }

    /// Runs a script that knows what `tests/cluster/lib.sh` does.
    pub fn shell(&self, script: &str, arguments: &[&str], input: &str) -> String {
        shell(&self.state, script, arguments, input)
    }

    /// Says whether a node has an agent.
    pub async fn set_agent(&self, node: &str, has: bool) {
        let label = if has { json!("yes") } else { Value::Null };
        let patch = json!({"metadata": {"labels": {AGENT: label}}});
        let nodes = self.all("", "v1", "Node");
        nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Objects of a kind, those of every namespace.
    pub fn all(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource(group, version, kind))
    }

    /// Objects of a kind in the namespace in which claims are made.
    pub fn own(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), "default", &resource("", "v1", kind))
    }

    pub async fn create(&self, kind: &str, name: &str, spec: Value) -> DynamicObject {
        let object =
            json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let object = serde_json::from_value(object).unwrap();
        self.own(kind).create(&PostParams::default(), &object).await.unwrap()
    }

    pub async fn delete(&self, kind: &str, name: &str) {
        self.own(kind).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// A client that has this token and no other right.
    pub fn client_with(&self, token: String) -> Client {
        let mut config = self.config.clone();
        config.auth_info =
            kube::config::AuthInfo { token: Some(token.into()), ..Default::default() };
        Client::try_from(config).unwrap()
    }

    /// What a path of the API server answers.
    pub async fn raw(&self, path: &str) -> String {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        self.client.request_text(request).await.unwrap()
    }

    /// The pages of metrics of the pods of a part of Berth (`node`, `controller`), at a port of theirs.
    pub async fn pages(&self, component: &str, port: u16) -> Vec<String> {
        let pods: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), NAMESPACE, &resource("", "v1", "Pod"));
        let label = format!("app.kubernetes.io/component={component}");
        let listed = pods.list(&ListParams::default().labels(&label)).await.unwrap();
        let mut pages = Vec::new();
        for pod in listed.items {
            let name = pod.metadata.name.unwrap();
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:{port}/proxy/metrics");
            pages.push(self.raw(&path).await);
        }
        pages
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.own {
            shell(&self.state, "\"$here/down\"", &[], "");
        }
    }
}

/// The sum of all series called `name` in a page of metrics that have each of `labels`.
pub fn sum(page: &str, name: &str, labels: &[&str]) -> f64 {
    let is = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
    page.lines().filter(is).filter_map(value).sum()
}

pub fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// Asks until there is an answer: for what nobody tells of.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| panic!("in vain waited until {what}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shell(state: &Path, script: &str, arguments: &[&str], input: &str) -> String {
    let script = format!("source tests/cluster/lib.sh\n{script}");
    let mut command = Command::new("bash");
    command.current_dir(root()).env("BERTH_CLUSTER_STATE", state);
    command.args(["-c", &script, "bench"]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}");
    String::from_utf8(output.stdout).unwrap()
}
