//! The contract of every inventory.
