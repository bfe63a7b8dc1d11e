//! API keys: what lets administrators in over the network.

use super::auth::REVOKED_EVERYWHERE;
use super::body::{Body, Kind, Shape};
use super::problem::{ApiError, unexpected};
use super::request::{Once, Params, Reading, id};
use super::secret::NewKey;
use super::{Options, render, types};
use crate::state::{ApiKeyId, ApiKeyRole, Command, Done, Refused};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// What a key's text starts with.
pub const KEY_START: &str = "hskey-api-";

/// How long a key lives whose creation names no `expiration`: 90 days, as the
/// command line's default is. (Headscale's API makes such keys expired.)
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The operations on API keys.
pub fn routes() -> Router<Arc<Options>> {
    Router::new()
        .route("/apikey", get(list).post(create))
        .route("/apikey/expire", post(expire))
        .route("/apikey/{prefix}", delete(destroy))
        // A key that is named by `?id=` has no prefix in the path.
        .route("/apikey/", delete(destroy_by_id))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreatedAnswer {
    api_key: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeysAnswer {
    api_keys: Vec<types::ApiKey>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CreateKey {
    expiration: Option<jiff::Timestamp>,
    role: String,
    owner: String,
}

/// The longest owner of a key, in characters: a name, an address, a team.
const MAX_OWNER: usize = 64;

impl CreateKey {
    fn role(&self) -> Result<ApiKeyRole, ApiError> {
        if self.role.is_empty() {
            return Ok(ApiKeyRole::default());
        }
        self.role.parse().map_err(|error| wrong("role", error, &self.role))
    }

    fn owner(&self) -> Result<String, ApiError> {
        let owner = self.owner.trim();
        if owner.chars().count() > MAX_OWNER || owner.chars().any(char::is_control) {
            let expected = format!("expected at most {MAX_OWNER} characters on one line");
            return Err(wrong("owner", expected, &self.owner));
        }
        Ok(owner.into())
    }
}

fn wrong(name: &str, why: impl std::fmt::Display, got: &str) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "validation failed").at(
        format!("body.{name}"),
        format!("{name}: {why}"),
        got.into(),
    )
}

impl Shape for CreateKey {
    const PROPERTIES: &'static [(&'static str, Kind)] =
        &[("expiration", Kind::Time), ("role", Kind::Text), ("owner", Kind::Text)];
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WhichKey {
    prefix: String,
    id: String,
}

impl Shape for WhichKey {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("prefix", Kind::Text), ("id", Kind::Number)];
}

async fn create(
    State(options): State<Arc<Options>>,
    once: Once,
    Body(body): Body<CreateKey>,
) -> Result<Json<CreatedAnswer>, ApiError> {
    const ACTION: &str = "creating api key";
    let (role, owner) = (body.role()?, body.owner()?);
    let key = NewKey::make(&options.cluster, KEY_START, "apikey", &once);
    let view = options.cluster.linearizable().await?;
    let existing = |view: &crate::state::State| view.api_key_by_prefix(&key.prefix).and_then(|key| key.expiration);
    let command = |expiration| {
        let (prefix, hash, owner) = (key.prefix.clone(), key.hash(), owner.clone());
        Command::CreateApiKey { prefix, hash, expiration: Some(expiration), role, owner }
    };
    let lifetime = (body.expiration, DEFAULT_LIFETIME);
    match key.create((&options.cluster, &view), once, lifetime, existing, command).await {
        Ok(Done::ApiKey(created)) => Ok(Json(CreatedAnswer { api_key: key.reveal(&created.prefix)? })),
        Ok(other) => Err(unexpected(ACTION, &other)),
        Err(error) => Err(key.failed(ACTION, error)),
    }
}

async fn list(Reading(view): Reading) -> Json<KeysAnswer> {
    Json(KeysAnswer { api_keys: view.api_keys().map(|key| render::api_key(key)).collect() })
}

async fn expire(
    State(options): State<Arc<Options>>,
    once: Once,
    Body(body): Body<WhichKey>,
) -> Result<Json<types::Empty>, ApiError> {
    let id = find(&options, &body.id, &body.prefix).await?;
    let written = options.cluster.write_once(once.0, Command::ExpireApiKey { id }).await;
    written.map_err(|error| ApiError::write("getting api key", error))?;
    revoked(&options).await;
    Ok(Json(types::Empty {}))
}

/// Returns when no replica accepts a key any more that this one knows to be revoked.
async fn revoked(options: &Options) {
    options.cluster.applied_everywhere(REVOKED_EVERYWHERE).await;
}

async fn destroy(
    State(options): State<Arc<Options>>,
    once: Once,
    params: Params,
    Path(prefix): Path<String>,
) -> Result<Json<types::Empty>, ApiError> {
    delete_key(&options, once, params.text("id"), &prefix).await
}

async fn destroy_by_id(
    State(options): State<Arc<Options>>,
    once: Once,
    params: Params,
) -> Result<Json<types::Empty>, ApiError> {
    delete_key(&options, once, params.text("id"), "").await
}

async fn delete_key(options: &Options, once: Once, by_id: &str, prefix: &str) -> Result<Json<types::Empty>, ApiError> {
    let id = find(options, by_id, prefix).await?;
    let written = options.cluster.write_once(once.0, Command::DeleteApiKey { id }).await;
    written.map_err(|error| ApiError::write("getting api key", error))?;
    revoked(options).await;
    Ok(Json(types::Empty {}))
}

/// The key that is named by its id, or by its prefix in any form that the API
/// or the command line shows.
async fn find(options: &Options, by_id: &str, prefix: &str) -> Result<ApiKeyId, ApiError> {
    let number = if by_id.is_empty() { ApiKeyId(0) } else { id("invalid api key id", by_id)? };
    match (number.0 != 0, !prefix.is_empty()) {
        (true, true) => Err(ApiError::bad_request("provide either id or prefix, not both")),
        (false, false) => Err(ApiError::bad_request("must provide id or prefix")),
        (true, false) => Ok(number),
        (false, true) => {
            let bare = prefix.strip_prefix(KEY_START).unwrap_or(prefix);
            let bare = bare.split_once('-').map_or(bare, |(bare, _)| bare);
            let view = options.cluster.linearizable().await?;
            let key = view.api_key_by_prefix(bare);
            key.map(|key| key.id).ok_or_else(|| ApiError::refused("getting api key", &Refused::ApiKeyNotFound))
        }
    }
}
