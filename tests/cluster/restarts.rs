//! Kubelets, agents, controllers, containerd and the API server that end in the middle of everything, and come back.

use std::collections::BTreeMap;

use berth::csi::proto::csi_v1 as csi;
use csi::node_client::NodeClient;
use csi::volume_capability::access_mode::Mode;
use csi::volume_capability::{AccessMode, AccessType, MountVolume};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::conditions::is_deleted;
use tonic::transport::{Channel, Endpoint};

use crate::disks::{NODES, Volume};
use crate::faults::{AGENT, COUNT, identities, steady};
use crate::harness::{Cluster, eventually};
use crate::tenants::{ON_NODE_A, claim, pod, pod_of, spec_of};

/// How many disks each node has in a storm: a few more than are claimed there.
const DISKS: usize = 30;
/// How many pods there are in a storm, as many on each node.
const PODS: usize = 10;
/// How many claims each of them has.
const CLAIMS: usize = 5;

/// A pod of the storm with its claims, into each of which it writes its name.
fn stormy(number: usize) -> String {
    let name = format!("storm-{number}");
    let claimed = (0..CLAIMS).map(|claim| format!("{name}-{claim}")).collect::<Vec<_>>();
    let volume = |claim: &String| {
        format!("{{name: {claim}, persistentVolumeClaim: {{claimName: {claim}}}}}")
    };
    let mount = |claim: &String| format!("{{name: {claim}, mountPath: /data/{claim}}}");
    let all =
        |each: &dyn Fn(&String) -> String| claimed.iter().map(each).collect::<Vec<_>>().join(", ");
    let node = NODES[number % NODES.len()];
    let place =
        format!("nodeSelector: {{kubernetes.io/hostname: {node}}}, volumes: [{}]", all(&volume));
    let mounts = format!("volumeMounts: [{}]", all(&mount));
    let write = "for one in /data/*; do hostname > $one/file; done; exec sleep 1000000";
    let claims: String = claimed.iter().map(|name| claim(name, "8Mi")).collect();
    claims + &pod_of(&name, &spec_of(&place, &mounts, write))
}

impl Cluster {
    /// The cluster where each node has many small disks and a pod that runs; and the disks.
    async fn with_many_disks() -> (Self, Vec<Volume>) {
        let cluster = Self::with_berth().await;
        cluster.clear().await;
        let script = format!(
            "mkdir -p /mnt/new && for name in $(seq -f s%02g {DISKS}); do mkdir -p /mnt/fast-disks/$name && \
             mount -t tmpfs -o size=16M,mode=755 $name /mnt/new && mount --bind /mnt/new /mnt/fast-disks/$name && \
             umount /mnt/new || exit 1; done"
        );
        for node in NODES {
            cluster.on_node(node, &["sh", "-c", &script]);
        }
        let disks = cluster.available(NODES.len() * DISKS).await;
        for node in NODES {
            cluster.apply(&steady(&format!("steady-{node}"), node));
            cluster.running(&format!("steady-{node}")).await;
        }
        (cluster, disks)
    }

    fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::default_namespaced(self.client.clone())
    }

    /// Waits until so many claims are bound.
    async fn until_bound(&self, count: usize) {
        eventually(&format!("{count} claims are bound"), async || {
            let claims = self.claims().list(&ListParams::default()).await.ok()?.items;
            let phase = |claim: &PersistentVolumeClaim| claim.status.as_ref()?.phase.clone();
            let bound = claims.iter().filter(|claim| phase(claim).as_deref() == Some("Bound"));
            (bound.count() >= count).then_some(())
        })
        .await;
    }

    /// Restarts all that there is, one after another, while claims are being bound.
    async fn disturb(&self) {
        let bound_before = NODES.len();
        self.restart("node-a", "kubelet").await;
        self.until_bound(bound_before + 1).await;
        self.kill("node-b", &format!("-f '^{AGENT}'")).await;
        self.until_bound(bound_before + 5).await;
        self.restart("node-a", "containerd").await;
        self.until_bound(bound_before + 10).await;
        self.delete_parts(&self.controllers().await[..1]).await;
        self.until_bound(bound_before + 15).await;
        let agent = self.agent("node-a").await.unwrap().metadata.name.unwrap();
        self.delete_parts(&[agent]).await;
        self.until_bound(bound_before + 20).await;
        self.delete_parts(&self.controllers().await).await;
    }

    /// Which CSI volume each claim has, by the PersistentVolumes.
    async fn bound(&self) -> BTreeMap<String, String> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let listed = volumes.list(&ListParams::default()).await.unwrap().items.into_iter();
        let pair = |volume: PersistentVolume| {
            let spec = volume.spec?;
            Some((spec.claim_ref?.name?, spec.csi?.volume_handle))
        };
        listed.filter_map(pair).collect()
    }

    /// What the nodes' disks have in their files, by node and path.
    fn written(&self) -> BTreeMap<(String, String), String> {
        let script = "cd /mnt/fast-disks && for file in */file; do [ ! -e $file ] || echo $file $(cat $file); done";
        let mut files = BTreeMap::new();
        for node in NODES {
            for line in self.on_node(node, &["sh", "-c", script]).lines() {
                let (path, text) = line.split_once("/file ").unwrap();
                files.insert((node.to_owned(), format!("/mnt/fast-disks/{path}")), text.to_owned());
            }
        }
        files
    }

    /// Deletes every pod and claim, while agents and the leader end, and waits until all of it is gone.
    async fn give_all_back(&self) {
        self.kubectl(&["delete", "pods,persistentvolumeclaims", "--all", "--wait=false"]);
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let left = async || Some(volumes.list(&ListParams::default()).await.ok()?.items.len());
        let all = NODES.len() + PODS * CLAIMS;
        eventually("volumes are being given back", async || {
            left().await.filter(|left| *left < all)
        })
        .await;
        for node in NODES {
            self.kill(node, &format!("-f '^{AGENT}'")).await;
        }
        self.delete_parts(&self.controllers().await[..1]).await;
        eventually("all volumes are given back", async || left().await.filter(|left| *left == 0))
            .await;
    }
}

#[tokio::test]
async fn a_storm_of_claims_and_running_pods_outlast_the_restart_of_all_around_them() {
    let (cluster, disks) = Cluster::with_many_disks().await;
    let steady = cluster.lives().await;

    cluster.apply(&(0..PODS).map(stormy).collect::<String>());
    cluster.disturb().await;
    for number in 0..PODS {
        cluster.running(&format!("storm-{number}")).await;
    }

    let now = cluster.local_volumes().await;
    let held: BTreeMap<_, _> =
        now.iter().filter_map(|volume| Some((volume.claim.clone()?, volume.id()))).collect();
    assert_eq!(held.len(), NODES.len() + PODS * CLAIMS);
    assert_eq!(held, cluster.bound().await);
    assert_eq!(identities(&now), identities(&disks));
    let writer = |claim: &str| match claim.rsplit_once('-') {
        Some((pod, _)) if claim.starts_with("storm") => pod.to_owned(),
        _ => "started".to_owned(),
    };
    let expected = now.iter().filter_map(|volume| {
        Some(((volume.node.clone(), volume.path.clone()), writer(volume.claim.as_ref()?)))
    });
    assert_eq!(cluster.written(), expected.collect());
    let lives = cluster.lives().await;
    assert!(steady.iter().all(|(name, life)| lives.get(name) == Some(life)), "{lives:?}");
    assert!(lives.values().all(|(_, restarts)| *restarts == 0), "{lives:?}");

    cluster.give_all_back().await;
    let free = cluster.available(disks.len()).await;

    assert_eq!(identities(&free), identities(&disks));
    for node in NODES {
        let left = cluster.on_node(node, &["find", "/mnt/fast-disks", "-mindepth", "2"]);
        assert_eq!(left, "", "{node}");
    }
    cluster.clear().await;
}

/// The kubelet's calls to an agent, made without it.
struct Kubelet {
    node: NodeClient<Channel>,
    /// A path that is short enough for a socket, whatever the cluster's is.
    _link: tempfile::TempDir,
}

impl Kubelet {
    fn of(cluster: &Cluster, node: &str) -> Self {
        let link = tempfile::tempdir().unwrap();
        let directory = cluster.state.join(node).join("kubelet/plugins/berth.dev");
        std::os::unix::fs::symlink(directory, link.path().join("driver")).unwrap();
        let socket = format!("unix://{}", link.path().join("driver/csi.sock").display());
        let channel = Endpoint::from_shared(socket).unwrap().connect_lazy();
        Self { node: NodeClient::new(channel), _link: link }
    }

    /// Stages and publishes the volume as the kubelet does for a pod, again and again until the agent is there.
    async fn until_published(&self, id: &str, staging: &str, target: &str) {
        let capability = csi::VolumeCapability {
            access_type: Some(AccessType::Mount(MountVolume::default())),
            access_mode: Some(AccessMode { mode: Mode::SingleNodeMultiWriter.into() }),
        };
        let stage = csi::NodeStageVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: staging.to_owned(),
            volume_capability: Some(capability.clone()),
            ..csi::NodeStageVolumeRequest::default()
        };
        let publish = csi::NodePublishVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: staging.to_owned(),
            target_path: target.to_owned(),
            volume_capability: Some(capability),
            ..csi::NodePublishVolumeRequest::default()
        };
        eventually("the agent publishes", async || {
            let mut node = self.node.clone();
            node.node_stage_volume(stage.clone()).await.ok()?;
            node.node_publish_volume(publish.clone()).await.ok()
        })
        .await;
    }

    async fn unpublish(&self, id: &str, target: &str) {
        let (volume_id, target_path) = (id.to_owned(), target.to_owned());
        let request = csi::NodeUnpublishVolumeRequest { volume_id, target_path };
        self.node.clone().node_unpublish_volume(request).await.unwrap();
    }
}

impl Cluster {
    /// What lies in the logs of provisioners: another file for each time that one was started.
    fn provisioners(&self) -> String {
        let script = "ls /var/log/pods/berth-system_berth-controller-*/provisioner/*.log || true";
        NODES.map(|node| self.on_node(node, &["sh", "-c", script])).concat()
    }

    /// Publishes the volume of the pod at one more of its paths, by calls to its agent alone, and says what is there.
    async fn published_by_its_agent(&self, volume: &Volume, staging: &str, uid: &str) -> String {
        let parent = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/once-more");
        let target = format!("{parent}/mount");
        self.on_node(&volume.node, &["mkdir", &parent]);
        let kubelet = Kubelet::of(self, &volume.node);
        kubelet.until_published(&volume.id(), staging, &target).await;
        let seen = self.on_node(&volume.node, &["ls", &target]);
        kubelet.unpublish(&volume.id(), &target).await;
        self.on_node(&volume.node, &["rmdir", &parent]);
        seen
    }

    /// Where the volume is staged.
    async fn staging_of(&self, volume: &Volume) -> String {
        let object = Self::volumes(&self.client).get(&volume.name).await.unwrap();
        let published = object.data.pointer("/status/published").unwrap().as_array().unwrap();
        let staged = published.iter().find(|place| place["staging"] == true).unwrap();
        staged["path"].as_str().unwrap().to_owned()
    }

    /// Claims a volume for a pod on the node, and gives it back: all of a volume's life works there.
    async fn use_once(&self, name: &str, node: &str) {
        self.apply(&steady(name, node));
        self.running(name).await;
        let volume = self.held_by(name).await;
        let bound = self.claims().get(name).await.unwrap().spec.unwrap().volume_name.unwrap();
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let uid = volumes.get(&bound).await.unwrap().metadata.uid.unwrap();
        self.pods().delete(name, &DeleteParams::default()).await.unwrap();
        self.claims().delete(name, &DeleteParams::default()).await.unwrap();
        self.wait_for(volumes, &bound, is_deleted(&uid)).await;
        self.again_available(&volume).await;
    }
}

#[tokio::test]
async fn what_is_claimed_is_mounted_while_the_api_server_is_away_and_all_catches_up() {
    let cluster = Cluster::with_disks().await;
    cluster.apply(&(claim("data", "8Mi") + &pod("counter", ON_NODE_A, COUNT)));
    let uid = cluster.running("counter").await.metadata.uid.unwrap();
    let volume = cluster.held_by("data").await;
    cluster.until_started(&volume, 1).await;
    let staging = cluster.staging_of(&volume).await;
    let disks = identities(&cluster.local_volumes().await);
    let leases_held = cluster.provisioners();

    cluster.power("off", "apiserver");
    cluster.kill("node-a", &format!("-f '^{AGENT}'")).await;
    cluster.kill("node-a", "-f '^sleep 1000000'").await;
    cluster.until_started(&volume, 2).await;
    let seen = cluster.published_by_its_agent(&volume, &staging, &uid).await;
    // By then every watch is broken and every lease has run out: the leader's provisioner ended itself.
    eventually("the leader lost its lease", async || {
        (cluster.provisioners() != leases_held).then_some(())
    })
    .await;
    cluster.power("on", "apiserver");
    cluster.until_ready_is(true).await;

    assert_eq!(seen, "file\n");
    cluster.use_once("after-on-a", "node-a").await;
    cluster.use_once("after-on-b", "node-b").await;
    cluster.power("off", "etcd");
    cluster.until_ready_is(false).await;
    cluster.power("on", "etcd");
    cluster.until_ready_is(true).await;
    cluster.use_once("later-on-b", "node-b").await;
    assert_eq!(cluster.held_by("data").await, volume);
    assert_eq!(cluster.lives().await, [("counter".to_owned(), (uid, 1))].into());
    assert_eq!(identities(&cluster.local_volumes().await), disks);
    cluster.clear().await;
}
