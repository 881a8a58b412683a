//! Nodes that are gone, and what becomes of their volumes.
//!
//! A volume records which Node object its agent served when it was last seen (`status.nodeUid`). Once that object has
//! been gone for a grace period, all caches being filled and the API server having been asked again, its free volumes are
//! removed from the inventory and its claimed ones are Lost: the claim's `PersistentVolumeClaim` and `PersistentVolume`
//! say so by an event. Where the claim's StorageClass says so by the annotation
//! `berth.dev/delete-claims-of-lost-nodes: "true"`, the `PersistentVolumeClaim` is deleted, so that a StatefulSet makes another one and starts
//! elsewhere. A Node that was made anew under its old name is another object, whose agent says what it has.

use std::collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::claims::ClaimObjects;
use crate::causes;
use crate::inventory::{self, Inventory, Recorded};
use crate::volume::{LocalVolume, NodeName, Text, VolumeName};

/// How often everything is looked at though nothing was heard.
const ROUND: Duration = Duration::from_secs(30);

/// A Node object, as a volume records it: its name, and its UID where that is known.
type Identity = (NodeName, Option<Text>);

/// The task that takes care of the volumes of nodes that are gone.
#[derive(Debug)]
pub struct LostNodes<I> {
    inventory: I,
    nodes: Api<PartialObjectMeta<Node>>,
    claims: ClaimObjects,
    grace: Duration,
}

/// Why a volume of a lost node was not taken care of. It is tried again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the API server did not answer")]
    Api(#[from] kube::Error),
    #[error("the inventory did not take it")]
    Inventory(#[from] inventory::Error),
}

/// What was heard: the Nodes that there are, those that volumes record, and since when some are missing. What is done
/// when something is heard takes no longer the more volumes there are.
#[derive(Debug, Default)]
struct Known {
    nodes: BTreeMap<String, String>,
    nodes_are_complete: bool,
    volumes: Option<Volumes>,
    missing: BTreeMap<Identity, Instant>,
}

/// The volumes by the Node that they record; none of those has no volume.
#[derive(Debug, Default)]
struct Volumes {
    by_name: HashMap<VolumeName, Arc<Identity>>,
    by_node: BTreeMap<Arc<Identity>, BTreeSet<VolumeName>>,
}

impl<I: Inventory> LostNodes<I> {
    /// For the volumes of `inventory`, whose nodes may be away for `grace` before they count as gone.
    pub fn new(inventory: I, client: Client, driver: &str, grace: Duration) -> Self {
        let claims = ClaimObjects::new(client.clone(), driver);
        Self { inventory, nodes: Api::all(client), claims, grace }
    }

    /// Runs until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let everyone = watcher::Config::default();
        let mut nodes = Box::pin(super::events(self.nodes.clone(), everyone));
        let mut volumes = self.inventory.watch();
        let mut known = Known::default();
        let mut round = interval(ROUND.min(self.grace.max(Duration::from_millis(100))));
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                Some(event) = nodes.next() => known.heard_of_node(event, Instant::now()),
                event = volumes.next() => match event {
                    Some(event) => known.heard_of_volume(event, Instant::now()),
                    None => return,
                },
                _ = round.tick() => {
                    let gone = known.gone_for(self.grace, Instant::now());
                    if cancel.run_until_cancelled(self.bury(&known, gone)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    async fn bury(&self, known: &Known, gone: BTreeSet<Identity>) {
        for identity in gone {
            if let Err(error) = self.bury_node(known, &identity).await {
                let (node, error) = (&identity.0, causes::chain(&error));
                warn!(%node, error, "the volumes of a lost node are taken care of later");
            }
        }
    }

    async fn bury_node(&self, known: &Known, identity: &Identity) -> Result<(), Error> {
        // A watch may be behind. Only the API server itself can say that an object is not there.
        let now = self.nodes.get_opt(identity.0.as_str()).await?;
        if now.is_some_and(|node| {
            identity.1.is_none() || node.uid().as_deref() == identity.1.as_deref()
        }) {
            return Ok(());
        }
        for name in known.volumes.iter().flat_map(|volumes| volumes.of(identity)) {
            match self.inventory.get(name).await {
                Ok(volume) if identity_of(&volume.volume) == *identity => {
                    self.bury_volume(&volume).await?;
                }
                // It is another Node's by now, or gone, and the watch tells of it.
                Ok(_) | Err(inventory::Error::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn bury_volume(&self, recorded: &Recorded) -> Result<(), Error> {
        let (name, node) = (&recorded.volume.name, &recorded.volume.spec.node);
        if recorded.volume.goes_with_its_node() {
            return match self.inventory.remove(name, recorded.version).await {
                Ok(()) => {
                    info!(volume = %name, %node, "removed: its node is gone and nobody held it");
                    Ok(())
                }
                // It changed, and the watch tells how.
                Err(inventory::Error::Conflict(_) | inventory::Error::NotFound(_)) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
        let identity = identity_of(&recorded.volume);
        let lost = |volume: &LocalVolume| {
            let is_it = identity_of(volume) == identity;
            is_it.then(|| volume.node_gone(Timestamp::now())).flatten()
        };
        let before = recorded.volume.is_node_gone();
        let after = self.inventory.modify_status(name, lost).await?;
        let is_news = !before && after.volume.is_node_gone();
        let Some(claim) = &recorded.volume.spec.claim else {
            if is_news {
                warn!(volume = %name, %node, "lost: its node is gone, and its data was not wiped");
            }
            return Ok(());
        };
        if is_news {
            warn!(volume = %name, %node, claim = %claim.name, "lost: its node is gone");
            self.claims.tell(claim, &after.volume).await;
        }
        self.claims.give_up(claim, &after.volume).await?;
        Ok(())
    }
}

impl Known {
    fn heard_of_node(&mut self, event: Event<PartialObjectMeta<Node>>, now: Instant) {
        match event {
            Event::Init => {
                self.nodes.clear();
                self.nodes_are_complete = false;
            }
            Event::Apply(node) | Event::InitApply(node) => {
                self.nodes.insert(node.name_any(), node.uid().unwrap_or_default());
            }
            Event::Delete(node) => {
                self.nodes.remove(&node.name_any());
            }
            Event::InitDone => self.nodes_are_complete = true,
        }
        self.note_missing(now);
    }

    fn heard_of_volume(&mut self, event: inventory::Event, now: Instant) {
        match event {
            inventory::Event::Reset(all) => {
                let mut volumes = Volumes::default();
                for recorded in &all {
                    volumes.insert(&recorded.volume);
                }
                self.volumes = Some(volumes);
                self.note_missing(now);
            }
            inventory::Event::Applied(recorded) => {
                self.volumes.get_or_insert_default().insert(&recorded.volume);
            }
            inventory::Event::Removed(name, _) => {
                self.volumes.get_or_insert_default().remove(&name);
            }
        }
    }

    /// Notes since when each Node that volumes record is missing; nothing while not everything has been heard.
    fn note_missing(&mut self, now: Instant) {
        let Some(volumes) = self.volumes.as_ref().filter(|_| self.nodes_are_complete) else {
            return;
        };
        let is_missing = |identity: &Identity| {
            volumes.by_node.contains_key(identity) && !is_there(&self.nodes, identity)
        };
        self.missing.retain(|identity, _| is_missing(identity));
        for identity in volumes.by_node.keys().filter(|identity| !is_there(&self.nodes, identity)) {
            if let Entry::Vacant(unnoticed) = self.missing.entry(Identity::clone(identity)) {
                let (node, uid) = unnoticed.key();
                warn!(
                    %node,
                    uid = uid.as_deref(),
                    "the Node is gone: its volumes are given up after the grace period, unless an agent sees them on another"
                );
                unnoticed.insert(now);
            }
        }
    }

    /// The Nodes that volumes record and that have been missing for `grace`. None while not everything has been heard.
    fn gone_for(&mut self, grace: Duration, now: Instant) -> BTreeSet<Identity> {
        self.note_missing(now);
        if self.volumes.is_none() || !self.nodes_are_complete {
            return BTreeSet::new();
        }
        let gone = self.missing.iter().filter(|(_, since)| now - **since >= grace);
        gone.map(|(identity, _)| identity.clone()).collect()
    }
}

impl Volumes {
    /// The volumes that record this Node.
    fn of(&self, identity: &Identity) -> impl Iterator<Item = &VolumeName> {
        self.by_node.get(identity).into_iter().flatten()
    }

    fn insert(&mut self, volume: &LocalVolume) {
        let identity = identity_of(volume);
        if self.by_name.get(&volume.name).is_some_and(|known| **known == identity) {
            return;
        }
        self.remove(&volume.name);
        let known = self.by_node.get_key_value(&identity).map(|(known, _)| Arc::clone(known));
        let identity = known.unwrap_or_else(|| Arc::new(identity));
        self.by_node.entry(Arc::clone(&identity)).or_default().insert(volume.name.clone());
        self.by_name.insert(volume.name.clone(), identity);
    }

    fn remove(&mut self, name: &VolumeName) {
        let Some(identity) = self.by_name.remove(name) else { return };
        if let Some(names) = self.by_node.get_mut(&identity) {
            names.remove(name);
            if names.is_empty() {
                self.by_node.remove(&identity);
            }
        }
    }
}

fn identity_of(volume: &LocalVolume) -> Identity {
    (volume.spec.node.clone(), volume.status.node_uid.clone())
}

/// Whether the Node is there; one whose UID was never recorded is there if any of its name is.
fn is_there(nodes: &BTreeMap<String, String>, (name, uid): &Identity) -> bool {
    let now = nodes.get(name.as_str());
    now.is_some_and(|now| uid.as_ref().is_none_or(|uid| *uid == *now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Version;
    use crate::volume::fixture::available;

    const GRACE: Duration = Duration::from_mins(5);

    fn of_node(uid: Option<&str>) -> LocalVolume {
        let mut volume = available();
        volume.status.node_uid = uid.map(Into::into);
        volume
    }

    fn known(uid: Option<&str>) -> Known {
        let volume = of_node(uid);
        let mut known = Known { nodes_are_complete: true, ..Known::default() };
        let recorded = Recorded::new(volume, Version(1));
        known.heard_of_volume(inventory::Event::Reset(vec![recorded]), Instant::now());
        known.missing.clear();
        known
    }

    fn with_node(mut known: Known, name: &str, uid: &str) -> Known {
        known.nodes.insert(name.into(), uid.into());
        known
    }

    #[test]
    fn a_node_is_gone_once_its_object_was_missing_for_the_grace_period() {
        let mut known = known(Some("uid-1"));
        let began = Instant::now();

        assert!(known.gone_for(GRACE, began).is_empty());
        assert!(known.gone_for(GRACE, began + GRACE / 2).is_empty());
        assert_eq!(known.gone_for(GRACE, began + GRACE).len(), 1);
    }

    #[test]
    fn a_node_that_came_back_in_time_starts_a_new_grace_period() {
        let mut known = known(Some("uid-1"));
        let began = Instant::now();
        known.gone_for(GRACE, began);
        known = with_node(known, "node-a", "uid-1");
        known.gone_for(GRACE, began + GRACE / 2);
        known.nodes.clear();

        assert!(known.gone_for(GRACE, began + GRACE).is_empty());
    }

    #[test]
    fn a_node_of_the_same_name_and_another_uid_is_another_node() {
        let mut known = with_node(known(Some("uid-1")), "node-a", "uid-2");
        let began = Instant::now();
        known.gone_for(GRACE, began);

        assert_eq!(known.gone_for(GRACE, began + GRACE).len(), 1);
    }

    #[test]
    fn a_volume_without_a_recorded_node_object_is_kept_while_any_node_has_the_name() {
        let mut known = with_node(known(None), "node-a", "uid-2");
        let began = Instant::now();
        known.gone_for(GRACE, began);

        assert!(known.gone_for(GRACE, began + GRACE).is_empty());
    }

    #[test]
    fn the_grace_period_begins_once_both_nodes_and_volumes_were_heard_of() {
        let began = Instant::now();
        let volumes = vec![Recorded::new(of_node(Some("uid-1")), Version(1))];
        let mut known = Known { nodes_are_complete: true, ..Known::default() };
        known.heard_of_volume(inventory::Event::Reset(volumes), began);

        assert_eq!(known.gone_for(GRACE, began + GRACE).len(), 1);
    }

    #[test]
    fn a_volume_belongs_to_the_node_that_it_recorded_last_and_to_none_once_it_is_gone() {
        let now = Instant::now();
        let mut known = known(Some("uid-1"));
        let volume = of_node(Some("uid-2"));
        let name = volume.name.clone();
        let moved = Recorded::new(volume, Version(2));
        let identity = |uid: &str| ("node-a".parse().unwrap(), Some(uid.into()));

        known.heard_of_volume(inventory::Event::Applied(Box::new(moved)), now);
        assert_eq!(known.gone_for(Duration::ZERO, now), [identity("uid-2")].into());
        known.heard_of_volume(inventory::Event::Removed(name, Version(3)), now);

        assert!(known.gone_for(Duration::ZERO, now).is_empty());
    }

    #[test]
    fn nothing_is_gone_while_the_caches_are_not_filled() {
        let began = Instant::now();
        let mut half = known(Some("uid-1"));
        half.nodes_are_complete = false;
        half.gone_for(GRACE, began);
        let mut other_half = Known { nodes_are_complete: true, ..Known::default() };
        other_half.gone_for(GRACE, began);

        assert!(half.gone_for(GRACE, began + GRACE).is_empty());
        assert!(other_half.gone_for(GRACE, began + GRACE).is_empty());
    }
}
