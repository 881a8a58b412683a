//! Registration with the kubelet, built into the agent: what the node-driver-registrar sidecar does elsewhere.
//!
//! The kubelet watches a directory; [`Registration`] keeps a socket in it and answers the two calls that come over it.
//! The socket is made again when it or its directory vanishes, and after a refusal, so that the kubelet tries again; a
//! kubelet that restarts finds it by itself. Touches nothing but that directory. Started by the node's role, once the
//! CSI socket is served: the kubelet calls that at once.
//!
//! [`stream`] and [`frames`] are there because of one header: see [`stream`].

mod authority;
mod directory;
#[cfg(test)]
mod fixture;
mod frames;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod service;
mod socket;
mod stream;

use std::fmt;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use directory::DirectoryWatch;
use service::Service;
use service::proto::registration_server::RegistrationServer;
use socket::Socket;
use stream::Rewritten;

/// How long a refusal, or a failure, is borne before the first new try; each time twice as long.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest that it is borne.
const LONGEST: Duration = Duration::from_mins(1);

/// What is registered, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The driver's name.
    pub driver: String,
    /// The path of the CSI socket as the kubelet sees it.
    pub endpoint: String,
    /// The path of the registration socket as this process sees it.
    pub socket: PathBuf,
}

impl Options {
    /// Where the kubelet looks for the registration socket of `driver`.
    pub fn socket_in(kubelet_dir: &Path, driver: &str) -> PathBuf {
        kubelet_dir.join("plugins_registry").join(format!("{driver}-reg.sock"))
    }
}

/// How far the registration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The kubelet has not said yet how it went.
    Waiting,
    /// The kubelet knows the driver.
    Registered,
    /// The kubelet refused it, and said why. It is tried again.
    Refused(String),
    /// There is no socket that the kubelet could come to, and why. It is tried again.
    Failed(String),
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => formatter.write_str("the kubelet has not registered the driver yet"),
            Self::Registered => formatter.write_str("registered with the kubelet"),
            Self::Refused(why) => write!(formatter, "the kubelet refused the registration: {why}"),
            Self::Failed(why) => write!(formatter, "registration is not possible: {why}"),
        }
    }
}

/// Keeps the driver registered.
#[derive(Debug)]
pub struct Registration {
    options: Options,
    state: watch::Sender<State>,
    patience: Duration,
}

/// Why a socket is no longer waited at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The process ends.
    Told,
    /// The socket, or its directory, is gone.
    Lost,
    /// The kubelet refused the registration, and has had time to take it back.
    Refused,
    /// There is no socket, or it cannot be served.
    Failed,
}

impl Registration {
    /// A registration that has not begun.
    pub fn new(options: Options) -> Self {
        let state = watch::Sender::new(State::Waiting);
        Self { options, state, patience: PATIENCE }
    }

    /// How far it is, from now on.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Keeps the driver registered until `cancel`, and then takes the socket away, upon which the kubelet forgets the
    /// driver.
    pub async fn run(self, cancel: CancellationToken) {
        let mut directory = DirectoryWatch::open(&self.options.socket);
        let mut own = None;
        let mut patience = self.patience;
        while !cancel.is_cancelled() {
            let end = tokio::select! {
                () = cancel.cancelled() => End::Told,
                end = self.register(&mut own, &mut directory, patience) => end,
            };
            match end {
                End::Told => {}
                End::Lost => {
                    let socket = self.options.socket.display();
                    warn!(%socket, "the registration socket is gone and is made again");
                    patience = self.patience;
                }
                End::Refused => patience = longer(patience),
                End::Failed => {
                    // Something may have to change in the directory first, or time to pass.
                    tokio::select! {
                        () = cancel.cancelled() => {}
                        () = sleep(patience) => {}
                        () = directory.changed() => {}
                    }
                    patience = longer(patience);
                }
            }
        }
        if let Some(socket) = own {
            socket.remove();
        }
    }

    /// Makes the socket, in place of its `own` last one, and answers the kubelet for as long as that leads anywhere.
    async fn register(
        &self,
        own: &mut Option<Socket>,
        directory: &mut DirectoryWatch,
        patience: Duration,
    ) -> End {
        let socket = match Socket::make(&self.options.socket, own.as_ref()).await {
            Ok(socket) => own.insert(socket),
            Err(error) => return self.failed(&error),
        };
        // A refusal stands until the kubelet says otherwise.
        if !matches!(*self.state.borrow(), State::Refused(_)) {
            self.state.send_replace(State::Waiting);
        }
        tokio::select! {
            () = directory.until(|| socket.is_lost()) => End::Lost,
            () = self.refused_for(patience) => End::Refused,
            end = self.serve(socket) => end,
        }
    }

    /// Notes a failure, and says it once.
    fn failed(&self, error: &dyn fmt::Display) -> End {
        let state = State::Failed(error.to_string());
        if *self.state.borrow() != state {
            warn!("{state}");
            self.state.send_replace(state);
        }
        End::Failed
    }

    /// Answers the kubelet. Does not end by itself unless it fails.
    async fn serve(&self, socket: &Socket) -> End {
        info!(socket = %self.options.socket.display(), "waiting for the kubelet");
        let service = Service { options: self.options.clone(), state: self.state.clone() };
        let incoming = socket.incoming().map_ok(Rewritten::new);
        let server = tonic::transport::Server::builder()
            .add_service(RegistrationServer::new(service))
            .serve_with_incoming(incoming);
        match server.await {
            Ok(()) => self.failed(&"the server ended"),
            Err(error) => self.failed(&error),
        }
    }

    /// Resolves when the kubelet has refused the driver and not taken it in for as long as `patience`. Kubelets of
    /// today try again by themselves, and their own patience grows; older ones do only when the socket is a new one.
    async fn refused_for(&self, patience: Duration) {
        let mut state = self.state.subscribe();
        loop {
            if state.wait_for(|state| matches!(state, State::Refused(_))).await.is_err() {
                return pending().await;
            }
            tokio::select! {
                () = sleep(patience) => return,
                _ = state.wait_for(|state| *state == State::Registered) => {}
            }
        }
    }
}

fn longer(patience: Duration) -> Duration {
    (patience * 2).min(LONGEST)
}

#[cfg(test)]
mod tests;
