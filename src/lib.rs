//! Berth, a CSI driver for local volumes: directories, mount points and block devices that an administrator has prepared
//! on each host.
//!
//! # The life of a volume
//!
//! ```text
//! pools.yaml ─ pool ──> discover ──> inventory ──> claim ──> publish ──> claim ──> clean ──> inventory
//!              what to   what the     what is       given     mounted     ended     wiped     claimable
//!              offer     host has     recorded      to one                                    again
//! ```
//!
//! [`volume`] says what a volume is and which steps it may take, as pure functions; every other module either decides
//! which step is due or acts on the host, and nothing keeps state that the inventory does not have. An agent that starts
//! after a crash therefore needs no memory: what is recorded says what to do next.
//!
//! [`source`] is how discovery, publishing, cleaning and health reach a volume's data: opened once, told by its
//! fingerprint, used through that descriptor. [`host`] makes the system calls. [`csi`] is the gRPC edge and decides
//! nothing; [`roles`] wires the parts; [`cli`] is what a person types.
//!
//! # Tasks and channels
//!
//! | task | hears | tells |
//! | --- | --- | --- |
//! | server, one a socket | connections | the steps, by calls |
//! | claim index | [`inventory::Inventory::watch`] | whoever claims, from memory |
//! | discovery | mounts, directories, devices, pools, a timer | the inventory |
//! | cleaner | the watch, ends of wipes, mounts, a timer | the inventory; one thread a wipe |
//! | store | a bounded queue | the file, one transaction for all that waits; watchers |
//! | configuration | a timer, SIGHUP | everybody, the pools (`tokio::sync::watch`) |
//! | registration | the kubelet's calls, the socket's directory, a timer | readiness (`tokio::sync::watch`) |
//! | metrics, HTTP | the watch; connections | Prometheus |

pub mod causes;
pub mod claim;
pub mod clean;
pub mod cli;
pub mod cluster;
pub mod csi;
pub mod discover;
pub mod health;
pub mod host;
#[cfg(any(test, fuzzing))]
pub mod hostile;
pub mod inventory;
pub mod kubelet;
#[cfg(test)]
mod model;
pub mod observe;
pub mod pool;
pub mod publish;
pub mod roles;
pub mod source;
pub mod volume;
