//! A connection to a server, for the commands, the demonstration and the tests.

use tonic::transport::{Channel, Endpoint as Uri};

use crate::csi::Endpoint;

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
    /// The channel could not be made.
    #[error("the server cannot be asked")]
    Channel(#[from] tonic::transport::Error),
    /// The server answered with what is no volume.
    #[error("the server's answer is not understood: is it of another version?")]
    Answer(#[from] serde_json::Error),
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
