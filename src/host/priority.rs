//! The I/O priority of a thread.
