//! The gRPC edge: it decides nothing.
