//! Whether the cluster can answer.

use super::Options;
use super::problem::ApiError;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;

/// The health check.
pub fn routes() -> Router<Arc<Options>> {
    Router::new().route("/health", get(health))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HealthAnswer {
    database_connectivity: bool,
}

/// Asks the leader, so that a replica that has lost touch does not call itself healthy.
async fn health(State(options): State<Arc<Options>>) -> Result<Json<HealthAnswer>, ApiError> {
    options.cluster.linearizable().await?;
    Ok(Json(HealthAnswer { database_connectivity: true }))
}
