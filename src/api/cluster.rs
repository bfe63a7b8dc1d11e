//! The cluster itself: who is well, who belongs to it, who leads.

use super::audit::deed;
use super::body::{Body, Kind, Shape};
use super::problem::ApiError;
use super::recorder::Recorder;
use super::request::{Once, Params, Reading, id};
use super::{Options, types};
use crate::cluster::{ClusterStatus, Rotation, Unavailable, Verification};
use crate::state::ReplicaId;
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
    let recorder = Recorder::begin(&options, once, "replica.add", format!("replica {id}"), &body.address).await?;
    recorder.end(options.cluster.add(id, body.address).await).await?;
    Ok(Json(types::Empty {}))
}

async fn promote(
    State(options): State<Arc<Options>>,
    once: Once,
    Path(member): Path<String>,
) -> Result<Json<types::Empty>, ApiError> {
    let id = replica(&member)?;
    let recorder = Recorder::begin(&options, once, "replica.promote", format!("replica {id}"), "").await?;
    recorder.end(options.cluster.promote(id).await).await?;
    Ok(Json(types::Empty {}))
}

async fn remove(
    State(options): State<Arc<Options>>,
    once: Once,
    Path(member): Path<String>,
) -> Result<Json<types::Empty>, ApiError> {
    let id = replica(&member)?;
    let recorder = Recorder::begin(&options, once, "replica.remove", format!("replica {id}"), "").await?;
    let removed = options.cluster.remove(id).await;
    match removed {
        // It can record nothing any more.
        Ok(_) if id == options.cluster.id() => {}
        other => drop(recorder.end(other).await?),
    }
    Ok(Json(types::Empty {}))
}

/// A leader whose disk takes no writes has to be able to hand over: what it cannot record
/// before, its successor records after.
async fn lead(
    State(options): State<Arc<Options>>,
    once: Once,
    Body(body): Body<Lead>,
) -> Result<Json<LeaderAnswer>, ApiError> {
    let to = body.id.as_deref().map(replica).transpose()?;
    let leader = options.cluster.transfer_leader(to).await?;
    Recorder::note(&options, &once, deed("leader.transfer", format!("replica {leader}"), "")).await;
    Ok(Json(LeaderAnswer { leader }))
}

async fn rotate(State(options): State<Arc<Options>>, once: Once) -> Result<Json<Rotation>, ApiError> {
    let recorder = Recorder::begin(&options, once, "secret.rotate", "cluster secret".into(), "").await?;
    let rotated = options.cluster.rotate_secret().await;
    let secret = rotated.as_ref().map(|rotation| rotation.secret.to_string()).unwrap_or_default();
    Ok(Json(recorder.about(format!("to {secret}")).end(rotated).await?))
}

/// Whoever has a backup has the server's keys, so that taking one is recorded first. Where
/// that cannot be (no quorum, no room on a disk) only `?stale=true` gives one, and the log tells of it.
async fn backup(
    State(options): State<Arc<Options>>,
    once: Once,
    params: Params,
    Reading(view): Reading,
) -> Result<Response, ApiError> {
    let parts = options.cluster.backup(view).ok_or(Unavailable::NoQuorum)?;
    let deed = deed("backup.take", "the whole state and the server's keys", "");
    match params.text("stale") {
        "true" => Recorder::note(&options, &once, deed).await,
        _ => Recorder::must_note(&options, &once, deed).await?,
    }
    let body = Bytes::from_stream(tokio_stream::wrappers::ReceiverStream::new(parts));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

fn replica(text: &str) -> Result<ReplicaId, ApiError> {
    id("invalid replica id", text)
}
