//! What else a claim may ask for, and what a pod may do with it: raw devices, one pod alone, reading only, groups, claims that live
//! with their pod, statistics, growth.

use kube::api::DeleteParams;
use serde_json::Value;

use crate::devices::Device;
use crate::disks::Volume;
use crate::harness::{Cluster, eventually};
use crate::tenants::{AT_DATA, IDLE, ON_NODE_A, WRITE, claim, claim_of, pod, pod_of, spec_of};

/// A claim of a raw device.
const RAW: &str = "storageClassName: raw, volumeMode: Block, accessModes: [ReadWriteOnce]";
/// A claim of a device that is formatted.
const FORMATTED: &str = "storageClassName: formatted, accessModes: [ReadWriteOnce]";
/// A claim that one pod has alone.
const ALONE: &str = "storageClassName: fast-disks, accessModes: [ReadWriteOncePod]";

/// What kubectl is asked for the size that the claim `data` has.
const GRANTED: [&str; 5] = ["get", "pvc", "data", "-o", "jsonpath={.status.capacity.storage}"];

/// A pod's volume `data`, with more to it.
fn data(more: &str) -> String {
    format!("volumes: [{{name: data, persistentVolumeClaim: {{claimName: data{more}}}}}]")
}

impl Cluster {
    /// The cluster with one device, which is an available volume.
    async fn with_device(&self, pool: &str, mebibytes: u64) -> Device {
        self.clear().await;
        let device = self.plug("node-a", pool, "d1", mebibytes);
        self.available(1).await;
        device
    }

    /// Waits until the agent has seen that a volume is as large as this.
    async fn grown(&self, mebibytes: u64) {
        eventually("the volume has grown", async || {
            let mut volumes = self.local_volumes().await.into_iter();
            volumes.find(|volume| volume.claim.is_some() && volume.mebibytes == mebibytes)
        })
        .await;
    }

    /// Makes the claim `data` ask for another size.
    fn ask_for(&self, size: &str) {
        let patch =
            format!(r#"{{"spec": {{"resources": {{"requests": {{"storage": "{size}"}}}}}}}}"#);
        self.kubectl(&["patch", "pvc", "data", "-p", &patch]);
    }

    /// Waits until the claim `data` has this size.
    async fn granted(&self, size: &str) {
        let has = async || (self.kubectl(&GRANTED) == size).then_some(());
        eventually(&format!("the claim has {size}"), has).await;
    }

    /// What the command in the pod says when it fails, which it must.
    fn fails_in_pod(&self, pod: &str, script: &str) -> String {
        let told = format!("if {script} 2>&1; then echo succeeded; fi");
        self.in_pod(pod, &["sh", "-c", &told])
    }

    /// What the kubelet of node-a says of the volume `data` of a pod, once it is as it is waited for.
    async fn statistics(&self, pod: &str, are: impl Fn(&Value) -> bool) -> Value {
        let path = "/api/v1/nodes/node-a/proxy/stats/summary";
        let of_pod = |summary: &Value| {
            let mut pods = summary.get("pods")?.as_array()?.iter();
            let of_pod = pods.find(|one| one["podRef"]["name"] == pod)?;
            let mut volumes = of_pod.get("volume")?.as_array()?.iter();
            volumes.find(|volume| volume["name"] == "data").cloned()
        };
        eventually("the kubelet shows the volume's usage", async || {
            let summary = serde_json::from_str(&self.kubectl(&["get", "--raw", path])).unwrap();
            of_pod(&summary).filter(&are)
        })
        .await
    }

    /// Owner, group, mode and name of what lies in the volume and of its root, as its node sees them.
    fn owners(&self, volume: &Volume) -> String {
        let script = format!("cd {} && stat -c '%u:%g %A %n' . $(ls -A)", volume.path);
        self.on_node(&volume.node, &["sh", "-c", &script])
    }
}

#[tokio::test]
async fn a_raw_device_is_written_by_a_pod_and_zero_for_the_next() {
    let cluster = Cluster::with_berth().await;
    let device = cluster.with_device("raw", 32).await;
    let write = "printf of-the-first-tenant | dd of=/dev/data bs=1M seek=8 conv=fsync && exec sleep 1000000";
    let sees = "volumeDevices: [{name: data, devicePath: /dev/data}]";
    let tenant = |script| spec_of(&data(""), sees, script);

    cluster.apply(&(claim_of("data", "20Mi", RAW) + &pod_of("writer", &tenant(write))));
    cluster.running("writer").await;
    let volume = cluster.held_by("data").await;
    let at_eight = |text: &[u8]| text[8 << 20..].starts_with(b"of-the-first-tenant");
    eventually("what was written is on the device", async || {
        at_eight(&std::fs::read(&device.file).unwrap()).then_some(())
    })
    .await;
    let size = cluster.in_pod("writer", &["blockdev", "--getsize64", "/dev/data"]);
    cluster.give_back("writer").await;
    cluster.again_available(&volume).await;

    assert_eq!((size.trim(), volume.mebibytes), ("33554432", 32));
    assert!(std::fs::read(&device.file).unwrap().iter().all(|byte| *byte == 0));
    cluster.clear().await;
}

#[tokio::test]
async fn a_claim_for_one_pod_is_refused_to_a_second_until_the_first_is_gone() {
    let cluster = Cluster::with_disks().await;
    cluster.apply(&(claim_of("data", "100Mi", ALONE) + &pod("first", ON_NODE_A, WRITE)));
    cluster.running("first").await;

    cluster.apply(
        &(pod("second", ON_NODE_A, IDLE) + &pod("past-the-scheduler", "nodeName: node-a", IDLE)),
    );
    cluster.event("second", "ReadWriteOncePod access mode already in-use by another pod").await;
    let refused = cluster.event("past-the-scheduler", "is already in use by another pod").await;
    for waiting in ["second", "past-the-scheduler"] {
        let pod = cluster.pods().get(waiting).await.unwrap();
        assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Pending"), "{refused}");
    }
    for gone in ["past-the-scheduler", "first"] {
        cluster.pods().delete(gone, &DeleteParams::default()).await.unwrap();
    }
    cluster.running("second").await;

    assert_eq!(cluster.in_pod("second", &["cat", "/data/file"]), "of-the-first-tenant\n");
    cluster.clear().await;
}

#[tokio::test]
async fn who_mounts_a_volume_for_reading_writes_nothing_to_it() {
    let cluster = Cluster::with_disks().await;
    let claimed = spec_of(&data(", readOnly: true"), AT_DATA, IDLE);
    let mounted =
        spec_of(&data(""), "volumeMounts: [{name: data, mountPath: /data, readOnly: true}]", IDLE);
    cluster.apply(&(claim("data", "100Mi") + &pod("writer", ON_NODE_A, WRITE)));
    cluster.running("writer").await;
    let volume = cluster.held_by("data").await;
    cluster.has_written(&volume).await;
    let before = cluster.on_node(&volume.node, &["ls", "-lA", "--full-time", &volume.path]);

    cluster.apply(&(pod_of("claimed", &claimed) + &pod_of("mounted", &mounted)));
    let readers = ["claimed", "mounted"];
    for reader in readers {
        cluster.running(reader).await;
    }
    let read = readers.map(|reader| cluster.in_pod(reader, &["cat", "/data/file"]));
    let refusals = readers.map(|reader| {
        ["touch /data/new", "rm /data/file", "chmod 777 /data", "sh -c \"echo more >> /data/file\""]
            .map(|script| cluster.fails_in_pod(reader, script))
    });

    assert_eq!(read, ["of-the-first-tenant\n"; 2]);
    for refusal in refusals.as_flattened() {
        assert!(refusal.contains("Read-only file system"), "{refusals:?}");
    }
    let after = cluster.on_node(&volume.node, &["ls", "-lA", "--full-time", &volume.path]);
    assert_eq!(after, before);
    cluster.in_pod("writer", &["touch", "/data/still-written-by-the-other"]);
    cluster.clear().await;
}

#[tokio::test]
async fn the_group_of_a_pod_may_write_and_the_next_tenant_sees_nothing_of_it() {
    let cluster = Cluster::with_disks().await;
    cluster.apply(&(claim("data", "100Mi") + &pod("root", ON_NODE_A, WRITE)));
    cluster.running("root").await;
    let volume = cluster.held_by("data").await;
    eventually("the file is there", async || {
        cluster.owners(&volume).contains("file").then_some(())
    })
    .await;
    let of_root = cluster.owners(&volume);
    cluster.pods().delete("root", &DeleteParams::default()).await.unwrap();

    let unprivileged = "securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000}";
    let appends = "echo more >> /data/file && echo new > /data/new && exec sleep 1000000";
    cluster.apply(&pod("member", unprivileged, appends));
    cluster.running("member").await;
    let of_group = eventually("both files are written", async || {
        Some(cluster.owners(&volume)).filter(|text| text.contains("new"))
    })
    .await;
    let file = cluster.in_pod("member", &["cat", "/data/file"]);
    cluster.give_back("member").await;
    cluster.again_available(&volume).await;

    assert_eq!(of_root, "0:0 drwxr-xr-x .\n0:0 -rw-r--r-- file\n");
    assert_eq!(of_group, "0:2000 drwxrwsr-x .\n0:2000 -rw-rw-r-- file\n1000:2000 -rw-r--r-- new\n");
    assert_eq!(file, "of-the-first-tenant\nmore\n");
    assert_eq!(cluster.owners(&volume), "0:0 drwxr-xr-x .\n");
    cluster.clear().await;
}

#[tokio::test]
async fn a_claim_that_is_part_of_a_pod_comes_and_goes_with_it() {
    let cluster = Cluster::with_disks().await;
    let inline = "nodeSelector: {kubernetes.io/hostname: node-a}, volumes: [{name: data, ephemeral: {volumeClaimTemplate: \
        {spec: {storageClassName: fast-disks, accessModes: [ReadWriteOnce], resources: {requests: {storage: 100Mi}}}}}}]";

    cluster.apply(&pod_of("short", &spec_of(inline, AT_DATA, WRITE)));
    cluster.running("short").await;
    let volume = cluster.held_by("short-data").await;
    cluster.pods().delete("short", &DeleteParams::default()).await.unwrap();
    cluster.again_available(&volume).await;

    assert_eq!(volume.path, "/mnt/fast-disks/v2");
    assert_eq!(cluster.on_node(&volume.node, &["ls", "-A", &volume.path]), "");
    assert_eq!(cluster.kubectl(&["get", "pvc,pv", "-o", "name"]), "");
    cluster.clear().await;
}

#[tokio::test]
async fn the_kubelet_shows_how_full_a_volume_is() {
    let cluster = Cluster::with_disks().await;
    let fill = "dd if=/dev/zero of=/data/file bs=1M count=50 && exec sleep 1000000";
    cluster.apply(&(claim("data", "100Mi") + &pod("filler", ON_NODE_A, fill)));
    cluster.running("filler").await;

    let is_filled = |volume: &Value| volume["usedBytes"].as_u64() >= Some(50 << 20);
    let volume = cluster.statistics("filler", is_filled).await;

    assert_eq!(volume["capacityBytes"], 128 << 20, "{volume}");
    assert_eq!(volume["availableBytes"], 78 << 20, "{volume}");
    assert_eq!(volume["pvcRef"]["name"], "data", "{volume}");
    let inodes = |key: &str| volume[key].as_u64().unwrap();
    assert_eq!(inodes("inodesUsed") + inodes("inodesFree"), inodes("inodes"), "{volume}");
    assert_eq!(inodes("inodesUsed"), 2, "{volume}");
    cluster.clear().await;
}

#[tokio::test]
async fn the_kubelet_shows_how_large_a_raw_device_is() {
    let cluster = Cluster::with_berth().await;
    cluster.with_device("raw", 32).await;
    let sees = "volumeDevices: [{name: data, devicePath: /dev/data}]";
    cluster
        .apply(&(claim_of("data", "20Mi", RAW) + &pod_of("idle", &spec_of(&data(""), sees, IDLE))));
    cluster.running("idle").await;

    let volume = cluster.statistics("idle", |volume| volume["capacityBytes"].is_u64()).await;

    assert_eq!(volume["capacityBytes"], 32 << 20, "{volume}");
    cluster.clear().await;
}

#[tokio::test]
async fn a_claim_grows_with_its_device_under_a_running_pod() {
    let cluster = Cluster::with_berth().await;
    let device = cluster.with_device("formatted", 320).await;
    cluster.apply(&(claim_of("data", "300Mi", FORMATTED) + &pod("writer", ON_NODE_A, WRITE)));
    let before = cluster.running("writer").await;
    let size = |cluster: &Cluster| {
        let blocks = cluster.in_pod("writer", &["df", "-m", "/data"]);
        blocks.lines().last().unwrap().split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let small = size(&cluster);

    device.grow(480);
    cluster.grown(480).await;
    cluster.ask_for("480Mi");
    cluster.granted("480Mi").await;

    let large = size(&cluster);
    assert!(small < 320 && large > small + 140, "{small} MiB became {large} MiB");
    assert_eq!(cluster.in_pod("writer", &["cat", "/data/file"]), "of-the-first-tenant\n");
    let after = cluster.running("writer").await;
    assert_eq!(after.metadata.uid, before.metadata.uid);
    assert_eq!(after.status.unwrap().container_statuses.unwrap()[0].restart_count, 0);
    cluster.clear().await;
}

#[tokio::test]
async fn a_claim_that_asks_for_more_than_there_is_says_so_and_may_ask_for_less() {
    let cluster = Cluster::with_disks().await;
    cluster.apply(&(claim("data", "100Mi") + &pod("writer", ON_NODE_A, WRITE)));
    cluster.running("writer").await;
    let volume = cluster.held_by("data").await;

    cluster.ask_for("200Mi");
    let refused = cluster.event("data", "resize").await;
    let after_refusal = cluster.kubectl(&GRANTED);
    cluster.on_node(&volume.node, &["mount", "-o", "remount,size=160M", &volume.path]);
    cluster.grown(160).await;
    cluster.ask_for("160Mi");
    cluster.granted("160Mi").await;

    assert_eq!(after_refusal, "128Mi", "{refused}");
    assert_eq!(cluster.in_pod("writer", &["cat", "/data/file"]), "of-the-first-tenant\n");
    cluster.clear().await;
}
