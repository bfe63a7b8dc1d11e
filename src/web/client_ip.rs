//! Who really asks, behind reverse proxies (`trusted_proxies`).

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The address of the client, as an extension of each request and an extractor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIp(pub IpAddr);

/// The networks whose word about a client's address is taken.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// The headers that name a client, the strongest first.
const SINGLE: [&str; 2] = ["true-client-ip", "x-real-ip"];
const CHAIN: &str = "x-forwarded-for";

impl TrustedProxies {
    /// `trusted_proxies` of the configuration.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether this peer speaks for others.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client of a request that came from `peer`. A header that is no
    /// address counts as absent.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trusts(peer) {
            return peer;
        }
        let named = SINGLE.iter().find_map(|name| address(headers.get(*name)?.to_str().ok()?));
        named.or_else(|| self.client_in_chain(headers)).unwrap_or(peer)
    }

    /// The rightmost address that no trusted proxy has: what is left of it may be
    /// the client's own invention. If all are trusted, the first.
    fn client_in_chain(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let values = headers.get_all(CHAIN).iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
        let mut client = None;
        for hop in hops.into_iter().rev() {
            let Some(hop) = address(hop) else { break };
            client = Some(hop);
            if !self.trusts(hop) {
                break;
            }
        }
        client
    }
}

/// An address with or without a port; IPv4 in IPv6 clothes as IPv4.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let ip = text.parse().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip())).ok()?;
    Some(IpAddr::to_canonical(&ip))
}

/// Middleware: adds [`ClientIp`], and strips the headers of peers that are not
/// trusted, so that nobody behind it can be fooled by them.
pub async fn resolve(State(proxies): State<Arc<TrustedProxies>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
    // Without a peer's address nobody is trusted; only a unix socket has none.
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let client = proxies.client(peer, request.headers());
    if !proxies.trusts(peer) {
        for name in SINGLE.into_iter().chain([CHAIN]) {
            request.headers_mut().remove(name);
        }
    }
    request.extensions_mut().insert(ClientIp(client));
    if client != peer {
        // Whoever asks who is connected hears of the client too; its port is not known.
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(client, 0)));
    }
    next.run(request).await
}

impl<S: Send + Sync> FromRequestParts<S> for ClientIp {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, StatusCode> {
        parts.extensions.get::<ClientIp>().copied().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        proxies.client(peer.parse::<IpAddr>().unwrap().to_canonical(), &map).to_string()
    }

    #[test]
    fn a_stranger_cannot_name_another_client() {
        let headers = [("x-forwarded-for", "1.1.1.1"), ("true-client-ip", "2.2.2.2"), ("x-real-ip", "3.3.3.3")];
        assert_eq!(client("192.0.2.1", &headers), "192.0.2.1");
    }

    #[test]
    fn of_a_trusted_proxy_the_strongest_header_counts() {
        let all = [("x-forwarded-for", "1.1.1.1"), ("true-client-ip", "2.2.2.2"), ("x-real-ip", "3.3.3.3")];
        assert_eq!(client("10.0.0.1", &all), "2.2.2.2");
        assert_eq!(client("10.0.0.1", &[all[0], all[2]]), "3.3.3.3");
        assert_eq!(client("::ffff:10.0.0.1", &all[..1]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn of_a_chain_the_rightmost_stranger_counts() {
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, 1.1.1.1, 10.0.0.2")]), "1.1.1.1");
        assert_eq!(
            client("10.0.0.1", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.1.1.1:443")]),
            "1.1.1.1"
        );
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")]), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, nonsense")]), "10.0.0.1");
    }
}
