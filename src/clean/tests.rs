//! The cleaner on real file systems and devices, in a mount namespace of each test's own.

mod believable;
mod devices;
mod directories;
mod lies;
mod namespaces;
mod queue;
mod reformat;
mod world;
