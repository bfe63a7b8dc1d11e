//! What a client may ask on its Noise connection: `/machine/…` (protocol sections 3 to 5).
//!
//! The connection has proven the client's machine key; a request's node key must
//! belong to it. Requests are not routed by authority: clients use several.

mod auth_key;
mod body;
mod identity;
mod known;
mod logins;
mod lookups;
mod map;
mod register;
mod ssh;
mod streams;
mod trouble;

use super::Options;
use super::connection::Peer;
use crate::cluster::Cluster;
use crate::limits::{Budget, Limits};
use crate::netmap::Hub;
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use http::StatusCode;
use logins::Logins;
use lookups::Lookups;
use map::Maps;
use register::{FOLLOWUP_PATIENCE, Registrar};
use ssh::Sessions;
use std::sync::Arc;
use streams::Streams;

/// Every endpoint; requests carry a [`Peer`] as an extension.
pub(super) fn router(options: &Options) -> Router {
    let cluster = &options.cluster;
    let server_url = options.server_url.trim_end_matches('/').to_owned();
    let logins = Logins::follow(cluster);
    let sessions = Sessions {
        cluster: cluster.clone(),
        policies: options.policies.clone(),
        server_url: server_url.clone(),
        logins: logins.clone(),
        by_provider: options.by_provider,
        lookups: Lookups::new(cluster, options.limits, "SSH sessions"),
        patience: ssh::PATIENCE,
    };
    let registrar = Registrar {
        cluster: cluster.clone(),
        policies: options.policies.clone(),
        server_url,
        logins,
        limits: options.limits,
        failed_keys: Budget::new(options.limits.failed_keys_per_minute),
        lookups: Lookups::new(cluster, options.limits, "registrations"),
        patience: FOLLOWUP_PATIENCE,
    };
    registrations(registrar)
        .merge(ssh_actions(sessions))
        .merge(maps(cluster, &options.hub, options.limits))
        .merge(others())
}

fn registrations(registrar: Registrar) -> Router {
    Router::new().route("/machine/register", post(register::endpoint)).with_state(Arc::new(registrar))
}

fn ssh_actions(sessions: Sessions) -> Router {
    Router::new().route("/machine/ssh/action/{src}/to/{dst}", get(ssh::endpoint)).with_state(Arc::new(sessions))
}

fn maps(cluster: &Cluster, hub: &Hub, limits: Limits) -> Router {
    let lookups = Lookups::new(cluster, limits, "maps");
    let maps = Maps { cluster: cluster.clone(), hub: hub.clone(), streams: Streams::default(), lookups };
    Router::new().route("/machine/map", post(map::endpoint)).with_state(Arc::new(maps))
}

/// The endpoints that need nothing of this replica.
fn others() -> Router {
    let not_there = [
        "/machine/set-dns",
        "/machine/set-device-attr",
        "/machine/audit-log",
        "/machine/id-token",
        "/machine/feature/query",
        "/machine/c2n",
    ];
    let mut router = Router::new()
        .route("/machine/whoami", get(whoami))
        .route("/machine/update-health", post(StatusCode::NO_CONTENT));
    for path in not_there {
        router = router.route(path, any((StatusCode::NOT_IMPLEMENTED, "Not implemented yet")));
    }
    router
}

async fn whoami(Extension(peer): Extension<Peer>) -> String {
    format!("{} at {}, capability version {}\n", peer.machine_key, peer.ip, peer.version.0)
}

#[cfg(test)]
mod map_tests;
#[cfg(test)]
mod pairs_tests;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
