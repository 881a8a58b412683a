//! Hostile tenants: whatever a process does with its volume, while it is published, while it is wiped and after it should
//! be gone, nothing outside changes by one byte, the wipe ends or says why it waits, what it leaves is clean by an
//! independent walk or comparison, and the next tenant gets an empty volume that nobody else reaches.
//!
//! The attackers are threads of the test and small programs; they work with the rights of root in the volume, as a
//! privileged pod would, and where it matters in mount namespaces of their own. Each races the cleaner for
//! [`race_time`](world::race_time): some seconds, a minute with `BERTH_PROVE=1`.
//!
//! Needs root, loop devices, `mkfs.ext4` and `mkfs.xfs`; with `mkfs.btrfs` btrfs is attacked as well.

#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

mod support;

#[path = "hostile_tenant/attack.rs"]
mod attack;
#[path = "hostile_tenant/census.rs"]
mod census;
#[path = "hostile_tenant/devices.rs"]
mod devices;
#[path = "hostile_tenant/flags.rs"]
mod flags;
#[path = "hostile_tenant/held.rs"]
mod held;
#[path = "hostile_tenant/left.rs"]
mod left;
#[path = "hostile_tenant/races.rs"]
mod races;
#[path = "hostile_tenant/world.rs"]
mod world;
