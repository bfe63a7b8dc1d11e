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

mod browser;
mod chromium;
mod cluster;
mod disk;
mod failing_disk;
mod fleet;
mod http;
mod network;
mod process;
mod programs;
mod provider;
mod replica;
mod stock;
mod stream;
mod ts2021;
mod wait;
mod watchers;

pub use browser::{Browser, Visited};
pub use chromium::Chromium;
pub use cluster::{Cluster, Settings};
pub use disk::Disk;
pub use failing_disk::{Failing, FailingDisk};
pub use fleet::{Fleet, Tsnet, Up};
pub use http::{Reply, request};
pub use network::Network;
pub use provider::{Provider, config as provider_config};
pub use replica::Replica;
pub use stock::{RustClient, Tailscaled};
pub use stream::MapStream;
pub use ts2021::{Machine, Registered, Session, raw_upgrade, server_key};
pub use wait::{eventually, eventually_some};
pub use watchers::{Ended, Mark, Watchers};
