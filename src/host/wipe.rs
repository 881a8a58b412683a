//! Discard, zero and overwrite ranges of a block device.
