//! The agent's own Node object: which object it is, and the taint that keeps pods away until the agent is ready.
//!
//! A node may register with the taint `berth.dev/agent-not-ready` (the kubelet's `--register-with-taints`), so that no pod
//! comes before the agent can mount its volumes. The agent takes it off once it is ready, and again whenever it finds
//! it: a Node that is made anew has it again.

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::causes;
use crate::volume::NodeName;

/// The key of the taint.
pub const TAINT: &str = "berth.dev/agent-not-ready";

/// The watch of one Node object.
#[derive(Debug)]
pub struct OwnNode {
    nodes: Api<Node>,
    name: NodeName,
    uid: watch::Sender<Option<String>>,
}

impl OwnNode {
    /// The Node `name`.
    pub fn new(client: Client, name: NodeName) -> Self {
        Self { nodes: Api::all(client), name, uid: watch::Sender::default() }
    }

    /// The UID of the Node object that there is now; absent until it was seen and while there is none.
    pub fn uid(&self) -> watch::Receiver<Option<String>> {
        self.uid.subscribe()
    }

    /// Follows the Node, and takes the taint off whenever `ready` says so, until `cancel`.
    pub async fn run(self, mut ready: watch::Receiver<bool>, cancel: CancellationToken) {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let mut events = Box::pin(super::events(self.nodes.clone(), config));
        let mut node = None;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                event = events.next() => match event {
                    Some(event) => self.heard(event, &mut node),
                    None => return,
                },
                // An error means that whoever knew has ended, and this task is about to.
                changed = ready.changed() => if changed.is_err() { return },
            }
            let is_ready = *ready.borrow_and_update();
            if let Some(found) = node.take_if(|_| is_ready) {
                self.lift_taint(&found).await;
            }
        }
    }

    fn heard(&self, event: Event<Node>, node: &mut Option<Node>) {
        match event {
            Event::Apply(found) | Event::InitApply(found) => {
                let uid = found.uid();
                self.uid.send_if_modified(|known| std::mem::replace(known, uid.clone()) != uid);
                *node = Some(found);
            }
            Event::Delete(_) => {
                self.uid.send_replace(None);
                *node = None;
            }
            Event::Init | Event::InitDone => {}
        }
    }

    /// Takes the taint off `node`. If it changed meanwhile that is refused, and the watch tells of the change.
    async fn lift_taint(&self, node: &Node) {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let Some(others) = without_ours(taints) else { return };
        let patch = json!({
            "metadata": { "resourceVersion": node.resource_version() },
            "spec": { "taints": others },
        });
        let (how, patch) = (PatchParams::default(), Patch::Merge(patch));
        match self.nodes.patch(self.name.as_str(), &how, &patch).await {
            Ok(_) => info!(node = %self.name, taint = TAINT, "ready: the start-up taint is off"),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
            Err(error) => {
                let error = causes::chain(&error);
                warn!(node = %self.name, taint = TAINT, error, "the start-up taint stays");
            }
        }
    }
}

/// The other taints of a node; absent if ours is not among them.
fn without_ours(taints: &[Taint]) -> Option<Vec<Taint>> {
    let others: Vec<_> = taints.iter().filter(|taint| taint.key != TAINT).cloned().collect();
    (others.len() < taints.len()).then_some(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str) -> Taint {
        Taint { key: key.into(), effect: "NoSchedule".into(), ..Taint::default() }
    }

    #[test]
    fn the_start_up_taint_goes_and_every_other_one_stays() {
        let others = [taint("node.kubernetes.io/not-ready"), taint("berth.dev/other")];
        let all = [others[0].clone(), taint(TAINT), others[1].clone()];

        assert_eq!(without_ours(&all).as_deref(), Some(&others[..]));
        assert_eq!(without_ours(&others), None);
    }
}
