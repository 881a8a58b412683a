//! Whether the kubelet has registered the driver: then it has written it into the node's CSINode object, without which the
//! scheduler and the provisioner know nothing of the driver there. An agent whose registration is a sidecar's work learns
//! of it in this way.

use futures_util::StreamExt;
use k8s_openapi::api::storage::v1::CSINode;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::volume::NodeName;

/// The watch of one CSINode object.
#[derive(Debug)]
pub struct Registered {
    objects: Api<CSINode>,
    node: NodeName,
    driver: String,
    told: watch::Sender<bool>,
}

impl Registered {
    /// Whether `driver` is registered on `node`.
    pub fn new(client: Client, node: NodeName, driver: String) -> Self {
        Self { objects: Api::all(client), node, driver, told: watch::Sender::default() }
    }

    /// Whether it is; not before that was seen.
    pub fn told(&self) -> watch::Receiver<bool> {
        self.told.subscribe()
    }

    /// Follows the object until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.node));
        let mut events = Box::pin(super::events(self.objects.clone(), config));
        while let Some(Some(event)) = cancel.run_until_cancelled(events.next()).await {
            let is = match event {
                Event::Apply(object) | Event::InitApply(object) => has(&object, &self.driver),
                Event::Delete(_) => false,
                Event::Init | Event::InitDone => continue,
            };
            self.told.send_if_modified(|was| std::mem::replace(was, is) != is);
        }
    }
}

fn has(object: &CSINode, driver: &str) -> bool {
    object.spec.drivers.iter().any(|one| one.name == driver)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_driver_is_registered_once_its_node_names_it() {
        let object = |drivers| -> CSINode {
            let metadata = json!({"name": "node-a"});
            let object = json!({"metadata": metadata, "spec": {"drivers": drivers}});
            serde_json::from_value(object).unwrap()
        };
        let one = |name: &str| json!({"name": name, "nodeID": "node-a", "topologyKeys": []});

        assert!(!has(&object(json!([])), "berth.dev"));
        assert!(!has(&object(json!([one("other.dev")])), "berth.dev"));
        assert!(has(&object(json!([one("other.dev"), one("berth.dev")])), "berth.dev"));
    }
}
