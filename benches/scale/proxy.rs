//! A way to the API server on which the bytes of its answers are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Counted {
    pub port: u16,
    bytes: Arc<AtomicU64>,
}

impl Counted {
    /// A way to a port of this host.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().port();
        let bytes = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&bytes);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, port, Arc::clone(&counted)));
            }
        });
        Self { port: at, bytes }
    }

    /// Bytes of answers so far, as they are on the wire: TLS and HTTP headers among them.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

async fn carry(mut here: TcpStream, port: u16, bytes: Arc<AtomicU64>) {
    let Ok(mut there) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut asked, mut answer) = here.split();
    let (mut answered, mut ask) = there.split();
    let answers = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = answered.read(&mut buffer).await {
            bytes.fetch_add(read as u64, Ordering::Relaxed);
            if answer.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut asked, &mut ask) => {}
        () = answers => {}
    }
}
