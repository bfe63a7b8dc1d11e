//! What each operation needs of the API key that asks for it.

use super::ROOT;
use crate::state::ApiKeyRole;
use axum::http::Method;

/// What an operation does, as far as it matters who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It shows something that every holder of a key may see. Some are `POST`, because
    /// what they ask does not fit into a URL.
    Read,
    /// It changes something.
    Write,
    /// It changes nothing, but shows the server's private keys.
    Secrets,
}

use Access::{Read, Secrets, Write};

/// Every operation: method, path as in the routes, and what it needs. One that is not here
/// is taken as [`Access::Write`].
pub const OPERATIONS: &[(&str, &str, Access)] = &[
    ("GET", "/user", Read),
    ("POST", "/user", Write),
    ("POST", "/user/{id}/rename/{name}", Write),
    ("DELETE", "/user/{id}", Write),
    ("GET", "/preauthkey", Read),
    ("POST", "/preauthkey", Write),
    ("DELETE", "/preauthkey", Write),
    ("POST", "/preauthkey/expire", Write),
    ("GET", "/apikey", Read),
    ("POST", "/apikey", Write),
    ("POST", "/apikey/expire", Write),
    ("DELETE", "/apikey/{prefix}", Write),
    ("DELETE", "/apikey/", Write),
    ("GET", "/node", Read),
    ("GET", "/node/{id}", Read),
    ("DELETE", "/node/{id}", Write),
    ("POST", "/node/{id}/expire", Write),
    ("POST", "/node/{id}/rename/{name}", Write),
    ("POST", "/node/{id}/tags", Write),
    ("POST", "/node/{id}/approve_routes", Write),
    ("POST", "/node/backfillips", Write),
    ("POST", "/auth/register", Write),
    ("POST", "/auth/approve", Write),
    ("POST", "/auth/reject", Write),
    ("POST", "/node/register", Write),
    ("POST", "/debug/node", Write),
    ("GET", "/policy", Read),
    ("PUT", "/policy", Write),
    ("POST", "/policy/check", Read),
    ("GET", "/policy/history", Read),
    ("GET", "/policy/history/{version}", Read),
    ("GET", "/policy/diff", Read),
    ("POST", "/policy/rollback", Write),
    ("POST", "/policy/test", Read),
    ("POST", "/policy/explain/access", Read),
    ("POST", "/policy/explain/ssh", Read),
    ("POST", "/policy/explain/route", Read),
    ("POST", "/policy/explain/tag", Read),
    ("GET", "/health", Read),
    ("GET", "/audit", Read),
    ("POST", "/import", Write),
    ("GET", "/cluster", Read),
    ("GET", "/cluster/verify", Read),
    ("POST", "/cluster/member", Write),
    ("POST", "/cluster/member/{id}/promote", Write),
    ("DELETE", "/cluster/member/{id}", Write),
    ("POST", "/cluster/leader", Write),
    ("POST", "/cluster/secret", Write),
    ("GET", "/cluster/snapshot", Secrets),
];

/// What an operation needs; `path` as the router matched it, [`ROOT`] included. `None`: the
/// request matched no path, and will be told so.
pub fn needed(method: &Method, path: Option<&str>) -> Option<Access> {
    let path = path?;
    let path = path.strip_prefix(ROOT).unwrap_or(path);
    // What answers GET answers HEAD too.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let found = OPERATIONS.iter().find(|(known, at, _)| *known == method && *at == path);
    Some(found.map_or(Write, |(_, _, access)| *access))
}

/// Why a key with this role may not do that; `None`: it may.
pub fn refusal(role: ApiKeyRole, needed: Option<Access>) -> Option<&'static str> {
    match (role, needed) {
        (ApiKeyRole::Admin, _) | (ApiKeyRole::ReadOnly, None | Some(Read)) => None,
        (ApiKeyRole::ReadOnly, Some(Write)) => Some("may look at everything and change nothing"),
        (ApiKeyRole::ReadOnly, Some(Secrets)) => Some("may not have the server's private keys, which a backup holds"),
    }
}
