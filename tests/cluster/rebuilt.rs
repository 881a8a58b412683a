//! What is deleted by mistake comes back: the objects of volumes, and their kind.

use kube::api::ListParams;

use crate::disks::Volume;
use crate::harness::{Cluster, eventually, root};
use crate::tenants::{IDLE, ON_NODE_A, WRITE, claim, pod};

/// The kind of volumes.
const KIND: &str = "customresourcedefinition/localvolumes.berth.dev";

/// What volumes say, but for what makes one object another.
fn but_for_uid(volumes: &[Volume]) -> Vec<Volume> {
    volumes.iter().map(|volume| Volume { uid: String::new(), ..volume.clone() }).collect()
}

impl Cluster {
    /// Waits until there are as many volumes as before and none of these.
    async fn rebuilt(&self, before: &[Volume]) -> Vec<Volume> {
        let old = |volume: &Volume| before.iter().any(|before| before.uid == volume.uid);
        eventually("all volumes are back", async || {
            let now = self.local_volumes().await;
            (now.len() == before.len() && !now.iter().any(old)).then_some(now)
        })
        .await
    }
}

#[tokio::test]
async fn deleted_volumes_come_back_with_their_claims_and_nothing_is_wiped() {
    let cluster = Cluster::with_disks().await;
    cluster.apply(&(claim("data", "100Mi") + &pod("writer", ON_NODE_A, WRITE)));
    let before = cluster.running("writer").await;
    let held = cluster.held_by("data").await;
    let volumes = cluster.local_volumes().await;

    cluster.kubectl(&["delete", "localvolumes", "--all", "--timeout=120s"]);
    let back = cluster.rebuilt(&volumes).await;

    assert_eq!(but_for_uid(&back), but_for_uid(&volumes));
    assert_eq!(cluster.in_pod("writer", &["cat", "/data/file"]), "of-the-first-tenant\n");
    assert_eq!(cluster.on_node(&held.node, &["ls", &held.path]), "file\n");
    assert_eq!(cluster.running("writer").await.metadata.uid, before.metadata.uid);
    cluster.clear().await;
}

#[tokio::test]
async fn a_deleted_kind_goes_under_running_pods_and_brings_every_claim_back_when_it_is_applied_again()
 {
    let cluster = Cluster::with_disks().await;
    cluster.apply(&(claim("data", "100Mi") + &pod("writer", ON_NODE_A, WRITE)));
    let before = cluster.running("writer").await;
    let held = cluster.held_by("data").await;
    let volumes = cluster.local_volumes().await;

    cluster.kubectl(&["delete", KIND, "--timeout=120s"]);
    let other = pod("other", ON_NODE_A, IDLE).replace("claimName: data", "claimName: other");
    cluster.apply(&(claim("other", "50Mi") + &other));
    let meanwhile = cluster.in_pod("writer", &["cat", "/data/file"]);
    cluster.apply(&std::fs::read_to_string(root().join("deploy/crd.yaml")).unwrap());
    eventually("the kind is served", async || {
        Cluster::volumes(&cluster.client).list(&ListParams::default()).await.ok()
    })
    .await;
    cluster.running("other").await;
    let next = cluster.held_by("other").await;
    let back = cluster.rebuilt(&volumes).await;
    let still_held = cluster.held_by("data").await;

    assert_eq!(meanwhile, "of-the-first-tenant\n");
    assert_eq!((&still_held.name, &still_held.path), (&held.name, &held.path));
    let names =
        |volumes: &[Volume]| volumes.iter().map(|volume| volume.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&back), names(&volumes));
    assert_ne!(next.name, held.name);
    let claimed = back.iter().filter(|volume| volume.claim.is_some()).count();
    assert_eq!(claimed, 2, "{back:?}");
    assert_eq!(cluster.on_node(&held.node, &["ls", &held.path]), "file\n");
    let after = cluster.running("writer").await;
    assert_eq!(after.metadata.uid, before.metadata.uid);
    assert_eq!(after.status.unwrap().container_statuses.unwrap()[0].restart_count, 0);

    cluster.give_back("writer").await;
    cluster.again_available(&still_held).await;
    assert_eq!(cluster.on_node(&held.node, &["ls", "-A", &held.path]), "");
    cluster.clear().await;
}
