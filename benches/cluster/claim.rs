//! One claim after another, from its creation to a pod that runs; and from its deletion to the same volume's offer.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::harness::{Cluster, NODE, sum};
use super::node::Node;
use super::watch::{Observer, Seen};
use crate::report::Report;
use crate::samples::{HEADS, Samples, shown};

/// Claims of each kind.
const TIMES: usize = 20;
/// The only volume that there is.
const DISK: (&str, u64) = ("/mnt/fast-disks/claimed", 64);

/// Whose steps are counted together.
const BERTH: &str = "**Berth**";

/// From the creation of a claim and its pod to a pod that is ready: whose step it is, and what it is.
const STARTING: [(&str, &str); 14] = [
    ("API server", "the claim and its pod are created: two requests"),
    ("scheduler", "finds the node by its published capacity, and notes it in the claim"),
    ("provisioner", "hears of it, and looks at claim, class and node"),
    (BERTH, "`CreateVolume`: the claim is reserved and written to the volume"),
    (
        "provisioner, controller-manager",
        "the PersistentVolume is made, and it and the claim are bound to each other",
    ),
    (
        "scheduler",
        "looks again, once a second, whether the claim is bound, and gives the pod to the node",
    ),
    ("kubelet", "hears of the pod, and looks ten times a second for what is to be mounted"),
    (BERTH, "`NodeStageVolume`: the volume is verified"),
    ("kubelet", "records the device, and prepares the mount"),
    (BERTH, "`NodePublishVolume`: verified again, and mounted"),
    ("kubelet", "looks every 300 ms whether everything is mounted"),
    ("containerd", "the pod's sandbox is made"),
    ("kubelet, containerd", "the container is made and started"),
    ("kubelet, API server", "the pod is told to be ready"),
];

/// From the deletion of a claim to the same volume's offer.
const ENDING: [(&str, &str); 4] = [
    ("API server, controller-manager", "the claim goes, once nothing uses it"),
    ("controller-manager, provisioner", "the PersistentVolume is released, and its deletion begun"),
    (BERTH, "`DeleteVolume`: the tenancy ends"),
    (BERTH, "the agent hears of it, wipes the volume, and tells: `Available`"),
];

pub async fn run(
    cluster: &Cluster,
    observer: &mut Observer,
    costs: &mut Report,
    report: &mut Report,
) {
    let node = Node::enter(cluster, NODE);
    observer.begin();
    node.tmpfs(DISK.0, DISK.1);
    let volume = observer.until("the volume is offered", |seen| offered_at(seen, DISK.0)).await.1;
    published(observer, true).await;
    let before = Counted::now(cluster).await;
    let mut starts = Steps::new(&STARTING);
    let mut ends = ["empty", "one small file"].map(|what| (what, Steps::new(&ENDING)));
    let (mut bare, mut capacity) = (Samples::default(), Samples::default());
    for number in 0..TIMES * ends.len() {
        bare.add(without_claim(cluster, observer, &format!("bare-{number}")).await);
        let kind = number % ends.len();
        let name = format!("bench-{number}");
        starts.add(&follow(cluster, observer, &name, &volume, kind == 1).await);
        let (moments, told) = give_back(cluster, observer, &name, &volume).await;
        ends[kind].1.add(&moments);
        capacity.add(since(moments[moments.len() - 1], told));
    }
    let after = Counted::now(cluster).await;
    observer.begin();
    node.unmount(DISK.0);
    observer.when("the volume is forgotten", |seen| seen.is_gone("LocalVolume", &volume)).await;

    tell_starts(costs, &starts, &bare);
    let (_, wipe) = mean(&before.berth, &after.berth, "berth_wipe_duration_seconds", &[]);
    tell_ends(report, costs, &ends, &capacity, wipe);
    after.tell(&before, costs, starts.total.count());
}

/// A pod with a claim: every moment from its creation on.
async fn follow(
    cluster: &Cluster,
    observer: &mut Observer,
    name: &str,
    volume: &str,
    writes: bool,
) -> Vec<SystemTime> {
    let begun = observer.begin();
    let claim = json!({
        "storageClassName": "fast-disks", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "10Mi"}},
    });
    let claim = cluster.create("PersistentVolumeClaim", name, claim).await;
    let claim = format!("pvc-{}", claim.metadata.uid.unwrap());
    cluster
        .create(
            "Pod",
            name,
            pod(Some(name), if writes { "echo a tenant > /data/file" } else { ":" }),
        )
        .await;
    let mut moments = vec![begun, SystemTime::now()];
    let selected = |seen: &Seen| {
        let notes = seen.object.metadata.annotations.as_ref();
        seen.is("PersistentVolumeClaim", name)
            && notes.is_some_and(|notes| notes.contains_key("volume.kubernetes.io/selected-node"))
    };
    moments.push(observer.when("a node is selected", selected).await);
    let is_bound = |seen: &Seen| {
        seen.is("PersistentVolumeClaim", name) && seen.text("/status/phase") == Some("Bound")
    };
    let bound = observer.when("the claim is bound", is_bound).await;
    let is_placed = |seen: &Seen| seen.is("Pod", name) && seen.text("/spec/nodeName").is_some();
    let placed = observer.when("the pod has a node", is_placed).await;
    let ready = observer.when("the pod is ready", |seen| is_ready(seen, name)).await;
    let created = cluster.call("CreateVolume", &claim, begun).await;
    let staged = cluster.call("NodeStageVolume", volume, begun).await;
    let published = cluster.call("NodePublishVolume", volume, begun).await;
    let [sandbox, made, started] = cluster.started(NODE, name).await;
    moments.extend([created.0, created.1, bound, placed, staged.0, staged.1]);
    moments.extend([published.0, published.1, sandbox, made, started, ready]);
    moments
}

/// Deletes a pod, and then its claim: every moment from then to the volume's offer; and when its capacity was published.
async fn give_back(
    cluster: &Cluster,
    observer: &mut Observer,
    name: &str,
    volume: &str,
) -> (Vec<SystemTime>, SystemTime) {
    let ended = observer.begin();
    cluster.delete("Pod", name).await;
    observer.when("the pod is gone", |seen| seen.is_gone("Pod", name)).await;
    cluster.call("NodeUnstageVolume", volume, ended).await;
    let begun = observer.begin();
    cluster.delete("PersistentVolumeClaim", name).await;
    let gone = observer
        .when("the claim is gone", |seen| seen.is_gone("PersistentVolumeClaim", name))
        .await;
    let is_offered = |seen: &Seen| seen.is("LocalVolume", volume) && is_claimable(seen);
    let offered = observer.when("the volume is offered", is_offered).await;
    let capacity = published(observer, true).await;
    let deleted = cluster.call("DeleteVolume", volume, begun).await;
    (vec![begun, gone, deleted.0, deleted.1, offered], capacity)
}

/// A pod of the same kind without a claim, from its creation until it is ready.
async fn without_claim(cluster: &Cluster, observer: &mut Observer, name: &str) -> Duration {
    let begun = observer.begin();
    cluster.create("Pod", name, pod(None, ":")).await;
    let ready = observer.when("the pod is ready", |seen| is_ready(seen, name)).await;
    cluster.delete("Pod", name).await;
    observer.when("the pod is gone", |seen| seen.is_gone("Pod", name)).await;
    since(begun, ready)
}

/// A pod that does something and then waits to be ended.
pub fn pod(claim: Option<&str>, does: &str) -> serde_json::Value {
    let script = format!("{does}; trap 'exit 0' TERM; sleep 1000000 & wait");
    let mut container = json!({
        "name": "main", "image": "berth.test/busybox:1", "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
    });
    let Some(claim) = claim else { return json!({"containers": [container]}) };
    container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let volume = json!({"name": "data", "persistentVolumeClaim": {"claimName": claim}});
    json!({"volumes": [volume], "containers": [container]})
}

pub fn is_ready(seen: &Seen, name: &str) -> bool {
    let conditions = seen.object.data.pointer("/status/conditions");
    let mut conditions = conditions.and_then(|all| all.as_array()).into_iter().flatten();
    seen.is("Pod", name) && conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// Whether a volume may be claimed: nobody holds it, and it is clean after its latest tenancy.
pub fn is_claimable(seen: &Seen) -> bool {
    let at = |pointer: &str| seen.object.data.pointer(pointer);
    at("/spec/claim").is_none()
        && at("/spec/tenancy") == at("/status/cleanFor")
        && seen.text("/status/phase") == Some("Available")
}

/// The name of the volume at `path`, if it says that it may be claimed.
pub fn offered_at(seen: &Seen, path: &str) -> Option<String> {
    let is = !seen.gone && seen.kind == "LocalVolume" && seen.text("/status/path") == Some(path);
    (is && is_claimable(seen)).then(|| seen.object.metadata.name.clone()).flatten()
}

/// Waits until the scheduler is told that [`NODE`] has a volume to give, or else none.
pub async fn published(observer: &mut Observer, some: bool) -> SystemTime {
    let is = |seen: &Seen| {
        let node = seen.text("/nodeTopology/matchLabels/topology.berth.dev~1node");
        let largest = seen.text("/maximumVolumeSize");
        !seen.gone
            && seen.kind == "CSIStorageCapacity"
            && seen.text("/storageClassName") == Some("fast-disks")
            && node == Some(NODE)
            && largest.is_some_and(|size| (size != "0") == some)
    };
    observer.when("the capacity is published", is).await
}

/// Times between moments: in all, of those steps that are Berth's, and of each.
struct Steps {
    names: &'static [(&'static str, &'static str)],
    total: Samples,
    ours: Samples,
    each: Vec<Samples>,
}

impl Steps {
    fn new(names: &'static [(&'static str, &'static str)]) -> Self {
        let (total, ours) = (Samples::default(), Samples::default());
        Self { names, total, ours, each: vec![Samples::default(); names.len()] }
    }

    fn add(&mut self, moments: &[SystemTime]) {
        assert_eq!(moments.len(), self.each.len() + 1);
        let mut ours = Duration::ZERO;
        for (number, pair) in moments.windows(2).enumerate() {
            let took = since(pair[0], pair[1]);
            self.each[number].add(took);
            ours += if self.names[number].0 == BERTH { took } else { Duration::ZERO };
        }
        self.ours.add(ours);
        self.total.add(since(moments[0], moments[moments.len() - 1]));
    }

    /// What part of the whole some of it is, in percent of the sums.
    fn share(&self, part: &Samples) -> String {
        let share = part.sum().as_secs_f64() / self.total.sum().as_secs_f64();
        format!("{:.1} %", 100.0 * share)
    }

    fn tell(&self, costs: &mut Report, what: &str) {
        costs.table(&heads(&["who", "what"], &["share:"]));
        for ((who, what), step) in self.names.iter().zip(&self.each) {
            costs.row(&[who, what, step, &self.share(step)]);
        }
        costs.row(&[&"all", &what, &self.total, &"100 %"]);
        costs.row(&[&BERTH, &"all of its steps together", &self.ours, &self.share(&self.ours)]);
    }
}

/// From one moment to another; nothing if that was told of first.
pub fn since(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

fn heads<'a>(first: &[&'a str], last: &[&'a str]) -> Vec<&'a str> {
    [first, &HEADS, last].concat()
}

fn tell_starts(costs: &mut Report, starts: &Steps, bare: &Samples) {
    costs.say("### From the claim to the pod that runs");
    starts.tell(costs, "from the claim's creation to the pod's readiness");
    costs.row(&[&"", &"a pod of the same kind without a claim", bare, &""]);
    costs.end();
    costs.say(format!(
        "**Berth's share is {:.1} % of the median claim's time**, and {} of all their time together. A claim adds {} to the start of a \
         pod (medians).",
        100.0 * starts.ours.ratio(&starts.total),
        starts.share(&starts.ours),
        shown(starts.total.percentile(50).saturating_sub(bare.percentile(50)))
    ));
}

fn tell_ends(
    report: &mut Report,
    costs: &mut Report,
    ends: &[(&str, Steps)],
    capacity: &Samples,
    wipe: Duration,
) {
    report.table(&heads(&["deletion of a claim → its volume may be claimed again"], &[]));
    for (what, steps) in ends {
        report.row(&[what, &steps.total]);
    }
    report.end();
    costs.say("### From the claim's deletion to the volume's offer");
    ends[1].1.tell(costs, "from the deletion to `Available`, with one small file in the volume");
    let published = "after that: the capacity of the node is published anew";
    costs.row(&[&BERTH, &published, capacity, &""]);
    costs.end();
    costs.say(format!("The wipe itself, with reading back, takes {} of it (mean).", shown(wipe)));
}

/// What the processes have counted of their own.
struct Counted {
    /// Pages of Berth's, of the provisioners', of the kubelet's and of the API server's.
    berth: String,
    provisioner: String,
    kubelet: String,
    server: String,
}

impl Counted {
    async fn now(cluster: &Cluster) -> Self {
        let berth = [cluster.pages("node", 9809).await, cluster.pages("controller", 9809).await];
        Self {
            berth: berth.concat().join("\n"),
            provisioner: cluster.pages("controller", 9810).await.join("\n"),
            kubelet: cluster.raw(&format!("/api/v1/nodes/{NODE}/proxy/metrics")).await,
            server: cluster.raw("/metrics").await,
        }
    }

    fn tell(&self, before: &Self, costs: &mut Report, claims: usize) {
        costs.say("### Berth's calls, as it and its callers time them, and its requests to the API server");
        costs.table(&["call", "calls a claim:", "Berth's mean:", "its caller's mean:"]);
        for method in [
            "CreateVolume",
            "NodeGetCapabilities",
            "NodeStageVolume",
            "NodePublishVolume",
            "NodeUnpublishVolume",
            "NodeUnstageVolume",
            "DeleteVolume",
        ] {
            let ours = format!("method=\"{method}\"");
            let ours =
                mean(&before.berth, &self.berth, "berth_grpc_call_duration_seconds", &[&ours]);
            let theirs = format!("/{method}\"");
            let callers = [
                (&before.kubelet, &self.kubelet, "csi_operations_seconds"),
                (&before.provisioner, &self.provisioner, "csi_sidecar_operations_seconds"),
            ];
            let theirs = callers.map(|(before, after, name)| mean(before, after, name, &[&theirs]));
            let theirs = theirs.into_iter().find(|(count, _)| *count > 0.0).unwrap_or_default();
            let calls = format!("{:.1}", ours.0 / claims as f64);
            costs.row(&[&method, &calls, &shown(ours.1), &shown(theirs.1)]);
        }
        costs.end();
        costs.table(&["request", "requests a claim:", "the API server's mean:"]);
        for (what, labels) in [
            ("a reservation is made", ["resource=\"leases\"", "verb=\"POST\"", ""]),
            ("a reservation is deleted", ["resource=\"leases\"", "verb=\"DELETE\"", ""]),
            (
                "a claim is written or ended",
                ["resource=\"localvolumes\"", "verb=\"PATCH\"", "subresource=\"\""],
            ),
            (
                "what the agent saw is written",
                ["resource=\"localvolumes\"", "verb=\"PATCH\"", "subresource=\"status\""],
            ),
            ("one volume is read", ["resource=\"localvolumes\"", "verb=\"GET\"", ""]),
        ] {
            let name = "apiserver_request_duration_seconds";
            let (count, mean) = mean(&before.server, &self.server, name, &labels);
            costs.row(&[&what, &format!("{:.1}", count / claims as f64), &shown(mean)]);
        }
        costs.end();
    }
}

/// How many were counted between two pages of metrics, and their mean time.
pub fn mean(before: &str, after: &str, name: &str, labels: &[&str]) -> (f64, Duration) {
    let grown = |suffix: &str| {
        let name = format!("{name}_{suffix}");
        sum(after, &name, labels) - sum(before, &name, labels)
    };
    let (count, seconds) = (grown("count"), grown("sum"));
    let mean = if count > 0.0 { seconds / count } else { 0.0 };
    (count, Duration::from_secs_f64(mean.max(0.0)))
}
