//! The cluster itself: who is well, who belongs to it, who leads.

use super::audit::deed;
use super::body::{Body, Kind, Shape};
use super::problem::ApiError;
use super::request::{Once, Reading, id};
use super::{Options, types};
use crate::cluster::{Asked, ClusterStatus, Rotation, Unavailable, Verification};
use crate::state::{Command, Deed, ReplicaId};
use axum::body::Body as Bytes;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The operations on the cluster.
///
/// - `GET /cluster`: a [`ClusterStatus`], also without a quorum.
/// - `GET /cluster/verify`: a [`Verification`]: all replicas compared at one index.
/// - `POST /cluster/member` `{"id":4,"address":"host:7946"}`: adds a replica as
///   a learner; `{}` when it has caught up.
/// - `POST /cluster/member/{id}/promote`: makes a learner a voter; `{}`.
/// - `DELETE /cluster/member/{id}`: removes a replica for good; `{}`.
/// - `POST /cluster/leader` `{"id":2}`: hands leadership over, without an id to
///   the voter that is most up to date; `{"leader":2}`.
/// - `POST /cluster/secret`: goes over to the new secret, when all replicas accept
///   it; a [`Rotation`].
/// - `GET /cluster/snapshot`: a backup as a stream of bytes, which holds the server's
///   keys in the clear (`?stale=true`: what this replica has, also without a quorum).
///
/// What the cluster refuses is 409 with the reason.
pub fn routes() -> Router<Arc<Options>> {
    Router::new()
        .route("/cluster", get(status))
        .route("/cluster/verify", get(verify))
        .route("/cluster/member", post(add))
        .route("/cluster/member/{id}/promote", post(promote))
        .route("/cluster/member/{id}", delete(remove))
        .route("/cluster/leader", post(lead))
        .route("/cluster/secret", post(rotate))
        .route("/cluster/snapshot", get(backup))
}

#[derive(Deserialize)]
struct AddMember {
    id: String,
    address: String,
}

impl Shape for AddMember {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("id", Kind::Number), ("address", Kind::Text)];
    const REQUIRED: &'static [&'static str] = &["id", "address"];
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Lead {
    id: Option<String>,
}

impl Shape for Lead {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("id", Kind::Number)];
    const MAY_BE_ABSENT: bool = true;
}

#[derive(Serialize)]
struct LeaderAnswer {
    leader: ReplicaId,
}

async fn status(State(options): State<Arc<Options>>) -> Json<ClusterStatus> {
    Json(options.cluster.status().await)
}

async fn verify(State(options): State<Arc<Options>>) -> Result<Json<Verification>, ApiError> {
    Ok(Json(options.cluster.verify().await?))
}

async fn add(
    State(options): State<Arc<Options>>,
    once: Once,
    Body(body): Body<AddMember>,
) -> Result<Json<types::Empty>, ApiError> {
    let id = replica(&body.id)?;
    options.cluster.add(id, body.address.clone()).await?;
    record(&options, once, deed("replica.add", format!("replica {id}"), format!("at {}", body.address))).await;
    Ok(Json(types::Empty {}))
}

/// The change is made, whether it can be recorded or not: what it was is in the log then.
async fn record(options: &Options, once: Once, deed: Deed) {
    // The key would name two different writes.
    let asked = Asked { idempotency_key: None, ..once.0 };
    let by = asked.origin.as_ref().map(|origin| origin.by.clone()).unwrap_or_default();
    let has_quorum = *options.cluster.quorum().borrow();
    let written = match has_quorum {
        true => options.cluster.write_once(asked, Command::Note(deed.clone())).await,
        false => Err(Unavailable::NoQuorum.into()),
    };
    if let Err(error) = written {
        tracing::warn!(by, ?deed, %error, "done, but not in the audit record");
    }
}

async fn promote(
    State(options): State<Arc<Options>>,
    once: Once,
    Path(member): Path<String>,
) -> Result<Json<types::Empty>, ApiError> {
    let id = replica(&member)?;
    options.cluster.promote(id).await?;
    record(&options, once, deed("replica.promote", format!("replica {id}"), "")).await;
    Ok(Json(types::Empty {}))
}

async fn remove(
    State(options): State<Arc<Options>>,
    once: Once,
    Path(member): Path<String>,
) -> Result<Json<types::Empty>, ApiError> {
    let id = replica(&member)?;
    let deed = deed("replica.remove", format!("replica {id}"), "");
    // A replica that was removed can record nothing any more.
    if id == options.cluster.id() {
        record(&options, once, deed).await;
        options.cluster.remove(id).await?;
    } else {
        options.cluster.remove(id).await?;
        record(&options, once, deed).await;
    }
    Ok(Json(types::Empty {}))
}

async fn lead(
    State(options): State<Arc<Options>>,
    once: Once,
    Body(body): Body<Lead>,
) -> Result<Json<LeaderAnswer>, ApiError> {
    let to = body.id.as_deref().map(replica).transpose()?;
    let leader = options.cluster.transfer_leader(to).await?;
    record(&options, once, deed("leader.transfer", format!("replica {leader}"), "")).await;
    Ok(Json(LeaderAnswer { leader }))
}

async fn rotate(State(options): State<Arc<Options>>, once: Once) -> Result<Json<Rotation>, ApiError> {
    let rotation = options.cluster.rotate_secret().await?;
    record(&options, once, deed("secret.rotate", "cluster secret", format!("to {}", rotation.secret))).await;
    Ok(Json(rotation))
}

/// Whoever has a backup has the server's keys, so that taking one is recorded; only without
/// a quorum, when nothing can be, the log alone tells of it.
async fn backup(State(options): State<Arc<Options>>, once: Once, Reading(view): Reading) -> Result<Response, ApiError> {
    let parts = options.cluster.backup(view).ok_or(Unavailable::NoQuorum)?;
    record(&options, once, deed("backup.take", "the whole state and the server's keys", "")).await;
    let body = Bytes::from_stream(tokio_stream::wrappers::ReceiverStream::new(parts));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

fn replica(text: &str) -> Result<ReplicaId, ApiError> {
    id("invalid replica id", text)
}
