//! The gRPC edge: it decides nothing.
//!
//! [`request`] is the one place that knows what a valid request is, [`status`] the one place where errors become gRPC
//! codes, [`operation`] lets one operation at a time at a volume. The handlers in [`identity`], [`controller`], [`node`]
//! and [`operator`] read as a sentence: parse, take the turn, do, answer. [`server`] listens, [`layer`] logs and counts.

mod controller;
mod health;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod identity;
mod layer;
mod node;
mod operation;
mod operator;
pub mod proto;
mod request;
mod server;
mod status;

pub use controller::ControllerService;
pub use identity::IdentityService;
pub use node::NodeService;
pub use operation::Operations;
pub use operator::OperatorService;
pub use request::Error as RequestError;
pub use server::{Endpoint, InvalidEndpoint, Server, ServerError, Socket};

pub use crate::volume::TOPOLOGY_KEY;

/// What a unary call gives.
type Rpc<T> = Result<tonic::Response<T>, tonic::Status>;

#[cfg(test)]
mod tests;
