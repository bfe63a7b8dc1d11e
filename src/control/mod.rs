//! The control protocol: what Tailscale clients ask of this server.
//!
//! A client fetches the server's key (`server_key`, `/key`), dials `/ts2021`
//! (`upgrade`), proves its machine key there (`noise`), and speaks HTTP/2
//! inside (`connection`): registrations and maps (`machine`). This edge parses
//! and authenticates; what a request changes is a command to [`Cluster`], and what
//! a client sees of its tailnet comes from [`Hub`].

mod admission;
mod client_ip;
mod connection;
mod machine;
mod noise;
mod server_key;
mod upgrade;

pub(crate) use noise::{InitiateError, Initiator, Sealer, respond};

use crate::cluster::Cluster;
use crate::limits::Limits;
use crate::netmap::Hub;
use crate::policy::Policies;
use admission::Admission;
use axum::Router;
use axum::routing::get;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// How many Noise connections one replica holds, so that a flood of them cannot
/// take all its memory. A node holds one to three.
pub const MAX_CONNECTIONS: usize = 100_000;

/// What the edge works with.
#[derive(Clone)]
pub struct Options {
    pub cluster: Cluster,
    pub hub: Hub,
    /// The compiled policies: which SSH session needs somebody's approval.
    pub policies: Arc<Policies>,
    /// This replica's own URL, without a slash at its end: login pages are below it.
    pub server_url: String,
    /// What strangers may do.
    pub limits: Limits,
    /// Whether people log in by themselves, with an OpenID provider.
    pub by_provider: bool,
    /// When it is cancelled, open connections are told to go elsewhere, and end.
    pub stop: CancellationToken,
}

/// `/key` and `/ts2021`. The server that serves it must allow HTTP/1.1 upgrades.
/// Who the client is comes from a request's extensions: [`ClientIp`](crate::web::ClientIp)
/// if a layer above has put one there, else `ConnectInfo<SocketAddr>`.
///
/// Must be called inside a Tokio runtime: it starts a task that follows the
/// cluster's changes as long as the router exists.
pub fn router(options: Options) -> Router {
    let shared = Arc::new(Shared {
        machine: machine::router(&options),
        quorum: options.cluster.quorum(),
        cluster: options.cluster,
        stop: options.stop,
        connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        admission: Admission::new(options.limits),
    });
    routes(shared)
}

fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/key", get(server_key::get))
        .route("/ts2021", get(upgrade::ts2021).post(upgrade::ts2021))
        .with_state(shared)
}

/// What the outer endpoints share.
struct Shared {
    cluster: Cluster,
    quorum: watch::Receiver<bool>,
    /// What is served inside a Noise connection.
    machine: Router,
    stop: CancellationToken,
    connections: Arc<Semaphore>,
    admission: Admission,
}

#[cfg(test)]
mod abuse_tests;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
