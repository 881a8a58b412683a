//! `berth node`: the agent of one Kubernetes node. Its inventory is a ledger of its own, kept equal to this node's
//! `LocalVolume` objects.

use anyhow::Context;
use kube::Client;
use tokio::sync::watch;
use tracing::info;

use super::adoption::Adoption;
use super::agent::{Agent, Mounts};
use super::reload::tell;
use super::{Ends, Signals, Tasks, serve_http, watch_configuration};
use crate::cli::{NodeOptions, RegistrationMode};
use crate::cluster::own_node::OwnNode;
use crate::cluster::registered::Registered;
use crate::cluster::wipes::WipeEvents;
use crate::csi::{IdentityService, Socket};
use crate::inventory::Inventory;
use crate::inventory::embedded::Embedded;
use crate::inventory::kubernetes::{Kubernetes, Scope};
use crate::inventory::replica::Replica;
use crate::kubelet;
use crate::observe::http;
use crate::pool::Loaded;
use crate::volume::Premises;

type Ledger = Replica<Kubernetes>;

/// Runs the agent until a signal ends it.
pub(super) async fn run(options: NodeOptions, mut signals: Signals) -> anyhow::Result<()> {
    let Loaded { pools, report } = options.common.pools.sources().load()?;
    let http = http::Server::listen_if_asked(options.common.http.clone()).await?;
    let socket = Socket::listen(&options.common.endpoint)?;
    let ledger = Embedded::open(&options.agent.state)?;
    ledger.require_node(&options.node)?;
    let config = kube::Config::infer().await.context("there is no way to an API server")?;
    let client = Client::try_from(config.clone())?;
    let mounts = mounts(&options);
    let premises = Premises {
        node: options.node.clone(),
        pools: pools.values().map(|pool| (pool.name.clone(), pool.path.clone())).collect(),
        tenants: mounts.tenants.clone(),
    };
    let inventory = replica(&options, ledger.clone(), config, premises)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = %options.node,
        pools = pools.len(),
        state = %options.agent.state.display(),
        "starting"
    );
    tell(&report);

    let knows = !ledger.list().await?.is_empty();
    let adoption = Adoption::begin(&options.agent.state, knows)
        .context("that the ledger is being filled could not be noted in the state directory")?;
    let mut tasks = Tasks::default();
    let replica = inventory.clone();
    tasks.start("replica", Ends::Last, |token| async move {
        replica.run(token).await;
        Ok(())
    });
    if !knows_all(adoption, &inventory, &mut signals).await? {
        return Ok(());
    }
    let own_node = OwnNode::new(client.clone(), options.node.clone());
    let agent = Agent::new(&options.agent, options.node.clone(), inventory, pools, mounts)
        .of_node(own_node.uid())
        .with_own_programs();
    agent.restore().await?;
    agent.start(&mut tasks);
    serve(&mut tasks, &agent, &options, socket);
    tell_of_wipes(&mut tasks, &agent, &options, client.clone());
    let registered = register(&mut tasks, &options, client);
    let ready = both(&mut tasks, agent.ready.subscribe(), registered);
    let told = ready.subscribe();
    tasks.start("own node", Ends::First, |token| async move {
        own_node.run(told, token).await;
        Ok(())
    });
    watch_configuration(&mut tasks, options.common.pools.sources(), &agent.pools, &agent.metrics);
    serve_http(&mut tasks, http, &agent.metrics, &ready);
    drop((agent, ready));
    let ended = tasks.run_until_signal(signals).await;
    ledger.close().await;
    ended
}

/// The ledger, kept equal to this node's objects, of which no more is believed than `premises` allow.
fn replica(
    options: &NodeOptions,
    ledger: Embedded,
    config: kube::Config,
    premises: Premises,
) -> anyhow::Result<Ledger> {
    let scope = Scope::Node(options.node.clone());
    let objects = Kubernetes::open(config, &options.namespace, scope)?;
    Ok(Replica::new(ledger, objects).believing(premises))
}

/// Beneath the kubelet's directory and nowhere else, whatever a call names.
fn mounts(options: &NodeOptions) -> Mounts {
    let kubelet = [options.kubelet_dir.clone()];
    Mounts::beneath(&kubelet, &kubelet)
}

/// Waits until a ledger that knows nothing, or not all, has it from the API server: it says nothing of who holds what. Whether it
/// does, rather than that a signal came.
async fn knows_all(
    adoption: Option<Adoption>,
    inventory: &Ledger,
    signals: &mut Signals,
) -> anyhow::Result<bool> {
    let Some(adoption) = adoption else { return Ok(true) };
    info!(
        "the ledger is empty, or was being filled: waiting for what the API server knows of this node"
    );
    tokio::select! {
        () = inventory.ready() => adoption.end().context("the ledger's filling has no end")?,
        name = signals.next() => {
            info!(signal = name, "ending before anything was begun");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Starts the server, which is ready for the kubelet's calls once everything has been found.
fn serve(tasks: &mut Tasks, agent: &Agent<Ledger>, options: &NodeOptions, socket: Socket) {
    let driver = options.common.driver_name.clone();
    let server = agent.server(IdentityService::new(driver, agent.ready.subscribe()));
    tasks.start(
        "server",
        Ends::First,
        |token| async move { Ok(server.serve(socket, token).await?) },
    );
}

/// Starts what tells by events of wipes that failed.
fn tell_of_wipes(tasks: &mut Tasks, agent: &Agent<Ledger>, options: &NodeOptions, client: Client) {
    let events = WipeEvents::new(client, &options.common.driver_name, &options.node);
    let inventory = agent.inventory.clone();
    tasks.start("wipe events", Ends::First, |token| async move {
        events.run(inventory, token).await;
        Ok(())
    });
}

/// Starts the registration, or the watch of what a sidecar makes of it; whether the driver is registered, from then on.
fn register(tasks: &mut Tasks, options: &NodeOptions, client: Client) -> watch::Receiver<bool> {
    let driver = options.common.driver_name.clone();
    if options.registration != RegistrationMode::Builtin {
        let registered = Registered::new(client, options.node.clone(), driver);
        let told = registered.told();
        tasks.start("registered", Ends::First, |token| async move {
            registered.run(token).await;
            Ok(())
        });
        return told;
    }
    let registration = kubelet::Registration::new(kubelet::Options {
        endpoint: options.endpoint_of_kubelet().display().to_string(),
        socket: options.registration_socket(),
        driver,
    });
    let (mut state, registered) = (registration.state(), watch::Sender::new(false));
    let told = registered.subscribe();
    tasks.start("registration", Ends::First, |token| async move {
        let follow = async {
            while state.changed().await.is_ok() {
                registered.send_replace(*state.borrow_and_update() == kubelet::State::Registered);
            }
        };
        tokio::join!(registration.run(token), follow);
        Ok(())
    });
    told
}

/// Whether both are so, from now on: an agent that the kubelet does not know, or that knows no volume yet, gets no pods.
fn both(
    tasks: &mut Tasks,
    mut found: watch::Receiver<bool>,
    mut registered: watch::Receiver<bool>,
) -> watch::Sender<bool> {
    let ready = watch::Sender::new(false);
    let told = ready.clone();
    tasks.start("agent's readiness", Ends::First, |token| async move {
        loop {
            let is = *found.borrow_and_update() && *registered.borrow_and_update();
            told.send_if_modified(|was| std::mem::replace(was, is) != is);
            // Who knew has ended, or everything does.
            let changed = tokio::select! {
                () = token.cancelled() => break,
                changed = found.changed() => changed,
                changed = registered.changed() => changed,
            };
            if changed.is_err() {
                token.cancelled().await;
                break;
            }
        }
        told.send_replace(false);
        Ok(())
    });
    ready
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};

    #[test]
    fn a_node_mounts_beneath_the_kubelets_directory_and_nowhere_else_by_default() {
        let arguments =
            ["berth", "node", "--config", "/pools.yaml", "--state", "/state", "--node", "a"];
        let Command::Node(options) = Arguments::parse_from(arguments).command else { panic!() };

        let Mounts { roots, tenants } = mounts(&options);

        assert_eq!(roots.first(), Some(&"/var/lib/kubelet".into()));
        assert_eq!(roots, tenants);
    }

    #[tokio::test]
    async fn an_agent_is_ready_while_its_volumes_are_found_and_the_kubelet_knows_it() {
        let mut tasks = Tasks::default();
        let (found, registered) = (watch::Sender::new(false), watch::Sender::new(false));
        let ready = both(&mut tasks, found.subscribe(), registered.subscribe());
        let mut told = ready.subscribe();

        found.send_replace(true);
        tokio::task::yield_now().await;
        let unknown_to_the_kubelet = *told.borrow_and_update();
        registered.send_replace(true);
        let known = *told.wait_for(|ready| *ready).await.unwrap();
        registered.send_replace(false);
        let refused = *told.wait_for(|ready| !*ready).await.unwrap();

        assert_eq!((unknown_to_the_kubelet, known, refused), (false, true, false));
    }
}
