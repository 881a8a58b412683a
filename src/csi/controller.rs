//! The Controller service: volumes given, ended, listed and measured.

use std::collections::HashMap;

use csi::controller_service_capability::rpc::Type as Capability;
use csi::controller_service_capability::{self as capability, Rpc as RpcCapability};
use tonic::{Request, Response};

use super::operation::Operations;
use super::proto::csi_v1 as csi;
use super::request::{self, Listing, ValidateCapabilities};
use super::status::Error;
use super::{Rpc, TOPOLOGY_KEY, health};
use crate::claim::{Capacity, ClaimRequest, Claims};
use crate::inventory::{Inventory, Recorded};
use crate::volume::{Bytes, CapacityRange, LocalVolume, VolumeId};

/// What the service does beyond what every Controller service does.
pub(super) const CAPABILITIES: &[Capability] = &[
    Capability::CreateDeleteVolume,
    Capability::ListVolumes,
    Capability::GetCapacity,
    Capability::GetVolume,
    Capability::GetVolumeHealth,
    Capability::ListVolumeHealth,
    Capability::ExpandVolume,
    Capability::SingleNodeMultiWriter,
];

/// The Controller service.
#[derive(Debug, Clone)]
pub struct ControllerService<I> {
    claims: Claims<I>,
    operations: Operations,
}

impl<I: Inventory> ControllerService<I> {
    /// The service on `claims`; `operations` is shared with every service of the process.
    pub fn new(claims: Claims<I>, operations: Operations) -> Self {
        Self { claims, operations }
    }

    async fn create(&self, request: csi::CreateVolumeRequest) -> Result<Recorded, Error> {
        let claim = ClaimRequest::try_from(request)?;
        let _turn = self.operations.begin("claim", &claim.name)?;
        Ok(self.claims.claim(claim).await?)
    }

    async fn delete(&self, id: String) -> Result<(), Error> {
        let Some(id) = request::volume_id_if_any(&id)? else { return Ok(()) };
        let _turn = self.operations.begin("volume", &id.volume)?;
        Ok(self.claims.release(&id).await?)
    }

    async fn validate(
        &self,
        request: csi::ValidateVolumeCapabilitiesRequest,
    ) -> Result<Result<(), String>, Error> {
        let asked = ValidateCapabilities::try_from(request)?;
        let volume = self.claims.find(&asked.id).await?.volume;
        let context = context(&volume);
        Ok(asked.refusal(&volume, &context).map_or(Ok(()), Err))
    }

    async fn find(&self, id: String) -> Result<Recorded, Error> {
        let id = request::volume_id(&id)?;
        Ok(self.claims.find(&id).await?)
    }

    async fn expand(
        &self,
        request: csi::ControllerExpandVolumeRequest,
    ) -> Result<csi::ControllerExpandVolumeResponse, Error> {
        let (id, range) = <(VolumeId, CapacityRange)>::try_from(request)?;
        let _turn = self.operations.begin("volume", &id.volume)?;
        let expanded = self.claims.expand(&id, range).await?;
        Ok(csi::ControllerExpandVolumeResponse {
            capacity_bytes: bytes(expanded.capacity),
            node_expansion_required: expanded.node_expansion_required,
        })
    }

    /// A page of claimed volumes, and the token of the next if there may be one.
    fn page(&self, listing: &Listing) -> Result<(Vec<Recorded>, String), Error> {
        let mut page = self.claims.list(listing.after.as_ref(), listing.most + 1)?;
        let more = page.len() > listing.most;
        page.truncate(listing.most);
        let last = page.last().filter(|_| more);
        let token = last.map(|last| Listing::token(&last.volume.name)).unwrap_or_default();
        Ok((page, token))
    }

    fn capacity(
        &self,
        request: csi::GetCapacityRequest,
    ) -> Result<csi::GetCapacityResponse, Error> {
        let capacity = match request::capacity(request)? {
            Some(query) => self.claims.capacity(&query)?,
            None => Capacity::default(),
        };
        // Absent would mean "not known": that nothing is to be had is known.
        Ok(csi::GetCapacityResponse {
            available_capacity: bytes(capacity.available),
            maximum_volume_size: Some(bytes(capacity.maximum.unwrap_or_default())),
            minimum_volume_size: capacity.minimum.map(bytes),
        })
    }
}

/// A volume as the specification describes it. Only a claimed one has an id.
fn volume(recorded: &Recorded) -> csi::Volume {
    let volume = &recorded.volume;
    let node = volume.spec.node.topology_value();
    csi::Volume {
        capacity_bytes: bytes(volume.status.capacity),
        volume_id: volume.id().map(String::from).unwrap_or_default(),
        volume_context: context(volume),
        accessible_topology: vec![csi::Topology { segments: [(TOPOLOGY_KEY.into(), node)].into() }],
        content_source: None,
    }
}

/// What is said of a volume beside its id.
fn context(volume: &LocalVolume) -> HashMap<String, String> {
    let claim = volume.spec.claim.as_ref();
    let claim = claim.map(|claim| (request::CLAIM_KEY.into(), claim.name.to_string()));
    [("berth.dev/pool".into(), volume.spec.pool.to_string())].into_iter().chain(claim).collect()
}

/// A size in the specification's signed numbers, which end at 8 EiB.
pub(super) fn bytes(bytes: Bytes) -> i64 {
    i64::try_from(bytes.0).unwrap_or(i64::MAX)
}

#[tonic::async_trait]
impl<I: Inventory> csi::controller_server::Controller for ControllerService<I> {
    async fn create_volume(
        &self,
        request: Request<csi::CreateVolumeRequest>,
    ) -> Rpc<csi::CreateVolumeResponse> {
        let created = self.create(request.into_inner()).await?;
        Ok(Response::new(csi::CreateVolumeResponse { volume: Some(volume(&created)) }))
    }

    async fn delete_volume(
        &self,
        request: Request<csi::DeleteVolumeRequest>,
    ) -> Rpc<csi::DeleteVolumeResponse> {
        self.delete(request.into_inner().volume_id).await?;
        Ok(Response::new(csi::DeleteVolumeResponse {}))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<csi::ValidateVolumeCapabilitiesRequest>,
    ) -> Rpc<csi::ValidateVolumeCapabilitiesResponse> {
        let request = request.into_inner();
        let confirmed = csi::validate_volume_capabilities_response::Confirmed {
            volume_context: request.volume_context.clone(),
            volume_capabilities: request.volume_capabilities.clone(),
            parameters: request.parameters.clone(),
            mutable_parameters: HashMap::new(),
        };
        let (confirmed, message) = match self.validate(request).await? {
            Ok(()) => (Some(confirmed), String::new()),
            Err(message) => (None, message),
        };
        Ok(Response::new(csi::ValidateVolumeCapabilitiesResponse { confirmed, message }))
    }

    async fn list_volumes(
        &self,
        request: Request<csi::ListVolumesRequest>,
    ) -> Rpc<csi::ListVolumesResponse> {
        let listing = Listing::try_from(request.into_inner()).map_err(Error::from)?;
        let (page, next_token) = self.page(&listing)?;
        let entry = |recorded| csi::list_volumes_response::Entry {
            volume: Some(volume(recorded)),
            status: None,
        };
        let entries = page.iter().map(entry).collect();
        Ok(Response::new(csi::ListVolumesResponse { entries, next_token }))
    }

    async fn controller_list_volume_health(
        &self,
        request: Request<csi::ControllerListVolumeHealthRequest>,
    ) -> Rpc<csi::ControllerListVolumeHealthResponse> {
        let listing = Listing::try_from(request.into_inner()).map_err(Error::from)?;
        let (page, next_token) = self.page(&listing)?;
        let ill = page.iter().map(|one| &*one.volume).filter(|volume| !volume.is_healthy());
        let entries = ill.map(health::recorded).collect();
        Ok(Response::new(csi::ControllerListVolumeHealthResponse { entries, next_token }))
    }

    async fn controller_get_volume_health(
        &self,
        request: Request<csi::ControllerGetVolumeHealthRequest>,
    ) -> Rpc<csi::ControllerGetVolumeHealthResponse> {
        let found = self.find(request.into_inner().volume_id).await?;
        let volume_health = Some(health::recorded(&found.volume));
        Ok(Response::new(csi::ControllerGetVolumeHealthResponse { volume_health }))
    }

    async fn get_capacity(
        &self,
        request: Request<csi::GetCapacityRequest>,
    ) -> Rpc<csi::GetCapacityResponse> {
        Ok(Response::new(self.capacity(request.into_inner())?))
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<csi::ControllerGetCapabilitiesRequest>,
    ) -> Rpc<csi::ControllerGetCapabilitiesResponse> {
        let rpc = |one: &Capability| capability::Type::Rpc(RpcCapability { r#type: (*one).into() });
        let one = |one| csi::ControllerServiceCapability { r#type: Some(rpc(one)) };
        let capabilities = CAPABILITIES.iter().map(one).collect();
        Ok(Response::new(csi::ControllerGetCapabilitiesResponse { capabilities }))
    }

    async fn controller_expand_volume(
        &self,
        request: Request<csi::ControllerExpandVolumeRequest>,
    ) -> Rpc<csi::ControllerExpandVolumeResponse> {
        Ok(Response::new(self.expand(request.into_inner()).await?))
    }

    async fn controller_get_volume(
        &self,
        request: Request<csi::ControllerGetVolumeRequest>,
    ) -> Rpc<csi::ControllerGetVolumeResponse> {
        let found = self.find(request.into_inner().volume_id).await?;
        let node = found.volume.spec.node.to_string();
        let published_node_ids =
            if found.volume.status.published.is_empty() { Vec::new() } else { vec![node] };
        let status = csi::controller_get_volume_response::VolumeStatus { published_node_ids };
        let volume = Some(volume(&found));
        Ok(Response::new(csi::ControllerGetVolumeResponse { volume, status: Some(status) }))
    }
}
