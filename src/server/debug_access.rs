//! Who may see the pages below `/debug/`: as in Headscale, whoever is on this machine or in a
//! tailnet, or has the key.

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The networks that stock clients know as Tailscale's.
const TAILSCALE: [&str; 2] = ["100.64.0.0/10", "fd7a:115c:a1e0::/48"];

/// Beside loopback: who may see them.
#[derive(Clone, Debug, Default)]
pub struct DebugAccess {
    /// `TS_ALLOW_DEBUG_IP` of the environment.
    pub address: Option<IpAddr>,
    /// `TS_DEBUG_KEY_PATH`: a file with a key, which `?debugkey=` has to be. It is read each time.
    pub key_path: Option<PathBuf>,
    /// The tailnet's own addresses, where they are others than Tailscale's.
    pub networks: Vec<IpNet>,
}

impl DebugAccess {
    /// As the environment says.
    pub fn of_this_process(networks: Vec<IpNet>) -> Self {
        let address = std::env::var("TS_ALLOW_DEBUG_IP").ok().and_then(|text| text.parse().ok());
        Self { address, key_path: std::env::var_os("TS_DEBUG_KEY_PATH").map(PathBuf::from), networks }
    }

    /// Lets only those through who may.
    pub fn guard(self, pages: Router) -> Router {
        pages.layer(from_fn_with_state(Arc::new(self), check))
    }

    fn allows(&self, request: &Request) -> bool {
        if self.has_key(request.uri().query().unwrap_or_default()) {
            return true;
        }
        // What a proxy passes on comes from wherever the proxy lets in.
        if request.headers().contains_key("x-forwarded-for") {
            return false;
        }
        let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() else { return false };
        let ip = peer.ip().to_canonical();
        let tailscale = TAILSCALE.iter().filter_map(|network| network.parse::<IpNet>().ok());
        ip.is_loopback()
            || self.address == Some(ip)
            || tailscale.chain(self.networks.iter().copied()).any(|network| network.contains(&ip))
    }

    fn has_key(&self, query: &str) -> bool {
        let shown = query.split('&').find_map(|pair| pair.strip_prefix("debugkey="));
        let (Some(shown), Some(path)) = (shown, &self.key_path) else { return false };
        let Ok(key) = std::fs::read_to_string(path) else { return false };
        let key = key.trim();
        !key.is_empty() && bool::from(key.as_bytes().ct_eq(shown.as_bytes()))
    }
}

async fn check(State(access): State<Arc<DebugAccess>>, request: Request, next: Next) -> Response {
    match access.allows(&request) {
        true => next.run(request).await,
        false => (StatusCode::FORBIDDEN, "debug access denied\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    async fn ask(access: &DebugAccess, from: &str, uri: &str, forwarded: bool) -> StatusCode {
        let pages = access.clone().guard(Router::new().route("/debug/overview", get(async || "inside")));
        let mut request = Request::get(uri).body(Body::empty()).unwrap();
        let peer: IpAddr = from.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from((peer, 4000))));
        if forwarded {
            request.headers_mut().insert("x-forwarded-for", "127.0.0.1".parse().unwrap());
        }
        pages.oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn debug_pages_are_for_this_machine_the_tailnet_and_who_has_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        std::fs::write(&key, "s3cret\n").unwrap();
        let access = DebugAccess {
            address: Some("192.0.2.9".parse().unwrap()),
            key_path: Some(key),
            networks: vec!["10.9.0.0/16".parse().unwrap()],
        };
        let page = "/debug/overview";
        for friend in [
            "127.0.0.1",
            "127.0.0.3",
            "::1",
            "::ffff:127.0.0.1",
            "100.64.0.7",
            "fd7a:115c:a1e0::5",
            "192.0.2.9",
            "10.9.1.1",
        ] {
            assert_eq!(ask(&access, friend, page, false).await, StatusCode::OK, "{friend}");
            assert_eq!(ask(&access, friend, page, true).await, StatusCode::FORBIDDEN, "{friend} through a proxy");
        }
        for stranger in ["192.0.2.1", "10.0.0.1", "2001:db8::1"] {
            assert_eq!(ask(&access, stranger, page, false).await, StatusCode::FORBIDDEN, "{stranger}");
            for (query, status) in [
                ("debugkey=s3cret", StatusCode::OK),
                ("a=b&debugkey=s3cret", StatusCode::OK),
                ("debugkey=", StatusCode::FORBIDDEN),
                ("debugkey=s3cre", StatusCode::FORBIDDEN),
            ] {
                assert_eq!(ask(&access, stranger, &format!("{page}?{query}"), true).await, status, "{query}");
            }
        }
        let nothing = DebugAccess { key_path: Some("/nonexistent".into()), ..DebugAccess::default() };
        assert_eq!(ask(&nothing, "192.0.2.1", "/debug/overview?debugkey=", false).await, StatusCode::FORBIDDEN);
    }
}
