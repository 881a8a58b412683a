//! A way to the API server that can be cut.

use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What happens to what is sent this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Open,
    /// No connection lasts.
    Cut,
    /// Requests arrive and answers do not: the connection ends in their place.
    Mute,
}

pub(super) struct Proxy {
    port: u16,
    way: watch::Sender<Way>,
    listening: AbortHandle,
}

impl Proxy {
    /// A proxy to a port of this host.
    pub(super) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().port();
        let way = watch::Sender::new(Way::Open);
        let told = way.subscribe();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, port, told.clone()));
            }
        });
        Self { port: at, way, listening: listening.abort_handle() }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn carry(mut here: TcpStream, port: u16, mut way: watch::Receiver<Way>) {
    if *way.borrow() == Way::Cut {
        return;
    }
    let Ok(mut there) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut asked, mut answer) = here.split();
    let (mut answered, mut ask) = there.split();
    let mut muted = way.clone();
    let answers = async {
        tokio::select! {
            _ = copy(&mut answered, &mut answer) => {}
            _ = muted.wait_for(|way| *way == Way::Mute) => {}
        }
        // The first thing that is said now ends the connection.
        let _ = answered.readable().await;
    };
    tokio::select! {
        _ = copy(&mut asked, &mut ask) => {}
        () = answers => {}
        _ = way.wait_for(|way| *way == Way::Cut) => {}
    }
}
