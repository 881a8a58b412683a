//! `berth controller`: claims for a whole cluster, over its `LocalVolume` objects; beside external-provisioner.
//!
//! It touches no host. Any number may run: each claim is one compare-and-swap, and what the tasks write is conditional.

use std::sync::Arc;

use anyhow::Context;
use kube::Client;
use tokio::sync::watch;
use tracing::info;

use super::reload::tell;
use super::{Ends, Signals, Tasks, serve_http, watch_configuration};
use crate::claim::Claims;
use crate::cli::ControllerOptions;
use crate::cluster::capacity::Capacities;
use crate::cluster::lost_nodes::LostNodes;
use crate::csi::{ControllerService, IdentityService, Operations, OperatorService, Server, Socket};
use crate::host::memory;
use crate::inventory::kubernetes::{Kubernetes, Scope};
use crate::observe::metrics::Metrics;
use crate::observe::{gauges, http};
use crate::pool::{Loaded, Pools};

/// What the tasks share.
struct Parts {
    inventory: Kubernetes,
    client: Client,
    claims: Claims<Kubernetes>,
    pools: watch::Sender<Arc<Pools>>,
    metrics: Metrics,
    ready: watch::Sender<bool>,
}

/// Runs the controller until a signal ends it.
pub(super) async fn run(options: ControllerOptions, signals: Signals) -> anyhow::Result<()> {
    let Loaded { pools, report } = options.common.pools.sources().load()?;
    let http = http::Server::listen_if_asked(options.common.http.clone()).await?;
    let socket = Socket::listen(&options.common.endpoint)?;
    let config = kube::Config::infer().await.context("there is no way to an API server")?;
    let client = Client::try_from(config.clone())?;
    let inventory = Kubernetes::open(config, &options.namespace, Scope::All)?;
    info!(version = env!("CARGO_PKG_VERSION"), pools = pools.len(), "starting");
    tell(&report);
    let pools = watch::Sender::new(Arc::new(pools));
    let parts = Parts {
        claims: Claims::new(inventory.clone(), pools.subscribe()),
        inventory,
        client,
        pools,
        metrics: Metrics::default(),
        ready: watch::Sender::new(false),
    };

    let mut tasks = Tasks::default();
    parts.start_claims(&mut tasks);
    parts.start_cluster(&mut tasks, &options);
    let server = parts.server(options.common.driver_name.clone());
    tasks.start(
        "server",
        Ends::First,
        |token| async move { Ok(server.serve(socket, token).await?) },
    );
    watch_configuration(&mut tasks, options.common.pools.sources(), &parts.pools, &parts.metrics);
    serve_http(&mut tasks, http, &parts.metrics, &parts.ready);
    drop(parts);
    tasks.run_until_signal(signals).await
}

impl Parts {
    /// The index, whose being filled is all that readiness takes, and the gauges.
    fn start_claims(&self, tasks: &mut Tasks) {
        let claims = self.claims.clone();
        tasks.start("claim index", Ends::Last, |token| async move {
            claims.run(token).await;
            Ok(())
        });
        let (claims, ready) = (self.claims.clone(), self.ready.clone());
        tasks.start("readiness", Ends::First, |token| async move {
            if token.run_until_cancelled(claims.ready()).await.is_some() {
                info!("ready");
                ready.send_replace(true);
                memory::give_back();
                token.cancelled().await;
            }
            ready.send_replace(false);
            Ok(())
        });
        let (metrics, inventory) = (self.metrics.clone(), self.inventory.clone());
        tasks.start("metrics", Ends::Last, |token| async move {
            gauges::follow(inventory, metrics, token).await;
            Ok(())
        });
    }

    /// What it does in the cluster beside answering calls.
    fn start_cluster(&self, tasks: &mut Tasks, options: &ControllerOptions) {
        let driver = &options.common.driver_name;
        let capacities = Capacities::new(
            self.claims.clone(),
            self.inventory.clone(),
            self.client.clone(),
            &options.namespace,
            driver.clone(),
        );
        let inventory = self.inventory.clone();
        tasks.start("reservations", Ends::First, |token| async move {
            token.run_until_cancelled(inventory.keep_reservations()).await;
            Ok(())
        });
        tasks.start("capacity", Ends::First, |token| async move {
            capacities.run(token).await;
            Ok(())
        });
        let lost_nodes =
            LostNodes::new(self.inventory.clone(), self.client.clone(), driver, options.node_grace);
        tasks.start("lost nodes", Ends::First, |token| async move {
            Box::pin(lost_nodes.run(token)).await;
            Ok(())
        });
    }

    fn server(&self, driver: String) -> Server<Kubernetes> {
        let operations = Operations::default();
        Server {
            identity: IdentityService::new(driver, self.ready.subscribe()),
            controller: Some(ControllerService::new(self.claims.clone(), operations.clone())),
            node: None,
            operator: Some(OperatorService::new(
                self.inventory.clone(),
                self.claims.clone(),
                self.pools.subscribe(),
                watch::channel(Arc::default()).1,
                operations,
            )),
            metrics: self.metrics.clone(),
        }
    }
}
