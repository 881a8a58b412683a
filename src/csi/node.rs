//! The Node service: volumes mounted, measured and looked after on one node.

use std::path::PathBuf;
use std::sync::Arc;

use csi::node_service_capability::rpc::Type as Capability;
use csi::node_service_capability::{self as capability, Rpc as RpcCapability};
use tonic::{Request, Response};

use super::operation::about;
use super::proto::csi_v1 as csi;
use super::status::Error;
use super::{Rpc, TOPOLOGY_KEY, controller, health, request};
use crate::claim::Claims;
use crate::health::Prober;
use crate::inventory::Inventory;
use crate::publish::{self, ExpandNode, Expected, Publish, Publisher, Stage, Stats, Usage};
use crate::volume::{HealthReason, LocalVolume, NodeName, VolumeId};

/// What the service does beyond what every Node service does.
pub(super) const CAPABILITIES: &[Capability] = &[
    Capability::StageUnstageVolume,
    Capability::GetVolumeStats,
    Capability::GetVolumeHealth,
    Capability::GetStorageHealth,
    Capability::ExpandVolume,
    Capability::SingleNodeMultiWriter,
];

/// The Node service.
#[derive(Debug, Clone)]
pub struct NodeService<I> {
    node: NodeName,
    inventory: I,
    claims: Claims<I>,
    publisher: Publisher<I>,
    prober: Prober,
}

impl<I: Inventory> NodeService<I> {
    /// The service of `node`.
    pub fn new(
        node: NodeName,
        (inventory, claims): (I, Claims<I>),
        publisher: Publisher<I>,
        prober: Prober,
    ) -> Self {
        Self { node, inventory, claims, publisher, prober }
    }

    async fn stage(&self, request: csi::NodeStageVolumeRequest) -> Result<(), Error> {
        let stage = Stage::try_from(request)?;
        about("volume", &stage.id.volume);
        Ok(self.publisher.stage(stage).await?)
    }

    async fn unstage(&self, request: csi::NodeUnstageVolumeRequest) -> Result<(), Error> {
        let Some(unstage) = request::unstage(request)? else { return Ok(()) };
        about("volume", &unstage.id.volume);
        Ok(self.publisher.unstage(unstage).await?)
    }

    async fn publish(&self, request: csi::NodePublishVolumeRequest) -> Result<(), Error> {
        let publish = Publish::try_from(request)?;
        about("volume", &publish.id.volume);
        Ok(self.publisher.publish(publish).await?)
    }

    async fn unpublish(&self, request: csi::NodeUnpublishVolumeRequest) -> Result<(), Error> {
        let Some(unpublish) = request::unpublish(request)? else { return Ok(()) };
        about("volume", &unpublish.id.volume);
        Ok(self.publisher.unpublish(unpublish).await?)
    }

    async fn stats(&self, request: csi::NodeGetVolumeStatsRequest) -> Result<Stats, Error> {
        let (id, path) = <(VolumeId, PathBuf)>::try_from(request)?;
        Ok(self.publisher.stats(&id, &path).await?)
    }

    async fn expand(&self, request: csi::NodeExpandVolumeRequest) -> Result<i64, Error> {
        let expand = ExpandNode::try_from(request)?;
        about("volume", &expand.id.volume);
        Ok(controller::bytes(self.publisher.expand(expand).await?))
    }

    async fn health(
        &self,
        request: csi::NodeGetVolumeHealthRequest,
    ) -> Result<csi::VolumeHealth, Error> {
        let (id, expected) = <(VolumeId, Expected)>::try_from(request)?;
        let volume = self.claims.find(&id).await?.volume;
        if volume.spec.node != self.node {
            return Err(crate::claim::Error::NotFound(id).into());
        }
        let finding = self.prober.probe(&volume).await;
        if !matches!(finding.reason, HealthReason::Present | HealthReason::ReadOnly) {
            return Ok(health::probed(&volume, &finding));
        }
        match self.publisher.absent(&id, expected).await {
            Ok(absent) => Ok(health::absent(&volume, &finding, &absent)),
            Err(error @ (publish::Error::TooSlow { .. } | publish::Error::Pending { .. })) => {
                Ok(health::silent(&volume, &error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The volumes of this node.
    async fn volumes(&self) -> Result<Vec<Arc<LocalVolume>>, Error> {
        let all = self.inventory.list().await?;
        let own = all.into_iter().map(|recorded| recorded.volume);
        Ok(own.filter(|volume| volume.spec.node == self.node).collect())
    }
}

fn usage(stats: &Stats) -> Vec<csi::VolumeUsage> {
    use csi::volume_usage::Unit;
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let one = |usage: &Usage, unit: Unit| csi::VolumeUsage {
        total: number(usage.total),
        used: number(usage.used.unwrap_or_default()),
        available: number(usage.available.unwrap_or_default()),
        unit: unit.into(),
    };
    let bytes = one(&stats.bytes, Unit::Bytes);
    let inodes = stats.inodes.as_ref().map(|inodes| one(inodes, Unit::Inodes));
    std::iter::once(bytes).chain(inodes).collect()
}

#[tonic::async_trait]
impl<I: Inventory> csi::node_server::Node for NodeService<I> {
    async fn node_stage_volume(
        &self,
        request: Request<csi::NodeStageVolumeRequest>,
    ) -> Rpc<csi::NodeStageVolumeResponse> {
        self.stage(request.into_inner()).await?;
        Ok(Response::new(csi::NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<csi::NodeUnstageVolumeRequest>,
    ) -> Rpc<csi::NodeUnstageVolumeResponse> {
        self.unstage(request.into_inner()).await?;
        Ok(Response::new(csi::NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<csi::NodePublishVolumeRequest>,
    ) -> Rpc<csi::NodePublishVolumeResponse> {
        self.publish(request.into_inner()).await?;
        Ok(Response::new(csi::NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<csi::NodeUnpublishVolumeRequest>,
    ) -> Rpc<csi::NodeUnpublishVolumeResponse> {
        self.unpublish(request.into_inner()).await?;
        Ok(Response::new(csi::NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<csi::NodeGetVolumeStatsRequest>,
    ) -> Rpc<csi::NodeGetVolumeStatsResponse> {
        let usage = usage(&self.stats(request.into_inner()).await?);
        Ok(Response::new(csi::NodeGetVolumeStatsResponse { usage }))
    }

    async fn node_get_volume_health(
        &self,
        request: Request<csi::NodeGetVolumeHealthRequest>,
    ) -> Rpc<csi::NodeGetVolumeHealthResponse> {
        let volume_health = Some(self.health(request.into_inner()).await?);
        Ok(Response::new(csi::NodeGetVolumeHealthResponse { volume_health }))
    }

    async fn node_get_storage_health(
        &self,
        _: Request<csi::NodeGetStorageHealthRequest>,
    ) -> Rpc<csi::NodeGetStorageHealthResponse> {
        let volumes = self.volumes().await?;
        let ailments = crate::health::storage(volumes.iter().map(|volume| &**volume))
            .into_iter()
            .map(health::storage);
        let backend_health = ailments.collect();
        Ok(Response::new(csi::NodeGetStorageHealthResponse { backend_health }))
    }

    async fn node_expand_volume(
        &self,
        request: Request<csi::NodeExpandVolumeRequest>,
    ) -> Rpc<csi::NodeExpandVolumeResponse> {
        let capacity_bytes = self.expand(request.into_inner()).await?;
        Ok(Response::new(csi::NodeExpandVolumeResponse { capacity_bytes }))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<csi::NodeGetCapabilitiesRequest>,
    ) -> Rpc<csi::NodeGetCapabilitiesResponse> {
        let rpc = |one: &Capability| capability::Type::Rpc(RpcCapability { r#type: (*one).into() });
        let one = |one| csi::NodeServiceCapability { r#type: Some(rpc(one)) };
        let capabilities = CAPABILITIES.iter().map(one).collect();
        Ok(Response::new(csi::NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<csi::NodeGetInfoRequest>,
    ) -> Rpc<csi::NodeGetInfoResponse> {
        let segments = [(TOPOLOGY_KEY.to_owned(), self.node.topology_value())].into();
        Ok(Response::new(csi::NodeGetInfoResponse {
            node_id: self.node.to_string(),
            // No limit beside the volumes themselves, of which the capacity tells. The kubelet would ask for their number
            // once, and disks that come later would count for nothing.
            max_volumes_per_node: 0,
            accessible_topology: Some(csi::Topology { segments }),
        }))
    }
}
