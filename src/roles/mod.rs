//! Wiring only: which parts run in which role, how they are told to end, and what happens when one of them fails.

pub mod reload;
pub mod standalone;

use std::future::Future;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The long-lived tasks of a role. Any that ends by itself ends the process: half a driver is worse than none.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<(&'static str, anyhow::Result<()>)>,
    cancel: CancellationToken,
}

impl Tasks {
    /// The token that every task listens to.
    pub fn cancel(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Starts a task that runs until it is cancelled.
    pub fn start(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.running.spawn(async move { (name, task.await) });
    }

    /// Runs until a signal asks to end or a task fails, then cancels every task and waits for them. A second signal
    /// stops the wait.
    pub async fn run_until_signal(mut self) -> anyhow::Result<()> {
        let mut signals = Signals::listen()?;
        let failure = tokio::select! {
            name = signals.next() => {
                info!(signal = name, "ending: calls in flight finish, wipes stop at a safe point");
                None
            }
            Some(ended) = self.running.join_next() => Some(unexpected(ended)),
        };
        self.cancel.cancel();
        let drained = async { while self.running.join_next().await.is_some() {} };
        tokio::select! {
            () = drained => {}
            name = signals.next() => {
                warn!(signal = name, "ending at once: a second signal came");
                return Err(anyhow!("ended by a second {name} before everything had stopped"));
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

fn unexpected(
    ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>,
) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow!("the {name} ended by itself"),
        Ok((name, Err(error))) => error.context(format!("the {name} failed")),
        Err(error) => anyhow!(error).context("a part of the server panicked"),
    }
}

/// The signals that end a process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
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
        let cancelled = tasks.cancel();
        tasks.start("scanner", async { Ok(()) });
        tasks.start("server", async move {
            cancelled.cancelled().await;
            Ok(())
        });

        let error = tasks.run_until_signal().await.unwrap_err();

        assert_eq!(error.to_string(), "the scanner ended by itself");
    }

    #[tokio::test]
    async fn a_task_that_fails_is_named_with_its_cause() {
        let mut tasks = Tasks::default();
        tasks.start("cleaner", async { Err(anyhow!("out of order")) });

        let error = tasks.run_until_signal().await.unwrap_err();

        assert_eq!(format!("{error:#}"), "the cleaner failed: out of order");
    }
}
