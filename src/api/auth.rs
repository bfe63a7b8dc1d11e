//! Who may use the API over the network: holders of an API key.

use super::problem::ApiError;
use super::request::Author;
use crate::cluster::Cluster;
use crate::state::{SecretHash, State, Time};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// How many requests with a key that this replica does not know may ask the
/// leader at one time: strangers must not be able to make it busy.
const MAX_RECHECKS: usize = 16;

/// What checks keys.
#[derive(Clone)]
pub struct Gate {
    cluster: Cluster,
    rechecks: Arc<Semaphore>,
}

impl Gate {
    /// Keys of this cluster.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, rechecks: Arc::new(Semaphore::new(MAX_RECHECKS)) }
    }

    /// Who it is, if the key is good. One that this replica does not
    /// know may have been made on another a moment ago, so the leader is asked once.
    async fn check(&self, key: &PresentedKey) -> Result<Author, ApiError> {
        if accepts(&self.cluster.view(), key) {
            return Ok(Author::with_key(&key.prefix));
        }
        let Ok(_permit) = self.rechecks.try_acquire() else {
            return Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests with unknown API keys: try again",
            ));
        };
        let view = self.cluster.linearizable().await?;
        if accepts(&view, key) { Ok(Author::with_key(&key.prefix)) } else { Err(unauthorized()) }
    }
}

/// Middleware: passes requests with a good key on, with their [`Author`].
pub async fn require_key(
    axum::extract::State(gate): axum::extract::State<Gate>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let key = PresentedKey::of(request.headers()).ok_or_else(unauthorized)?;
    let author = gate.check(&key).await?;
    request.extensions_mut().insert(author);
    Ok(next.run(request).await)
}

fn unauthorized() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "Unauthorized")
}

/// A key as a request carries it; the secret is hashed at once.
struct PresentedKey {
    prefix: String,
    hash: SecretHash,
}

impl PresentedKey {
    /// From `Authorization: Bearer hskey-api-PREFIX-SECRET`.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (prefix, secret) = token.trim().strip_prefix(super::apikeys::KEY_START)?.split_once('-')?;
        Some(Self { prefix: prefix.into(), hash: SecretHash::of(secret) })
    }
}

fn accepts(view: &State, key: &PresentedKey) -> bool {
    let Some(known) = view.api_key_by_prefix(&key.prefix) else { return false };
    // Expiring a key stamps the leader's clock, which may be ahead of ours.
    let now = Time::now().max(view.clock());
    let alive = known.expiration.is_none_or(|end| now < end);
    alive && bool::from(known.hash.0.ct_eq(&key.hash.0))
}
