//! `pools.yaml`.
