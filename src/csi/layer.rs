//! One line and one count for every call, whatever its service: the method, the code, how long it took, and what it was
//! about where the handler says so. Never what was in the request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Instrument, Level, debug, info, info_span, warn};

use crate::observe::metrics::Metrics;

/// The number of calls that have not been answered yet.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(std::sync::Arc<watch::Sender<usize>>);

impl InFlight {
    /// Resolves when every call has been answered.
    pub(super) async fn none(&self) {
        // The sender lives as long as this does.
        let _ = self.0.subscribe().wait_for(|calls| *calls == 0).await;
    }

    fn begin(&self) -> Call {
        self.0.send_modify(|calls| *calls += 1);
        Call(self.clone())
    }
}

/// A call that has not been answered yet; one that its caller gave up counts no longer.
struct Call(InFlight);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.0.send_modify(|calls| *calls -= 1);
    }
}

/// Wraps every service of a server.
#[derive(Debug, Clone)]
pub(super) struct CallLayer {
    metrics: Metrics,
    in_flight: InFlight,
}

impl CallLayer {
    /// A layer that counts in `metrics` what was answered and in `in_flight` what was not.
    pub(super) fn new(metrics: Metrics, in_flight: InFlight) -> Self {
        Self { metrics, in_flight }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService { inner, layer: self.clone() }
    }
}

/// A service whose calls are logged and counted.
#[derive(Debug, Clone)]
pub(super) struct CallService<S> {
    inner: S,
    layer: CallLayer,
}

impl<S: NamedService> NamedService for CallService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, Q, R> Service<http::Request<Q>> for CallService<S>
where
    S: Service<http::Request<Q>, Response = http::Response<R>, Error = Infallible>,
    S::Future: Send + 'static,
    R: 'static,
{
    type Response = http::Response<R>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Q>) -> Self::Future {
        let path = request.uri().path();
        let method = path.rsplit('/').next().unwrap_or(path).to_owned();
        let span = info_span!(
            "call",
            method,
            volume = tracing::field::Empty,
            claim = tracing::field::Empty
        );
        let start = Instant::now();
        let answer = self.inner.call(request);
        let metrics = self.layer.metrics.clone();
        let call = self.layer.in_flight.begin();
        let counted = async move {
            let answer = answer.await?;
            report(&metrics, &method, &answer, start.elapsed());
            drop(call);
            Ok(answer)
        };
        Box::pin(counted.instrument(span))
    }
}

fn report<R>(metrics: &Metrics, method: &str, answer: &http::Response<R>, took: Duration) {
    // A call that failed before it had anything to say carries its status in the head of the answer.
    let status = Status::from_header_map(answer.headers());
    let code = status.as_ref().map_or(Code::Ok, Status::code);
    metrics.called(method, name(code), took);
    let millis = took.as_secs_f64() * 1000.0;
    match status.filter(|status| status.code() != Code::Ok) {
        Some(status) => warn!(code = name(code), millis, error = status.message(), "refused"),
        None if level(method) == Level::INFO => info!(millis, "done"),
        None => debug!(millis, "answered"),
    }
}

/// Calls that change something are worth a line; those that ask, and are repeated all day, are not.
fn level(method: &str) -> Level {
    const CHANGES: [&str; 12] = [
        "CreateVolume",
        "DeleteVolume",
        "ControllerExpandVolume",
        "NodeStageVolume",
        "NodeUnstageVolume",
        "NodePublishVolume",
        "NodeUnpublishVolume",
        "NodeExpandVolume",
        "CleanVolume",
        "ReleaseVolume",
        "CordonVolume",
        "ForgetVolume",
    ];
    if CHANGES.contains(&method) { Level::INFO } else { Level::DEBUG }
}

/// The code as the gRPC specification spells it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
