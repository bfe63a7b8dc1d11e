//! Who may use the API over the network: holders of an API key.
//!
//! A replica checks a key against what it has applied, which takes microseconds. So that a
//! key that was revoked elsewhere is not accepted here, it proves once in a while
//! ([`FRESH`]) that it has applied what was acknowledged before; a replica that cannot
//! prove it, because it has no quorum, accepts no key.

use super::access;
use super::problem::ApiError;
use super::request::{Author, peer_address};
use super::usage::Usage;
use crate::cluster::{Cluster, Unavailable};
use crate::import::first_use::{self, FirstUseError};
use crate::sensitive::Sensitive;
use crate::state::{AdoptedKey, ApiKey, Origin, SecretHash, State, Time};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Semaphore, watch};

/// How many requests with a key that this replica does not know may ask the
/// leader at one time: strangers must not be able to make it busy.
const MAX_RECHECKS: usize = 16;

/// For how long a replica may take its own word for which keys there are.
const FRESH: Duration = Duration::from_secs(1);

/// After this time no replica accepts a key any more that was revoked before: [`FRESH`],
/// and something for clocks that do not run at the same speed.
pub const REVOKED_EVERYWHERE: Duration = Duration::from_millis(1250);

/// What checks keys.
#[derive(Clone)]
pub struct Gate {
    cluster: Cluster,
    quorum: watch::Receiver<bool>,
    rechecks: Arc<Semaphore>,
    proven: Arc<Proven>,
    usage: Usage,
}

/// When a read began that proved this replica to be up to date.
#[derive(Default)]
struct Proven {
    at: Mutex<Option<(Instant, SystemTime)>>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl Proven {
    /// By both clocks: one stands still while the machine is suspended, the other can be set.
    fn is_fresh(&self) -> bool {
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|(instant, wall)| {
            instant.elapsed() < FRESH && wall.elapsed().is_ok_and(|elapsed| elapsed < FRESH)
        })
    }

    fn set(&self, at: (Instant, SystemTime)) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

impl Gate {
    /// Keys of this cluster.
    pub fn new(cluster: Cluster) -> Self {
        Self {
            quorum: cluster.quorum(),
            rechecks: Arc::new(Semaphore::new(MAX_RECHECKS)),
            proven: Arc::default(),
            usage: Usage::new(cluster.clone()),
            cluster,
        }
    }

    /// The key's record, if the key is good. One that this replica does not know may have
    /// been made on another a moment ago, so the leader is asked once.
    async fn check(&self, key: &PresentedKey) -> Result<Arc<ApiKey>, ApiError> {
        self.prove_up_to_date().await?;
        let view = self.cluster.view();
        if let Some(known) = view.api_key_by_prefix(&key.prefix) {
            return self.judge(&view, known, key).await;
        }
        let Ok(_permit) = self.rechecks.try_acquire() else {
            return Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests with unknown API keys: try again",
            ));
        };
        let view = self.cluster.linearizable().await?;
        let known = view.api_key_by_prefix(&key.prefix).ok_or_else(unauthorized)?;
        self.judge(&view, known, key).await
    }

    async fn prove_up_to_date(&self) -> Result<(), Unavailable> {
        if !*self.quorum.borrow() {
            return Err(Unavailable::NoQuorum);
        }
        if self.proven.is_fresh() {
            return Ok(());
        }
        let _only_one = self.proven.one_at_a_time.lock().await;
        if !self.proven.is_fresh() {
            let begun = (Instant::now(), SystemTime::now());
            self.cluster.linearizable().await?;
            self.proven.set(begun);
        }
        Ok(())
    }

    async fn judge(&self, view: &State, known: &Arc<ApiKey>, key: &PresentedKey) -> Result<Arc<ApiKey>, ApiError> {
        // Expiring a key stamps the leader's clock, which may be ahead of ours.
        let now = self.cluster.now().max(view.clock());
        let alive = known.expiration.is_none_or(|end| now < end);
        // The comparison takes the same time whatever is wrong.
        let good = known.hash.is(&key.hash) && alive;
        if good || (alive && self.is_first_use(known, key).await?) { Ok(known.clone()) } else { Err(unauthorized()) }
    }

    /// Whether it is a good key that was imported, and is used here for the first time.
    async fn is_first_use(&self, known: &ApiKey, key: &PresentedKey) -> Result<bool, ApiError> {
        let Some(slow) = known.hash.bcrypt() else { return Ok(false) };
        let adopted = first_use::adopt(&self.cluster, AdoptedKey::Api(known.id), slow, &key.secret).await;
        adopted.map_err(|error| match error {
            FirstUseError::Unavailable(error) => error.into(),
            busy @ FirstUseError::Busy => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, busy.to_string()),
        })
    }
}

/// Middleware: passes requests with a key that is good for them on, with their [`Author`]
/// and [`Origin`].
pub async fn require_key(
    axum::extract::State(gate): axum::extract::State<Gate>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let key = PresentedKey::of(request.headers()).ok_or_else(unauthorized)?;
    let known = gate.check(&key).await?;
    gate.usage.note(&known, Time::now());
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    if let Some(why) = access::refusal(known.role, access::needed(request.method(), path)) {
        return Err(forbidden(&known, why));
    }
    let author = Author::with_key(&known);
    let origin = Origin { by: author.0.clone(), from: peer_address(request.extensions()) };
    request.extensions_mut().insert(author);
    request.extensions_mut().insert(origin);
    Ok(next.run(request).await)
}

fn unauthorized() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "Unauthorized")
}

fn forbidden(key: &ApiKey, why: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "Forbidden").because(format!(
        "the API key {} has the role {}: it {why}; use a key with the role admin (\"apikeys create --role admin\")",
        key.prefix, key.role
    ))
}

/// A key as a request carries it.
struct PresentedKey {
    prefix: String,
    hash: SecretHash,
    /// For a key that was imported, until it was used once.
    secret: Sensitive<String>,
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
        Some(Self { prefix: prefix.into(), hash: SecretHash::of(secret), secret: Sensitive::new(secret.to_owned()) })
    }
}

/// The lengths of the two parts of keys that Headscale made before 0.28: `PREFIX.SECRET`.
const OLD_FORM: (usize, usize) = (7, 32);
