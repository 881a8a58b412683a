//! Find: what the host has, and the difference to what is recorded.

pub mod found;
mod identify;
pub mod reconcile;
pub mod scan;
mod wake;
