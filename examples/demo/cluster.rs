//! What a container orchestrator does to a driver, as far as the demonstration needs it.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use berth::cli::client;
use berth::csi::Endpoint;
use berth::csi::proto::csi_v1 as csi;
use csi::controller_client::ControllerClient;
use csi::identity_client::IdentityClient;
use csi::node_client::NodeClient;
use csi::volume_capability::access_mode::Mode;
use csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use tonic::Status;
use tonic::transport::Channel;

use crate::host::Host;

pub struct Orchestrator {
    identity: IdentityClient<Channel>,
    controller: ControllerClient<Channel>,
    node: NodeClient<Channel>,
}

impl Orchestrator {
    pub fn connect(endpoint: &Endpoint) -> anyhow::Result<Self> {
        let channel = client::connect(endpoint)?;
        Ok(Self {
            identity: IdentityClient::new(channel.clone()),
            controller: ControllerClient::new(channel.clone()),
            node: NodeClient::new(channel),
        })
    }

    pub async fn is_ready(&mut self) -> bool {
        let answer = self.identity.probe(csi::ProbeRequest {}).await;
        answer.is_ok_and(|answer| answer.into_inner().ready == Some(true))
    }

    pub async fn create(
        &mut self,
        name: &str,
        pool: &str,
        size: u64,
    ) -> Result<csi::Volume, Status> {
        let required_bytes = size.try_into().unwrap_or(i64::MAX);
        let request = csi::CreateVolumeRequest {
            name: name.into(),
            capacity_range: Some(csi::CapacityRange { required_bytes, limit_bytes: 0 }),
            volume_capabilities: vec![capability(pool == "raw-disks")],
            parameters: HashMap::from([("pool".into(), pool.into())]),
            ..Default::default()
        };
        let answer = self.controller.create_volume(request).await?.into_inner();
        answer.volume.ok_or_else(|| Status::internal("the answer has no volume"))
    }

    pub async fn publish(&mut self, host: &Host, id: &str, raw: bool) -> anyhow::Result<PathBuf> {
        let (staging, target) = places(host, id);
        fs::create_dir_all(&staging)?;
        let request = csi::NodeStageVolumeRequest {
            volume_id: id.into(),
            staging_target_path: staging.display().to_string(),
            volume_capability: Some(capability(raw)),
            ..Default::default()
        };
        self.node.node_stage_volume(request).await?;
        let request = csi::NodePublishVolumeRequest {
            volume_id: id.into(),
            staging_target_path: staging.display().to_string(),
            target_path: target.display().to_string(),
            volume_capability: Some(capability(raw)),
            ..Default::default()
        };
        self.node.node_publish_volume(request).await?;
        Ok(target)
    }

    pub async fn unpublish(&mut self, host: &Host, id: &str) -> anyhow::Result<()> {
        let (staging, target) = places(host, id);
        let (volume_id, target_path) = (id.to_owned(), target.display().to_string());
        self.node
            .node_unpublish_volume(csi::NodeUnpublishVolumeRequest { volume_id, target_path })
            .await?;
        let (volume_id, staging_target_path) = (id.to_owned(), staging.display().to_string());
        self.node
            .node_unstage_volume(csi::NodeUnstageVolumeRequest { volume_id, staging_target_path })
            .await?;
        Ok(())
    }

    pub async fn delete(&mut self, id: &str) -> anyhow::Result<()> {
        let request = csi::DeleteVolumeRequest { volume_id: id.into(), ..Default::default() };
        self.controller.delete_volume(request).await?;
        Ok(())
    }
}

fn places(host: &Host, id: &str) -> (PathBuf, PathBuf) {
    let kubelet = host.path("kubelet");
    (kubelet.join(format!("staging-{id}")), kubelet.join(format!("pod-{id}")))
}

fn capability(raw: bool) -> csi::VolumeCapability {
    let access_type = if raw {
        AccessType::Block(BlockVolume {})
    } else {
        AccessType::Mount(MountVolume::default())
    };
    csi::VolumeCapability {
        access_type: Some(access_type),
        access_mode: Some(AccessMode { mode: Mode::SingleNodeMultiWriter.into() }),
    }
}
