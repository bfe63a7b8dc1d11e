//! The policy.

use super::body::{Body, Kind, Shape};
use super::problem::ApiError;
use super::request::{Author, Once, Reading};
use super::{Options, PolicyMode, types};
use crate::policy::{Policy, PolicyError};
use crate::state::{Command, State as View};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The operations on the policy.
pub fn routes() -> Router<Arc<Options>> {
    Router::new().route("/policy", get(show).put(set)).route("/policy/check", post(check))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyAnswer {
    policy: String,
    updated_at: String,
}

impl PolicyAnswer {
    fn of(view: &View) -> Result<Json<Self>, ApiError> {
        let policy = view.policy().ok_or_else(|| {
            // Headscale's status and words.
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "loading ACL from database")
                .because("acl policy not found")
        })?;
        Ok(Json(Self { policy: policy.text.clone(), updated_at: policy.updated.to_string() }))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PolicyBody {
    policy: String,
}

impl Shape for PolicyBody {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("policy", Kind::Text)];
}

/// The policy in force, also where it came from a file.
async fn show(Reading(view): Reading) -> Result<Json<PolicyAnswer>, ApiError> {
    PolicyAnswer::of(&view)
}

async fn set(
    State(options): State<Arc<Options>>,
    author: Author,
    once: Once,
    Body(body): Body<PolicyBody>,
) -> Result<Json<PolicyAnswer>, ApiError> {
    const ACTION: &str = "setting policy";
    refuse_in_file_mode(&options)?;
    let view = options.cluster.linearizable().await?;
    examine(&view, &body.policy).map_err(|error| ApiError::bad_request(ACTION).because(error))?;
    let command = Command::PutPolicy { text: body.policy, author: author.0, expected_version: None, restores: None };
    let written = options.cluster.write_once(once.0, command).await;
    written.map_err(|error| ApiError::write(ACTION, error))?;
    PolicyAnswer::of(&options.cluster.view())
}

/// Looks at a text as [`set`] would.
async fn check(Reading(view): Reading, Body(body): Body<PolicyBody>) -> Result<Json<types::Empty>, ApiError> {
    match examine(&view, &body.policy) {
        Ok(()) => Ok(Json(types::Empty {})),
        // Headscale says it twice.
        Err(error) => Err(ApiError::bad_request(error.to_string()).because(error)),
    }
}

/// In Headscale's words, and what to do instead.
pub fn refuse_in_file_mode(options: &Options) -> Result<(), ApiError> {
    const DISABLED: &str = "update is disabled for modes other than 'database'";
    match options.policy_mode {
        PolicyMode::Database => Ok(()),
        PolicyMode::File => Err(ApiError::bad_request(DISABLED).because(
            "policy.mode is file here: change the file that policy.path names, which is read again within seconds",
        )),
    }
}

/// Whether the text is a policy that would act as it says.
pub fn examine(view: &View, text: &str) -> Result<(), PolicyError> {
    Policy::check(text, view).map(drop)
}
