//! A node that loses its power and comes back without its mounts.

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::conditions::is_deleted;
use serde_json::Value;

use crate::disks::Volume;
use crate::faults::steady;
use crate::harness::{Cluster, NAMESPACE, eventually};

/// The disk's file on node-a, which outlasts the power, and what an administrator's start-up scripts do with it.
const MAKE: &str = "truncate -s 64M /mnt/disk.img && mkfs.ext4 -q /mnt/disk.img";
/// The loop device goes with the mount.
const MOUNT: &str =
    "mkdir -p /mnt/fast-disks/disk && mount -o loop /mnt/disk.img /mnt/fast-disks/disk";
/// What there is to do about a volume whose mount is missing.
const ADVICE: &str = "mount the right disk there";

impl Cluster {
    /// The cluster where node-a has one disk that outlasts the power, `disk`, and one that does not, `memory`, and a pod
    /// of that name on each.
    async fn with_lasting_disk() -> (Self, Volume, Volume) {
        let cluster = Self::with_berth().await;
        cluster.clear().await;
        cluster.on_node("node-a", &["sh", "-c", &format!("{MAKE} && {MOUNT}")]);
        cluster.mount("node-a", "memory", 16);
        cluster.available(2).await;
        // The smallest that fits: the second is too large for what is left.
        for name in ["memory", "disk"] {
            cluster.apply(&steady(name, "node-a"));
            cluster.running(name).await;
        }
        let (disk, memory) = (cluster.held_by("disk").await, cluster.held_by("memory").await);
        for volume in [&disk, &memory] {
            cluster.until_started(volume, 1).await;
        }
        (cluster, disk, memory)
    }

    /// Waits until the volume is lost, and returns what it says of itself.
    async fn says_lost(&self, volume: &Volume) -> String {
        eventually(&format!("{} is lost", volume.name), async || {
            let object = Self::volumes(&self.client).get(&volume.name).await.ok()?;
            let phase = object.data.pointer("/status/phase").and_then(Value::as_str);
            (phase == Some("Lost")).then(|| unhealthy(&object)).flatten()
        })
        .await
    }

    /// Deletes the pod and the claim of this name, and waits until the volume that it was bound to is gone.
    async fn give_up(&self, name: &str) {
        let ask = ["get", "pvc", name, "-o=jsonpath={.spec.volumeName}"];
        let bound = self.kubectl(&ask);
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let uid = volumes.get(&bound).await.unwrap().metadata.uid.unwrap();
        self.kubectl(&["delete", &format!("pod/{name}"), &format!("pvc/{name}"), "--wait=false"]);
        self.wait_for(volumes, &bound, is_deleted(&uid)).await;
    }

    /// Has the agent of the volume's node forget it.
    async fn forget(&self, volume: &Volume) {
        let agent = self.agent(&volume.node).await.unwrap().metadata.name.unwrap();
        self.kubectl(&["-n", NAMESPACE, "exec", &agent, "--", "berth", "forget", &volume.name]);
    }
}

/// Why the volume is not healthy, as it says itself.
fn unhealthy(object: &DynamicObject) -> Option<String> {
    let conditions = object.data.pointer("/status/conditions")?.as_array()?;
    let healthy = conditions.iter().find(|condition| condition["type"] == "Healthy")?;
    (healthy["status"] == "False").then(|| healthy["message"].as_str().map(str::to_owned))?
}

#[tokio::test]
async fn after_a_reboot_no_pod_starts_on_what_lies_beneath_a_missing_mount() {
    let (cluster, disk, memory) = Cluster::with_lasting_disk().await;

    cluster.power("off", "node-a");
    cluster.power("on", "node-a");
    let said = [cluster.says_lost(&disk).await, cluster.says_lost(&memory).await];
    let told = [cluster.event("disk", ADVICE).await, cluster.event("memory", ADVICE).await];
    let beneath = [cluster.file_of(&disk), cluster.file_of(&memory)];
    cluster.on_node("node-a", &["sh", "-c", MOUNT]);
    cluster.mount("node-a", "memory", 16);
    // Its file was kept, and it was started once more.
    cluster.until_started(&disk, 2).await;
    let back = cluster.held_by("disk").await;

    for (volume, text) in [&disk, &memory, &disk, &memory].into_iter().zip(said.iter().chain(&told))
    {
        assert!(text.contains(&volume.path) && text.contains(ADVICE), "{text}");
    }
    assert_eq!(beneath, ["", ""]);
    assert_eq!(back, disk);
    another_disk_at_the_same_path_is_another_volume(&cluster, &memory).await;
    cluster.clear().await;
    cluster.on_node("node-a", &["rm", "/mnt/disk.img"]);
}

/// What was in memory is lost with the claim that had it, and what is mounted there now is for others.
async fn another_disk_at_the_same_path_is_another_volume(cluster: &Cluster, lost: &Volume) {
    let new = eventually("the new file system is a volume", async || {
        let mut volumes = cluster.local_volumes().await.into_iter();
        volumes.find(|volume| volume.path == lost.path && volume.phase == "Available")
    })
    .await;
    cluster.apply(&steady("next", "node-a"));
    cluster.running("next").await;
    let next = cluster.held_by("next").await;
    cluster.until_started(&next, 1).await;
    cluster.give_up("memory").await;
    // Whose data it had does not matter any more. It was never wiped, though, and so is offered to nobody.
    let kept = cluster.says_lost(lost).await;
    cluster.forget(lost).await;
    eventually("the lost volume is forgotten", async || {
        let volumes = cluster.local_volumes().await;
        volumes.iter().all(|volume| volume.name != lost.name).then_some(())
    })
    .await;

    assert_eq!((&next.name, &next.uid), (&new.name, &new.uid));
    assert_ne!(new.name, lost.name);
    assert!(kept.contains("forget the volume if it is lost"), "{kept}");
}
