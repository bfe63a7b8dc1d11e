//! Deterministic simulation of a cluster.

mod clients;
pub mod disk;
mod history;
pub mod host;
mod machine;
mod nemesis;
mod net;
mod reference;
mod runner;
mod trace;
pub mod wire;
mod world;
