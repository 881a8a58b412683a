//! An agent's first start on a node with many volumes, beside the bare writes by several callers; and what of it is whose.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::MANY;
use super::claim::{is_claimable, mean, since};
use super::harness::{Cluster, NAMESPACE, OTHER, eventually, resource, sum};
use super::logs;
use super::memory::{self, Process};
use super::node::Node;
use super::watch::Observer;
use crate::plot::Lines;
use crate::report::Report;
use crate::samples::{HEADS, Samples, shown};

const ROUNDS: usize = 3;
/// Callers that make the bare writes side by side.
const CALLERS: [usize; 2] = [16, 64];
/// The points of the plot.
const POINTS: [usize; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/// An account that may do with LocalVolumes what it likes, under the same rules of flow control as Berth's own.
const ACCOUNT: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: bench, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: bench}
rules: [{apiGroups: [berth.dev], resources: [localvolumes, localvolumes/status], verbs: ['*']}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bench}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: bench}
subjects: [{kind: ServiceAccount, name: bench, namespace: default}]
";

/// Gives what the processes keep with that many volumes.
pub async fn run(cluster: &Cluster, observer: &mut Observer, report: &mut Report) -> Vec<Process> {
    let node = Node::enter(cluster, OTHER);
    cluster.shell("administrator apply -f - >&2", &[], ACCOUNT);
    let mut starts = Starts::default();
    take_agent(cluster).await;
    for number in 0..MANY {
        node.tmpfs(&format!("/mnt/fast-disks/v{number:04}"), 1);
    }
    for _ in 0..ROUNDS {
        starts.series.clear();
        forget(cluster, &node).await;
        let times = start(cluster, observer, &mut starts.shares).await;
        starts.agent.add(times[MANY - 1]);
        starts.series.push(("the agent, from its start".to_owned(), points(&times)));
        starts.sizes = memory::of(cluster);
        let objects = objects(cluster).await;
        take_agent(cluster).await;
        for (callers, samples) in CALLERS.into_iter().zip(&mut starts.bare) {
            forget(cluster, &node).await;
            let times = write(cluster, observer, &objects, callers).await;
            samples.add(times[MANY - 1]);
            starts.series.push((format!("bare writes by {callers}"), points(&times)));
        }
    }
    forget(cluster, &node).await;
    for number in 0..MANY {
        node.unmount(&format!("/mnt/fast-disks/v{number:04}"));
    }
    cluster.set_agent(OTHER, true).await;
    starts.tell(report)
}

/// What was measured.
#[derive(Default)]
struct Starts {
    agent: Samples,
    /// For each of [`CALLERS`].
    bare: [Samples; CALLERS.len()],
    /// Of the last round.
    series: Vec<(String, Vec<(f64, f64)>)>,
    shares: Shares,
    sizes: Vec<Process>,
}

impl Starts {
    fn tell(self, report: &mut Report) -> Vec<Process> {
        let heads = ["first start with 1,000 volumes, on the cluster"];
        report.table(&[&heads, &HEADS[..], &["of the bare writes:"]].concat());
        let best = self.bare.iter().min_by_key(|samples| samples.percentile(50)).unwrap();
        let ratio = |samples: &Samples| format!("{:.1}", samples.ratio(best));
        let what = "the agent's start → all are `Available` in the API server";
        report.row(&[&what, &self.agent, &ratio(&self.agent)]);
        for (callers, samples) in CALLERS.iter().zip(&self.bare) {
            let what = format!("bare: the same objects and statuses, written by {callers}");
            report.row(&[&what, samples, &ratio(samples)]);
        }
        report.end();
        self.shares.tell(report);
        report.lines(&Lines {
            name: "first-start-on-a-cluster",
            title: "A first start with 1,000 volumes: how many are offered after which time",
            x: "volumes",
            y: "s",
            series: self.series,
        });
        self.sizes
    }
}

/// Ends the agent of the node.
async fn take_agent(cluster: &Cluster) {
    cluster.set_agent(OTHER, false).await;
    let pods: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), NAMESPACE, &resource("", "v1", "Pod"));
    let agents = ListParams::default()
        .labels("app.kubernetes.io/component=node")
        .fields(&format!("spec.nodeName={OTHER}"));
    eventually("the agent has ended", async || {
        pods.list(&agents).await.unwrap().items.is_empty().then_some(())
    })
    .await;
}

/// Has nobody know of any volume of the node: neither its ledger nor the API server.
async fn forget(cluster: &Cluster, node: &Node) {
    node.run(|| {
        let script = "rm -rf /var/lib/berth/*";
        assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
    });
    let objects = cluster.all("berth.dev", "v1alpha1", "LocalVolume");
    objects.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    eventually("no volume is known", async || {
        objects.list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
    })
    .await;
}

async fn objects(cluster: &Cluster) -> Vec<DynamicObject> {
    let objects = cluster.all("berth.dev", "v1alpha1", "LocalVolume");
    objects.list(&ListParams::default()).await.unwrap().items
}

/// Starts the agent: how long after its first line of log each volume was offered.
async fn start(cluster: &Cluster, observer: &mut Observer, shares: &mut Shares) -> Vec<Duration> {
    let before = Used::now(cluster).await;
    let begun = observer.begin();
    cluster.set_agent(OTHER, true).await;
    let times = offered(observer).await;
    let after = Used::now(cluster).await;
    let started = eventually("the agent has said that it starts", async || {
        let texts = cluster.logs_of_berth().into_iter().map(|log| fs::read_to_string(log).unwrap());
        texts.filter_map(|text| logs::latest(&text, "starting")).max().filter(|at| *at > begun)
    })
    .await;
    shares.add(&before, &after);
    times.into_iter().map(|at| since(started, at)).collect()
}

/// Writes the same objects as another node's, by so many callers: how long it took until each was told.
async fn write(
    cluster: &Cluster,
    observer: &mut Observer,
    objects: &[DynamicObject],
    callers: usize,
) -> Vec<Duration> {
    let client = account(cluster).await;
    let api: Api<DynamicObject> =
        Api::all_with(client, &resource("berth.dev", "v1alpha1", "LocalVolume"));
    let begun = observer.begin();
    let writes = stream::iter(objects).for_each_concurrent(callers, |object| {
        let api = api.clone();
        async move {
            let name = object.metadata.name.as_ref().unwrap().replace(OTHER, "node-x");
            let mut spec = object.data["spec"].clone();
            spec["node"] = json!("node-x");
            let new = json!({
                "apiVersion": "berth.dev/v1alpha1", "kind": "LocalVolume", "metadata": {"name": name}, "spec": spec,
            });
            let new: DynamicObject = serde_json::from_value(new).unwrap();
            api.create(&PostParams::default(), &new).await.unwrap();
            let status = Patch::Merge(json!({"status": object.data["status"]}));
            api.patch_status(&name, &PatchParams::default(), &status).await.unwrap();
        }
    });
    let (times, ()) = tokio::join!(offered(observer), writes);
    times.into_iter().map(|at| since(begun, at)).collect()
}

/// When each of the volumes was first told to be offered, in order.
async fn offered(observer: &mut Observer) -> Vec<SystemTime> {
    let times = RefCell::new(BTreeMap::new());
    observer
        .when("all volumes are offered", |seen| {
            let is = !seen.gone && seen.kind == "LocalVolume" && is_claimable(seen);
            let mut times = times.borrow_mut();
            if is {
                times.entry(seen.object.metadata.name.clone()).or_insert(seen.at);
            }
            times.len() >= MANY
        })
        .await;
    let mut times: Vec<_> = times.into_inner().into_values().collect();
    times.sort();
    times
}

fn points(times: &[Duration]) -> Vec<(f64, f64)> {
    let point = |count: &usize| (*count as f64, times[count - 1].as_secs_f64());
    POINTS.iter().filter(|count| **count <= times.len()).map(point).collect()
}

/// A client that is the service account of [`ACCOUNT`].
async fn account(cluster: &Cluster) -> Client {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "default");
    let request =
        TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
    let answer = accounts.create_token_request("bench", &PostParams::default(), &request).await;
    cluster.client_with(answer.unwrap().status.unwrap().token.unwrap())
}

/// What was used up to a moment.
struct Used {
    server: String,
    /// Seconds of a processor, by process.
    seconds: BTreeMap<String, f64>,
}

impl Used {
    async fn now(cluster: &Cluster) -> Self {
        Self { server: cluster.raw("/metrics").await, seconds: memory::seconds(cluster) }
    }
}

/// What the starts used, of the API server and of processors.
#[derive(Default)]
struct Shares {
    /// How many requests of each kind, and for how long the API server was at each.
    requests: BTreeMap<&'static str, Vec<(f64, Duration)>>,
    waited: Vec<Duration>,
    seconds: BTreeMap<String, Vec<f64>>,
}

impl Shares {
    fn add(&mut self, before: &Used, after: &Used) {
        let name = "apiserver_request_duration_seconds";
        for (what, verb, sub) in [
            ("an object is made", "POST", ""),
            ("a status is written", "PATCH", "status"),
            ("an object is read", "GET", ""),
        ] {
            let labels = [
                "resource=\"localvolumes\"",
                &format!("verb=\"{verb}\""),
                &format!("subresource=\"{sub}\""),
            ];
            let counted = mean(&before.server, &after.server, name, &labels);
            self.requests.entry(what).or_default().push(counted);
        }
        let name = "apiserver_flowcontrol_request_wait_duration_seconds_sum";
        let of = ["flow_schema=\"service-accounts\""];
        let waited = sum(&after.server, name, &of) - sum(&before.server, name, &of);
        self.waited.push(Duration::from_secs_f64(waited.max(0.0)));
        for (process, seconds) in &after.seconds {
            let used = seconds - before.seconds.get(process).copied().unwrap_or_default();
            self.seconds.entry(process.clone()).or_default().push(used);
        }
    }

    fn tell(&self, report: &mut Report) {
        report.table(&["request of the agent", "requests a start:", "the API server's mean:"]);
        for (what, counted) in &self.requests {
            let count = counted.iter().map(|(count, _)| count).sum::<f64>() / counted.len() as f64;
            let weight = |(count, time): &(f64, Duration)| count * time.as_secs_f64();
            let all = counted.iter().map(weight).sum::<f64>() / counted.len() as f64;
            let mean = if count > 0.0 { all / count } else { 0.0 };
            report.row(&[what, &format!("{count:.0}"), &shown(Duration::from_secs_f64(mean))]);
        }
        report.end();
        let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
        let mut used: Vec<_> = self.seconds.iter().map(|(name, all)| (mean(all), name)).collect();
        used.sort_by(|one, other| other.0.total_cmp(&one.0));
        let used = used.iter().filter(|(seconds, _)| *seconds >= 0.05);
        let used: Vec<_> = used.map(|(seconds, name)| format!("{name} {seconds:.1} s")).collect();
        let waited: Vec<_> = self.waited.iter().map(Duration::as_secs_f64).collect();
        report.say(format!(
            "Of processors a start uses, from the node's label to the last volume's offer: {}. In the API server's queues all \
             requests together wait for {}.",
            used.join(", "),
            shown(Duration::from_secs_f64(mean(&waited)))
        ));
    }
}
