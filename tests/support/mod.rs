//! What the end-to-end tests are made of: clusters of real server processes,
//! real clients, and a driver that speaks the clients' protocol itself.
//!
//! ```ignore
//! let cluster = Cluster::start(3).await;
//! let key = cluster.ok(2, &["preauthkeys", "create", "--user", "1"]);
//! let fleet = Fleet::start(&[]);
//! let laptop = fleet.up("laptop", Up::at(cluster.url(3)).key(&key)).await;
//! laptop.running().await;
//! ```
//!
//! Replicas share nothing but sockets and files: each is a process of the
//! binary that is shipped, on a loopback address of its own, with a directory
//! of its own.

mod cluster;
mod fleet;
mod http;
mod process;
mod programs;
mod replica;
mod stock;
mod ts2021;
mod wait;

pub use cluster::{Cluster, Settings};
pub use fleet::{Fleet, Tsnet, Up};
pub use http::{Reply, request};
pub use stock::{RustClient, Tailscaled};
pub use ts2021::{Machine, Registered, Session, raw_upgrade, server_key};
pub use wait::{eventually, eventually_some};
