//! From a mount's coming or going on a node to what the API server says of it.

use std::time::SystemTime;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::claim::{is_ready, offered_at, pod, since};
use super::etcd;
use super::harness::{Cluster, NODE};
use super::node::Node;
use super::watch::{Observer, Seen};
use crate::report::Report;
use crate::samples::{HEADS, Samples};

const TIMES: usize = 40;
const SOURCE: &str = "/mnt/source";
const TARGET: &str = "/mnt/fast-disks/comes";

pub async fn run(cluster: &Cluster, observer: &mut Observer, report: &mut Report) {
    let node = Node::enter(cluster, NODE);
    node.tmpfs(SOURCE, 64);
    node.run(|| std::fs::create_dir_all(TARGET).unwrap());
    let etcd = etcd::writes(cluster, TIMES);
    let mut free = Times::default();
    let (mut volume, mut data) = (String::new(), Value::Null);
    for _ in 0..TIMES {
        let begun = come(&node, observer);
        let offered = |seen: &Seen| Some((offered_at(seen, TARGET)?, seen.object.data.clone()));
        let (at, (name, seen)) = observer.until("the volume is offered", offered).await;
        free.comes.add(since(begun, at));
        let begun = go(&node, observer);
        let gone = |seen: &Seen| seen.is_gone("LocalVolume", &name);
        free.goes.add(since(begun, observer.when("the volume is forgotten", gone).await));
        (volume, data) = (name, seen);
    }
    let (create, change) = bare(cluster, observer, &data).await;
    let held = of_claimed(cluster, observer, &node, &volume).await;
    node.unmount(SOURCE);

    report.table(&[&["on the cluster"], &HEADS[..], &["of the bare writes:"]].concat());
    report.row(&[&"bare: a key is written to etcd, without fsync", &etcd, &""]);
    report.row(&[
        &"bare: an object is made, then its status written, and its watcher told",
        &create,
        &"1",
    ]);
    report.row(&[&"bare: a status is written, and its watcher told", &change, &"1"]);
    for (what, times, bare) in [
        ("a bind mount appears → a volume is offered", &free.comes, &create),
        ("the mount of a free volume goes → its object is gone", &free.goes, &change),
        ("the mount of a claimed volume goes → `Lost`", &held.goes, &change),
        ("it comes back → `Claimed`", &held.comes, &change),
    ] {
        report.row(&[&what, times, &format!("{:.1}", times.ratio(bare))]);
    }
    report.end();
    report.say(
        "For comparison, not of this run: on such a cluster the static provisioner (v2.9), which looks every ten seconds, took 5.3 s to 9.9 s \
         from a bind mount to an offer, and 23.0 s to 25.1 s from a claim's deletion to the same volume's offer with one small file in it.",
    );
}

#[derive(Default)]
struct Times {
    comes: Samples,
    goes: Samples,
}

fn come(node: &Node, observer: &mut Observer) -> SystemTime {
    let begun = observer.begin();
    node.run(|| rustix::mount::mount_bind(SOURCE, TARGET).unwrap());
    begun
}

fn go(node: &Node, observer: &mut Observer) -> SystemTime {
    let begun = observer.begin();
    node.unmount(TARGET);
    begun
}

/// The same of a volume that a claim has and no pod uses.
async fn of_claimed(
    cluster: &Cluster,
    observer: &mut Observer,
    node: &Node,
    volume: &str,
) -> Times {
    const NAME: &str = "held";
    come(node, observer);
    super::claim::published(observer, true).await;
    let begun = observer.begin();
    let claim = json!({
        "storageClassName": "fast-disks", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "10Mi"}},
    });
    cluster.create("PersistentVolumeClaim", NAME, claim).await;
    cluster.create("Pod", NAME, pod(Some(NAME), ":")).await;
    observer.when("the pod is ready", |seen| is_ready(seen, NAME)).await;
    cluster.delete("Pod", NAME).await;
    cluster.call("NodeUnstageVolume", volume, begun).await;
    observer.when("the pod is gone", |seen| seen.is_gone("Pod", NAME)).await;
    let mut times = Times::default();
    for _ in 0..TIMES {
        for (samples, comes, phase) in
            [(&mut times.goes, false, "Lost"), (&mut times.comes, true, "Claimed")]
        {
            let begun = if comes { come(node, observer) } else { go(node, observer) };
            let is = |seen: &Seen| {
                seen.is("LocalVolume", volume) && seen.text("/status/phase") == Some(phase)
            };
            samples.add(since(begun, observer.when(phase, is).await));
        }
    }
    observer.begin();
    cluster.delete("PersistentVolumeClaim", NAME).await;
    observer.until("the volume is offered", |seen| offered_at(seen, TARGET)).await;
    observer.begin();
    node.unmount(TARGET);
    observer.when("the volume is forgotten", |seen| seen.is_gone("LocalVolume", volume)).await;
    times
}

/// What nobody can do without: the two writes of a new object until its watcher is told, and one of its status.
async fn bare(cluster: &Cluster, observer: &mut Observer, data: &Value) -> (Samples, Samples) {
    let objects = cluster.all("berth.dev", "v1alpha1", "LocalVolume");
    let (mut decided, status) = (data["spec"].clone(), &data["status"]);
    decided["node"] = json!("node-x");
    let (mut create, mut change) = (Samples::default(), Samples::default());
    for number in 0..TIMES {
        let name = format!("bare-{number}");
        let begun = observer.begin();
        let new: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "LocalVolume", "metadata": {"name": name},
            "spec": decided,
        }))
        .unwrap();
        objects.create(&PostParams::default(), &new).await.unwrap();
        let told = write(&objects, observer, &name, status, "/a").await;
        create.add(since(begun, told));
        let begun = observer.begin();
        let told = write(&objects, observer, &name, status, "/b").await;
        change.add(since(begun, told));
        objects.delete(&name, &DeleteParams::default()).await.unwrap();
        observer.when("the object is gone", |seen| seen.is_gone("LocalVolume", &name)).await;
    }
    (create, change)
}

/// Writes a volume's status with another path.
async fn write(
    objects: &kube::Api<DynamicObject>,
    observer: &mut Observer,
    name: &str,
    status: &Value,
    path: &str,
) -> SystemTime {
    let mut status = status.clone();
    status["path"] = json!(path);
    let change = Patch::Merge(json!({"status": status}));
    objects.patch_status(name, &PatchParams::default(), &change).await.unwrap();
    let is = |seen: &Seen| seen.is("LocalVolume", name) && seen.text("/status/path") == Some(path);
    observer.when("the watcher is told", is).await
}
