//! The HTTP server for machines that watch: `/metrics`, `/healthz`, `/readyz`. Plain HTTP, read-only, no secrets.
//!
//! `/healthz` says that the process answers at all, `/readyz` whether it serves claims: it is 503 until the first scan
//! was recorded. Only started where `--http` says where.

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
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::metrics::Metrics;

/// How long a connection may keep the server once it was told to end.
const GRACE: Duration = Duration::from_secs(2);
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
    /// Serving failed.
    #[error("serving HTTP on {address} failed")]
    Serve {
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
    ) -> Result<(), Error> {
        let Self { address, listener } = self;
        info!(%address, "serving /metrics, /healthz and /readyz");
        let told = cancel.clone();
        let served = axum::serve(listener, router(metrics, ready))
            .with_graceful_shutdown(told.cancelled_owned());
        let overdue = async {
            cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            ended = served => ended.map_err(|source| Error::Serve { address, source }),
            () = overdue => Ok(()),
        }
    }
}

/// Listens on `address` and answers until it is cancelled.
pub async fn serve(
    address: Address,
    metrics: Metrics,
    ready: watch::Receiver<bool>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    Server::listen(address).await?.serve(metrics, ready, cancel).await
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
        task: JoinHandle<Result<(), Error>>,
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
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: berth\r\nconnection: close\r\n\r\n");
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

        running.task.await.unwrap().unwrap();
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
