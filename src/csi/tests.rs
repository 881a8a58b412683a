//! The edge as its callers meet it: real sockets, a real inventory, real claims. Mounts are tested where they are made
//! and by the integration tests; here they are not needed.

mod capability;
mod controller;
mod health;
mod identity;
mod operator;
mod world;
mod wrong;
