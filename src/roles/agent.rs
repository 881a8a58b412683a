//! What runs wherever volumes are: discovery, mounts, wipes, and the index by which calls find a volume. The standalone
//! server and the node's agent are this over different inventories.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Ends, Tasks};
use crate::claim::Claims;
use crate::clean::{self, Cleaner, CleanerOptions};
use crate::cli::AgentOptions;
use crate::csi::{IdentityService, NodeService, Operations, OperatorService, Server};
use crate::discover::Discovery;
use crate::host::memory;
use crate::inventory::Inventory;
use crate::observe::gauges;
use crate::observe::metrics::Metrics;
use crate::pool::Pools;
use crate::publish::Publisher;
use crate::volume::NodeName;

/// How long mounts under way may take to be recorded when the process ends.
const DRAIN: Duration = Duration::from_secs(10);

/// The parts, which share an inventory, pools and metrics.
pub(super) struct Agent<I> {
    pub(super) node: NodeName,
    pub(super) inventory: I,
    pub(super) pools: watch::Sender<Arc<Pools>>,
    pub(super) metrics: Metrics,
    pub(super) claims: Claims<I>,
    pub(super) publisher: Publisher<I>,
    pub(super) operations: Operations,
    pub(super) ready: watch::Sender<bool>,
    cleaner: Cleaner<I>,
    discovery: Discovery<I>,
}

/// Where volumes are mounted for tenants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mounts {
    /// Beneath these directories only; anywhere if there are none.
    pub(super) roots: Vec<PathBuf>,
    /// Beneath these, whatever is mounted is a tenant's.
    pub(super) tenants: Vec<PathBuf>,
}

impl Mounts {
    /// Beneath `roots` only, `tenants` being those where there are none; each as it is named and as the kernel names it.
    pub(super) fn beneath(roots: &[PathBuf], tenants: &[PathBuf]) -> Self {
        let resolved = |path: &PathBuf| std::fs::canonicalize(path).ok();
        let both = |paths: &[PathBuf]| -> Vec<PathBuf> {
            let links = paths.iter().filter_map(resolved).filter(|path| !paths.contains(path));
            paths.iter().cloned().chain(links).collect()
        };
        Self { roots: both(roots), tenants: both(tenants) }
    }
}

impl<I: Inventory> Agent<I> {
    /// The agent of `node`, which mounts where `mounts` says.
    pub(super) fn new(
        options: &AgentOptions,
        node: NodeName,
        inventory: I,
        pools: Pools,
        mounts: Mounts,
    ) -> Self {
        let pools = watch::Sender::new(Arc::new(pools));
        let metrics = Metrics::default();
        let claims = Claims::new(inventory.clone(), pools.subscribe());
        let publisher =
            Publisher::new(inventory.clone(), node.clone(), pools.subscribe(), mounts.roots);
        let wipes = CleanerOptions {
            concurrency: options.wipes.into(),
            patience: clean::HANGING,
            locks: options.state.join("wipes"),
        };
        let cleaner = Cleaner::new(inventory.clone(), node.clone(), metrics.clone(), wipes);
        let discovery =
            Discovery::new(inventory.clone(), node.clone(), pools.subscribe(), metrics.clone())
                .rescan_every(options.rescan)
                .tenants_beneath(mounts.tenants);
        let (operations, ready) = (Operations::default(), watch::Sender::new(false));
        Self {
            node,
            inventory,
            pools,
            metrics,
            claims,
            publisher,
            operations,
            ready,
            cleaner,
            discovery,
        }
    }

    /// Has the wipes run no program that this node's pools do not have.
    pub(super) fn with_own_programs(mut self) -> Self {
        self.cleaner = self.cleaner.only_programs_of(self.pools.subscribe());
        self
    }

    /// Has the discovery record which Node object this agent serves.
    pub(super) fn of_node(mut self, uid: watch::Receiver<Option<String>>) -> Self {
        self.discovery = self.discovery.of_node(uid);
        self
    }

    /// Takes up what is mounted already. To be called before anything is served or found.
    pub(super) async fn restore(&self) -> anyhow::Result<()> {
        self.publisher.restore().await.context("what is mounted could not be taken up again")
    }

    /// Starts everything but servers.
    pub(super) fn start(&self, tasks: &mut Tasks) {
        let claims = self.claims.clone();
        tasks.start("claim index", Ends::Last, |token| async move {
            claims.run(token).await;
            Ok(())
        });
        let discovery = self.discovery.clone();
        tasks.start("discovery", Ends::Last, |token| async move {
            discovery.run(token).await;
            Ok(())
        });
        let cleaner = self.cleaner.clone();
        tasks.start("cleaner", Ends::First, |token| async move {
            cleaner.run(token).await;
            Ok(())
        });
        let publisher = self.publisher.clone();
        tasks.start("publisher", Ends::Last, |token| async move {
            token.cancelled().await;
            if tokio::time::timeout(DRAIN, publisher.drain()).await.is_err() {
                warn!("mounts under way did not end in time; the next start takes them up again");
            }
            Ok(())
        });
        let (metrics, inventory) = (self.metrics.clone(), self.inventory.clone());
        tasks.start("metrics", Ends::Last, |token| async move {
            gauges::follow(inventory, metrics, token).await;
            Ok(())
        });
        self.start_readiness(tasks);
    }

    /// Says when all of it has begun, and when it ends.
    fn start_readiness(&self, tasks: &mut Tasks) {
        let (claims, discovery) = (self.claims.clone(), self.discovery.clone());
        let ready = self.ready.clone();
        tasks.start("readiness", Ends::First, |token| async move {
            let begun = async {
                claims.ready().await;
                discovery.ready().await;
            };
            if token.run_until_cancelled(begun).await.is_some() {
                info!("ready");
                ready.send_replace(true);
                memory::give_back();
                token.cancelled().await;
            }
            // Whoever asks from now on is told to go elsewhere.
            ready.send_replace(false);
            Ok(())
        });
    }

    /// The server of the node's socket, without the controller's service.
    pub(super) fn server(&self, identity: IdentityService) -> Server<I> {
        Server {
            identity,
            controller: None,
            node: Some(NodeService::new(
                self.node.clone(),
                (self.inventory.clone(), self.claims.clone()),
                self.publisher.clone(),
                self.discovery.prober(),
            )),
            operator: Some(OperatorService::new(
                self.inventory.clone(),
                self.claims.clone(),
                self.pools.subscribe(),
                self.discovery.problems(),
                self.operations.clone(),
            )),
            metrics: self.metrics.clone(),
        }
    }
}
