//! Pre-authenticated keys: with one, a client joins without anybody's decision.

use super::body::{Body, Kind, Shape};
use super::problem::{ApiError, unexpected};
use super::request::{Once, Params, Reading, id};
use super::secret::NewKey;
use super::{Options, render, types};
use crate::state::{AuthKeyId, Command, Done, Owner, Refused, State as View, Tag, UserId};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What a key's text starts with.
pub const KEY_START: &str = "hskey-auth-";

/// How long a key lives whose creation names no `expiration`: an hour, as the
/// command line's default is. (Headscale's API makes such keys expired.)
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The operations on pre-authenticated keys.
pub fn routes() -> Router<Arc<Options>> {
    Router::new().route("/preauthkey", get(list).post(create).delete(destroy)).route("/preauthkey/expire", post(expire))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyAnswer {
    pre_auth_key: types::PreAuthKey,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeysAnswer {
    pre_auth_keys: Vec<types::PreAuthKey>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CreateKey {
    user: String,
    reusable: bool,
    ephemeral: bool,
    expiration: Option<jiff::Timestamp>,
    acl_tags: Vec<String>,
}

impl Shape for CreateKey {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[
        ("user", Kind::Number),
        ("reusable", Kind::Flag),
        ("ephemeral", Kind::Flag),
        ("expiration", Kind::Time),
        ("aclTags", Kind::Texts),
    ];
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KeyId {
    id: String,
}

impl Shape for KeyId {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("id", Kind::Number)];
}

async fn create(
    State(options): State<Arc<Options>>,
    once: Once,
    Body(body): Body<CreateKey>,
) -> Result<Json<KeyAnswer>, ApiError> {
    const ACTION: &str = "creating pre-auth key";
    let key = NewKey::make(&options.cluster, KEY_START, "preauthkey", &once);
    let view = options.cluster.linearizable().await?;
    let owner = owner(&view, ACTION, &body)?;
    let existing = |view: &View| view.pre_auth_key_by_prefix(&key.prefix).and_then(|key| key.expiration);
    let command = |expiration| Command::CreatePreAuthKey {
        prefix: key.prefix.clone(),
        hash: key.hash(),
        owner: owner.clone(),
        reusable: body.reusable,
        ephemeral: body.ephemeral,
        expiration: Some(expiration),
    };
    let lifetime = (body.expiration, DEFAULT_LIFETIME);
    match key.create((&options.cluster, &view), once, lifetime, existing, command).await {
        Ok(Done::PreAuthKey(created)) => {
            let mut answer = render::pre_auth_key(&options.cluster.view(), &created);
            answer.key = key.reveal(&created.prefix)?;
            Ok(Json(KeyAnswer { pre_auth_key: answer }))
        }
        Ok(other) => Err(unexpected(ACTION, &other)),
        Err(error) => Err(key.failed(ACTION, error)),
    }
}

/// Whom the key's nodes will belong to: its tags, else its user. A user that is
/// named beside tags must exist too.
fn owner(view: &View, action: &str, body: &CreateKey) -> Result<Owner, ApiError> {
    let user = match body.user.as_str() {
        "" => UserId(0),
        text => id("invalid user id", text)?,
    };
    let mut tags = BTreeSet::new();
    for text in &body.acl_tags {
        let tag: Tag = text.parse().map_err(|error| ApiError::bad_request("invalid tag").because(error))?;
        tags.insert(tag);
    }
    if user.0 != 0 && !tags.is_empty() && view.user(user).is_none() {
        return Err(ApiError::refused(action, &Refused::UserNotFound));
    }
    match (user.0, tags.is_empty()) {
        (_, false) => Ok(Owner::Tags(tags)),
        (0, true) => Err(ApiError::bad_request(action).because("auth-key must be either tagged or owned by user")),
        (_, true) => Ok(Owner::User(user)),
    }
}

async fn list(Reading(view): Reading) -> Json<KeysAnswer> {
    let pre_auth_keys = view.pre_auth_keys().map(|key| render::pre_auth_key(&view, key)).collect();
    Json(KeysAnswer { pre_auth_keys })
}

async fn expire(
    State(options): State<Arc<Options>>,
    once: Once,
    Body(body): Body<KeyId>,
) -> Result<Json<types::Empty>, ApiError> {
    let command = Command::ExpirePreAuthKey { id: key_id(&body.id)? };
    let written = options.cluster.write_once(once.0, command).await;
    written.map_err(|error| ApiError::write("expiring pre-auth key", error))?;
    Ok(Json(types::Empty {}))
}

async fn destroy(
    State(options): State<Arc<Options>>,
    once: Once,
    params: Params,
) -> Result<Json<types::Empty>, ApiError> {
    let command = Command::DeletePreAuthKey { id: key_id(params.text("id"))? };
    let written = options.cluster.write_once(once.0, command).await;
    written.map_err(|error| ApiError::write("deleting pre-auth key", error))?;
    Ok(Json(types::Empty {}))
}

/// No id is 0, which no key has: the same answer as for any unknown id.
fn key_id(text: &str) -> Result<AuthKeyId, ApiError> {
    if text.is_empty() { Ok(AuthKeyId(0)) } else { id("invalid pre-auth key id", text) }
}
