//! The publisher on real mounts, each test in a mount namespace of its own.

mod devices;
mod directories;
mod edited;
mod held;
mod mounts;
mod ownership;
mod read_only;
mod recovery;
mod refusals;
mod repeats;
mod world;
