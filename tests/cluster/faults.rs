//! What goes wrong with a cluster, and what is told apart before and after.

use std::collections::BTreeMap;
use std::process::Command;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use crate::disks::Volume;
use crate::harness::{Cluster, NAMESPACE, eventually};
use crate::tenants::{claim, pod_of, spec_of};

/// The agent of a node, as its command line begins.
pub(crate) const AGENT: &str = "/usr/bin/berth node";

/// Adds a line to the volume's file at each start, and runs on.
pub(crate) const COUNT: &str = "echo started >> /data/file && exec sleep 1000000";

/// What a pod is told by: its name, UID, and how often its containers were started again.
pub(crate) type Lives = BTreeMap<String, (String, i32)>;

/// A pod on a node with a claim of its name, which counts its starts.
pub(crate) fn steady(name: &str, node: &str) -> String {
    let place = format!(
        "nodeSelector: {{kubernetes.io/hostname: {node}}}, \
         volumes: [{{name: data, persistentVolumeClaim: {{claimName: {name}}}}}]"
    );
    let mounts = "volumeMounts: [{name: data, mountPath: /data}]";
    claim(name, "8Mi") + &pod_of(name, &spec_of(&place, mounts, COUNT))
}

/// What volumes are known by for as long as they exist.
pub(crate) fn identities(volumes: &[Volume]) -> Vec<(String, String)> {
    volumes.iter().map(|volume| (volume.name.clone(), volume.uid.clone())).collect()
}

impl Cluster {
    /// What the volume has in its file; nothing if it has none.
    pub(crate) fn file_of(&self, volume: &Volume) -> String {
        let script = format!("cat {}/file 2>/dev/null || true", volume.path);
        self.on_node(&volume.node, &["sh", "-c", &script])
    }

    /// Waits until the file of the volume says that its pod was started so often.
    pub(crate) async fn until_started(&self, volume: &Volume, times: usize) {
        eventually(&format!("the pod is started {times} times"), async || {
            (self.file_of(volume) == "started\n".repeat(times)).then_some(())
        })
        .await;
    }

    /// Kills a daemon of the node, whose process 1 starts it again, and waits until another one runs.
    pub(crate) async fn restart(&self, node: &str, daemon: &str) {
        self.kill(node, &format!("-x {daemon}")).await;
        self.id_of(node, &format!("-x {daemon}")).await;
    }

    /// Kills the process of the node that `pgrep` finds so, once there is one, and waits until it is gone.
    pub(crate) async fn kill(&self, node: &str, which: &str) {
        let id = self.id_of(node, which).await;
        let script =
            format!("kill -KILL {id}; while kill -0 {id} 2>/dev/null; do sleep 0.05; done");
        self.on_node(node, &["timeout", "30", "sh", "-c", &script]);
    }

    async fn id_of(&self, node: &str, which: &str) -> String {
        let script = format!("pgrep -o {which} || true");
        eventually(&format!("a process of {node} is found by {which}"), async || {
            let found = self.on_node(node, &["sh", "-c", &script]);
            Some(found.trim().to_owned()).filter(|found| !found.is_empty())
        })
        .await
    }

    /// Whether the API server says that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        let mut asked = Command::new("kubectl");
        asked.arg("--kubeconfig").arg(self.state.join("admin.kubeconfig"));
        let asked = asked.args(["get", "--raw", "/readyz", "--request-timeout=2s"]).output();
        asked.unwrap().status.success()
    }

    /// Waits until the API server is ready, or is not.
    pub(crate) async fn until_ready_is(&self, ready: bool) {
        let what = format!("the API server's readiness is {ready}");
        eventually(&what, async || (self.is_ready() == ready).then_some(())).await;
    }

    /// The pods of a part of Berth.
    pub(crate) fn parts(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The controllers, the leader first: the one whose provisioner has the lease.
    pub(crate) async fn controllers(&self) -> Vec<String> {
        let ask =
            ["-n", NAMESPACE, "get", "lease", "berth-dev", "-o=jsonpath={.spec.holderIdentity}"];
        let leader = self.kubectl(&ask);
        let labelled = ListParams::default().labels("app.kubernetes.io/component=controller");
        let listed = self.parts().list(&labelled).await.unwrap().items;
        let mut names: Vec<_> = listed.into_iter().filter_map(|pod| pod.metadata.name).collect();
        names.sort_by_key(|name| !leader.contains(name.as_str()));
        names
    }

    /// Deletes pods of Berth's, which are made anew.
    pub(crate) async fn delete_parts(&self, names: &[String]) {
        for name in names {
            self.parts().delete(name, &DeleteParams::default()).await.unwrap();
        }
    }

    /// The pods of users.
    pub(crate) async fn lives(&self) -> Lives {
        let listed = self.pods().list(&ListParams::default()).await.unwrap().items;
        listed.into_iter().filter_map(life).collect()
    }

    /// The generations of the agents' DaemonSet and of the controllers' Deployment: what changes restarts their pods.
    pub(crate) async fn generations(&self) -> [i64; 2] {
        let agents: Api<DaemonSet> = Api::namespaced(self.client.clone(), NAMESPACE);
        let controllers: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let agents = agents.get("berth-node").await.unwrap().metadata.generation;
        let controllers = controllers.get("berth-controller").await.unwrap().metadata.generation;
        [agents.unwrap(), controllers.unwrap()]
    }
}

fn life(pod: Pod) -> Option<(String, (String, i32))> {
    let containers = pod.status?.container_statuses.unwrap_or_default();
    let restarts = containers.iter().map(|container| container.restart_count).sum();
    Some((pod.metadata.name?, (pod.metadata.uid?, restarts)))
}
