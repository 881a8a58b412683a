//! Wiring only: which parts run in which role, how they are told to end, and what happens when one of them fails.

mod adoption;
mod agent;
pub mod controller;
pub mod node;
pub mod reload;
pub mod standalone;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cli::Role;
use crate::host::memory;
use crate::observe::http;
use crate::observe::metrics::Metrics;
use crate::pool::{Pools, Sources};
use crate::volume::NodeName;

/// Runs a role until a signal ends it.
pub async fn run(role: Role) -> anyhow::Result<()> {
    memory::share_heaps();
    // Before anything else: a start may take long, and one that is interrupted ends as any other life does.
    let signals = Signals::listen()?;
    match role {
        Role::Standalone(options) => standalone::run(options, signals).await,
        Role::Node(options) => node::run(options, signals).await,
        Role::Controller(options) => controller::run(options, signals).await,
    }
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

/// Starts what takes a changed configuration.
fn watch_configuration(
    tasks: &mut Tasks,
    sources: Sources,
    pools: &watch::Sender<Arc<Pools>>,
    metrics: &Metrics,
) {
    let (pools, metrics) = (pools.clone(), metrics.clone());
    tasks.start("configuration", Ends::Last, |token| {
        reload::watch_files(sources, pools, metrics, token)
    });
}

/// Starts the HTTP server, where one was asked for.
fn serve_http(
    tasks: &mut Tasks,
    server: Option<http::Server>,
    metrics: &Metrics,
    ready: &watch::Sender<bool>,
) {
    let Some(server) = server else { return };
    let (metrics, ready) = (metrics.clone(), ready.subscribe());
    tasks.start("HTTP server", Ends::Last, |token| async move {
        server.serve(metrics, ready, token).await;
        Ok(())
    });
}

/// When a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// As soon as the process is told to end: servers, which take no new calls then, and wipes, which stop.
    First,
    /// When every task that ends first has: what calls in flight still stand on.
    Last,
}

/// The long-lived tasks of a role. Any that ends by itself ends the process: half a driver is worse than none.
#[derive(Debug, Default)]
pub struct Tasks {
    first: Group,
    last: Group,
}

/// Tasks that end together.
#[derive(Debug, Default)]
struct Group {
    tasks: JoinSet<Ended>,
    /// The names of those that run.
    names: Vec<&'static str>,
    cancel: CancellationToken,
}

/// A task that has ended, with its name.
type Ended = (&'static str, anyhow::Result<()>);

/// How long the tasks of a group have to end: longer than the server gives calls in flight. What hangs longer, as on a
/// device that does not answer, is left.
const DRAIN: Duration = Duration::from_secs(25);

impl Group {
    /// The next task to end; none when there is none left.
    async fn next(&mut self) -> Option<Result<Ended, JoinError>> {
        let ended = self.tasks.join_next().await?;
        if let Ok((ended, _)) = &ended {
            self.names.retain(|name| name != ended);
        }
        Some(ended)
    }

    async fn drain(&mut self) {
        self.cancel.cancel();
        let ended = async { while self.next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            for task in &self.names {
                warn!(
                    task,
                    "a part of the server hangs and is left; the next start takes up what it was at"
                );
            }
        }
    }
}

impl Tasks {
    /// Starts a task that runs until the token that it is given is cancelled.
    pub fn start<F>(
        &mut self,
        name: &'static str,
        ends: Ends,
        task: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let group = match ends {
            Ends::First => &mut self.first,
            Ends::Last => &mut self.last,
        };
        let task = task(group.cancel.clone());
        group.names.push(name);
        group.tasks.spawn(async move { (name, task.await) });
    }

    /// Runs until a signal asks to end or a task fails, then cancels every task and waits for them. A second signal
    /// stops the wait.
    async fn run_until_signal(mut self, mut signals: Signals) -> anyhow::Result<()> {
        let failure = tokio::select! {
            name = signals.next() => {
                info!(signal = name, "ending: calls in flight finish, wipes stop at a safe point");
                None
            }
            Some(ended) = self.first.next() => Some(unexpected(ended)),
            Some(ended) = self.last.next() => Some(unexpected(ended)),
        };
        tokio::select! {
            () = self.drain() => {}
            name = signals.next() => {
                warn!(signal = name, "ending at once: a second signal came");
                return Err(anyhow!("ended by a second {name} before everything had stopped"));
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn drain(&mut self) {
        self.first.drain().await;
        self.last.drain().await;
    }
}

fn unexpected(ended: Result<Ended, JoinError>) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow!("the {name} ended by itself"),
        Ok((name, Err(error))) => error.context(format!("the {name} failed")),
        Err(error) => anyhow!(error).context("a part of the server panicked"),
    }
}

/// The signals that ask to end. Those that come before anybody waits for them are kept.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
        // From here on it ends nothing, also while nobody listens to it: the configuration is read later in any case.
        drop(listen(SignalKind::hangup())?);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_by_itself_ends_the_others_and_is_named() {
        let mut tasks = Tasks::default();
        tasks.start("scanner", Ends::Last, |_| async { Ok(()) });
        tasks.start("server", Ends::First, |token| async move {
            token.cancelled().await;
            Ok(())
        });

        let error = tasks.run_until_signal(Signals::listen().unwrap()).await.unwrap_err();

        assert_eq!(error.to_string(), "the scanner ended by itself");
    }

    #[tokio::test]
    async fn a_task_that_fails_is_named_with_its_cause() {
        let mut tasks = Tasks::default();
        tasks.start("cleaner", Ends::First, |_| async { Err(anyhow!("out of order")) });

        let error = tasks.run_until_signal(Signals::listen().unwrap()).await.unwrap_err();

        assert_eq!(format!("{error:#}"), "the cleaner failed: out of order");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_hangs_is_not_waited_for_for_ever() {
        let mut tasks = Tasks::default();
        tasks.start("server", Ends::First, |_| std::future::pending());
        tasks.start("scanner", Ends::Last, |_| async { Ok(()) });
        let began = tokio::time::Instant::now();

        let error = tasks.run_until_signal(Signals::listen().unwrap()).await.unwrap_err();

        assert_eq!(error.to_string(), "the scanner ended by itself");
        assert_eq!(began.elapsed(), DRAIN);
    }

    #[tokio::test]
    async fn what_calls_stand_on_ends_after_the_calls() {
        let mut tasks = Tasks::default();
        let (answered, mut answer) = tokio::sync::oneshot::channel();
        tasks.start("failing part", Ends::First, |_| async { Err(anyhow!("failed")) });
        tasks.start("server", Ends::First, |token| async move {
            token.cancelled().await;
            // The call in flight takes its time.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let _ = answered.send(());
            Ok(())
        });
        let (saw, seen) = tokio::sync::oneshot::channel();
        tasks.start("index", Ends::Last, |token| async move {
            token.cancelled().await;
            let _ = saw.send(answer.try_recv().is_ok());
            Ok(())
        });

        let _ = tasks.run_until_signal(Signals::listen().unwrap()).await;

        assert!(seen.await.unwrap(), "the index ended before the call did");
    }
}
