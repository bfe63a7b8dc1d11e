//! What operations take from a request beside its body.

use super::Options;
use super::problem::ApiError;
use crate::cluster::Asked;
use crate::state::{ApiKey, Origin, ReplicaId, State};
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, StatusCode};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

/// Who asks: `API key PREFIX`, with its owner if it has one, or `USER on replica N` for somebody at the socket.
#[derive(Clone, Debug)]
pub struct Author(pub String);

/// The operating system's user at the other end of the socket: an extension of each request there.
#[derive(Clone, Copy, Debug)]
pub struct SocketUser(pub u32);

impl Author {
    /// Somebody at the socket of this replica.
    pub fn at_socket(user: Option<&SocketUser>, replica: ReplicaId) -> Self {
        match user {
            None => Self("socket".into()),
            Some(user) => Self(format!("{} on replica {replica}", user.name())),
        }
    }

    /// The holder of this API key.
    pub fn with_key(key: &ApiKey) -> Self {
        let ApiKey { prefix, owner, .. } = key;
        Self(if owner.is_empty() { format!("API key {prefix}") } else { format!("API key {prefix} ({owner})") })
    }
}

/// Middleware for the socket: says in each request who asks.
pub async fn name_socket_user(
    axum::extract::State(replica): axum::extract::State<ReplicaId>,
    mut request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    let author = Author::at_socket(request.extensions().get::<SocketUser>(), replica);
    let origin = Origin { by: author.0.clone(), from: format!("socket of replica {replica}") };
    request.extensions_mut().insert(author);
    request.extensions_mut().insert(origin);
    next.run(request).await
}

/// The address that a request came from, as far as it is known.
pub fn peer_address(extensions: &Extensions) -> String {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or_else(|| "unknown".into(), |peer| peer.0.ip().to_canonical().to_string())
}

impl SocketUser {
    /// As `/etc/passwd` has it, else the number.
    fn name(self) -> String {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(self.0)).then(|| name.to_owned())
        });
        found.unwrap_or_else(|| format!("uid {}", self.0))
    }
}

/// The longest `Idempotency-Key` that is taken: state remembers it for a day.
pub const MAX_IDEMPOTENCY_KEY: usize = 128;

/// The header that asks for a stale read, as `?stale=true` does.
const STALE_HEADER: &str = "x-quorumscale-stale";

/// What a write is to carry: the request's `Idempotency-Key`, if it has one, and who asks.
#[derive(Clone, Debug, Default)]
pub struct Once(pub Asked);

impl<S: Send + Sync> FromRequestParts<S> for Once {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let origin = parts.extensions.get::<Origin>().cloned();
        let Some(value) = values.next() else { return Ok(Self(Asked { idempotency_key: None, origin })) };
        let bytes = value.as_bytes();
        let good = values.next().is_none()
            && (1..=MAX_IDEMPOTENCY_KEY).contains(&bytes.len())
            && bytes.iter().all(u8::is_ascii_graphic);
        if !good {
            return Err(ApiError::bad_request(format!(
                "the header Idempotency-Key must be given once and have 1 to {MAX_IDEMPOTENCY_KEY} visible ASCII \
                 characters"
            )));
        }
        Ok(Self(Asked { idempotency_key: value.to_str().ok().map(str::to_owned), origin }))
    }
}

/// The state that a read answers from: everything acknowledged before the
/// request, or what this replica has where the request says `stale`.
pub struct Reading(pub Arc<State>);

impl FromRequestParts<Arc<Options>> for Reading {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, options: &Arc<Options>) -> Result<Self, ApiError> {
        let asked = parts.headers.get(STALE_HEADER).is_some_and(|value| value == "true");
        let stale = asked || Params::of(parts)?.flag("stale")?;
        let view = if stale { options.cluster.view() } else { options.cluster.linearizable().await? };
        Ok(Self(view))
    }
}

/// The query's parameters; of a repeated one the last.
#[derive(Debug, Default)]
pub struct Params(HashMap<String, String>);

impl Params {
    fn of(parts: &Parts) -> Result<Self, ApiError> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| ApiError::bad_request("reading the query").because(error))?;
        Ok(Self(pairs.0.into_iter().collect()))
    }

    /// The parameter's text; absent and empty are the same.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A boolean parameter; absent is false.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name) {
            "" | "false" | "0" => Ok(false),
            "true" | "1" => Ok(true),
            other => Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "validation failed").at(
                format!("query.{name}"),
                format!("{name}: expected true or false, got {other:?}"),
                other.into(),
            )),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Self::of(parts)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Author {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Author>().cloned().unwrap_or(Author("unknown".into())))
    }
}

/// An id in a path, a query or a body; `what` is what Headscale says when it is none.
pub fn id<T: FromStr<Err = std::num::ParseIntError>>(what: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error| ApiError::bad_request(what).because(go_parse_error(text, &error)))
}

/// Go's words for a text that is no `uint64`: scripts compare them.
pub fn go_parse_error(text: &str, error: &std::num::ParseIntError) -> String {
    let reason = match error.kind() {
        std::num::IntErrorKind::PosOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.ParseUint: parsing {text:?}: {reason}")
}
