//! Berth, a CSI driver for local volumes.

pub mod claim;
pub mod clean;
pub mod cli;
pub mod csi;
pub mod discover;
pub mod health;
pub mod host;
pub mod inventory;
pub mod observe;
pub mod pool;
pub mod publish;
pub mod roles;
pub mod source;
pub mod volume;
