//! What Berth does at the Kubernetes API beside its inventory: the node's start-up taint and registration, the capacity that
//! the scheduler reads, nodes that are gone, events about wipes.
//!
//! Each part is one task that watches objects and writes what follows from them, conditionally on what it read, so that two
//! replicas may do it at once. It decides nothing about volumes: what it writes to the inventory goes through the pure
//! transitions. The roles start it.

pub mod capacity;
mod claims;
pub mod lost_nodes;
pub mod own_node;
pub mod registered;
pub mod wipes;

pub use claims::DELETE_ANNOTATION;

use futures_util::{Stream, StreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use tracing::warn;

/// A watch that never ends: failures are logged and tried again, later from time to time.
fn events<K>(api: kube::Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Event<K>>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    K::DynamicType: Default,
{
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    watcher(api, config).default_backoff().filter_map(move |event| {
        let event = event
            .inspect_err(|error| {
                let error = crate::causes::chain(error);
                warn!(kind, error, "a watch at the API server failed and is tried again");
            })
            .ok();
        std::future::ready(event)
    })
}
