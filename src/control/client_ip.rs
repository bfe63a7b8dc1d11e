//! Where a request came from.

use crate::web::ClientIp;
use axum::extract::ConnectInfo;
use http::Extensions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The client's address: behind trusted proxies if a layer above looked for them
/// ([`ClientIp`]), else the connection's peer, else (a unix socket, say) `0.0.0.0`.
pub(super) fn client_ip(extensions: &Extensions) -> IpAddr {
    let found = extensions.get::<ClientIp>().map(|ip| ip.0);
    let connected = || extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    found.or_else(connected).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).to_canonical()
}
