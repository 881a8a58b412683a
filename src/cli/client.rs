//! A connection to a server, for the commands, the demonstration and the tests.

use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint as Uri};

use crate::csi::Endpoint;
use crate::csi::proto::csi_v1::ProbeRequest;
use crate::csi::proto::csi_v1::identity_client::IdentityClient;

/// Between two looks at a server that is not ready.
const PAUSE: Duration = Duration::from_millis(20);

/// A channel to the server at `endpoint`: connected when it is first used, and again whenever it was lost.
pub fn connect(endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
    Ok(Uri::from_shared(endpoint.to_string())?.connect_lazy())
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at the socket.
    #[error(
        "no server answers at {endpoint} ({why}): start `berth standalone`, or name the right --endpoint"
    )]
    Unreachable {
        /// The endpoint.
        endpoint: Endpoint,
        /// What the kernel says.
        why: std::io::Error,
    },
    /// The socket is another user's.
    #[error(
        "the socket of {0} is private to the server's user: run this as that user (root, usually)"
    )]
    NotAllowed(Endpoint),
    /// The server refused, with a sentence of its own.
    #[error("{0}")]
    Refused(String),
    /// The server runs, and has not found out yet what there is.
    #[error("the server at {0} is not ready in time: its log says what it is waiting for")]
    NotReady(Endpoint),
    /// The channel could not be made.
    #[error("the server cannot be asked")]
    Channel(#[from] tonic::transport::Error),
    /// The server answered with what is no volume.
    #[error("the server's answer is not understood: is it of another version?")]
    Answer(#[from] serde_json::Error),
    /// What was to be printed could not be.
    #[error("the output could not be written")]
    Output(#[source] std::io::Error),
}

/// Waits until the server says that it is ready, for at most `patience`.
pub(super) async fn wait_ready(endpoint: &Endpoint, patience: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + patience;
    loop {
        let asked = tokio::time::timeout_at(deadline, require_ready(endpoint)).await;
        match asked.unwrap_or_else(|_| Err(Error::NotReady(endpoint.clone()))) {
            Err(Error::Unreachable { .. } | Error::Refused(_) | Error::NotReady(_))
                if Instant::now() < deadline =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

async fn require_ready(endpoint: &Endpoint) -> Result<(), Error> {
    require_server(endpoint)?;
    let answer = IdentityClient::new(connect(endpoint)?).probe(ProbeRequest {}).await;
    let answer = answer.map_err(|status| Error::Refused(status.message().to_owned()))?;
    match answer.into_inner().ready {
        Some(true) => Ok(()),
        _ => Err(Error::NotReady(endpoint.clone())),
    }
}

/// Makes sure that somebody answers, so that what is wrong can be said in words rather than in a status.
pub(super) fn require_server(endpoint: &Endpoint) -> Result<(), Error> {
    match std::os::unix::net::UnixStream::connect(endpoint.path()) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(Error::NotAllowed(endpoint.clone()))
        }
        Err(why) => Err(Error::Unreachable { endpoint: endpoint.clone(), why }),
    }
}
