//! The HTTP server for machines that watch: `/metrics`, `/healthz`, `/readyz`. Plain HTTP, read-only, no secrets.
//!
//! `/healthz` says that the process answers at all, `/readyz` whether it serves claims: it is 503 until the first scan
//! was recorded. Only started where `--http` says where.
//!
//! Whoever reaches the port may connect, and so nobody may hold on to it: a connection has one request, a short head and
//! ten seconds, and where there are too many the oldest ends. Who watches is answered within a moment.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::metrics::Metrics;

/// How long a connection may keep the server once it was told to end.
const GRACE: Duration = Duration::from_secs(2);
/// How long a connection may last, from its beginning to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once.
const CONNECTIONS: usize = 64;
/// The longest head of a request, in bytes.
const HEAD: usize = 16 * 1024;
/// How long to wait where the kernel gives no connection, for want of descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);
/// The media type of OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where to listen: `HOST:PORT`, or `:PORT` for every address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

/// A text that is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not HOST:PORT: write for example 127.0.0.1:9808, [::1]:9808 or :9808")]
pub struct InvalidAddress(String);

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        port.parse::<u16>().map_err(|_| invalid())?;
        match host {
            "" => Ok(Self(format!("[::]:{port}"))),
            _ if host.contains(':') => match text.parse::<SocketAddr>() {
                Ok(_) => Ok(Self(text.to_owned())),
                Err(_) => Err(invalid()),
            },
            _ if host.contains(|c: char| c.is_whitespace() || c == '/') => Err(invalid()),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why the HTTP server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on for HTTP: choose another --http address")]
    Listen {
        /// The address.
        address: Address,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    address: Address,
    listener: TcpListener,
}

impl Server {
    /// Listens on `address`, if there is one.
    pub async fn listen_if_asked(address: Option<Address>) -> Result<Option<Self>, Error> {
        match address {
            Some(address) => Self::listen(address).await.map(Some),
            None => Ok(None),
        }
    }

    /// Listens on `address`.
    pub async fn listen(address: Address) -> Result<Self, Error> {
        match TcpListener::bind(&address.0).await {
            Ok(listener) => Ok(Self { address, listener }),
            Err(source) => Err(Error::Listen { address, source }),
        }
    }

    /// Answers until it is cancelled; connections that are open then may take two seconds to end.
    pub async fn serve(
        self,
        metrics: Metrics,
        ready: watch::Receiver<bool>,
        cancel: CancellationToken,
    ) {
        info!(address = %self.address, "serving /metrics, /healthz and /readyz");
        let service = TowerToHyperService::new(router(metrics, ready));
        let mut connections = Connections::default();
        while let Some(accepted) = cancel.run_until_cancelled(self.listener.accept()).await {
            match accepted {
                Ok((stream, _)) => connections.begin(answer(stream, service.clone())),
                Err(error) => {
                    debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        connections.end().await;
    }
}

/// Answers the one request of a connection.
async fn answer(stream: TcpStream, service: TowerToHyperService<Router>) {
    let answering = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever is too slow, or has gone, learns no more by being told.
    let _ = tokio::time::timeout(PATIENCE, answering).await;
}

/// The connections that there are. Dropped, they end.
#[derive(Debug, Default)]
struct Connections {
    tasks: JoinSet<()>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Connections {
    /// Begins to answer one, in the place of the oldest where there are too many.
    fn begin(&mut self, answering: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.oldest_first.retain(|one| !one.is_finished());
        if self.oldest_first.len() >= CONNECTIONS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            oldest.abort();
        }
        self.oldest_first.push_back(self.tasks.spawn(answering));
    }

    /// Lets them end, for as long as that may take.
    async fn end(mut self) {
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE, ended).await;
    }
}

fn router(metrics: Metrics, ready: watch::Receiver<bool>) -> Router {
    let metrics = get(async |State(metrics): State<Metrics>| {
        ([(CONTENT_TYPE, OPEN_METRICS)], metrics.render())
    })
    .with_state(metrics);
    Router::new()
        .route("/metrics", metrics)
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(readiness).with_state(ready))
}

async fn readiness(State(ready): State<watch::Receiver<bool>>) -> impl IntoResponse {
    if *ready.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: the first scan of the pools is not recorded yet\n",
        )
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

    use super::*;

    struct Running {
        at: SocketAddr,
        ready: watch::Sender<bool>,
        cancel: CancellationToken,
        task: JoinHandle<()>,
    }

    async fn run() -> Running {
        let server = Server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let at = server.listener.local_addr().unwrap();
        let (ready, receiver) = watch::channel(false);
        let cancel = CancellationToken::new();
        let task = tokio::spawn(server.serve(Metrics::default(), receiver, cancel.clone()));
        Running { at, ready, cancel, task }
    }

    async fn ask(at: SocketAddr, path: &str) -> String {
        say(at, &format!("GET {path} HTTP/1.1\r\nhost: berth\r\n\r\n")).await
    }

    async fn say(at: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_follows_the_server_and_liveness_does_not() {
        let running = run().await;

        let early = ask(running.at, "/readyz").await;
        running.ready.send_replace(true);
        let late = ask(running.at, "/readyz").await;

        assert!(early.starts_with("HTTP/1.1 503 "), "{early}");
        assert!(late.starts_with("HTTP/1.1 200 "), "{late}");
        assert!(ask(running.at, "/healthz").await.starts_with("HTTP/1.1 200 "));
        assert!(ask(running.at, "/nothing").await.starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn metrics_come_as_open_metrics() {
        let running = run().await;

        let answer = ask(running.at, "/metrics").await;

        assert!(answer.contains(&format!("content-type: {OPEN_METRICS}\r\n")), "{answer}");
        assert!(answer.ends_with("# EOF\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_does_not_keep_the_server() {
        let running = run().await;
        let _silent = TcpStream::connect(running.at).await.unwrap();
        ask(running.at, "/healthz").await;

        tokio::time::pause();
        running.cancel.cancel();

        running.task.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_or_never_ends_what_it_says_is_ended() {
        let running = run().await;
        let mut silent = TcpStream::connect(running.at).await.unwrap();
        let mut endless = TcpStream::connect(running.at).await.unwrap();
        endless.write_all(b"GET /metrics HTTP/1.1\r\nhost: berth\r\nx: ").await.unwrap();
        ask(running.at, "/healthz").await;

        tokio::time::pause();
        let (mut heard, mut answer) = (Vec::new(), Vec::new());
        let _ = silent.read_to_end(&mut heard).await;
        let _ = endless.read_to_end(&mut answer).await;

        assert_eq!((heard, answer), (Vec::new(), Vec::new()));
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused_before_all_of_it_was_read() {
        let running = run().await;
        let mut stream = TcpStream::connect(running.at).await.unwrap();
        let (begin, line) = ("GET /metrics HTTP/1.1\r\nhost: berth\r\n", [b'a'; HEAD]);
        stream.write_all(begin.as_bytes()).await.unwrap();
        stream.write_all(b"x: ").await.unwrap();

        // It may be refused while this still writes.
        let _ = stream.write_all(&line).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;

        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[tokio::test]
    async fn more_connections_than_may_be_end_the_oldest_and_who_watches_is_answered() {
        let running = run().await;
        let mut silent = Vec::new();
        for _ in 0..2 * CONNECTIONS {
            silent.push(TcpStream::connect(running.at).await.unwrap());
        }

        let answer = ask(running.at, "/healthz").await;
        let mut heard = Vec::new();
        let oldest = silent[0].read_to_end(&mut heard).await;
        let youngest = silent.last().unwrap().try_read(&mut [0]);

        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(!matches!(oldest, Ok(1..)), "{oldest:?}");
        assert_eq!(youngest.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn nothing_is_served_but_three_pages_and_they_are_only_read() {
        let running = run().await;

        for path in
            ["/", "/metrics/", "/..%2f..%2fetc/passwd", "/debug/pprof", "/csi.v1.Node/NodeGetInfo"]
        {
            let answer = ask(running.at, path).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
            assert!(answer.ends_with("\r\n\r\n"), "{path}: {answer}");
        }
        let posted =
            say(running.at, "POST /metrics HTTP/1.1\r\nhost: berth\r\ncontent-length: 1\r\n\r\nx")
                .await;
        assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
        let preface = say(running.at, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert!(!preface.contains("200"), "{preface}");
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let running = run().await;

        let error = Server::listen(running.at.to_string().parse().unwrap()).await.unwrap_err();

        let expected =
            format!("{} cannot be listened on for HTTP: choose another --http address", running.at);
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, address) in [
            (":9808", "[::]:9808"),
            ("127.0.0.1:9808", "127.0.0.1:9808"),
            ("[::1]:1", "[::1]:1"),
            ("localhost:9808", "localhost:9808"),
        ] {
            assert_eq!(text.parse(), Ok(Address(address.into())));
        }
        for wrong in
            ["", "9808", "localhost", "localhost:", "a b:1", "::1", "h:70000", "http://h:1"]
        {
            assert!(wrong.parse::<Address>().is_err(), "{wrong:?} was taken");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_address_that_reads_the_same_again_or_is_refused(text in "(\\PC{0,9}|[a-z0-9.\\[\\]:]{0,20})(:[0-9]{0,6})?") {
            if let Ok(address) = text.parse::<Address>() {
                proptest::prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
