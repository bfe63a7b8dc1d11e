//! Where a request came from.

use axum::extract::ConnectInfo;
use http::Extensions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The client's address, behind all trusted proxies. A layer that knows them
/// puts it into a request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIp(pub IpAddr);

impl ClientIp {
    /// From a request: what a layer found, else the connection's peer, else
    /// (a unix socket, say) `0.0.0.0`.
    pub fn of(extensions: &Extensions) -> IpAddr {
        let found = extensions.get::<ClientIp>().map(|ip| ip.0);
        let connected = || extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        found.or_else(connected).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).to_canonical()
    }
}
