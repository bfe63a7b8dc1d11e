//! What another server held is brought in as a whole.

use super::body;
use super::problem::{ApiError, unexpected};
use super::request::{Author, Once};
use super::types::{ImportAnswer, ImportRequest};
use super::{Options, PolicyMode};
use crate::cluster::Cluster;
use crate::policy::Policy;
use crate::state::{Command, Done, Proposal, RequestId, Settings, State as View, Time};
use crate::tailcfg::MachineKey;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// The largest import, in bytes: some 7,000 nodes. It is one entry of the log, whose limit
/// is a little above.
pub const MAX_IMPORT: usize = 24 << 20;

const ACTION: &str = "importing";

/// `POST /import`: an [`ImportRequest`] into a cluster that has no nodes, users and
/// pre-authenticated keys. The same again changes nothing.
pub fn routes() -> Router<Arc<Options>> {
    Router::new().route("/import", post(import))
}

async fn import(
    State(options): State<Arc<Options>>,
    author: Author,
    once: Once,
    request: Request,
) -> Result<Json<ImportAnswer>, ApiError> {
    let bytes = body::read_up_to(MAX_IMPORT, request).await?;
    let request: ImportRequest = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "reading the import").because(error))?;
    let view = options.cluster.linearizable().await?;
    let command = command(&options, &request, author)?;
    let after = rehearse(&view, &command)?;
    let mut answer = ImportAnswer { applied: false, repeated: view.imported().is_some(), notes: Vec::new() };
    if !answer.repeated {
        answer.notes = settings(&view, &request.content.settings);
        check_policy(&options, &request, &after, &mut answer.notes)?;
    }
    if request.dry_run {
        return Ok(Json(answer));
    }
    match options.cluster.write_once(once.0, command).await {
        Ok(Done::Changes(changes)) => {
            answer.notes.extend(changes);
            answer.applied = true;
        }
        Ok(Done::Nothing) => answer.repeated = true,
        Ok(other) => return Err(unexpected(ACTION, &other)),
        Err(error) => return Err(ApiError::write(ACTION, error)),
    }
    Ok(Json(answer))
}

fn command(options: &Options, request: &ImportRequest, author: Author) -> Result<Command, ApiError> {
    let noise = &request.noise_private_key.0;
    if MachineKey(noise.public()) != request.content.noise_public {
        return Err(ApiError::bad_request(ACTION).because("noisePrivateKey is not the private half of noise_public"));
    }
    let sealed = seal(&options.cluster, request)?;
    Ok(Command::Import {
        content: request.content.clone(),
        sealed,
        with_policy: options.policy_mode == PolicyMode::Database,
        author: author.0,
    })
}

fn seal(cluster: &Cluster, request: &ImportRequest) -> Result<String, ApiError> {
    cluster.seal_noise_key(&request.noise_private_key.0).ok_or_else(|| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "this cluster is not set up yet: try again in a moment")
    })
}

/// What the state would be, which is told without changing anything.
fn rehearse(view: &View, command: &Command) -> Result<View, ApiError> {
    let mut after = view.clone();
    let time = Time::now().max(view.clock());
    let proposal = Proposal {
        format: command.format(),
        // Of nobody: no replica's process has this number.
        request: RequestId { incarnation: 0, sequence: 1, acknowledged: 0 },
        deadline: time + Duration::from_secs(1),
        time,
        idempotency_key: None,
        origin: None,
        command: command.clone(),
    };
    let outcome = after.apply(view.index() + 1, &proposal).outcome;
    outcome.map_err(|refused| ApiError::refused(ACTION, &refused))?;
    Ok(after)
}

/// A policy that would not act as it says would shut people out.
fn check_policy(
    options: &Options,
    request: &ImportRequest,
    after: &View,
    notes: &mut Vec<String>,
) -> Result<(), ApiError> {
    let Some(text) = &request.content.policy else { return Ok(()) };
    if options.policy_mode == PolicyMode::File {
        notes.push("the policy is not imported: policy.mode is file on this replica, and its file is in force".into());
        return Ok(());
    }
    let checked = Policy::check(text, after).map(drop);
    checked.map_err(|error| ApiError::bad_request("the policy would not be in force as it is").because(error))
}

/// What the cluster does otherwise from then on.
fn settings(view: &View, new: &Settings) -> Vec<String> {
    fn show(value: &impl Debug) -> String {
        format!("{value:?}").trim_start_matches("Some(").trim_end_matches(')').to_owned()
    }
    let Some(old) = view.settings() else { return Vec::new() };
    let pairs = [
        ("prefixes.v4", show(&old.prefix_v4), show(&new.prefix_v4)),
        ("prefixes.v6", show(&old.prefix_v6), show(&new.prefix_v6)),
        ("prefixes.allocation", show(&old.allocation), show(&new.allocation)),
        ("dns.base_domain", show(&old.base_domain), show(&new.base_domain)),
        ("node.expiry", show(&old.node_expiry), show(&new.node_expiry)),
        ("node.ephemeral.inactivity_timeout", show(&old.ephemeral_timeout), show(&new.ephemeral_timeout)),
    ];
    let changed = pairs.into_iter().filter(|(_, old, new)| old != new);
    changed
        .map(|(key, old, new)| format!("{key} is {old} in this cluster, and becomes {new}: write that into its files"))
        .collect()
}
