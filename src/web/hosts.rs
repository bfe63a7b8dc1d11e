//! Which names this server answers to, where a browser asks.
//!
//! A page of somebody else's can point its own name at this server's address and then
//! read, as its own, what this server shows (DNS rebinding, as in CVE-2022-41924). So
//! pages, metrics and debugging answer only under names that are ours. What clients ask
//! is not checked: one that was moved to another replica still says the first one's name.

use super::error::error_page;
use crate::cluster::Cluster;
use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The address of this machine that a request came to: an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct LocalIp(pub IpAddr);

/// The names and addresses of the cluster's members.
#[derive(Clone)]
pub struct Hosts {
    cluster: Cluster,
    /// In lower case.
    own: Arc<BTreeSet<String>>,
}

impl Hosts {
    /// `own` are this replica's names; those of the others are in the cluster's state.
    pub fn new(cluster: Cluster, own: impl IntoIterator<Item = String>) -> Self {
        let own = own.into_iter().map(|name| tidy(&name)).collect();
        Self { cluster, own: Arc::new(own) }
    }

    /// Whether a host, as a URL has it without its port, is a member or this machine.
    fn knows(&self, host: &str, local: Option<IpAddr>) -> bool {
        let host = tidy(host);
        let view = self.cluster.view();
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            let ip = ip.to_canonical();
            let is_member = |address: &IpAddr| address.to_canonical() == ip;
            return ip.is_loopback()
                || local.is_some_and(|local| local.to_canonical() == ip)
                || self.own.contains(&host)
                || view.replicas().any(|replica| replica.client_addresses.iter().any(is_member));
        }
        host == "localhost"
            || self.own.contains(&host)
            || view.replicas().filter_map(|replica| replica.relay.as_ref()).any(|relay| tidy(&relay.host_name) == host)
    }

    /// The host that a request says it asks, where that is not us.
    fn stranger(&self, request: &Request) -> Option<String> {
        // No browser leaves it out.
        let named = request.headers().get(HOST)?;
        let local = request.extensions().get::<LocalIp>().map(|local| local.0);
        match authority(named) {
            Some(host) if self.knows(host.host(), local) => None,
            _ => Some(String::from_utf8_lossy(named.as_bytes()).into_owned()),
        }
    }

    /// The page that a browser's request comes from, where that is not ours.
    fn foreign_origin(&self, request: &Request) -> Option<String> {
        let origin = request.headers().get(ORIGIN)?;
        let text = String::from_utf8_lossy(origin.as_bytes()).into_owned();
        let authority_of = |text: &str| text.split_once("://")?.1.parse::<Authority>().ok();
        let Some(origin) = authority_of(&text) else { return Some(text) };
        let is_same = host(request.headers()).is_some_and(|host| host == origin);
        let local = request.extensions().get::<LocalIp>().map(|local| local.0);
        (!is_same && !self.knows(origin.host(), local)).then_some(text)
    }
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    authority(headers.get(HOST)?)
}

fn authority(value: &HeaderValue) -> Option<Authority> {
    value.to_str().ok()?.parse().ok()
}

/// Without the dot at the end that a full name may have.
fn tidy(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Middleware for what browsers read: refuses requests that name somebody else.
pub async fn only_ours(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let Some(stranger) = hosts.stranger(&request) else { return next.run(request).await };
    tracing::info!(host = stranger, path = request.uri().path(), "refused a page under another host's name");
    let reason = "This server does not answer under that name. Use the name or an address of a server of the cluster; \
                  if this name is one, its administrator adds it to trusted_hosts.";
    error_page(StatusCode::MISDIRECTED_REQUEST, reason)
}

/// Middleware for what changes something: refuses what a page of somebody else sends.
pub async fn no_foreign_origin(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    match hosts.foreign_origin(&request) {
        Some(origin) if !is_safe => {
            tracing::info!(origin, path = request.uri().path(), "refused a change that another site's page asks for");
            let text = "a page of another site asks for this change: its host is neither this server nor in \
                        trusted_hosts\n";
            (StatusCode::FORBIDDEN, text).into_response()
        }
        _ => next.run(request).await,
    }
}
