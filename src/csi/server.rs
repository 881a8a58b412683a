//! The sockets: private, replaced when stale, never taken from a living server; served until told to end, and then until
//! the calls in flight have been answered.

use std::fmt;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tracing::{info, warn};

use super::layer::{CallLayer, InFlight};
use super::proto::csi_v1::controller_server::ControllerServer;
use super::proto::csi_v1::identity_server::IdentityServer;
use super::proto::csi_v1::node_server::NodeServer;
use super::proto::operator_v1alpha1::operator_server::OperatorServer;
use super::{ControllerService, IdentityService, NodeService, OperatorService};
use crate::host;
use crate::inventory::Inventory;
use crate::observe::metrics::Metrics;

/// How long calls in flight may take to end once the server is told to.
const GRACE: Duration = Duration::from_secs(20);
/// How long an answer may take to its caller; a caller that keeps its connection open for longer is not waited for.
const FLUSH: Duration = Duration::from_millis(50);

/// Where a server listens: `unix:///ABSOLUTE/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(PathBuf);

/// A text that is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an endpoint: write unix:///absolute/path.sock, of at most 107 bytes")]
pub struct InvalidEndpoint(String);

impl Endpoint {
    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:"));
        let path = path.filter(|path| path.starts_with('/') && !path.ends_with('/'));
        // sun_path of unix(7) has 108 bytes, one of them the NUL at the end.
        let path = path.filter(|path| path.len() < 108 && !path.contains('\0'));
        path.map(|path| Self(path.into())).ok_or_else(|| InvalidEndpoint(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "unix://{}", self.0.display())
    }
}

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another server answers at the endpoint.
    #[error("another server is listening on {0}: end it first, or use another --endpoint")]
    Taken(Endpoint),
    /// Something that is no socket is at the path.
    #[error("{} is there and is no socket: move it away, or use another --endpoint", .0.display())]
    NoSocket(PathBuf),
    /// The directory of the socket cannot be made, or the path cannot be looked at.
    #[error("{} cannot be used for a socket", path.display())]
    Directory {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("the socket cannot be made")]
    Socket(#[from] host::Error),
    /// Serving failed.
    #[error("serving on {endpoint} failed")]
    Serve {
        /// The endpoint.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// The services of one socket.
#[derive(Debug)]
pub struct Server<I> {
    /// Who this is.
    pub identity: IdentityService,
    /// The Controller service, where this socket has it.
    pub controller: Option<ControllerService<I>>,
    /// The Node service, where this socket has it.
    pub node: Option<NodeService<I>>,
    /// The operator's service, where this socket has it.
    pub operator: Option<OperatorService<I>>,
    /// Where calls are counted.
    pub metrics: Metrics,
}

impl<I: Inventory> Server<I> {
    /// Serves on a socket until `cancel`, then ends when the calls in flight have, or after 20 seconds.
    pub async fn serve(self, socket: Socket, cancel: CancellationToken) -> Result<(), ServerError> {
        let Socket { endpoint, listener, name } = socket;
        let failed =
            |source: io::Error| ServerError::Directory { path: endpoint.0.clone(), source };
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        info!(%endpoint, "serving");
        let told = cancel.clone();
        let incoming = UnixListenerStream::new(listener);
        let in_flight = InFlight::default();
        let router = self.router(in_flight.clone());
        let serving = router.serve_with_incoming_shutdown(incoming, told.cancelled_owned());
        let answered = async {
            cancel.cancelled().await;
            tokio::time::sleep(FLUSH).await;
            if tokio::time::timeout(GRACE, in_flight.none()).await.is_err() {
                warn!(%endpoint, "calls did not end in time and are dropped");
            }
            tokio::time::sleep(FLUSH).await;
        };
        let ended = tokio::select! {
            ended = serving => ended,
            () = answered => Ok(()),
        };
        drop(name);
        ended.map_err(|source| ServerError::Serve { endpoint, source })
    }

    fn router(
        self,
        in_flight: InFlight,
    ) -> Router<tower::layer::util::Stack<CallLayer, tower::layer::util::Identity>> {
        tonic::transport::Server::builder()
            .layer(CallLayer::new(self.metrics, in_flight))
            .add_service(IdentityServer::new(self.identity))
            .add_optional_service(self.controller.map(ControllerServer::new))
            .add_optional_service(self.node.map(NodeServer::new))
            .add_optional_service(self.operator.map(OperatorServer::new))
    }
}

/// A socket that listens and is not served yet: whoever connects waits. Dropped, it is removed.
#[derive(Debug)]
pub struct Socket {
    endpoint: Endpoint,
    listener: std::os::unix::net::UnixListener,
    name: Name,
}

/// The name of a socket in its directory, which goes when the socket does.
#[derive(Debug)]
struct Name {
    path: PathBuf,
    inode: Option<u64>,
}

impl Socket {
    /// Makes the socket of an endpoint, with mode 0600; its directory too, if it is not there, with mode 0700. One that
    /// a dead server left is replaced.
    pub fn listen(endpoint: &Endpoint) -> Result<Self, ServerError> {
        let path = endpoint.path();
        let directory = path.parent().unwrap_or(Path::new("/"));
        let failed = |source| ServerError::Directory { path: path.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        clear_stale(endpoint)?;
        let listener = host::socket::listen_privately(path)?;
        let inode = std::fs::symlink_metadata(path).ok().map(|facts| facts.ino());
        let name = Name { path: path.to_owned(), inode };
        Ok(Self { endpoint: endpoint.clone(), listener, name })
    }
}

/// Removes a socket that nobody answers at.
fn clear_stale(endpoint: &Endpoint) -> Result<(), ServerError> {
    use std::os::unix::fs::FileTypeExt;
    let path = endpoint.path();
    let failed = |source| ServerError::Directory { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(facts) if !facts.file_type().is_socket() => {
            return Err(ServerError::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            info!(%endpoint, "replacing the socket of a server that is gone");
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(ServerError::Taken(endpoint.clone())),
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let now = std::fs::symlink_metadata(&self.path).ok().map(|facts| facts.ino());
        // Another server may have replaced it.
        if now.is_some()
            && now == self.inode
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            warn!(path = %self.path.display(), %error, "the socket was not removed");
        }
    }
}

#[cfg(test)]
mod tests;
