//! What happens to the nodes' machines: their power is cut, their kubelet is restarted, another machine comes in their place.

use std::process::Command;

use k8s_openapi::api::core::v1::Node;
use kube::Api;

use crate::harness::{Cluster, script, success};

impl Cluster {
    /// Cuts the power of a node or ends a part of the control plane (`off`), or brings it back (`on`).
    pub(crate) fn power(&self, what: &str, name: &str) {
        success(script("power").env("BERTH_CLUSTER_STATE", &self.state).args([what, name]));
    }

    /// Kills the node's kubelet, which its process 1 starts again.
    pub(crate) fn restart_kubelet(&self, node: &str) {
        self.on_node(node, &["sh", "-c", "kill -KILL $(pgrep --parent 1 --exact kubelet)"]);
    }

    /// Gives the node's kubelet these lines of configuration beside its own, from its next start on; a power-on forgets them.
    pub(crate) fn configure_kubelet(&self, node: &str, lines: &str) {
        const MARK: &str = "# of a scenario\n";
        let file = self.state.join(node).join("kubelet.yaml");
        let now = std::fs::read_to_string(&file).unwrap();
        let own = now.split(MARK).next().unwrap();
        std::fs::write(file, format!("{own}{MARK}{lines}\n")).unwrap();
    }

    /// Throws away what a node that is off has on its disks: what starts next under its name is another machine.
    pub(crate) fn replace_machine(&self, node: &str) {
        for directory in ["kubelet", "containerd", "mnt", "berth"] {
            let directory = self.state.join(node).join(directory);
            success(Command::new("rm").args(["-rf", "--one-file-system"]).arg(directory));
        }
    }

    /// Waits until there is a Node of this name that is ready and another object than `before`, and returns its UID.
    pub(crate) async fn new_node(&self, node: &str, before: &str) -> String {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let is_it =
            |node: Option<&Node>| node.is_some_and(|node| uid(node) != before && is_ready(node));
        uid(&self.wait_for(nodes, node, is_it).await.unwrap()).to_owned()
    }

    /// The UID of a Node.
    pub(crate) async fn node_uid(&self, node: &str) -> String {
        let nodes: Api<Node> = Api::all(self.client.clone());
        uid(&nodes.get(node).await.unwrap()).to_owned()
    }
}

fn uid(node: &Node) -> &str {
    node.metadata.uid.as_deref().unwrap()
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
