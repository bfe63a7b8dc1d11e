//! The administrators' REST API, `/api/v1`: Headscale's operations, paths,
//! shapes and statuses, served by every replica.
//!
//! [`router`] serves the unix socket, where the file's permissions decide who
//! may ask; [`authenticated`] serves the network and wants an API key.
//!
//! - **Reads** see everything that was acknowledged before, by any replica.
//!   `?stale=true` (or the header `X-Quorumscale-Stale: true`) reads what this
//!   replica has, which also works without a quorum.
//! - **Writes** may carry an `Idempotency-Key` (1 to 128 visible ASCII
//!   characters): a repetition within a day, through any replica, changes
//!   nothing and gets the first one's answer, a created key's text included. (What
//!   names a key by its prefix finds nothing once the key is deleted.)
//! - **Errors** are RFC 9457 problems ([`types::Problem`]), with `code` and
//!   `message` beside for clients of Headscale 0.29. Without a quorum: 503 and
//!   `Retry-After`.
//! - **API keys** have a role: `admin`, or `read-only`, which gets 403 from every operation
//!   that changes something. Revoking one is answered when no replica accepts it any more,
//!   and a replica without a quorum accepts none.
//! - Keys that are created without an `expiration` get one:
//!   [`preauthkeys::DEFAULT_LIFETIME`], [`apikeys::DEFAULT_LIFETIME`].
//!
//! | Operation | Method, path |
//! |---|---|
//! | users | `GET, POST /user`, `POST /user/{id}/rename/{name}`, `DELETE /user/{id}` |
//! | pre-authenticated keys | `GET, POST, DELETE /preauthkey`, `POST /preauthkey/expire` |
//! | API keys | `GET, POST /apikey` (ours: `role`, `owner`), `POST /apikey/expire`, `DELETE /apikey/{prefix}` |
//! | audit (ours) | `GET /audit` |
//! | nodes | `GET /node`, `GET, DELETE /node/{id}`, `POST /node/{id}/{expire,rename/{name},tags,approve_routes}`, `POST /node/backfillips` |
//! | logins | `POST /auth/{register,approve,reject}`, `POST /node/register`, `POST /debug/node` |
//! | policy | `GET, PUT /policy`, `POST /policy/check` |
//! | policy (ours) | `GET /policy/history`, `GET /policy/history/{version}`, `GET /policy/diff`, `POST /policy/rollback`, `POST /policy/test`, `POST /policy/explain/{access,ssh,route,tag}` |
//! | health | `GET /health` |
//! | import (ours) | `POST /import` |
//! | cluster (ours) | `GET /cluster`, `GET /cluster/verify`, `POST /cluster/member`, `POST /cluster/member/{id}/promote`, `DELETE /cluster/member/{id}`, `POST /cluster/leader`, `POST /cluster/secret`, `GET /cluster/snapshot` |

mod access;
pub mod apikeys;
mod audit;
mod auth;
mod body;
mod cluster;
mod flood;
mod health;
pub mod import;
mod logins;
mod nodes;
mod policy;
mod policy_explain;
mod policy_history;
pub mod preauthkeys;
mod problem;
mod recorder;
mod render;
mod request;
mod routes;
mod secret;
pub mod types;
mod usage;
mod users;

#[cfg(test)]
mod tests;

use crate::cluster::Cluster;
use crate::policy::Policies;
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
pub use flood::limited;
pub use logins::owner_of_login;
use problem::ApiError;
pub use request::SocketUser;
use std::sync::Arc;

/// Where all operations are; a later version of the API gets another one.
const ROOT: &str = "/api/v1";

/// What the API works on.
#[derive(Clone)]
pub struct Options {
    /// Where reads and writes go.
    pub cluster: Cluster,
    /// The compiled policies: who may give which tag.
    pub policies: Arc<Policies>,
    /// Whether the API may change the policy.
    pub policy_mode: PolicyMode,
}

/// `policy.mode`: where this replica's policy is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyMode {
    /// Through the API.
    Database,
    /// In a file on the replicas; the API refuses to change it.
    File,
}

/// The API without authentication: for the unix socket.
pub fn router(options: Options) -> Router {
    let names = axum::middleware::from_fn_with_state(options.cluster.id(), request::name_socket_user);
    Router::new().nest(ROOT, operations(options).layer(names))
}

/// The API for the network: every operation wants `Authorization: Bearer
/// hskey-api-PREFIX-SECRET`, and those that change something a key with the role admin.
pub fn authenticated(options: Options) -> Router {
    let gate = auth::Gate::new(options.cluster.clone());
    let guarded = operations(options).layer(axum::middleware::from_fn_with_state(gate, auth::require_key));
    Router::new().nest(ROOT, guarded)
}

fn operations(options: Options) -> Router {
    Router::new()
        .merge(users::routes())
        .merge(preauthkeys::routes())
        .merge(apikeys::routes())
        .merge(nodes::routes())
        .merge(logins::routes())
        .merge(policy::routes())
        .merge(policy_history::routes())
        .merge(policy_explain::routes())
        .merge(audit::routes())
        .merge(health::routes())
        .merge(cluster::routes())
        .merge(import::routes())
        .fallback(async |method: Method, uri: Uri| {
            ApiError::not_found(format!("no such operation: {method} {ROOT}{}", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{ROOT}{} does not know {method}", uri.path()))
        })
        .with_state(Arc::new(options))
}
