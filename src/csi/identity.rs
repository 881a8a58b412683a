//! The Identity service: who this is, what it can do, whether it is ready.

use tokio::sync::watch;
use tonic::{Request, Response};

use super::Rpc;
use super::proto::csi_v1 as csi;
use csi::plugin_capability::service::Type as Service;
use csi::plugin_capability::volume_expansion::Type as Expansion;
use csi::plugin_capability::{self as capability, Type};

/// The services and features of every Berth process of this version: the specification wants the same answer from
/// all of them, whichever services the socket has.
const SERVICES: [Service; 2] =
    [Service::ControllerService, Service::VolumeAccessibilityConstraints];

/// The Identity service.
#[derive(Debug, Clone)]
pub struct IdentityService {
    name: String,
    ready: watch::Receiver<bool>,
}

impl IdentityService {
    /// The identity of a driver called `name`, which is ready when `ready` says so.
    pub fn new(name: String, ready: watch::Receiver<bool>) -> Self {
        Self { name, ready }
    }
}

#[tonic::async_trait]
impl csi::identity_server::Identity for IdentityService {
    async fn get_plugin_info(
        &self,
        _: Request<csi::GetPluginInfoRequest>,
    ) -> Rpc<csi::GetPluginInfoResponse> {
        Ok(Response::new(csi::GetPluginInfoResponse {
            name: self.name.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: [("license".to_owned(), "Apache-2.0".to_owned())].into(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<csi::GetPluginCapabilitiesRequest>,
    ) -> Rpc<csi::GetPluginCapabilitiesResponse> {
        let services =
            SERVICES.map(|service| Type::Service(capability::Service { r#type: service.into() }));
        let online = capability::VolumeExpansion { r#type: Expansion::Online.into() };
        let all = services.into_iter().chain([Type::VolumeExpansion(online)]);
        let capabilities = all.map(|one| csi::PluginCapability { r#type: Some(one) }).collect();
        Ok(Response::new(csi::GetPluginCapabilitiesResponse { capabilities }))
    }

    async fn probe(&self, _: Request<csi::ProbeRequest>) -> Rpc<csi::ProbeResponse> {
        Ok(Response::new(csi::ProbeResponse { ready: Some(*self.ready.borrow()) }))
    }
}
