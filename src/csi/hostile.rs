//! Checks of requests; see [`crate::hostile`].
#![allow(clippy::missing_panics_doc, reason = "that is what a check is for")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Request, Status};

use super::proto::csi_v1::controller_server::Controller;
use super::proto::csi_v1::identity_server::Identity;
use super::proto::csi_v1::node_server::Node;
use super::proto::csi_v1::{NodePublishVolumeRequest, NodeStageVolumeRequest};
use super::proto::operator_v1alpha1::operator_server::Operator;
use super::{ControllerService, IdentityService, NodeService, Operations, OperatorService};
use crate::claim::Claims;
use crate::health::Prober;
use crate::inventory::embedded::Embedded;
use crate::inventory::{Inventory, Recorded};
use crate::pool::config;
use crate::publish::{Publish, Publisher, Stage};
use crate::volume::{Bytes, LocalVolume, NodeName, fixture};

/// Where volumes may be mounted: a directory that is not there, so that nothing ever is.
const ROOT: &str = "/nowhere/berth-hostile";
/// Bytes that a refusal may have.
const SENTENCE: usize = 9 << 10;

/// Any call, of all the services of a server: the first byte says which, the rest is its message. It is answered or
/// refused, never with a fault of the server's, and in a sentence.
pub fn requests(data: &[u8]) {
    thread_local! {
        static WORLD: std::cell::RefCell<Option<World>> = const { std::cell::RefCell::new(None) };
    }
    let Some((method, message)) = data.split_first() else { return };
    parsed(message);
    WORLD.with_borrow_mut(|kept| {
        let world = kept.take().unwrap_or_else(World::new);
        let answer = world.runtime.block_on(world.call(*method, message));
        if let Some(Err(refused)) = answer {
            let fault = matches!(refused.code(), Code::Internal | Code::Unknown | Code::DataLoss);
            assert!(!fault, "call {method}: {refused:?}");
            assert!(refused.message().len() < SENTENCE && refused.details().is_empty());
        }
        // Whatever it has changed is not the next one's.
        *kept = (!world.has_changed()).then_some(world);
    });
}

/// What of a message goes further is what the caller wrote, to the byte.
fn parsed(message: &[u8]) {
    if let Ok(request) = NodeStageVolumeRequest::decode(message)
        && let Ok(stage) = Stage::try_from(request.clone())
    {
        assert_eq!(stage.id.to_string(), request.volume_id);
        assert_eq!(stage.staging.to_str(), Some(&*request.staging_target_path));
    }
    if let Ok(request) = NodePublishVolumeRequest::decode(message)
        && let Ok(publish) = Publish::try_from(request.clone())
    {
        assert_eq!(publish.id.to_string(), request.volume_id);
        assert_eq!(publish.target.to_str(), Some(&*request.target_path));
        assert_eq!(publish.staging.to_str(), Some(&*request.staging_target_path));
        assert!(!request.target_path.contains('\0') && request.target_path.len() <= 4096);
    }
}

/// The services of a server, over volumes that are nowhere.
struct World {
    identity: IdentityService,
    controller: ControllerService<Embedded>,
    node: NodeService<Embedded>,
    operator: OperatorService<Embedded>,
    store: Embedded,
    volumes: Vec<Recorded>,
    runtime: Runtime,
    _running: DropGuard,
}

impl World {
    fn new() -> Self {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            panic!("there is no runtime")
        };
        let (node, store): (NodeName, _) =
            ("node-a".parse().unwrap_or_else(|e| panic!("{e}")), store());
        let volumes = runtime.block_on(filled(&store));
        let cancel = CancellationToken::new();
        let pools = "pools: {fast: {path: /mnt/fast}, raw: {path: /mnt/raw, mode: Block}}";
        let pools = config::parse(pools, "pools.yaml".as_ref()).unwrap_or_else(|e| panic!("{e}"));
        let pools = watch::Sender::new(Arc::new(pools));
        let claims = Claims::new(store.clone(), pools.subscribe());
        let (runner, token) = (claims.clone(), cancel.clone());
        runtime.spawn(async move { runner.run(token).await });
        runtime.block_on(claims.ready());
        let operations = Operations::default();
        let roots = vec![PathBuf::from(ROOT)];
        let publisher = Publisher::new(store.clone(), node.clone(), pools.subscribe(), roots);
        let world = Self {
            identity: IdentityService::new(
                "berth.dev".into(),
                watch::Sender::new(true).subscribe(),
            ),
            controller: ControllerService::new(claims.clone(), operations.clone()),
            node: NodeService::new(
                node,
                (store.clone(), claims.clone()),
                publisher,
                Prober::new(Duration::from_secs(10)),
            ),
            operator: OperatorService::new(
                store.clone(),
                claims,
                pools.subscribe(),
                watch::Sender::default().subscribe(),
                operations,
            ),
            store,
            volumes,
            _running: cancel.drop_guard(),
            runtime,
        };
        world.runtime.spawn(async move { pools.closed().await });
        world
    }

    fn has_changed(&self) -> bool {
        self.runtime.block_on(self.store.list()).ok().as_ref() != Some(&self.volumes)
    }

    /// What a call answers; nothing where the bytes are no message of its.
    async fn call(&self, method: u8, message: &[u8]) -> Option<Result<(), Status>> {
        macro_rules! calls {
            ($($number:literal => $service:ident . $call:ident,)*) => {
                match method % 27 {
                    $($number => {
                        let request = Request::new(Message::decode(message).ok()?);
                        Some(self.$service.$call(request).await.map(drop))
                    })*
                    _ => None,
                }
            };
        }
        calls! {
            0 => controller.create_volume,
            1 => controller.delete_volume,
            2 => controller.validate_volume_capabilities,
            3 => controller.list_volumes,
            4 => controller.get_capacity,
            5 => controller.controller_expand_volume,
            6 => controller.controller_get_volume,
            7 => controller.controller_get_volume_health,
            8 => controller.controller_list_volume_health,
            9 => controller.controller_get_capabilities,
            10 => node.node_stage_volume,
            11 => node.node_unstage_volume,
            12 => node.node_publish_volume,
            13 => node.node_unpublish_volume,
            14 => node.node_get_volume_stats,
            15 => node.node_get_volume_health,
            16 => node.node_get_storage_health,
            17 => node.node_expand_volume,
            18 => node.node_get_info,
            19 => identity.get_plugin_info,
            20 => identity.probe,
            21 => operator.list_volumes,
            22 => operator.list_problems,
            23 => operator.clean_volume,
            24 => operator.release_volume,
            25 => operator.cordon_volume,
            26 => operator.forget_volume,
        }
    }
}

/// A store whose directory is gone as soon as it is open.
fn store() -> Embedded {
    static STORES: AtomicUsize = AtomicUsize::new(0);
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let number = STORES.fetch_add(1, Ordering::Relaxed);
    let place = place.join(format!("berth-hostile-{}-{number}", std::process::id()));
    let store = Embedded::open(&place).unwrap_or_else(|error| panic!("{error}"));
    let _ = std::fs::remove_file(place.join("inventory.redb"));
    let _ = std::fs::remove_dir(&place);
    store
}

/// Three free volumes, and one that claim `pvc-1` holds: `v1` in its tenancy 1.
async fn filled(store: &Embedded) -> Vec<Recorded> {
    let free = (2..5)
        .map(|number| fixture::on("node-a", "fast", &format!("v{number}"), Bytes(number << 20)));
    let volumes: Vec<LocalVolume> = free.chain([fixture::claimed_by("pvc-1")]).collect();
    for volume in volumes {
        if let Err(error) = store.add(volume).await {
            panic!("{error}");
        }
    }
    store.list().await.unwrap_or_default()
}
