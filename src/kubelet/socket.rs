//! The socket in the kubelet's directory: private from its first moment, never taken from a living process.
//!
//! It is bound where it is to be, and not moved there: the kubelet looks at whatever appears in the directory and logs
//! an error where that has gone again. A kubelet that is so quick that the socket does not listen yet tries again.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use futures_util::stream::{self, Stream};
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

use crate::host;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Another process answers there.
    #[error("another process is registering this driver at {}: end it", .0.display())]
    Taken(PathBuf),
    /// Something that is no socket is there.
    #[error("{} is there and is no socket: move it away", .0.display())]
    NoSocket(PathBuf),
    /// The kubelet's directory is not there.
    #[error("{} is not there: is it the kubelet's directory (--kubelet-dir), and mounted here?", .0.display())]
    NoKubelet(PathBuf),
    /// The path cannot be used.
    #[error("{} cannot be used for a socket: {source}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error(transparent)]
    Socket(#[from] host::Error),
}

/// A socket that has its name and listens.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    identity: Option<Identity>,
    listener: UnixListener,
}

/// What tells a file from another at the same path. Nobody gets a socket's number as long as its listener is open.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|facts| (facts.dev(), facts.ino()))
}

impl Socket {
    /// Makes the socket at `path`, in place of a dead one or of its `own` last one, and its directory if that is not
    /// there. The kubelet takes it for a new plugin.
    pub(super) async fn make(path: &Path, own: Option<&Self>) -> Result<Self, Error> {
        make_directory(path)?;
        if own.is_none_or(Self::is_lost) {
            require_free(path).await?;
        }
        let failed = |source| Error::Path { path: path.to_owned(), source };
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = host::socket::listen_privately(path)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self { path: path.to_owned(), identity: identity(path), listener })
    }

    /// Those who connect.
    pub(super) fn incoming(&self) -> impl Stream<Item = io::Result<UnixStream>> {
        stream::unfold(&self.listener, async |listener| {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        })
    }

    /// Whether it has lost its name: it was removed, its directory was, or another one took its place.
    pub(super) fn is_lost(&self) -> bool {
        self.identity.is_none() || identity(&self.path) != self.identity
    }

    /// Takes the name away, if it is still this socket's.
    pub(super) fn remove(self) {
        if self.is_lost() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "the registration socket was not removed");
        }
    }
}

/// Makes the socket's directory, with the mode that the kubelet makes it with, but none above it: where the kubelet's
/// own directory is missing, this is the wrong place.
fn make_directory(path: &Path) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    match DirBuilder::new().mode(0o755).create(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Error::NoKubelet(directory.parent().unwrap_or(directory).to_owned()))
        }
        Err(source) => Err(Error::Path { path: directory.to_owned(), source }),
    }
}

/// Makes sure that nothing is at `path` but perhaps the socket of a process that is gone.
async fn require_free(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::Path { path: path.to_owned(), source }),
        Ok(facts) if !facts.file_type().is_socket() => {
            return Err(Error::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error)
            if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) =>
        {
            Ok(())
        }
        // One that has no time for us (EAGAIN) lives, too.
        _ => Err(Error::Taken(path.to_owned())),
    }
}

#[cfg(test)]
mod tests;
