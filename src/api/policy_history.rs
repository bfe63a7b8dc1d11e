//! Earlier policies: which there are, how they differ, and the way back to one.

use super::body::{Body, Kind, Shape};
use super::policy::{examine, refuse_in_file_mode};
use super::problem::{ApiError, unexpected};
use super::request::{Author, Once, Params, Reading, id};
use super::{Options, types};
use crate::state::{Command, Done, PolicyText, Refused, State as View};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How often a rollback is decided anew because the policy changed meanwhile.
const MAX_ATTEMPTS: usize = 5;

/// How long the search for a short difference may take; after that a longer one is shown.
const DIFF_PATIENCE: Duration = Duration::from_secs(1);

/// The operations on earlier policies.
///
/// - `GET /policy/history`: [`types::PolicyVersion`]s, from the newest.
/// - `GET /policy/history/{version}`: one with its text, [`types::PolicyOfVersion`].
/// - `GET /policy/diff?from=1&to=2`: [`types::PolicyDiff`]; without `to` to the policy in
///   force, without both from the one before it.
/// - `POST /policy/rollback` `{"version": 1}`: puts the text of that version in force anew;
///   [`types::PolicyOfVersion`].
pub fn routes() -> Router<Arc<Options>> {
    Router::new()
        .route("/policy/history", get(history))
        .route("/policy/history/{version}", get(show))
        .route("/policy/diff", get(diff))
        .route("/policy/rollback", post(rollback))
}

async fn history(Reading(view): Reading) -> Json<types::PolicyHistory> {
    let all: Vec<&Arc<PolicyText>> = view.policy_versions().collect();
    let version = |(n, policy): (usize, &&Arc<PolicyText>)| types::PolicyVersion {
        version: policy.version.to_string(),
        in_force: n == 0,
        updated_at: policy.updated.to_string(),
        author: policy.author.clone(),
        bytes: policy.text.len().to_string(),
        restores: policy.restores.map(|version| version.to_string()),
        summary: summary(policy, all.get(n + 1).copied()),
    };
    Json(types::PolicyHistory { versions: all.iter().enumerate().map(version).collect() })
}

async fn show(Reading(view): Reading, Path(version): Path<String>) -> Result<Json<types::PolicyOfVersion>, ApiError> {
    Ok(Json(with_text(find(&view, number(&version)?)?)))
}

async fn diff(Reading(view): Reading, params: Params) -> Result<Json<types::PolicyDiff>, ApiError> {
    let named = |name: &str| match params.text(name) {
        "" => Ok(None),
        text => number(text).map(Some),
    };
    let newest = view.policy_version();
    let to = named("to")?.unwrap_or(newest);
    let from = named("from")?.unwrap_or(to.saturating_sub(1));
    let (old, new) = (find(&view, from)?.clone(), find(&view, to)?.clone());
    // A long one would keep others from their turn.
    let unified = tokio::task::spawn_blocking(move || unified(&old, &new)).await;
    let diff = unified.map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "comparing policies"))?;
    Ok(Json(types::PolicyDiff { from: from.to_string(), to: to.to_string(), diff }))
}

#[derive(Deserialize)]
struct Rollback {
    version: String,
}

impl Shape for Rollback {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("version", Kind::Number)];
    const REQUIRED: &'static [&'static str] = &["version"];
}

async fn rollback(
    State(options): State<Arc<Options>>,
    author: Author,
    once: Once,
    Body(body): Body<Rollback>,
) -> Result<Json<types::PolicyOfVersion>, ApiError> {
    refuse_in_file_mode(&options)?;
    let version = number(&body.version)?;
    let action = format!("rolling back to policy version {version}");
    let mut outcome = Err(Refused::Stale.into());
    for _ in 0..MAX_ATTEMPTS {
        let view = options.cluster.linearizable().await?;
        let old = find(&view, version)?;
        if view.policy().is_some_and(|current| current.text == old.text && current.restores != Some(version)) {
            return Err(ApiError::new(StatusCode::CONFLICT, format!("policy version {version} is in force already")));
        }
        examine(&view, &old.text).map_err(|error| ApiError::bad_request(&action).because(error))?;
        let command = Command::PutPolicy {
            text: old.text.clone(),
            author: author.0.clone(),
            expected_version: Some(view.policy_version()),
            restores: Some(version),
        };
        outcome = options.cluster.write_once(once.0.clone(), command).await;
        if !super::logins::is_stale(&outcome) {
            break;
        }
    }
    match outcome {
        Ok(Done::PolicyVersion(new)) => Ok(Json(with_text(find(&options.cluster.view(), new)?))),
        Ok(other) => Err(unexpected(&action, &other)),
        Err(error) => Err(ApiError::write(&action, error)),
    }
}

fn number(text: &str) -> Result<u64, ApiError> {
    id("policy versions are numbers", text)
}

fn find(view: &View, version: u64) -> Result<&Arc<PolicyText>, ApiError> {
    view.policy_of_version(version).ok_or_else(|| {
        let there = match (view.policy_versions().last(), view.policy()) {
            (Some(oldest), Some(newest)) if oldest.version < newest.version => {
                format!("there are versions {} to {}", oldest.version, newest.version)
            }
            (_, Some(newest)) => format!("there is only version {}", newest.version),
            _ => "no policy was ever set".into(),
        };
        ApiError::not_found(format!("policy version {version} is not kept: {there}"))
    })
}

fn with_text(policy: &Arc<PolicyText>) -> types::PolicyOfVersion {
    types::PolicyOfVersion {
        version: policy.version.to_string(),
        updated_at: policy.updated.to_string(),
        author: policy.author.clone(),
        policy: policy.text.clone(),
    }
}

/// What it changed, in a few words.
fn summary(policy: &PolicyText, before: Option<&Arc<PolicyText>>) -> String {
    let restores = policy.restores.map_or_else(String::new, |version| format!("restores version {version}, "));
    let changed = match before {
        Some(before) => {
            let (added, removed) = changed_lines(&before.text, &policy.text);
            format!("+{added} -{removed} lines")
        }
        None if policy.version == 1 => format!("{} lines, the first", policy.text.lines().count()),
        None => format!("{} lines", policy.text.lines().count()),
    };
    restores + &changed
}

/// How many lines the new text has that the old one has not, and the other way round.
fn changed_lines(old: &str, new: &str) -> (usize, usize) {
    let mut lines: HashMap<&str, i64> = HashMap::new();
    new.lines().for_each(|line| *lines.entry(line).or_default() += 1);
    old.lines().for_each(|line| *lines.entry(line).or_default() -= 1);
    let added: i64 = lines.values().filter(|n| **n > 0).sum();
    let removed: i64 = lines.values().filter(|n| **n < 0).map(|n| -n).sum();
    (added.unsigned_abs() as usize, removed.unsigned_abs() as usize)
}

/// Empty: they are the same.
fn unified(old: &PolicyText, new: &PolicyText) -> String {
    let diff = similar::TextDiff::configure().timeout(DIFF_PATIENCE).diff_lines(&*old.text, &*new.text);
    let (from, to) = (format!("version {}", old.version), format!("version {}", new.version));
    diff.unified_diff().header(&from, &to).to_string()
}
