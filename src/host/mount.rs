//! Mounts made, changed, moved and taken away by descriptor.
