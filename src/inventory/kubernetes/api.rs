//! Requests to the API server: each one bounded in time, a bounded number at once, each answer told apart by what it says
//! about what was written.

use std::time::Duration;

use futures_util::Stream;
use json_patch::Patch as JsonPatch;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent,
    WatchParams,
};
use kube::core::DeserializeGuard;
use tokio::sync::Semaphore;

use super::super::{Version, crd};
use super::entry::{Entry, finalizers, version};
use super::error::{Failure, PATIENCE};
use crate::volume::{LocalVolume, NodeName, VolumeName};

/// Requests under way at once, so that a storm of claims waits here and not in the API server's queues.
const REQUESTS: usize = 64;
/// Who the API server notes as the writer of a field.
const MANAGER: &str = "berth";
/// Objects in one answer of a list.
const PAGE: u32 = 500;
/// How long to wait when the API server says that it has too much to do.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) type Object = DeserializeGuard<crd::Object>;

/// The ways to the API server.
pub(super) struct Api {
    objects: kube::Api<Object>,
    /// The same objects, where a whole one is sent.
    adding: kube::Api<crd::Object>,
    pub(super) reservations: kube::Api<Lease>,
    selector: Option<String>,
    turns: Semaphore,
}

impl Api {
    /// `node` restricts lists and watches to the objects of that node.
    pub(super) fn new(client: kube::Client, namespace: &str, node: Option<&NodeName>) -> Self {
        Self {
            objects: kube::Api::all(client.clone()),
            adding: kube::Api::all(client.clone()),
            reservations: kube::Api::namespaced(client, namespace),
            selector: node.map(|node| format!("spec.node={node}")),
            turns: Semaphore::new(REQUESTS),
        }
    }

    pub(super) async fn get(&self, name: &VolumeName) -> Result<Entry, Failure> {
        read(self.ask(name.as_str(), || self.objects.get(name.as_str())).await?)
    }

    /// Makes the object of a volume, without a status.
    pub(super) async fn create(&self, volume: &LocalVolume) -> Result<Entry, Failure> {
        let mut object = crd::Object::incomplete(volume);
        object.metadata.finalizers = Some(finalizers(&[], &volume.spec));
        let post = post();
        let made = self.ask(volume.name.as_str(), || self.adding.create(&post, &object)).await?;
        read(DeserializeGuard(Ok(made)))
    }

    pub(super) async fn patch(
        &self,
        name: &VolumeName,
        patch: JsonPatch,
    ) -> Result<Entry, Failure> {
        let (name, patch) = (name.as_str(), Patch::Json::<()>(patch));
        let plain =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        read(self.ask(name, || self.objects.patch(name, &plain, &patch)).await?)
    }

    pub(super) async fn patch_status(
        &self,
        name: &VolumeName,
        patch: JsonPatch,
    ) -> Result<Entry, Failure> {
        let (name, patch) = (name.as_str(), Patch::Json::<()>(patch));
        let plain =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        read(self.ask(name, || self.objects.patch_status(name, &plain, &patch)).await?)
    }

    /// Deletes an object if it is still this one. Whether it is gone, rather than waiting for somebody's finalizer.
    pub(super) async fn delete(&self, entry: &Entry) -> Result<bool, Failure> {
        let exactly = exactly(&entry.uid, &entry.version.0.to_string());
        let name = entry.name.as_str();
        let left = self.ask(name, || self.objects.delete(name, &exactly)).await?.left();
        Ok(left
            .is_none_or(|object| object.0.is_ok_and(|object| object.metadata.finalizers.is_none())))
    }

    /// Every object in the scope, and the version at which that was so.
    pub(super) async fn list(&self) -> Result<(Vec<Entry>, Version), Failure> {
        let mut params = ListParams::default().limit(PAGE);
        params.field_selector.clone_from(&self.selector);
        let mut entries = Vec::new();
        loop {
            let page = self.ask("", || self.objects.list(&params)).await?;
            entries.extend(page.items.into_iter().filter_map(known));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let at = page.metadata.resource_version.as_deref().and_then(version);
                let at = at.ok_or_else(|| Failure::unreadable("the list has no version"))?;
                return Ok((entries, at));
            }
        }
    }

    /// What happens in the scope after `version`.
    pub(super) async fn watch(
        &self,
        version: Version,
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<Object>>> + use<>, kube::Error> {
        let mut params = WatchParams::default();
        params.field_selector.clone_from(&self.selector);
        self.objects.watch(&params, &version.0.to_string()).await
    }

    /// Makes a request about the object called `name` and waits for the answer.
    pub(super) async fn ask<T, F>(&self, name: &str, request: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let asking = async {
            // It is never closed.
            let _turn = self.turns.acquire().await;
            loop {
                match request().await {
                    Err(kube::Error::Api(status)) if status.code == 429 => {
                        tokio::time::sleep(PAUSE).await;
                    }
                    answer => return answer,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => answer.map_err(|error| Failure::of(error, name)),
            Err(_) => Err(Failure::too_slow()),
        }
    }
}

/// How objects are made.
pub(super) fn post() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

/// Only if it is still this object at this version.
pub(super) fn exactly(uid: &str, version: &str) -> DeleteParams {
    let preconditions =
        Preconditions { uid: Some(uid.to_owned()), resource_version: Some(version.to_owned()) };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

fn read(object: Object) -> Result<Entry, Failure> {
    Entry::read(object).map_err(Failure::unreadable)
}

/// An object of a list or a watch; one that cannot be a volume by its name is none of ours.
pub(super) fn known(object: Object) -> Option<Entry> {
    Entry::read(object)
        .inspect_err(|error| tracing::warn!(%error, "an object was passed over"))
        .ok()
}
