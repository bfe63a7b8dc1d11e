//! Who may use the API over the network: holders of an API key.

use super::problem::ApiError;
use super::request::Author;
use crate::cluster::Cluster;
use crate::import::first_use::{self, FirstUseError};
use crate::state::{AdoptedKey, ApiKey, SecretHash, State, Time};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
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
        if accepts(&view, key) || self.is_first_use(&view, key).await? {
            return Ok(Author::with_key(&key.prefix));
        }
        Err(unauthorized())
    }

    /// Whether it is a good key that was imported, and is used here for the first time.
    async fn is_first_use(&self, view: &State, key: &PresentedKey) -> Result<bool, ApiError> {
        let Some(known) = view.api_key_by_prefix(&key.prefix).filter(|known| is_alive(view, known)) else {
            return Ok(false);
        };
        let Some(slow) = known.hash.bcrypt() else { return Ok(false) };
        let adopted = first_use::adopt(&self.cluster, AdoptedKey::Api(known.id), slow, &key.secret).await;
        adopted.map_err(|error| match error {
            FirstUseError::Unavailable(error) => error.into(),
            busy @ FirstUseError::Busy => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, busy.to_string()),
        })
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

/// A key as a request carries it.
struct PresentedKey {
    prefix: String,
    hash: SecretHash,
    /// For a key that was imported, until it was used once.
    secret: zeroize::Zeroizing<String>,
}

impl PresentedKey {
    /// From `Authorization: Bearer hskey-api-PREFIX-SECRET`.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let token = token.trim();
        let (prefix, secret) = match token.strip_prefix(super::apikeys::KEY_START) {
            Some(rest) => rest.split_once('-')?,
            None => token.split_once('.').filter(|(prefix, secret)| (prefix.len(), secret.len()) == OLD_FORM)?,
        };
        Some(Self { prefix: prefix.into(), hash: SecretHash::of(secret), secret: secret.to_owned().into() })
    }
}

/// The lengths of the two parts of keys that Headscale made before 0.28: `PREFIX.SECRET`.
const OLD_FORM: (usize, usize) = (7, 32);

fn accepts(view: &State, key: &PresentedKey) -> bool {
    let Some(known) = view.api_key_by_prefix(&key.prefix) else { return false };
    is_alive(view, known) && known.hash.is(&key.hash)
}

/// Expiring a key stamps the leader's clock, which may be ahead of ours.
fn is_alive(view: &State, key: &ApiKey) -> bool {
    let now = Time::now().max(view.clock());
    key.expiration.is_none_or(|end| now < end)
}
