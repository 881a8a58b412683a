//! Berth on a real Kubernetes. `tests/cluster/run` boots one and runs these on it; each scenario is a test, named as what
//! holds. They share the cluster and run one after another.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test panics where something is not as it must be"
)]

mod agent;
mod beside;
mod calls;
mod can_i;
mod devices;
mod disks;
mod faults;
mod features;
mod harness;
mod health;
mod life;
mod lost_node;
mod machines;
mod manifests;
mod neighbours;
mod nodes;
mod permissions;
mod policies;
mod reboot;
mod rebuilt;
mod refused;
mod registration;
mod release;
mod restarts;
mod tenants;
mod upgrade;
mod workloads;
