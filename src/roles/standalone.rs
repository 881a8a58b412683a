//! `berth standalone`: discovery, claims, mounts and wipes in one process over the embedded inventory, no Kubernetes.
//!
//! Every task runs until it is cancelled; see [`super::Tasks`] for how the process ends.

use tracing::info;

use super::agent::{Agent, Mounts};
use super::reload::tell;
use super::{Ends, Signals, Tasks, host_name, serve_http, watch_configuration};
use crate::cli::StandaloneOptions;
use crate::csi::{ControllerService, IdentityService, Server, Socket};
use crate::inventory::embedded::Embedded;
use crate::observe::http;
use crate::pool::Loaded;

/// Runs the standalone server until a signal ends it.
pub(super) async fn run(options: StandaloneOptions, signals: Signals) -> anyhow::Result<()> {
    let Loaded { pools, report } = options.common.pools.sources().load()?;
    let node = options.node.clone().map_or_else(host_name, Ok)?;
    let http = http::Server::listen_if_asked(options.common.http.clone()).await?;
    let sockets = Sockets::listen(&options)?;
    let inventory = Embedded::open(&options.agent.state)?;
    inventory.require_node(&node)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        %node,
        pools = pools.len(),
        state = %options.agent.state.display(),
        "starting"
    );
    tell(&report);
    let mounts = Mounts::beneath(&options.mount_roots, &options.tenants_beneath());
    let agent = Agent::new(&options.agent, node, inventory.clone(), pools, mounts);
    agent.restore().await?;

    let mut tasks = Tasks::default();
    agent.start(&mut tasks);
    for (name, server, socket) in servers(&agent, options.common.driver_name, sockets) {
        tasks.start(
            name,
            Ends::First,
            |token| async move { Ok(server.serve(socket, token).await?) },
        );
    }
    watch_configuration(&mut tasks, options.common.pools.sources(), &agent.pools, &agent.metrics);
    serve_http(&mut tasks, http, &agent.metrics, &agent.ready);
    drop(agent);
    let ended = tasks.run_until_signal(signals).await;
    inventory.close().await;
    ended
}

/// The sockets, made before anything else: a second server ends here and touches nothing.
struct Sockets {
    main: Socket,
    controller: Option<Socket>,
}

impl Sockets {
    fn listen(options: &StandaloneOptions) -> anyhow::Result<Self> {
        let main = Socket::listen(&options.common.endpoint)?;
        let controller = options.controller_endpoint.as_ref().map(Socket::listen).transpose()?;
        Ok(Self { main, controller })
    }
}

/// The servers, each with its socket and a name for messages.
fn servers(
    agent: &Agent<Embedded>,
    driver_name: String,
    sockets: Sockets,
) -> Vec<(&'static str, Server<Embedded>, Socket)> {
    let identity = IdentityService::new(driver_name, agent.ready.subscribe());
    let controller = ControllerService::new(agent.claims.clone(), agent.operations.clone());
    let apart = sockets.controller.map(|socket| {
        let server = Server {
            identity: identity.clone(),
            controller: Some(controller.clone()),
            node: None,
            operator: None,
            metrics: agent.metrics.clone(),
        };
        ("controller's server", server, socket)
    });
    let main =
        Server { controller: apart.is_none().then_some(controller), ..agent.server(identity) };
    apart.into_iter().chain([("server", main, sockets.main)]).collect()
}
