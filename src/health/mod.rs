//! Probe: whether volumes are present, themselves and readable.
