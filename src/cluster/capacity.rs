//! The capacity that the scheduler reads, as fresh as the index of claims.
//!
//! external-provisioner makes one `CSIStorageCapacity` for each node and StorageClass and asks `GetCapacity` for its
//! numbers from time to time. Between two of its questions a volume may come free or be taken, and a pod wait or go to the wrong
//! node for it. This task writes the numbers that `GetCapacity` would give into those objects as soon as the index has
//! changed; it makes none and removes none, and the sidecar, which watches them too, takes what was written.
//!
//! A change of a volume is a question about its own place only: what is looked at does not grow with the cluster.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::inventory;
use crate::inventory::Inventory;
use crate::volume::{Bytes, PoolName, TOPOLOGY_KEY};

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

/// A topology value; none where an object is about no place in particular.
type Place = Option<String>;

/// What the API server has, as far as it was heard and is needed.
#[derive(Debug, Default)]
struct Known {
    /// The objects by place, of each class one.
    capacities: BTreeMap<Place, Vec<Written>>,
    /// The pool of each class of the driver's.
    classes: BTreeMap<String, PoolName>,
    due: Due,
}

/// What one object says.
#[derive(Debug)]
struct Written {
    name: Box<str>,
    version: Option<Box<str>>,
    class: Box<str>,
    capacity: Option<Bytes>,
    maximum: Option<Bytes>,
}

/// Where the numbers may be old.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    everywhere: bool,
    places: BTreeSet<Place>,
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
                Some(event) = capacities.next() => { known.heard_of_capacity(event); GATHER }
                Some(event) = classes.next() => { known.heard_of_class(event, &self.driver); GATHER }
                event = volumes.next() => match event {
                    Some(event) => { known.heard_of_volume(&event); GATHER }
                    None => return,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    known.due = self.write(&known).await;
                    if known.due == Due::default() {
                        continue;
                    }
                    AGAIN
                }
            };
            due.get_or_insert_with(|| Instant::now() + heard);
        }
    }

    /// Writes every number that is due and differs; what is due still.
    async fn write(&self, known: &Known) -> Due {
        let mut failed = Due::default();
        for (place, object) in known.due() {
            let name = &*object.name;
            let Some(patch) = self.patch(place, object, known) else { continue };
            let (how, patch) = (PatchParams::default(), Patch::Merge(patch));
            match self.objects.patch(name, &how, &patch).await {
                Ok(_) => debug!(object = name, "the capacity that the scheduler reads is new"),
                // Somebody else wrote it, of which the watch tells.
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
                Err(error) => {
                    let error = causes::chain(&error);
                    warn!(object = name, error, "the capacity that the scheduler reads is old");
                    failed.places.insert(place.clone());
                }
            }
        }
        failed
    }

    /// What is to be written into `object`; absent where it says what is so.
    fn patch(&self, place: &Place, object: &Written, known: &Known) -> Option<Value> {
        let query = CapacityQuery {
            pool: known.classes.get(&*object.class)?.clone(),
            mode: None,
            filesystem: Filesystem::default(),
            topology: place.clone(),
        };
        let capacity = self.claims.capacity(&query).ok()?;
        changed(object, &capacity)
    }
}

/// What is to be written into `object` for it to say what the sidecar makes of `GetCapacity`'s answer, number for number
/// and letter for letter, so that neither undoes what the other wrote.
fn changed(object: &Written, capacity: &Capacity) -> Option<Value> {
    let maximum = capacity.maximum.unwrap_or_default();
    let is_so = object.capacity == Some(capacity.available) && object.maximum == Some(maximum);
    (!is_so).then(|| {
        json!({
            "metadata": { "resourceVersion": object.version },
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

impl Known {
    fn heard_of_capacity(&mut self, event: Event<CSIStorageCapacity>) {
        match event {
            Event::Init => self.capacities.clear(),
            Event::Apply(object) | Event::InitApply(object) => {
                let place = topology(&object);
                let object = Written::from(object);
                let there = self.capacities.entry(place.clone()).or_default();
                there.retain(|known| known.name != object.name);
                there.push(object);
                self.due.places.insert(place);
            }
            // Its topology never changes: the API server refuses that.
            Event::Delete(object) => {
                if let Some(there) = self.capacities.get_mut(&topology(&object)) {
                    there.retain(|known| *known.name != *object.name_any());
                }
            }
            Event::InitDone => {}
        }
    }

    fn heard_of_class(&mut self, event: Event<StorageClass>, driver: &str) {
        self.due.everywhere = true;
        match event {
            Event::Init => self.classes.clear(),
            Event::Apply(class) | Event::InitApply(class) => {
                let pool = class.parameters.as_ref().and_then(|given| given.get("pool"));
                match pool
                    .and_then(|pool| pool.parse().ok())
                    .filter(|_| class.provisioner == driver)
                {
                    Some(pool) => self.classes.insert(class.name_any(), pool),
                    None => self.classes.remove(&class.name_any()),
                };
            }
            Event::Delete(class) => {
                self.classes.remove(&class.name_any());
            }
            Event::InitDone => {}
        }
    }

    fn heard_of_volume(&mut self, event: &inventory::Event) {
        match event {
            inventory::Event::Applied(recorded) => {
                self.due.places.insert(Some(recorded.volume.spec.node.topology_value()));
                self.due.places.insert(None);
            }
            // Where a volume was that is gone nobody says.
            inventory::Event::Reset(_) | inventory::Event::Removed(..) => {
                self.due.everywhere = true;
            }
        }
    }

    /// The objects whose numbers may be old.
    fn due(&self) -> impl Iterator<Item = (&Place, &Written)> {
        let everywhere = self.due.everywhere.then_some(&self.capacities).into_iter().flatten();
        let few = self.due.places.iter().filter(|_| !self.due.everywhere);
        let few = few.filter_map(|place| self.capacities.get_key_value(place));
        let objects = everywhere.chain(few);
        objects.flat_map(|(place, all)| all.iter().map(move |object| (place, object)))
    }
}

impl From<CSIStorageCapacity> for Written {
    fn from(object: CSIStorageCapacity) -> Self {
        Self {
            name: object.name_any().into(),
            version: object.resource_version().map(Into::into),
            capacity: bytes(object.capacity.as_ref()),
            maximum: bytes(object.maximum_volume_size.as_ref()),
            class: object.storage_class_name.into(),
        }
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

        let object = Written::from(object);
        let same = changed(&object, &capacity(640 << 20, None));
        let other = changed(&object, &capacity(960 << 20, Some(640 << 20))).unwrap();

        assert_eq!(same, None);
        assert_eq!(
            (&other["capacity"], &other["maximumVolumeSize"]),
            (&json!("960Mi"), &json!("640Mi"))
        );
    }

    fn object(node: &str) -> CSIStorageCapacity {
        serde_json::from_value(json!({
            "metadata": { "name": node },
            "storageClassName": "fast",
            "nodeTopology": { "matchLabels": { TOPOLOGY_KEY: node } },
        }))
        .unwrap()
    }

    #[test]
    fn a_volume_that_changes_is_a_question_about_its_own_node_and_one_that_goes_about_every_node() {
        let volume = crate::volume::fixture::available();
        let name = volume.name.clone();
        let changed = inventory::Recorded::new(volume, inventory::Version(1));
        let mut known = Known::default();
        for node in ["node-a", "node-b", "node-c"] {
            known.heard_of_capacity(Event::Apply(object(node)));
        }
        let due = |known: &Known| -> Vec<_> {
            known.due().map(|(_, object)| object.name.to_string()).collect()
        };
        assert_eq!(due(&known).len(), 3);
        known.due = Due::default();

        known.heard_of_volume(&inventory::Event::Applied(Box::new(changed)));
        let of_one = due(&known);
        known.heard_of_volume(&inventory::Event::Removed(name, inventory::Version(2)));

        assert_eq!(of_one, ["node-a"]);
        assert_eq!(due(&known).len(), 3);
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
