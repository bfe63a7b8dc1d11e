//! For load balancers, monitors and robots.

use super::Options;
use crate::api::types::VersionInfo;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;

/// Health, version, `robots.txt`.
pub fn routes() -> Router<Arc<Options>> {
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/version", get(async || Json(VersionInfo::current())))
        .route("/robots.txt", get(async || "User-agent: *\nDisallow: /\n"))
}

/// Whether this replica serves clients: it is in touch with a quorum.
async fn health(State(options): State<Arc<Options>>) -> impl IntoResponse {
    let (status, body) = match *options.cluster.quorum().borrow() {
        true => (StatusCode::OK, r#"{"status":"pass"}"#),
        false => (StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"fail"}"#),
    };
    (status, [(header::CONTENT_TYPE, "application/health+json; charset=utf-8")], body)
}

/// Whether to send clients here: a quorum, a cluster that is set up, and no stop under way.
async fn ready(State(options): State<Arc<Options>>) -> (StatusCode, &'static str) {
    if options.cluster.is_removed() {
        return (StatusCode::SERVICE_UNAVAILABLE, "removed from the cluster\n");
    }
    if options.cluster.leaving().is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    if !*options.cluster.quorum().borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "no quorum\n");
    }
    if options.cluster.noise_key().is_none() {
        return (StatusCode::SERVICE_UNAVAILABLE, "not set up yet\n");
    }
    (StatusCode::OK, "ok\n")
}
