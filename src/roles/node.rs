//! `berth node`: the agent of one Kubernetes node. Its inventory is a ledger of its own, kept equal to this node's
//! `LocalVolume` objects.

use anyhow::Context;
use kube::Client;
use tracing::info;

use super::agent::{Agent, Mounts};
use super::reload::tell;
use super::{Ends, Tasks, serve_http, watch_configuration};
use crate::cli::{NodeOptions, RegistrationMode};
use crate::cluster::own_node::OwnNode;
use crate::csi::{IdentityService, Socket};
use crate::inventory::Inventory;
use crate::inventory::embedded::Embedded;
use crate::inventory::kubernetes::{Kubernetes, Scope};
use crate::inventory::replica::Replica;
use crate::kubelet;
use crate::observe::http;
use crate::pool::Loaded;

type Ledger = Replica<Kubernetes>;

/// Runs the agent until a signal ends it.
pub async fn run(options: NodeOptions) -> anyhow::Result<()> {
    let Loaded { pools, report } = options.common.pools.sources().load()?;
    let http = http::Server::listen_if_asked(options.common.http.clone()).await?;
    let socket = Socket::listen(&options.common.endpoint)?;
    let ledger = Embedded::open(&options.agent.state)?;
    ledger.require_node(&options.node)?;
    let config = kube::Config::infer().await.context("there is no way to an API server")?;
    let client = Client::try_from(config.clone())?;
    let scope = Scope::Node(options.node.clone());
    let inventory =
        Replica::new(ledger.clone(), Kubernetes::open(config, &options.namespace, scope)?);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = %options.node,
        pools = pools.len(),
        state = %options.agent.state.display(),
        "starting"
    );
    tell(&report);

    let mut tasks = Tasks::default();
    let replica = inventory.clone();
    tasks.start("replica", Ends::Last, |token| async move {
        replica.run(token).await;
        Ok(())
    });
    // A ledger that knows nothing says nothing of who holds what: that has to come from the API server first.
    if ledger.list().await?.is_empty() {
        info!("the ledger is empty: waiting for what the API server knows of this node");
        tokio::select! {
            () = inventory.ready() => {}
            name = super::signalled() => {
                info!(signal = name?, "ending before anything was begun");
                return Ok(());
            }
        }
    }
    let own_node = OwnNode::new(client, options.node.clone());
    let kubelets = vec![options.kubelet_dir.clone()];
    let mounts = Mounts { roots: kubelets.clone(), tenants: kubelets };
    let agent = Agent::new(&options.agent, options.node.clone(), inventory, pools, mounts)
        .of_node(own_node.uid());
    agent.restore().await?;
    agent.start(&mut tasks);
    start(&mut tasks, &agent, &options, (own_node, socket));
    watch_configuration(&mut tasks, options.common.pools.sources(), &agent.pools, &agent.metrics);
    serve_http(&mut tasks, http, &agent.metrics, &agent.ready);
    drop(agent);
    let ended = tasks.run_until_signal().await;
    ledger.close().await;
    ended
}

/// Starts the server, the registration of it, and the watch of the own Node.
fn start(
    tasks: &mut Tasks,
    agent: &Agent<Ledger>,
    options: &NodeOptions,
    (own_node, socket): (OwnNode, Socket),
) {
    let driver = options.common.driver_name.clone();
    let server = agent.server(IdentityService::new(driver.clone(), agent.ready.subscribe()));
    tasks.start(
        "server",
        Ends::First,
        |token| async move { Ok(server.serve(socket, token).await?) },
    );
    let ready = agent.ready.subscribe();
    tasks.start("own node", Ends::First, |token| async move {
        own_node.run(ready, token).await;
        Ok(())
    });
    if options.registration == RegistrationMode::Builtin {
        let registration = kubelet::Registration::new(kubelet::Options {
            endpoint: options.endpoint_of_kubelet().display().to_string(),
            socket: options.registration_socket(),
            driver,
        });
        tasks.start("registration", Ends::First, |token| async move {
            registration.run(token).await;
            Ok(())
        });
    }
}
