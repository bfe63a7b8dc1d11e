//! Questions about the policy: do its tests pass, and why does it say what it says.
//!
//! They read, but are `POST`s: a policy that is not in force may come along.

use super::Options;
use super::body::{Body, Kind, Shape};
use super::problem::ApiError;
use super::request::Reading;
use crate::policy::explain::{ExplainError, Explanation, Question, Trials, explain, trials};
use crate::state::State as View;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use std::sync::Arc;

/// The operations; in each body `policy` is a text to ask instead of the one in force.
///
/// - `POST /policy/test` `{}`: [`Trials`]; tests that fail are no error.
/// - `POST /policy/explain/access` `{"source": "alice@", "destination": "server:443", "protocol": "tcp"}`
/// - `POST /policy/explain/ssh` `{"source": "alice@", "destination": "root@server"}`
/// - `POST /policy/explain/route` `{"prefix": "10.0.0.0/8", "node": "router"}`
/// - `POST /policy/explain/tag` `{"tag": "tag:server", "user": "alice"}`
///
/// Explanations are an [`Explanation`].
pub fn routes() -> Router<Arc<Options>> {
    Router::new()
        .route("/policy/test", post(test))
        .route("/policy/explain/access", post(access))
        .route("/policy/explain/ssh", post(ssh))
        .route("/policy/explain/route", post(route))
        .route("/policy/explain/tag", post(tag))
}

const POLICY: (&str, Kind) = ("policy", Kind::Text);

#[derive(Deserialize)]
struct Test {
    policy: Option<String>,
}

impl Shape for Test {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[POLICY];
    const MAY_BE_ABSENT: bool = true;
}

async fn test(Reading(view): Reading, Body(body): Body<Test>) -> Result<Json<Trials>, ApiError> {
    let text = text(&view, body.policy);
    let trials = aside(move || trials(&text, &view)).await?;
    Ok(Json(trials.map_err(|error| ApiError::bad_request("testing policy").because(error))?))
}

#[derive(Deserialize)]
struct Access {
    source: String,
    destination: String,
    #[serde(default)]
    protocol: String,
    policy: Option<String>,
}

impl Shape for Access {
    const PROPERTIES: &'static [(&'static str, Kind)] =
        &[("source", Kind::Text), ("destination", Kind::Text), ("protocol", Kind::Text), POLICY];
    const REQUIRED: &'static [&'static str] = &["source", "destination"];
}

async fn access(Reading(view): Reading, Body(body): Body<Access>) -> Result<Json<Explanation>, ApiError> {
    let Access { source, destination, protocol, policy } = body;
    answer(view, policy, Question::Access { source, destination, protocol }).await
}

#[derive(Deserialize)]
struct Ssh {
    source: String,
    destination: String,
    policy: Option<String>,
}

impl Shape for Ssh {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("source", Kind::Text), ("destination", Kind::Text), POLICY];
    const REQUIRED: &'static [&'static str] = &["source", "destination"];
}

async fn ssh(Reading(view): Reading, Body(body): Body<Ssh>) -> Result<Json<Explanation>, ApiError> {
    let Ssh { source, destination, policy } = body;
    answer(view, policy, Question::Ssh { source, destination }).await
}

#[derive(Deserialize)]
struct Route {
    prefix: String,
    node: String,
    policy: Option<String>,
}

impl Shape for Route {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("prefix", Kind::Text), ("node", Kind::Text), POLICY];
    const REQUIRED: &'static [&'static str] = &["prefix", "node"];
}

async fn route(Reading(view): Reading, Body(body): Body<Route>) -> Result<Json<Explanation>, ApiError> {
    let Route { prefix, node, policy } = body;
    answer(view, policy, Question::Route { prefix, node }).await
}

#[derive(Deserialize)]
struct Tag {
    tag: String,
    user: String,
    policy: Option<String>,
}

impl Shape for Tag {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("tag", Kind::Text), ("user", Kind::Text), POLICY];
    const REQUIRED: &'static [&'static str] = &["tag", "user"];
}

async fn tag(Reading(view): Reading, Body(body): Body<Tag>) -> Result<Json<Explanation>, ApiError> {
    let Tag { tag, user, policy } = body;
    answer(view, policy, Question::Tag { tag, user }).await
}

async fn answer(view: Arc<View>, policy: Option<String>, question: Question) -> Result<Json<Explanation>, ApiError> {
    const ACTION: &str = "explaining policy";
    let text = text(&view, policy);
    match aside(move || explain(&text, &view, &question)).await? {
        Ok(explanation) => Ok(Json(explanation)),
        Err(error @ (ExplainError::Policy(_) | ExplainError::Question(_))) => {
            Err(ApiError::bad_request(ACTION).because(error))
        }
    }
}

/// What is asked about; no policy at all allows everything, as an empty one does.
fn text(view: &View, given: Option<String>) -> String {
    given.unwrap_or_else(|| view.policy().map_or_else(String::new, |policy| policy.text.clone()))
}

/// Runs what may take a while where it keeps nobody from their turn.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "answering failed; the log has more"))
}
