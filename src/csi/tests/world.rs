//! A server on a socket of its own, over an inventory of volumes that are nowhere.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globset::GlobSet;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;

use super::super::proto::csi_v1 as csi;
use super::super::proto::csi_v1::controller_client::ControllerClient;
use super::super::proto::csi_v1::identity_client::IdentityClient;
use super::super::proto::csi_v1::node_client::NodeClient;
use super::super::proto::operator_v1alpha1::operator_client::OperatorClient;
use super::super::{
    ControllerService, Endpoint, IdentityService, NodeService, Operations, OperatorService, Server,
    Socket,
};
use crate::claim::Claims;
use crate::discover::found::Problem;
use crate::health::Prober;
use crate::inventory::Inventory;
use crate::inventory::embedded::Embedded;
use crate::observe::metrics::Metrics;
use crate::pool::{Accept, FsType, Pool, Pools};
use crate::publish::Publisher;
use crate::volume::fixture::{delete, on};
use crate::volume::{Bytes, LocalVolume, Mode, NewVolumes};

/// A mebibyte.
pub(super) const MIB: u64 = 1 << 20;

/// The server and what it stands on.
pub(super) struct World {
    pub(super) store: Embedded,
    pub(super) operations: Operations,
    pub(super) ready: watch::Sender<bool>,
    pub(super) problems: watch::Sender<Arc<BTreeSet<Problem>>>,
    channel: Channel,
    _running: DropGuard,
    _directory: TempDir,
}

impl World {
    /// A server over `volumes`, on node `node-a`.
    pub(super) async fn of(volumes: impl IntoIterator<Item = LocalVolume>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(&directory.path().join("state")).unwrap();
        for volume in volumes {
            store.add(volume).await.unwrap();
        }
        let cancel = CancellationToken::new();
        let pools = watch::Sender::new(Arc::new(pools()));
        let claims = Claims::new(store.clone(), pools.subscribe());
        let (runner, token) = (claims.clone(), cancel.clone());
        tokio::spawn(async move { runner.run(token).await });
        claims.ready().await;
        let operations = Operations::default();
        let ready = watch::Sender::new(true);
        let problems = watch::Sender::default();
        let node = "node-a".parse::<crate::volume::NodeName>().unwrap();
        let publisher = Publisher::new(store.clone(), node.clone(), pools.subscribe(), Vec::new());
        let server = Server {
            identity: IdentityService::new("berth.dev".into(), ready.subscribe()),
            controller: Some(ControllerService::new(claims.clone(), operations.clone())),
            node: Some(NodeService::new(
                node,
                (store.clone(), claims.clone()),
                publisher,
                Prober::new(Duration::from_secs(10)),
            )),
            operator: Some(OperatorService::new(
                store.clone(),
                claims,
                pools.subscribe(),
                problems.subscribe(),
                operations.clone(),
            )),
            metrics: Metrics::default(),
        };
        let path = directory.path().join("csi.sock");
        let endpoint: Endpoint = format!("unix://{}", path.display()).parse().unwrap();
        let socket = Socket::listen(&endpoint).unwrap();
        tokio::spawn(server.serve(socket, cancel.clone()));
        // The pools live as long as the server.
        tokio::spawn(async move { pools.closed().await });
        Self {
            store,
            operations,
            ready,
            problems,
            channel: tonic::transport::Endpoint::from_shared(endpoint.to_string())
                .unwrap()
                .connect_lazy(),
            _running: cancel.drop_guard(),
            _directory: directory,
        }
    }

    /// A server over free volumes of pool `fast` on `node-a`, of so many mebibytes each.
    pub(super) async fn of_sizes(sizes: &[u64]) -> Self {
        Self::of(
            sizes.iter().enumerate().map(|(number, size)| {
                on("node-a", "fast", &format!("v{number}"), Bytes(size * MIB))
            }),
        )
        .await
    }

    pub(super) fn identity(&self) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel.clone())
    }

    pub(super) fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel.clone())
    }

    pub(super) fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel.clone())
    }

    pub(super) fn operator(&self) -> OperatorClient<Channel> {
        OperatorClient::new(self.channel.clone())
    }

    /// Creates a volume of pool `fast`.
    pub(super) async fn create(
        &self,
        name: &str,
        mebibytes: u64,
    ) -> Result<csi::Volume, tonic::Status> {
        let answer = self.controller().create_volume(create(name, mebibytes)).await?;
        Ok(answer.into_inner().volume.unwrap())
    }
}

fn pools() -> Pools {
    let pool = |name: &str, mode| Pool {
        name: name.parse().unwrap(),
        path: PathBuf::from("/mnt").join(name),
        mode,
        entries: GlobSet::empty(),
        globs: Vec::new(),
        accept: Accept { mount: true, directory: true, device: true },
        new_volumes: NewVolumes::RequireEmpty,
        clean: delete(),
        clean_devices: None,
        capacity: None,
        fs_type: FsType::Ext4,
        mount_options: Vec::new(),
    };
    let pools = [pool("fast", Mode::Filesystem), pool("raw", Mode::Block)];
    pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect()
}

/// A valid request.
pub(super) fn create(name: &str, mebibytes: u64) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(csi::CapacityRange {
            required_bytes: i64::try_from(mebibytes * MIB).unwrap(),
            limit_bytes: 0,
        }),
        volume_capabilities: vec![mounted(Access::SingleNodeMultiWriter)],
        parameters: HashMap::from([("pool".into(), "fast".into())]),
        ..Default::default()
    }
}

pub(super) use csi::volume_capability::access_mode::Mode as Access;

/// A capability: a directory.
pub(super) fn mounted(mode: Access) -> csi::VolumeCapability {
    use csi::volume_capability::{AccessMode, AccessType, MountVolume};
    csi::VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume::default())),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

/// A capability: a directory with a type of file system and mount flags.
pub(super) fn with(fs_type: &str, flags: &[&str]) -> csi::VolumeCapability {
    use csi::volume_capability::{AccessType, MountVolume};
    let mount = MountVolume {
        fs_type: fs_type.into(),
        mount_flags: flags.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let access_type = Some(AccessType::Mount(mount));
    csi::VolumeCapability { access_type, ..mounted(Access::SingleNodeWriter) }
}

/// A capability: a device.
pub(super) fn raw() -> csi::VolumeCapability {
    use csi::volume_capability::{AccessMode, AccessType, BlockVolume};
    csi::VolumeCapability {
        access_type: Some(AccessType::Block(BlockVolume {})),
        access_mode: Some(AccessMode { mode: Access::SingleNodeWriter.into() }),
    }
}

/// Terms of our topology key, in order.
pub(super) fn terms(values: &[&str]) -> Vec<csi::Topology> {
    let term = |value: &&str| csi::Topology {
        segments: HashMap::from([("topology.berth.dev/node".into(), (*value).into())]),
    };
    values.iter().map(term).collect()
}
