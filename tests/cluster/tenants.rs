//! Who uses the volumes: claims, pods that have them, and what is done with these from outside.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::DeleteParams;
use kube::runtime::conditions::{is_deleted, is_pod_running};

use crate::disks::Volume;
use crate::harness::{Cluster, eventually};

/// Runs until it is killed.
pub(crate) const IDLE: &str = "exec sleep 1000000";
/// Writes a file, and runs on.
pub(crate) const WRITE: &str = "echo of-the-first-tenant > /data/file && exec sleep 1000000";
/// Keeps a pod to a node by the scheduler's means.
pub(crate) const ON_NODE_A: &str = "nodeSelector: {kubernetes.io/hostname: node-a}";

/// What a container has that sees it at `/data`.
pub(crate) const AT_DATA: &str = "volumeMounts: [{name: data, mountPath: /data}]";

/// A claim of the class that the chart makes.
pub(crate) fn claim(name: &str, size: &str) -> String {
    claim_of(name, size, "storageClassName: fast-disks, accessModes: [ReadWriteOnce]")
}

/// A claim that asks for `fields`.
pub(crate) fn claim_of(name: &str, size: &str, fields: &str) -> String {
    format!(
        "\n---\n{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: {name}}}, spec: {{{fields}, \
         resources: {{requests: {{storage: {size}}}}}}}}}\n"
    )
}

/// What runs `script` in a container that has the claim `data` at `/data`; `place` says where, as a field of a pod.
pub(crate) fn spec(place: &str, script: &str) -> String {
    spec_on("data", place, script)
}

/// [`spec`] with another claim than `data`.
pub(crate) fn spec_on(claim: &str, place: &str, script: &str) -> String {
    let volumes =
        format!("volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]");
    spec_of(&format!("{place}, {volumes}"), AT_DATA, script)
}

/// What runs `script` in a container; `pod` and `container` are more fields of each.
pub(crate) fn spec_of(pod: &str, container: &str, script: &str) -> String {
    format!(
        "{{{pod}, terminationGracePeriodSeconds: 0, containers: [{{name: main, image: 'berth.test/busybox:1', \
         imagePullPolicy: Never, command: [sh, -c, '{script}'], {container}}}]}}"
    )
}

/// A pod of [`spec`].
pub(crate) fn pod(name: &str, place: &str, script: &str) -> String {
    pod_of(name, &spec(place, script))
}

/// A pod of this specification.
pub(crate) fn pod_of(name: &str, spec: &str) -> String {
    format!("\n---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {spec}}}\n")
}

impl Cluster {
    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    /// Waits until the pod runs, and returns it.
    pub(crate) async fn running(&self, name: &str) -> Pod {
        self.wait_for(self.pods(), name, is_pod_running()).await.unwrap()
    }

    /// Waits for what the pod on a volume writes to it. One that runs may not have come to that: a container counts as started before its
    /// program is.
    pub(crate) async fn has_written(&self, volume: &Volume) -> String {
        eventually("the pod has written", async || {
            let file = format!("{}/file", volume.path);
            let script = format!("cat {file} 2>/dev/null || true");
            let written = self.on_node(&volume.node, &["sh", "-c", &script]);
            (!written.is_empty()).then_some(written)
        })
        .await
    }

    /// Deletes the pod and the claim `data`, and waits until the volume that it was bound to is gone.
    pub(crate) async fn give_back(&self, pod: &str) {
        let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(self.client.clone());
        let bound = claims.get("data").await.unwrap().spec.unwrap().volume_name.unwrap();
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let uid = volumes.get(&bound).await.unwrap().metadata.uid.unwrap();
        self.pods().delete(pod, &DeleteParams::default()).await.unwrap();
        claims.delete("data", &DeleteParams::default()).await.unwrap();
        self.wait_for(volumes, &bound, is_deleted(&uid)).await;
    }

    /// Waits until the volume may be claimed again.
    pub(crate) async fn again_available(&self, volume: &Volume) {
        eventually("the volume is available again", async || {
            let mut volumes = self.local_volumes().await.into_iter();
            volumes.find(|now| now.uid == volume.uid && now.phase == "Available")
        })
        .await;
    }

    /// What a command in the pod prints.
    pub(crate) fn in_pod(&self, pod: &str, command: &[&str]) -> String {
        self.kubectl(&[&["exec", pod, "--"], command].concat())
    }
}
