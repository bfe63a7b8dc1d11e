//! What browsers, load balancers and people see: the pages of pending logins,
//! set-up pages, health; and what every response of the public listener has in
//! common.
//!
//! | Path | What |
//! |---|---|
//! | `/register/{auth_id}`, `/auth/{auth_id}` | what to do about a pending login; to the OpenID provider, if there is one |
//! | `/oidc/callback`, `/register/confirm/{auth_id}` | back from the provider |
//! | `/apple`, `/apple/{platform}`, `/windows` | how to point a client at this server |
//! | `/health`, `/livez`, `/readyz`, `/version` | for machines that watch this one |
//! | `/`, `/favicon.ico`, `/robots.txt` | what browsers and robots ask for |
//!
//! [`router`] has these; [`common`] wraps the whole public router.

mod client_ip;
mod devices;
mod error;
mod headers;
mod health;
mod hosts;
mod icon;
mod log;
mod login;
mod oidc;
mod page;
mod ssh_check;
mod strangers;
#[cfg(test)]
mod tests;

pub use client_ip::{ClientIp, TrustedProxies};
pub use error::error_page;
pub use hosts::{Hosts, LocalIp};

use crate::cluster::Cluster;
use crate::limits::Limits;
use crate::oidc::Oidc;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use std::sync::Arc;

/// What the pages show.
#[derive(Clone)]
pub struct Options {
    /// Where pending logins are read.
    pub cluster: Cluster,
    /// The URL that clients are given.
    pub server_url: String,
    /// The names under which the pages are shown.
    pub hosts: Hosts,
    /// How often one address may ask for pages that the leader has to be asked about.
    pub limits: Limits,
    /// How people log in by themselves; `None`: administrators let their machines in.
    pub oidc: Option<Arc<Oidc>>,
}

/// The pages. Its fallback answers every path that nobody else has with an
/// error page, so merge it with routers that have no fallback.
pub fn router(options: Options) -> Router {
    let mut pages = Router::new()
        .route("/", get(page::blank))
        .route("/favicon.ico", get(icon::icon))
        .merge(strangers::limited(login::routes(), options.cluster.clone(), options.limits))
        .merge(devices::routes());
    if options.oidc.is_some() {
        pages = pages.merge(strangers::limited(oidc::routes(), options.cluster.clone(), options.limits));
    }
    let pages = no_foreign_origin(pages, options.hosts.clone());
    let pages = pages.layer(from_fn_with_state(options.hosts.clone(), hosts::only_ours));
    pages.merge(health::routes()).fallback(error::not_found).with_state(Arc::new(options))
}

/// Wraps the public router: the client's address as [`ClientIp`], a log line
/// for each request, and security headers on each response.
///
/// The server has to put the peer's address into each request's extensions, as
/// `axum::extract::ConnectInfo<SocketAddr>`.
pub fn common(router: Router, proxies: TrustedProxies) -> Router {
    router
        .layer(from_fn(headers::secure))
        .layer(from_fn(log::requests))
        .layer(from_fn_with_state(Arc::new(proxies), client_ip::resolve))
}

/// What a router that is not public (metrics and debug) has in common with the pages.
pub fn inside(router: Router, hosts: Hosts) -> Router {
    router.layer(from_fn_with_state(hosts, hosts::only_ours)).layer(from_fn(headers::secure))
}

/// For a router whose operations change something: only this server's own pages, and
/// programs that are no browsers, may use it.
pub fn no_foreign_origin<S: Clone + Send + Sync + 'static>(router: Router<S>, hosts: Hosts) -> Router<S> {
    router.layer(from_fn_with_state(hosts, hosts::no_foreign_origin))
}
