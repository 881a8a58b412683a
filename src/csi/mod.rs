//! The gRPC edge: it decides nothing.

pub mod proto;
