//! Who may be connected to a listener: as many as there are file descriptors for, and
//! when there is no room, fairly.

use crate::limits::{Crowd, FairQueue, Guest, Limits, Slot, Source};
use crate::web::TrustedProxies;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Of all descriptors, the part that connections may take which have proven nothing, and
/// that connections of machines without a node may. The rest is for clients' streams that
/// nobody pushes out, the database and peers.
const FOR_CONNECTIONS: u64 = 4;
const FOR_STRANGERS: u64 = 2;

/// What the connections of one listener share. Cloning gives the same door.
#[derive(Clone)]
pub struct Door {
    crowd: Crowd,
    handshakes: FairQueue<Source>,
    proxies: Arc<TrustedProxies>,
}

impl Door {
    /// Behind `proxies`, the addresses of connections say nothing about who comes.
    pub fn new(limits: Limits, proxies: Arc<TrustedProxies>) -> Self {
        let handshakes = FairQueue::new(limits.handshakes, limits.handshakes_per_address);
        Self { crowd: Crowd::new(limits.connections), handshakes, proxies }
    }

    /// Lets a connection in. It has to go when the guest is shown out; `None`: it is a
    /// proxy's, and stays.
    pub fn enter(&self, peer: SocketAddr) -> Option<Guest> {
        self.source(peer.ip()).map(|source| self.crowd.enter(source))
    }

    /// Waits until this connection may begin its TLS handshake; `None`: a proxy's always may.
    pub async fn turn(&self, peer: SocketAddr) -> Option<Slot<Source>> {
        match self.source(peer.ip()) {
            Some(source) => Some(self.handshakes.enter(source).await),
            None => None,
        }
    }

    fn source(&self, peer: IpAddr) -> Option<Source> {
        (!self.proxies.trusts(peer)).then(|| Source::of(peer))
    }
}

/// Takes all file descriptors that the system allows, and bounds what strangers get by
/// them, so that a flood of connections cannot take those of the database.
pub fn within_open_files(limits: Limits) -> Limits {
    let before = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum });
    let Some(files) = getrlimit(Resource::Nofile).current else { return limits };
    let share = |part: u64| usize::try_from(files / part).unwrap_or(usize::MAX).max(1);
    let bounded = Limits {
        connections: limits.connections.min(share(FOR_CONNECTIONS)),
        strangers: limits.strangers.min(share(FOR_STRANGERS)),
        ..limits
    };
    if bounded != limits {
        tracing::warn!(
            "this process may have {files} open files: limits.connections is {}, limits.strangers {}; raise the limit \
             (LimitNOFILE= of a service, ulimit -n)",
            bounded.connections,
            bounded.strangers
        );
    }
    bounded
}
