//! Replicas talking to each other: gRPC over mutual TLS.
//!
//! [`tls`] proves that both ends have the cluster's secret, and which replica each
//! is; [`identity`] says in every call who it is from and who and which cluster it
//! is for, so that an address that changed hands is noticed. [`links`] keeps the
//! connections, [`network`] is what Raft sends with, where [`pairing`] tells which request an
//! answer is for; [`listen`] and [`server`] are the other end.

mod identity;
#[cfg(test)]
mod intruder_tests;
mod links;
mod listen;
mod network;
mod pairing;
mod server;
mod tls;

pub use identity::Checker;
pub use links::{Client, Links, Problem, Purpose, never_sent};
pub use listen::Listener;
#[cfg(test)]
pub use listen::{PeerInfo, service};
pub use network::Network;
pub use server::Server;
pub use tls::PeerTls;
#[cfg(test)]
pub use tls::certificate;

/// The longest message: an append of the longest log entry, and room around it.
const MESSAGE_LIMIT: usize = 80 << 20;
