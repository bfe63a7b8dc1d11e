//! `GET /key`: by what key clients know this server (protocol section 1.1).

use super::Shared;
use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Older clients do not speak Noise.
const FIRST_NOISE_VERSION: u32 = 39;

#[derive(Deserialize)]
pub(super) struct Parameters {
    /// The client's capability version.
    v: Option<String>,
}

/// `tailcfg.OverTLSPublicKeyResponse`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    legacy_public_key: String,
    public_key: String,
}

/// The keys, or an error as Headscale words it. Answered without a quorum too: the keys never change.
pub(super) async fn get(State(shared): State<Arc<Shared>>, Query(parameters): Query<Parameters>) -> Response {
    let Some(version) = parameters.v.filter(|v| !v.is_empty()) else {
        return (StatusCode::BAD_REQUEST, "capability version must be set").into_response();
    };
    let Ok(version) = version.parse::<u32>() else {
        return (StatusCode::BAD_REQUEST, "capability version must be a number").into_response();
    };
    if version < FIRST_NOISE_VERSION {
        return StatusCode::OK.into_response();
    }
    let view = shared.cluster.view();
    let Some(keys) = view.server_keys() else {
        let text = "this cluster is not set up yet: try again in a moment";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], text).into_response();
    };
    Json(Keys { legacy_public_key: keys.legacy_public.to_string(), public_key: keys.noise_public.to_string() })
        .into_response()
}
