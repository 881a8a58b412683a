//! The cleaner on real file systems and devices, in a mount namespace of each test's own.

mod devices;
mod directories;
mod namespaces;
mod queue;
mod reformat;
mod world;
