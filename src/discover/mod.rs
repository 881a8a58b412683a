//! Find: what the host has, and the difference to what is recorded.

pub mod found;
pub mod reconcile;
