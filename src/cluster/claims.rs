//! The objects of a claim in Kubernetes: what its people are told, and the deletion that a StorageClass may ask for.

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
        let persistent_volume = self.volumes.get_opt(claim.name.as_str()).await.ok().flatten();
        let persistent_volume_claim = self.claim(claim).await.ok().flatten();
        let objects = [
            persistent_volume.map(|object| object.object_ref(&())),
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
        let Some(object) = self.claim(claim).await? else { return Ok(()) };
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

    /// The `PersistentVolumeClaim` that the claim is for, if that is still bound to it.
    async fn claim(&self, claim: &Claim) -> Result<Option<PersistentVolumeClaim>, kube::Error> {
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
