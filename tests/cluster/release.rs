//! How a volume comes back: whatever the administrator has mounted of it, and while its pod still unwinds.

use std::time::Instant;

use crate::disks::Volume;
use crate::harness::{Cluster, eventually};
use crate::tenants::{ON_NODE_A, WRITE, claim, pod};

/// Writes a file, and ends when it is asked to: what a kubelet waits for otherwise is no part of what is looked at.
const WRITE_AND_END: &str = "trap \"exit 0\" TERM; ls -A /data > /tmp/found; echo mine > /data/file; \
    while true; do sleep 0.1; done";
/// How often a pod and its claim come and go.
const ROUNDS: u32 = 4;

impl Cluster {
    /// The only volume that there is: one whose file system is mounted at `/mnt/backing/v1` on node-a, and from there in the
    /// pool.
    async fn with_a_bind_mount(&self) -> Volume {
        self.clear().await;
        let script = "mkdir -p /mnt/backing/v1 /mnt/fast-disks/v1 && \
            mount -t tmpfs -o size=64M v1 /mnt/backing/v1 && mount --bind /mnt/backing/v1 /mnt/fast-disks/v1";
        self.on_node("node-a", &["sh", "-c", script]);
        self.available(1).await.remove(0)
    }

    /// Takes away what [`Cluster::with_a_bind_mount`] made.
    async fn without_it(&self) {
        self.on_node("node-a", &["umount", "/mnt/backing/v1"]);
        self.clear().await;
    }

    /// Deletes the pod and the claim `data` in one breath.
    fn delete_at_once(&self, pod: &str) {
        self.kubectl(&["delete", &format!("pod/{pod}"), "pvc/data", "--wait=false"]);
    }

    /// Waits until it is said of the volume that it is not clean, and why, in words that have `part` in them.
    async fn still_in_use(&self, volume: &Volume, part: &str) {
        let path = "jsonpath={.status.conditions[?(@.type==\"Clean\")].message}";
        eventually(&format!("the wipe waits for {part}"), async || {
            let said = self.kubectl(&["get", "localvolume", &volume.name, "-o", path]);
            (said.contains("still in use") && said.contains(part)).then_some(())
        })
        .await;
    }

    fn files(&self, volume: &Volume) -> String {
        self.on_node(&volume.node, &["ls", "-A", &volume.path])
    }
}

#[tokio::test]
async fn a_volume_that_stays_mounted_on_its_host_is_given_back_and_empty() {
    let cluster = Cluster::with_berth().await;
    let volume = cluster.with_a_bind_mount().await;
    cluster.apply(&(claim("data", "10Mi") + &pod("writer", ON_NODE_A, WRITE)));
    cluster.running("writer").await;
    cluster.has_written(&volume).await;
    cluster.held_by("data").await;

    cluster.give_back("writer").await;
    cluster.again_available(&volume).await;

    assert_eq!(cluster.files(&volume), "");
    cluster.on_node("node-a", &["mountpoint", "-q", "/mnt/backing/v1"]);
    cluster.without_it().await;
}

#[tokio::test]
async fn what_the_host_mounts_of_a_volume_during_a_tenancy_keeps_it_from_being_wiped() {
    let cluster = Cluster::with_berth().await;
    let volume = cluster.with_a_bind_mount().await;
    cluster.apply(&(claim("data", "10Mi") + &pod("writer", ON_NODE_A, WRITE)));
    cluster.running("writer").await;
    cluster.has_written(&volume).await;
    let script = "mkdir -p /mnt/kept && mount --bind /mnt/fast-disks/v1 /mnt/kept";
    cluster.on_node("node-a", &["sh", "-c", script]);

    cluster.give_back("writer").await;
    cluster.still_in_use(&volume, "a mount at /mnt/kept in another mount namespace").await;
    let kept = cluster.files(&volume);
    cluster.on_node("node-a", &["umount", "/mnt/kept"]);
    cluster.again_available(&volume).await;

    assert_eq!(kept, "file\n");
    assert_eq!(cluster.files(&volume), "");
    cluster.without_it().await;
}

#[tokio::test]
async fn a_pod_and_its_claim_that_are_deleted_at_once_leave_a_volume_for_the_next() {
    let cluster = Cluster::with_berth().await;
    let volume = cluster.with_a_bind_mount().await;

    for round in 1..=ROUNDS {
        cluster.apply(&(claim("data", "10Mi") + &pod("writer", ON_NODE_A, WRITE_AND_END)));
        cluster.running("writer").await;
        let written = cluster.has_written(&volume).await;
        let found = cluster.in_pod("writer", &["cat", "/tmp/found"]);

        let began = Instant::now();
        cluster.delete_at_once("writer");
        let asked = began.elapsed();
        cluster.again_available(&volume).await;

        println!("round {round}: asked in {asked:?}, claimable after {:?}", began.elapsed());
        assert_eq!((written.as_str(), found.as_str()), ("mine\n", ""));
        assert_eq!(cluster.files(&volume), "");
    }
    cluster.without_it().await;
}

#[tokio::test]
async fn an_agent_that_is_killed_while_a_pod_unwinds_gives_the_volume_back_all_the_same() {
    let cluster = Cluster::with_berth().await;
    let volume = cluster.with_a_bind_mount().await;
    // It does not end when it is asked to, so that it has the volume while its claim ends.
    cluster.apply(&(claim("data", "10Mi") + &pod("writer", ON_NODE_A, WRITE)));
    cluster.running("writer").await;
    cluster.held_by("data").await;
    let agent = cluster.agent("node-a").await.unwrap().metadata;

    cluster.delete_at_once("writer");
    cluster.still_in_use(&volume, "/var/lib/kubelet").await;
    let name = format!("pod/{}", agent.name.unwrap());
    cluster.kubectl(&["-n", "berth-system", "delete", &name, "--grace-period=0", "--force"]);
    cluster.again_available(&volume).await;

    assert_eq!(cluster.files(&volume), "");
    let now = cluster.agent("node-a").await.unwrap().metadata;
    assert_ne!(now.uid, agent.uid);
    cluster.without_it().await;
}
