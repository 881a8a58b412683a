//! Requests to the API server: each one bounded in time, a bounded number at once, each answer told apart by what it says
//! about what was written.

use std::time::Duration;

use futures_util::Stream;
use json_patch::Patch as JsonPatch;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent,
    WatchParams,
};
use kube::core::Request;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::super::{Version, crd};
use super::alike::Alike;
use super::entry::{Entry, finalizers, version};
use super::error::{Failure, PATIENCE};
use super::object::{Object, Page};
use crate::volume::{LocalVolume, NodeName, VolumeName};

/// Requests under way at once, so that a storm of claims waits here and not in the API server's queues.
const REQUESTS: usize = 64;
/// Who the API server notes as the writer of a field.
const MANAGER: &str = "berth";
/// Objects in one answer of a list. Tests have so few objects that there would be one page.
pub(super) const PAGE: u32 = if cfg!(test) { 50 } else { 500 };
/// How long to wait when the API server says that it has too much to do.
const PAUSE: Duration = Duration::from_secs(1);

/// The ways to the API server.
pub(super) struct Api {
    client: Client,
    /// How the objects are asked for.
    objects: Request,
    pub(super) reservations: kube::Api<Lease>,
    selector: Option<String>,
    alike: Alike,
    turns: Semaphore,
}

impl Api {
    /// `node` restricts lists and watches to the objects of that node.
    pub(super) fn new(client: Client, namespace: &str, node: Option<&NodeName>) -> Self {
        Self {
            objects: Request::new(crd::Object::url_path(&(), None)),
            reservations: kube::Api::namespaced(client.clone(), namespace),
            client,
            selector: node.map(|node| format!("spec.node={node}")),
            alike: Alike::default(),
            turns: Semaphore::new(REQUESTS),
        }
    }

    pub(super) async fn get(&self, name: &VolumeName) -> Result<Entry, Failure> {
        let asked = || self.objects.get(name.as_str(), &GetParams::default());
        self.read(self.ask(name.as_str(), || self.send(asked())).await?)
    }

    /// Makes the object of a volume, without a status.
    pub(super) async fn create(&self, volume: &LocalVolume) -> Result<Entry, Failure> {
        let mut object = crd::Object::incomplete(volume);
        object.metadata.finalizers = Some(finalizers(&[], &volume.spec));
        let object = serde_json::to_vec(&object).map_err(Failure::unreadable)?;
        let asked = || self.objects.create(&post(), object.clone());
        self.read(self.ask(volume.name.as_str(), || self.send(asked())).await?)
    }

    pub(super) async fn patch(
        &self,
        name: &VolumeName,
        patch: JsonPatch,
    ) -> Result<Entry, Failure> {
        let (name, patch) = (name.as_str(), Patch::Json::<()>(patch));
        let plain =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.read(self.ask(name, || self.send(self.objects.patch(name, &plain, &patch))).await?)
    }

    pub(super) async fn patch_status(
        &self,
        name: &VolumeName,
        patch: JsonPatch,
    ) -> Result<Entry, Failure> {
        let (name, patch) = (name.as_str(), Patch::Json::<()>(patch));
        let plain =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let asked = || self.objects.patch_subresource("status", name, &plain, &patch);
        self.read(self.ask(name, || self.send(asked())).await?)
    }

    /// Deletes an object if it is still this one. Whether it is gone, rather than waiting for somebody's finalizer.
    pub(super) async fn delete(&self, entry: &Entry) -> Result<bool, Failure> {
        let exactly = exactly(&entry.uid.to_string(), &entry.version.0.to_string());
        let name = entry.name.as_str();
        let answer = self.ask(name, || async {
            let asked = self.objects.delete(name, &exactly).map_err(kube::Error::BuildRequest)?;
            self.client.request_status::<Object>(asked).await
        });
        let left = answer.await?.left();
        Ok(left.is_none_or(|object| object.metadata.finalizers.is_empty()))
    }

    /// Every object in the scope, and the version at which that was so.
    pub(super) async fn list(&self) -> Result<(Vec<Entry>, Version), Failure> {
        let mut params = ListParams::default().limit(PAGE);
        params.field_selector.clone_from(&self.selector);
        let mut entries = Vec::new();
        self.alike.forget();
        loop {
            let page: Page = self.ask("", || self.send(self.objects.list(&params))).await?;
            entries.extend(page.items.into_iter().filter_map(|object| self.known(object)));
            params.continue_token = page.metadata.next.filter(|token| !token.is_empty());
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
    ) -> kube::Result<impl Stream<Item = kube::Result<WatchEvent<Object>>> + use<>> {
        let mut params = WatchParams::default();
        params.field_selector.clone_from(&self.selector);
        let asked = self.objects.watch(&params, &version.0.to_string());
        let asked = asked.map_err(kube::Error::BuildRequest)?;
        self.client.request_events::<Object>(asked).await
    }

    /// Sends one request for objects, or for one.
    async fn send<T: DeserializeOwned>(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> kube::Result<T> {
        self.client.request(request.map_err(kube::Error::BuildRequest)?).await
    }

    fn read(&self, object: Object) -> Result<Entry, Failure> {
        Entry::read(object, &self.alike).map_err(Failure::unreadable)
    }

    /// An object of a list or a watch; one that cannot be a volume by its name is none of ours.
    pub(super) fn known(&self, object: Object) -> Option<Entry> {
        Entry::read(object, &self.alike)
            .inspect_err(|error| tracing::warn!(%error, "an object was passed over"))
            .ok()
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
