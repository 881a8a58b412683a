//! What the scenarios stand on: the booted cluster with Berth installed in it, clients of its API server, its nodes.

use std::fmt::Debug;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client, Config};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::timeout;

/// Where the chart is installed.
pub(crate) const NAMESPACE: &str = "berth-system";
/// How long anything may take before a scenario gives up on it. It only bounds a failure.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long to wait before something that nobody tells of is looked at again.
const LOOK: Duration = Duration::from_millis(200);

/// The cluster that `tests/cluster/up` booted.
pub(crate) struct Cluster {
    /// A client with all rights.
    pub(crate) client: Client,
    config: Config,
    /// The directory that holds all of it.
    pub(crate) state: PathBuf,
}

impl Cluster {
    /// The running cluster, with Berth's chart installed as it stands.
    pub(crate) async fn with_berth() -> Self {
        let cluster = Self::connect().await;
        cluster.install(&[]);
        cluster
    }

    /// Installs the chart, with more flags of Helm's, and waits until what runs is what they say.
    pub(crate) fn install(&self, flags: &[&str]) {
        let mut render = script("render");
        render.args(["-f", "tests/cluster/values.yaml"]).args(flags);
        self.apply(&success(&mut render));
        for workload in ["daemonset/berth-node", "deployment/berth-controller"] {
            let rollout = ["rollout", "status", "-n", NAMESPACE, workload, "--timeout=120s"];
            self.kubectl(&rollout);
        }
    }

    async fn connect() -> Self {
        let state = std::env::var_os("BERTH_CLUSTER_STATE")
            .map_or_else(|| root().join("target/cluster/default"), PathBuf::from);
        let kubeconfig = Kubeconfig::read_from(state.join("admin.kubeconfig"))
            .expect("there is no cluster: tests/cluster/run boots one for these tests");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        let client = Client::try_from(config.clone()).unwrap();
        Self { client, config, state }
    }

    /// Applies manifests, as a person would.
    pub(crate) fn apply(&self, manifests: &str) {
        self.kubectl_fed(&["apply", "-f", "-"], manifests);
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_fed(arguments, "")
    }

    /// Runs kubectl, which must succeed, with `input` on its standard input, and returns what it printed.
    pub(crate) fn kubectl_fed(&self, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.state.join("admin.kubeconfig")).args(arguments);
        fed(&mut command, input)
    }

    /// Runs kubectl, which must fail, and returns what it said.
    pub(crate) fn kubectl_refused(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.state.join("admin.kubeconfig")).args(arguments);
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    /// Waits until the object `name` is as `condition` says, and returns it.
    pub(crate) async fn wait_for<K>(
        &self,
        api: Api<K>,
        name: &str,
        condition: impl Condition<K>,
    ) -> Option<K>
    where
        K: Clone + Debug + Send + DeserializeOwned + kube::Resource<DynamicType = ()> + 'static,
    {
        let met = timeout(PATIENCE, await_condition(api, name, condition)).await;
        met.unwrap_or_else(|_| panic!("{name} did not become what was waited for")).unwrap()
    }

    /// Runs a command on a node, which must succeed, and returns what it printed.
    pub(crate) fn on_node(&self, node: &str, command: &[&str]) -> String {
        success(script("enter").env("BERTH_CLUSTER_STATE", &self.state).arg(node).args(command))
    }

    /// LocalVolumes, as data: what the API server makes of them is part of what is tested.
    pub(crate) fn volumes(client: &Client) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("berth.dev", "v1alpha1", "LocalVolume");
        Api::all_with(client.clone(), &ApiResource::from_gvk(&kind))
    }

    /// A client with the token that the agent on `node` has: bound to its pod.
    pub(crate) async fn agent_on(&self, node: &str) -> Client {
        let pod =
            eventually("the agent's pod is on its node", async || self.agent(node).await).await;
        self.account("berth-node", Some(pod.metadata.name.unwrap())).await
    }

    /// The pod of the agent on `node`, unless it is on its way out.
    pub(crate) async fn agent(&self, node: &str) -> Option<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let agents = ListParams::default()
            .labels("app.kubernetes.io/component=node")
            .fields(&format!("spec.nodeName={node}"));
        let listed = pods.list(&agents).await.unwrap().items;
        listed.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none())
    }

    /// A client with a token of a service account, bound to one of its pods or to none.
    pub(crate) async fn account(&self, name: &str, pod: Option<String>) -> Client {
        let token = self.token(name, pod).await;
        self.client_with(token)
    }

    /// A client that has this token and nothing else.
    pub(crate) fn client_with(&self, token: String) -> Client {
        let auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
        let mut config = self.config.clone();
        config.auth_info = auth_info;
        Client::try_from(config).unwrap()
    }

    /// A token of a service account, bound to one of its pods or to none.
    pub(crate) async fn token(&self, name: &str, pod: Option<String>) -> String {
        let bound = pod.map(|name| BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name),
            uid: None,
        });
        self.token_of(name, TokenRequestSpec { bound_object_ref: bound, ..Default::default() })
            .await
    }

    /// A token of a service account as `spec` asks for it.
    pub(crate) async fn token_of(&self, name: &str, spec: TokenRequestSpec) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAMESPACE);
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
        answer.unwrap().status.unwrap().token.unwrap()
    }
}

/// A LocalVolume of a node, as an agent writes one.
pub(crate) fn volume_of(node: &str, name: &str) -> DynamicObject {
    let object = json!({
        "apiVersion": "berth.dev/v1alpha1",
        "kind": "LocalVolume",
        "metadata": {"name": name},
        "spec": {"node": node, "pool": "fast-disks", "mode": "Filesystem", "tenancy": 0},
    });
    serde_json::from_value(object).unwrap()
}

/// Asks until there is an answer: for what the API server has no watch for.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let asked = async {
        let mut turns = tokio::time::interval(LOOK);
        loop {
            turns.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("in vain waited until {what}"))
}

/// The project's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A script of `tests/cluster`.
pub(crate) fn script(name: &str) -> Command {
    let mut command = Command::new(root().join("tests/cluster").join(name));
    command.current_dir(root());
    command
}

/// Runs a command that must succeed, and returns what it printed.
pub(crate) fn success(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    printed(command, output)
}

fn fed(command: &mut Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    printed(command, output)
}

fn printed(command: &Command, output: Output) -> String {
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
