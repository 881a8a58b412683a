//! Wiring only: which parts run in which role.
