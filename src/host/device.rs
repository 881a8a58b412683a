//! Block devices: size, exclusive open, read-only state.
