//! Deterministic simulation of a cluster.

pub mod disk;
