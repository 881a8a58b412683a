//! Unix sockets that only their owner can connect to.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use super::{Error, Result};

/// Listens at `path` with mode 0600.
///
/// The mode is set on the socket before it has a name (unix(7): the file is made with the socket's mode, less the
/// umask), so that there is no moment in which another user could connect.
pub fn listen_privately(path: &Path) -> Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(Error::of("socket", path))?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(Error::of("fchmod", path))?;
    let address = SocketAddrUnix::new(path).map_err(Error::of("bind", path))?;
    bind(&socket, &address).map_err(Error::of("bind", path))?;
    listen(&socket, 128).map_err(Error::of("listen", path))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn nobody_but_the_owner_may_connect() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");

        let _listener = listen_privately(&path).unwrap();

        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_path_that_is_taken_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        std::fs::write(&path, "").unwrap();

        let error = listen_privately(&path).unwrap_err();

        assert_eq!((error.call, error.path), ("bind", path));
    }
}
