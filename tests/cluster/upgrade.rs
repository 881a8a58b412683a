//! The chart applied again, as it was and with changes, under pods that use volumes.

use crate::disks::{DISKS, NODES, Volume};
use crate::faults::{Lives, identities, steady};
use crate::harness::{Cluster, NAMESPACE, eventually};

/// The pool of the scenarios with a narrower choice of disks, and more options of mounts.
const NARROWED: &str =
    r#"pools.fast-disks={"path":"/mnt/fast-disks","match":["v2","v3"],"mountOptions":["noexec"]}"#;
/// A pool in a directory that no agent has mounted.
const ANOTHER: &str = "pools.more.path=/mnt/more";

impl Cluster {
    /// The options of the volume's mount for the pod of this UID, as its node has it.
    fn mount_on(&self, node: &str, uid: &str) -> String {
        let mount = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/");
        self.on_node(node, &["grep", &mount, "/proc/mounts"])
    }

    /// Has the kubelets bring Berth's pods the ConfigMap now, and not within their next minute: by a change of the pods.
    fn hurry(&self, why: &str) {
        let annotation = format!("berth.test/hurry={why}");
        self.kubectl(&["-n", NAMESPACE, "annotate", "pods", "--all", "--overwrite", &annotation]);
    }

    /// Waits until there are volumes at these paths of the nodes and no others.
    async fn until_volumes_are(&self, paths: &[(&str, &str)]) -> Vec<Volume> {
        eventually(&format!("the volumes are {paths:?}"), async || {
            let volumes = self.local_volumes().await;
            let seen = volumes.iter().map(|volume| (volume.node.as_str(), volume.path.as_str()));
            seen.eq(paths.iter().copied()).then_some(volumes)
        })
        .await
    }

    /// The UIDs of Berth's pods of a component.
    fn uids(&self, component: &str) -> String {
        let labelled = format!("--selector=app.kubernetes.io/component={component}");
        self.kubectl(&[
            "-n",
            NAMESPACE,
            "get",
            "pods",
            &labelled,
            "-o=jsonpath={.items[*].metadata.uid}",
        ])
    }
}

/// What an upgrade leaves as it is: who runs, and on what.
#[derive(Debug, PartialEq, Eq)]
struct Used {
    lives: Lives,
    volumes: Vec<Volume>,
}

async fn used(cluster: &Cluster) -> Used {
    let held = cluster.local_volumes().await.into_iter().filter(|volume| volume.claim.is_some());
    Used {
        lives: cluster.lives().await,
        // What a pool no longer selects is not well, and stays whose it is.
        volumes: held.map(|volume| Volume { phase: String::new(), ..volume }).collect(),
    }
}

/// The chart as it stands, all of it running, and a pod on each node that uses the disk `v1`.
async fn with_users() -> (Cluster, Used) {
    let cluster = Cluster::with_disks().await;
    for node in NODES {
        cluster.apply(&steady(node, node));
        cluster.running(node).await;
        let volume = cluster.held_by(node).await;
        cluster.until_started(&volume, 1).await;
        assert_eq!(volume.path, "/mnt/fast-disks/v1");
    }
    let used = used(&cluster).await;
    (cluster, used)
}

#[tokio::test]
async fn a_changed_pool_is_taken_up_without_a_restart_and_volumes_in_use_are_not_touched() {
    let (cluster, before) = with_users().await;
    let generations = cluster.generations().await;
    let agents = cluster.uids("node");

    cluster.install(&[]);
    let unchanged = cluster.generations().await;
    cluster.install(&["--set-json", NARROWED]);
    cluster.hurry("narrowed");
    let chosen = ["v1", "v2", "v3"].map(|name| format!("/mnt/fast-disks/{name}"));
    let paths = NODES.map(|node| chosen.iter().map(move |path| (node, path.as_str()))).into_iter();
    cluster.until_volumes_are(&paths.flatten().collect::<Vec<_>>()).await;
    cluster.apply(&steady("later", "node-a"));
    cluster.running("later").await;
    let lives = cluster.lives().await;
    let mounts = ["later", "node-a"].map(|pod| cluster.mount_on("node-a", &lives[pod].0));
    cluster.kubectl(&["delete", "pod/later", "pvc/later"]);

    assert_eq!([unchanged, cluster.generations().await], [generations; 2]);
    assert_eq!(cluster.uids("node"), agents);
    assert!(mounts[0].contains("noexec") && !mounts[1].contains("noexec"), "{mounts:?}");
    eventually("nothing else is used", async || (used(&cluster).await == before).then_some(()))
        .await;
    cluster.install(&[]);
    cluster.hurry("restored");
    eventually("the pool offers all of its disks again", async || {
        let free = cluster.local_volumes().await;
        (free.len() == NODES.len() * DISKS.len()).then_some(())
    })
    .await;
    cluster.clear().await;
}

#[tokio::test]
async fn a_new_pool_restarts_agents_alone_and_a_new_image_all_of_berth_and_no_pod_of_a_user() {
    let (cluster, before) = with_users().await;
    let [_, of_controllers] = cluster.generations().await;
    let (agents, controllers) = (cluster.uids("node"), cluster.uids("controller"));
    let known = identities(&cluster.local_volumes().await);

    cluster.install(&["--set", ANOTHER]);
    let another = (cluster.generations().await[1], cluster.uids("controller"));
    let next_agents = cluster.uids("node");
    let after_another = used(&cluster).await;
    for node in NODES {
        let tag = [
            "ctr",
            "--address",
            "/run/containerd/containerd.sock",
            "--namespace",
            "k8s.io",
            "images",
            "tag",
        ];
        cluster.on_node(
            node,
            &[&tag[..], &["--force", "berth.dev/berth:dev", "berth.dev/berth:next"]].concat(),
        );
    }
    cluster.install(&["--set", ANOTHER, "--set", "image.tag=next"]);
    cluster.mount("node-a", "v6", 16);
    let more = known.len() + 1;
    eventually("the new agent finds a new disk", async || {
        (cluster.local_volumes().await.len() == more).then_some(())
    })
    .await;
    let now = identities(&cluster.local_volumes().await);

    assert_eq!(another, (of_controllers, controllers.clone()));
    assert_ne!(next_agents, agents);
    assert_eq!(after_another, before);
    assert_ne!(cluster.uids("controller"), controllers);
    assert_eq!(used(&cluster).await, before);
    assert!(known.iter().all(|volume| now.contains(volume)), "{now:?}");
    cluster.install(&[]);
    cluster.clear().await;
}
