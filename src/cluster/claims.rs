//! The objects of a claim in Kubernetes: what its people are told, and the deletion that a StorageClass may ask for.
//!
//! A `LocalVolume` alone is not believed in this: its node's agent writes it, and one that somebody took over may write the
//! claim of another node's volume into it. A claim's objects are those that its `PersistentVolume` leads to, which no
//! agent writes.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use tracing::{debug, info};

use crate::causes;
use crate::volume::{Claim, LocalVolume};

/// The annotation of a StorageClass whose claims are deleted when their node is gone.
pub const DELETE_ANNOTATION: &str = "berth.dev/delete-claims-of-lost-nodes";

/// Finds and tells the objects of claims.
#[derive(Clone)]
pub(super) struct ClaimObjects {
    client: Client,
    driver: String,
    volumes: Api<PersistentVolume>,
    classes: Api<StorageClass>,
    recorder: Recorder,
}

impl std::fmt::Debug for ClaimObjects {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ClaimObjects").finish_non_exhaustive()
    }
}

impl ClaimObjects {
    pub(super) fn new(client: Client, driver: &str) -> Self {
        let reporter = Reporter { controller: driver.to_owned(), instance: None };
        Self {
            volumes: Api::all(client.clone()),
            classes: Api::all(client.clone()),
            recorder: Recorder::new(client.clone(), reporter),
            client,
            driver: driver.to_owned(),
        }
    }

    /// Says by events on the claim's objects that the volume's node is gone. An event that does not get through is only
    /// logged: the volume's condition says the same.
    pub(super) async fn tell(&self, claim: &Claim, volume: &LocalVolume) {
        let event = Event {
            type_: EventType::Warning,
            reason: volume.status.conditions.healthy.reason.as_str().to_owned(),
            note: Some(format!(
                "local volume {}: {}",
                volume.name, volume.status.conditions.healthy.message
            )),
            action: "Lose".to_owned(),
            secondary: None,
        };
        let Ok(Some(persistent_volume)) = self.persistent_volume(claim, volume).await else {
            return;
        };
        let persistent_volume_claim = self.bound(claim).await.ok().flatten();
        let objects = [
            Some(persistent_volume.object_ref(&())),
            persistent_volume_claim.map(|object| object.object_ref(&())),
        ];
        for object in objects.into_iter().flatten() {
            if let Err(error) = self.recorder.publish(&event, &object).await {
                let error = causes::chain(&error);
                debug!(claim = %claim.name, error, "an event was not written");
            }
        }
    }

    /// Deletes the claim's `PersistentVolumeClaim`, if its StorageClass asks for that.
    pub(super) async fn give_up(
        &self,
        claim: &Claim,
        volume: &LocalVolume,
    ) -> Result<(), kube::Error> {
        if self.persistent_volume(claim, volume).await?.is_none() {
            return Ok(());
        }
        let Some(object) = self.bound(claim).await? else { return Ok(()) };
        if object.meta().deletion_timestamp.is_some() || !self.may_delete(&object).await? {
            return Ok(());
        }
        let namespace = object.namespace().unwrap_or_default();
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &namespace);
        let only_this = DeleteParams {
            preconditions: Some(Preconditions { uid: object.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        match claims.delete(&object.name_any(), &only_this).await {
            Ok(_) => {
                let name = object.name_any();
                info!(volume = %volume.name, %namespace, claim = name, "deleted: its node is gone");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The `PersistentVolume` of the claim, if that is this tenancy of this volume.
    async fn persistent_volume(
        &self,
        claim: &Claim,
        volume: &LocalVolume,
    ) -> Result<Option<PersistentVolume>, kube::Error> {
        let object = self.volumes.get_opt(claim.name.as_str()).await?;
        let id = volume.id().map(|id| id.to_string());
        Ok(object.filter(|object| {
            let source = object.spec.as_ref().and_then(|spec| spec.csi.as_ref());
            source.is_some_and(|source| {
                source.driver == self.driver && Some(&source.volume_handle) == id.as_ref()
            })
        }))
    }

    /// The `PersistentVolumeClaim` that the claim is for, if that is still bound to it.
    async fn bound(&self, claim: &Claim) -> Result<Option<PersistentVolumeClaim>, kube::Error> {
        let Some(pvc) = &claim.pvc else { return Ok(None) };
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &pvc.namespace);
        let object = claims.get_opt(&pvc.name).await?;
        // One of the same name that was made later is somebody else's.
        Ok(object.filter(|object| {
            let bound = object.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
            bound == Some(claim.name.as_str())
        }))
    }

    async fn may_delete(&self, object: &PersistentVolumeClaim) -> Result<bool, kube::Error> {
        let class = object.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
        let Some(class) = class else { return Ok(false) };
        let class = self.classes.get_opt(class).await?;
        Ok(class.is_some_and(|class| {
            class.annotations().get(DELETE_ANNOTATION).is_some_and(|value| value == "true")
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::volume::PersistentVolumeClaim as Pvc;
    use crate::volume::fixture::claimed_by;

    /// What was asked of the API server that did more than read.
    type Writes = Arc<Mutex<Vec<(Method, String)>>>;

    /// An API server with the claim `data`, bound to the volume `pvc-1` of this handle, of a class that has claims of lost
    /// nodes deleted.
    fn api_server(handle: String) -> (ClaimObjects, Writes) {
        let writes = Writes::default();
        let seen = Arc::clone(&writes);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let answer = answer(&path, &handle);
            if method != Method::GET {
                seen.lock().unwrap().push((method, path));
            }
            async move {
                Ok::<_, std::io::Error>(Response::new(Body::from(answer.to_string().into_bytes())))
            }
        });
        (ClaimObjects::new(Client::new(service, "default"), "berth.dev"), writes)
    }

    fn answer(path: &str, handle: &str) -> Value {
        let metadata = |name: &str| json!({"name": name, "namespace": "tenant", "uid": "1"});
        match path.rsplit_once('/').map(|(_, name)| name) {
            Some("pvc-1") => json!({
                "metadata": {"name": "pvc-1"},
                "spec": {"csi": {"driver": "berth.dev", "volumeHandle": handle}},
            }),
            Some("data") => json!({
                "metadata": metadata("data"),
                "spec": {"volumeName": "pvc-1", "storageClassName": "fast"},
            }),
            Some("fast") => json!({
                "metadata": {"name": "fast", "annotations": {DELETE_ANNOTATION: "true"}},
                "provisioner": "berth.dev",
            }),
            _ => json!({"metadata": metadata("event")}),
        }
    }

    /// A volume that says that it is held by the claim `data`.
    fn held() -> (LocalVolume, Claim) {
        let mut volume = claimed_by("pvc-1");
        let claim = volume.spec.claim.as_mut().unwrap();
        claim.pvc = Some(Pvc { namespace: "tenant".into(), name: "data".into() });
        let claim = Claim::clone(claim);
        (volume, claim)
    }

    #[tokio::test]
    async fn a_claim_of_a_lost_node_is_told_and_deleted_where_its_class_asks_for_it() {
        let (volume, claim) = held();
        let (objects, writes) = api_server(volume.id().unwrap().to_string());

        objects.tell(&claim, &volume).await;
        objects.give_up(&claim, &volume).await.unwrap();

        let writes = writes.lock().unwrap();
        let methods: Vec<_> = writes.iter().map(|(method, _)| method.as_str()).collect();
        assert_eq!(methods, ["POST", "POST", "DELETE"], "{writes:?}");
        assert_eq!(writes[2].1, "/api/v1/namespaces/tenant/persistentvolumeclaims/data");
    }

    #[tokio::test]
    async fn a_volume_that_only_says_that_a_claim_holds_it_neither_tells_nor_deletes_anything() {
        let (volume, claim) = held();
        let (objects, writes) = api_server("node-b-fast-v1-00000000000000aa@7".into());

        objects.tell(&claim, &volume).await;
        objects.give_up(&claim, &volume).await.unwrap();

        assert_eq!(*writes.lock().unwrap(), []);
    }
}
