//! What stands on claims: a Deployment that comes back to its data, data that is retained, a StatefulSet that outgrows the disks.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::conditions::is_deleted;

use crate::disks::{NODES, Volume};
use crate::harness::{Cluster, eventually};
use crate::tenants::{
    AT_DATA, IDLE, ON_NODE_A, WRITE, claim, claim_of, pod, pod_of, spec, spec_of, spec_on,
};

/// What the scheduler says where no volume is free.
const FULL: &str = "did not have enough free storage";
/// A claim of the class whose volumes are kept.
const RETAINED: &str = "storageClassName: retained, accessModes: [ReadWriteOnce]";

impl Cluster {
    /// Deletes the pod `writer` and the claim `data`, whose volume is retained, and returns what is left of it in
    /// Kubernetes, once it says `Released`.
    async fn retained(&self) -> PersistentVolume {
        let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(self.client.clone());
        let bound = claims.get("data").await.unwrap().spec.unwrap().volume_name.unwrap();
        self.pods().delete("writer", &DeleteParams::default()).await.unwrap();
        claims.delete("data", &DeleteParams::default()).await.unwrap();
        let released = |volume: Option<&PersistentVolume>| {
            volume.and_then(|volume| volume.status.as_ref()?.phase.as_deref()) == Some("Released")
        };
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        self.wait_for(volumes, &bound, released).await.unwrap()
    }

    /// A retained volume of node-a that holds a file, and that nobody claims any more.
    async fn with_retained(&self) -> (Volume, PersistentVolume) {
        self.apply(&(claim_of("data", "100Mi", RETAINED) + &pod("writer", ON_NODE_A, WRITE)));
        self.running("writer").await;
        let volume = self.held_by("data").await;
        (volume, self.retained().await)
    }

    /// What lies in the volume, as its node sees it.
    fn lies_in(&self, volume: &Volume) -> String {
        self.on_node(&volume.node, &["ls", "-A", &volume.path])
    }

    /// How many pods of the StatefulSet run.
    async fn run_of(&self, app: &str) -> usize {
        let labelled = ListParams::default().labels(&format!("app={app}"));
        let pods = self.pods().list(&labelled).await.unwrap().items;
        let runs = |phase: Option<&str>| phase == Some("Running");
        pods.iter().filter(|pod| runs(pod.status.as_ref().and_then(|s| s.phase.as_deref()))).count()
    }
}

/// A StatefulSet whose pods have a claim each.
fn stateful_set(replicas: usize) -> String {
    let template =
        spec_of("restartPolicy: Always", AT_DATA, "hostname > /data/name && exec sleep 1000000");
    format!(
        "\n---\n{{apiVersion: apps/v1, kind: StatefulSet, metadata: {{name: web}}, spec: {{serviceName: web, replicas: \
         {replicas}, selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, spec: \
         {template}}}, volumeClaimTemplates: [{{metadata: {{name: data}}, spec: {{storageClassName: fast-disks, \
         accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 50Mi}}}}}}}}]}}}}\n"
    )
}

#[tokio::test]
async fn a_deployment_that_is_deleted_and_applied_again_finds_its_data() {
    let cluster = Cluster::with_disks().await;
    let template =
        spec("restartPolicy: Always", "echo started >> /data/file && exec sleep 1000000");
    let deployment = format!(
        "\n---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: keeper}}, spec: {{selector: {{matchLabels: \
         {{app: keeper}}}}, template: {{metadata: {{labels: {{app: keeper}}}}, spec: {template}}}}}}}\n"
    );
    cluster.apply(&(claim("data", "100Mi") + &deployment));
    cluster.kubectl(&["rollout", "status", "deployment/keeper", "--timeout=120s"]);
    let before = cluster.held_by("data").await;

    cluster.kubectl(&["delete", "deployment", "keeper", "--cascade=foreground", "--timeout=120s"]);
    let alone = cluster.held_by("data").await;
    cluster.apply(&deployment);
    cluster.kubectl(&["rollout", "status", "deployment/keeper", "--timeout=120s"]);

    let after = cluster.held_by("data").await;
    let file = cluster.kubectl(&["exec", "deployment/keeper", "--", "cat", "/data/file"]);
    assert_eq!(file, "started\nstarted\n");
    assert_eq!([&alone, &after], [&before; 2]);
    cluster.clear().await;
}

#[tokio::test]
async fn what_is_retained_stays_until_a_person_releases_it() {
    let cluster = Cluster::with_disks().await;
    let (volume, retained) = cluster.with_retained().await;
    let objects: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let (name, uid) = (retained.metadata.name.clone().unwrap(), retained.metadata.uid.clone());
    let kept = (cluster.lies_in(&volume), cluster.held_by("data").await);

    cluster.kubectl(&["delete", "pv", &name, "--wait=false"]);
    cluster.wait_for(objects, &name, is_deleted(&uid.unwrap())).await;
    let still_kept = (cluster.lies_in(&volume), cluster.held_by("data").await);
    let listed = cluster.berth(&["volumes", "--node", "node-a"]);
    let said = cluster.release(&volume).await;
    cluster.again_available(&volume).await;

    assert_eq!(kept, ("file\n".to_owned(), volume.clone()));
    assert_eq!(still_kept, kept);
    assert_eq!(retained.spec.unwrap().csi.unwrap().volume_handle, volume.id());
    let line = listed.lines().find(|line| line.starts_with(&volume.name)).unwrap();
    assert!(line.contains("Claimed"), "{listed}");
    assert!(said.starts_with(&format!("volume {} is released", volume.name)), "{said}");
    assert_eq!(cluster.lies_in(&volume), "");
    cluster.clear().await;
}

#[tokio::test]
async fn what_is_retained_is_given_back_by_saying_delete_after_all() {
    let cluster = Cluster::with_disks().await;
    let (volume, retained) = cluster.with_retained().await;
    let name = retained.metadata.name.unwrap();
    let objects: Api<PersistentVolume> = Api::all(cluster.client.clone());

    let patch = r#"{"spec": {"persistentVolumeReclaimPolicy": "Delete"}}"#;
    cluster.kubectl(&["patch", "pv", &name, "-p", patch]);
    cluster.wait_for(objects, &name, is_deleted(&retained.metadata.uid.unwrap())).await;
    cluster.again_available(&volume).await;

    assert_eq!(cluster.lies_in(&volume), "");
    cluster.clear().await;
}

#[tokio::test]
async fn what_is_retained_can_be_claimed_again_with_what_it_holds() {
    let cluster = Cluster::with_disks().await;
    let (volume, retained) = cluster.with_retained().await;
    let name = retained.metadata.name.unwrap();

    cluster.kubectl(&["patch", "pv", &name, "-p", r#"{"spec": {"claimRef": null}}"#]);
    let chosen = claim_of("data", "100Mi", &format!("{RETAINED}, volumeName: {name}"));
    cluster.apply(&(chosen + &pod("reader", "restartPolicy: Always", IDLE)));
    let reader = cluster.running("reader").await;

    assert_eq!(reader.spec.unwrap().node_name.unwrap(), volume.node);
    assert_eq!(cluster.in_pod("reader", &["cat", "/data/file"]), "of-the-first-tenant\n");
    assert_eq!(cluster.held_by("data").await, volume);
    cluster.clear().await;
}

#[tokio::test]
async fn a_stateful_set_fills_the_disks_and_its_next_pod_waits_for_another() {
    let cluster = Cluster::with_berth().await;
    cluster.clear().await;
    for (node, name) in NODES.into_iter().flat_map(|node| [(node, "v1"), (node, "v2")]) {
        cluster.mount(node, name, 64);
    }
    cluster.available(4).await;

    cluster.apply(&stateful_set(4));
    let all = async |count| (cluster.run_of("web").await == count).then_some(());
    eventually("all four pods run", async || all(4).await).await;
    cluster.apply(&stateful_set(5));
    let waits = cluster.event("web-4", FULL).await;
    let still = cluster.run_of("web").await;
    cluster.mount("node-b", "v3", 64);
    cluster.running("web-4").await;

    assert_eq!(still, 4, "{waits}");
    let volumes = cluster.local_volumes().await;
    let mut claims = Vec::new();
    for volume in &volumes {
        let name = cluster.on_node(&volume.node, &["cat", &format!("{}/name", volume.path)]);
        assert_eq!(volume.claim, Some(format!("data-{}", name.trim())));
        claims.extend(volume.claim.clone());
    }
    claims.sort();
    assert_eq!(claims, ["data-web-0", "data-web-1", "data-web-2", "data-web-3", "data-web-4"]);
    cluster.clear().await;
}

#[tokio::test]
async fn a_pod_that_waits_for_a_volume_starts_when_a_claim_is_deleted() {
    let cluster = Cluster::with_berth().await;
    cluster.clear().await;
    cluster.mount("node-a", "v1", 64);
    cluster.available(1).await;
    cluster.apply(&(claim("data", "50Mi") + &pod("first", "restartPolicy: Always", WRITE)));
    cluster.running("first").await;
    let second = spec_on("next", "restartPolicy: Always", IDLE);
    cluster.apply(&(claim("next", "50Mi") + &pod_of("second", &second)));
    cluster.event("second", FULL).await;

    cluster.give_back("first").await;
    cluster.running("second").await;

    assert_eq!(cluster.held_by("next").await.path, "/mnt/fast-disks/v1");
    assert_eq!(cluster.in_pod("second", &["ls", "-A", "/data"]), "");
    cluster.clear().await;
}
