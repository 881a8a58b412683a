//! `berth standalone`: discovery, claims, mounts and wipes in one process over the embedded inventory, no Kubernetes.
//!
//! Every task runs until it is cancelled; see [`super::Tasks`] for how the process ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tracing::{info, warn};

use super::reload::{tell, watch_files};
use super::{Ends, Tasks};
use crate::claim::Claims;
use crate::clean::{Cleaner, CleanerOptions};
use crate::cli::StandaloneOptions;
use crate::csi::{
    ControllerService, IdentityService, NodeService, Operations, OperatorService, Server, Socket,
};
use crate::discover::Discovery;
use crate::inventory::embedded::Embedded;
use crate::observe::metrics::Metrics;
use crate::observe::{gauges, http};
use crate::pool::{Loaded, Pools};
use crate::publish::Publisher;
use crate::volume::NodeName;

/// How long mounts under way may take to be recorded when the process ends.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs the standalone server until a signal ends it.
pub async fn run(options: StandaloneOptions) -> anyhow::Result<()> {
    let Loaded { pools, report } = options.pools.sources().load()?;
    let node = options.node.clone().map_or_else(host_name, Ok)?;
    let http = match options.http.clone() {
        Some(address) => Some(http::Server::listen(address).await?),
        None => None,
    };
    let sockets = Sockets::listen(&options)?;
    let inventory = Embedded::open(&options.state)?;
    inventory.require_node(&node)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        %node,
        pools = pools.len(),
        state = %options.state.display(),
        "starting"
    );
    tell(&report);
    let parts = Parts::new(&options, node, pools, inventory.clone());
    parts.publisher.restore().await.context("what is mounted could not be taken up again")?;

    let mut tasks = Tasks::default();
    parts.start(&mut tasks, options, sockets, http);
    drop(parts);
    let ended = tasks.run_until_signal().await;
    inventory.close().await;
    ended
}

/// The name of this host, where none was given for the node.
fn host_name() -> anyhow::Result<NodeName> {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").context("the host has no name")?;
    let name = name.trim().to_lowercase();
    name.parse().with_context(|| {
        format!("the host's name {name:?} cannot be a node's: give one with --node")
    })
}

/// The sockets, made before anything else: a second server ends here and touches nothing.
struct Sockets {
    main: Socket,
    controller: Option<Socket>,
}

impl Sockets {
    fn listen(options: &StandaloneOptions) -> anyhow::Result<Self> {
        let main = Socket::listen(&options.endpoint)?;
        let controller = options.controller_endpoint.as_ref().map(Socket::listen).transpose()?;
        Ok(Self { main, controller })
    }
}

/// What the tasks of the process share.
struct Parts {
    node: NodeName,
    inventory: Embedded,
    pools: watch::Sender<Arc<Pools>>,
    metrics: Metrics,
    claims: Claims<Embedded>,
    publisher: Publisher<Embedded>,
    cleaner: Cleaner<Embedded>,
    discovery: Discovery<Embedded>,
}

impl Parts {
    fn new(options: &StandaloneOptions, node: NodeName, pools: Pools, inventory: Embedded) -> Self {
        let pools = watch::Sender::new(Arc::new(pools));
        let metrics = Metrics::default();
        let claims = Claims::new(inventory.clone(), pools.subscribe());
        let publisher = Publisher::new(
            inventory.clone(),
            node.clone(),
            pools.subscribe(),
            options.mount_roots.clone(),
        );
        let cleaner = Cleaner::new(
            inventory.clone(),
            node.clone(),
            metrics.clone(),
            CleanerOptions {
                concurrency: options.wipes.into(),
                locks: options.state.join("wipes"),
            },
        );
        let discovery =
            Discovery::new(inventory.clone(), node.clone(), pools.subscribe(), metrics.clone())
                .rescan_every(options.rescan)
                .tenants_beneath(options.tenants_beneath());
        Self { node, inventory, pools, metrics, claims, publisher, cleaner, discovery }
    }

    fn start(
        &self,
        tasks: &mut Tasks,
        options: StandaloneOptions,
        sockets: Sockets,
        http: Option<http::Server>,
    ) {
        let ready = watch::Sender::new(false);
        self.start_life(tasks, ready.clone());
        for (name, server, socket) in self.servers(options.driver_name, sockets, &ready) {
            tasks.start(name, Ends::First, |token| async move {
                Ok(server.serve(socket, token).await?)
            });
        }
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
        let (pools, metrics) = (self.pools.clone(), self.metrics.clone());
        tasks.start("configuration", Ends::Last, |token| {
            watch_files(options.pools.sources(), pools, metrics, token)
        });
        if let Some(http) = http {
            let (metrics, ready) = (self.metrics.clone(), ready.subscribe());
            tasks.start("HTTP server", Ends::Last, |token| async move {
                Ok(http.serve(metrics, ready, token).await?)
            });
        }
    }

    /// Discover, claim, clean; and the word that all of it has begun.
    fn start_life(&self, tasks: &mut Tasks, ready: watch::Sender<bool>) {
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
        let (claims, discovery) = (self.claims.clone(), self.discovery.clone());
        tasks.start("readiness", Ends::First, |token| async move {
            let begun = async {
                claims.ready().await;
                discovery.ready().await;
            };
            if token.run_until_cancelled(begun).await.is_some() {
                info!("ready");
                ready.send_replace(true);
                token.cancelled().await;
            }
            // Whoever asks from now on is told to go elsewhere.
            ready.send_replace(false);
            Ok(())
        });
    }

    /// The servers, each with its socket and a name for messages.
    fn servers(
        &self,
        driver_name: String,
        sockets: Sockets,
        ready: &watch::Sender<bool>,
    ) -> Vec<(&'static str, Server<Embedded>, Socket)> {
        let operations = Operations::default();
        let identity = IdentityService::new(driver_name, ready.subscribe());
        let controller = ControllerService::new(self.claims.clone(), operations.clone());
        let apart = sockets.controller.map(|socket| {
            let server = Server {
                identity: identity.clone(),
                controller: Some(controller.clone()),
                node: None,
                operator: None,
                metrics: self.metrics.clone(),
            };
            ("controller's server", server, socket)
        });
        let main = Server {
            identity,
            controller: apart.is_none().then_some(controller),
            node: Some(NodeService::new(
                self.node.clone(),
                (self.inventory.clone(), self.claims.clone()),
                self.publisher.clone(),
                self.discovery.prober(),
                ready.subscribe(),
            )),
            operator: Some(OperatorService::new(
                self.inventory.clone(),
                self.claims.clone(),
                self.pools.subscribe(),
                self.discovery.problems(),
                operations,
            )),
            metrics: self.metrics.clone(),
        };
        apart.into_iter().chain([("server", main, sockets.main)]).collect()
    }
}
