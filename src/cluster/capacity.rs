//! The capacity that the scheduler reads, as fresh as the index of claims.
//!
//! external-provisioner makes one `CSIStorageCapacity` for each node and StorageClass and asks `GetCapacity` for its
//! numbers from time to time. Between two of its questions a volume may come free or be taken, and a pod wait or go to the wrong
//! node for it. This task writes the numbers that `GetCapacity` would give into those objects as soon as the index has
//! changed; it makes none and removes none, and the sidecar, which watches them too, takes what was written.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::causes;
use crate::claim::{Capacity, CapacityQuery, Claims, Filesystem};
use crate::inventory::Inventory;
use crate::volume::{Bytes, TOPOLOGY_KEY};

/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(200);
/// How long until what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// The label by which external-provisioner marks the objects of a driver.
const DRIVER_LABEL: &str = "csi.storage.k8s.io/drivername";

/// Keeps the capacity objects of one driver in one namespace as fresh as an index of claims.
#[derive(Debug)]
pub struct Capacities<I> {
    claims: Claims<I>,
    inventory: I,
    objects: Api<CSIStorageCapacity>,
    classes: Api<StorageClass>,
    driver: String,
}

/// What the API server has, as far as it was heard.
#[derive(Debug, Default)]
struct Known {
    capacities: BTreeMap<String, CSIStorageCapacity>,
    classes: BTreeMap<String, StorageClass>,
}

impl<I: Inventory> Capacities<I> {
    /// For the objects that the sidecar of `driver` keeps in `namespace`.
    pub fn new(
        claims: Claims<I>,
        inventory: I,
        client: Client,
        namespace: &str,
        driver: String,
    ) -> Self {
        let objects = Api::namespaced(client.clone(), namespace);
        Self { claims, inventory, objects, classes: Api::all(client), driver }
    }

    /// Writes until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let ours = watcher::Config::default().labels(&format!("{DRIVER_LABEL}={}", self.driver));
        let mut capacities = Box::pin(super::events(self.objects.clone(), ours));
        let everyones = watcher::Config::default();
        let mut classes = Box::pin(super::events(self.classes.clone(), everyones));
        let mut volumes = self.inventory.watch();
        let mut known = Known::default();
        let mut due = None;
        if cancel.run_until_cancelled(self.claims.ready()).await.is_none() {
            return;
        }
        loop {
            let heard = tokio::select! {
                () = cancel.cancelled() => return,
                Some(event) = capacities.next() => { heard(&mut known.capacities, event); GATHER }
                Some(event) = classes.next() => { heard(&mut known.classes, event); GATHER }
                event = volumes.next() => match event {
                    Some(_) => GATHER,
                    None => return,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    if self.write(&known).await {
                        continue;
                    }
                    AGAIN
                }
            };
            due.get_or_insert_with(|| Instant::now() + heard);
        }
    }

    /// Writes every number that differs; whether all that was due is written.
    async fn write(&self, known: &Known) -> bool {
        let mut written = true;
        for (name, object) in &known.capacities {
            let Some(patch) = self.patch(object, known) else { continue };
            let (how, patch) = (PatchParams::default(), Patch::Merge(patch));
            match self.objects.patch(name, &how, &patch).await {
                Ok(_) => debug!(object = name, "the capacity that the scheduler reads is new"),
                // Somebody else wrote it, of which the watch tells.
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
                Err(error) => {
                    let error = causes::chain(&error);
                    warn!(object = name, error, "the capacity that the scheduler reads is old");
                    written = false;
                }
            }
        }
        written
    }

    /// What is to be written into `object`; absent where it says what is so.
    fn patch(&self, object: &CSIStorageCapacity, known: &Known) -> Option<Value> {
        let class = known.classes.get(&object.storage_class_name)?;
        if class.provisioner != self.driver {
            return None;
        }
        let query = CapacityQuery {
            pool: class.parameters.as_ref()?.get("pool")?.parse().ok()?,
            mode: None,
            filesystem: Filesystem::default(),
            topology: topology(object),
        };
        let capacity = self.claims.capacity(&query).ok()?;
        changed(object, &capacity)
    }
}

/// What is to be written into `object` for it to say what the sidecar makes of `GetCapacity`'s answer, number for number
/// and letter for letter, so that neither undoes what the other wrote.
fn changed(object: &CSIStorageCapacity, capacity: &Capacity) -> Option<Value> {
    let maximum = capacity.maximum.unwrap_or_default();
    let is_so = bytes(object.capacity.as_ref()) == Some(capacity.available)
        && bytes(object.maximum_volume_size.as_ref()) == Some(maximum);
    (!is_so).then(|| {
        json!({
            "metadata": { "resourceVersion": object.resource_version() },
            "capacity": capacity.available.to_quantity(),
            "maximumVolumeSize": maximum.to_quantity(),
        })
    })
}

/// The topology value that an object is about.
fn topology(object: &CSIStorageCapacity) -> Option<String> {
    object.node_topology.as_ref()?.match_labels.as_ref()?.get(TOPOLOGY_KEY).cloned()
}

/// A quantity of whole bytes as a number. The API server writes whole numbers in units of its own choice.
fn bytes(quantity: Option<&Quantity>) -> Option<Bytes> {
    quantity?.0.parse().ok()
}

fn heard<K: kube::Resource>(known: &mut BTreeMap<String, K>, event: Event<K>) {
    match event {
        Event::Init => known.clear(),
        Event::Apply(object) | Event::InitApply(object) => {
            known.insert(object.name_any(), object);
        }
        Event::Delete(object) => {
            known.remove(&object.name_any());
        }
        Event::InitDone => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_whatever_unit_the_api_server_wrote_them() {
        for (text, number) in [("0", 0), ("1073741824", 1 << 30), ("1Gi", 1 << 30), ("5k", 5000)] {
            assert_eq!(bytes(Some(&Quantity(text.into()))), Some(Bytes(number)));
        }
        assert_eq!(bytes(None), None);
    }

    #[test]
    fn what_is_written_is_what_the_sidecar_writes_and_what_it_wrote_is_left() {
        let object: CSIStorageCapacity = serde_json::from_value(json!({
            "metadata": { "name": "c", "resourceVersion": "7" },
            "storageClassName": "fast",
            "capacity": "640Mi",
            "maximumVolumeSize": "0",
        }))
        .unwrap();
        let capacity = |available, maximum: Option<u64>| Capacity {
            available: Bytes(available),
            maximum: maximum.map(Bytes),
            ..Capacity::default()
        };

        let same = changed(&object, &capacity(640 << 20, None));
        let other = changed(&object, &capacity(960 << 20, Some(640 << 20))).unwrap();

        assert_eq!(same, None);
        assert_eq!(
            (&other["capacity"], &other["maximumVolumeSize"]),
            (&json!("960Mi"), &json!("640Mi"))
        );
    }

    #[test]
    fn an_object_is_about_the_node_of_our_topology_key_alone() {
        let object: CSIStorageCapacity = serde_json::from_value(json!({
            "metadata": { "name": "c" },
            "storageClassName": "fast",
            "nodeTopology": { "matchLabels": { TOPOLOGY_KEY: "node-a" } },
        }))
        .unwrap();
        let elsewhere: CSIStorageCapacity = serde_json::from_value(json!({
            "metadata": { "name": "c" },
            "storageClassName": "fast",
            "nodeTopology": { "matchLabels": { "example.com/zone": "node-a" } },
        }))
        .unwrap();

        assert_eq!(topology(&object).as_deref(), Some("node-a"));
        assert_eq!(topology(&elsewhere), None);
    }
}
