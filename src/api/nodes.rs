//! Nodes.

use super::body::{Body, Kind, Shape};
use super::problem::{ApiError, unexpected};
use super::request::{Once, Params, Reading};
use super::{Options, render, routes, types};
use crate::cluster::WriteError;
use crate::state::{Command, Done, Expiry, NodeId, Owner, Refused, State as View, Tag, Time};
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How often a change of tags is decided anew because the policy changed meanwhile.
const MAX_ATTEMPTS: usize = 5;

/// The operations on nodes.
pub fn routes() -> Router<Arc<Options>> {
    Router::new()
        .route("/node", get(list))
        .route("/node/{id}", get(show).delete(destroy))
        .route("/node/{id}/expire", post(expire))
        .route("/node/{id}/rename/{name}", post(rename))
        .route("/node/{id}/tags", post(set_tags))
        .route("/node/{id}/approve_routes", post(approve_routes))
        .route("/node/backfillips", post(backfill))
}

/// An answer with one node.
#[derive(Serialize)]
pub struct NodeAnswer {
    node: types::Node,
}

impl NodeAnswer {
    /// The node, if it is (still) there.
    pub fn of(view: &View, id: NodeId) -> Result<Json<Self>, ApiError> {
        let node = view.node(id).ok_or_else(|| ApiError::not_found("node not found"))?;
        Ok(Json(Self { node: render::node(view, node) }))
    }
}

#[derive(Serialize)]
struct NodesAnswer {
    nodes: Vec<types::Node>,
}

#[derive(Serialize)]
struct BackfillAnswer {
    changes: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ExpireNode {
    expiry: Option<jiff::Timestamp>,
    disable_expiry: bool,
}

impl Shape for ExpireNode {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("expiry", Kind::Time), ("disableExpiry", Kind::Flag)];
    const MAY_BE_ABSENT: bool = true;
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SetTags {
    tags: Vec<String>,
}

impl Shape for SetTags {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("tags", Kind::Texts)];
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SetRoutes {
    routes: Vec<String>,
}

impl Shape for SetRoutes {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("routes", Kind::Texts)];
}

/// All nodes, or a user's own; `tagged-devices` names the tagged ones.
async fn list(params: Params, Reading(view): Reading) -> Result<Json<NodesAnswer>, ApiError> {
    let owner = match params.text("user") {
        "" => None,
        name if name == crate::state::tagged_devices().name => Some(None),
        name => match view.user_by_name(name) {
            Some(user) => Some(Some(user.id)),
            None => return Err(ApiError::refused("listing nodes", &Refused::UserNotFound)),
        },
    };
    let wanted = |node: &crate::state::Node| match (&owner, &node.owner) {
        (None, _) | (Some(None), Owner::Tags(_)) => true,
        (Some(Some(wanted)), Owner::User(user)) => wanted == user,
        _ => false,
    };
    let nodes = view.nodes().filter(|node| wanted(node)).map(|node| render::node(&view, node)).collect();
    Ok(Json(NodesAnswer { nodes }))
}

async fn show(Path(node): Path<String>, Reading(view): Reading) -> Result<Json<NodeAnswer>, ApiError> {
    NodeAnswer::of(&view, node_id(&node)?)
}

async fn destroy(
    State(options): State<Arc<Options>>,
    once: Once,
    Path(node): Path<String>,
) -> Result<Json<types::Empty>, ApiError> {
    let id = node_id(&node)?;
    match options.cluster.write_once(once.0, Command::DeleteNode { id }).await {
        Ok(_) => Ok(Json(types::Empty {})),
        Err(error) => Err(without_action("deleting node", error)),
    }
}

/// Without a body: now.
async fn expire(
    State(options): State<Arc<Options>>,
    once: Once,
    Path(node): Path<String>,
    Body(body): Body<ExpireNode>,
) -> Result<Json<NodeAnswer>, ApiError> {
    let id = node_id(&node)?;
    let expiry = match (body.disable_expiry, body.expiry) {
        (true, Some(_)) => return Err(ApiError::bad_request("cannot set both disable_expiry and expiry")),
        (true, None) => Expiry::Never,
        (false, Some(time)) => Expiry::At(Time::from_jiff(time)),
        (false, None) => Expiry::Now,
    };
    write(&options, once, "expiring node", id, Command::SetNodeExpiry { id, expiry }).await
}

async fn rename(
    State(options): State<Arc<Options>>,
    once: Once,
    Path((node, given_name)): Path<(String, String)>,
) -> Result<Json<NodeAnswer>, ApiError> {
    const ACTION: &str = "renaming node";
    let id = node_id(&node)?;
    let command = Command::RenameNode { id, given_name: given_name.clone() };
    match options.cluster.write_once(once.0, command).await {
        // Headscale names the name twice.
        Err(WriteError::Refused(Refused::InvalidName(fault))) => {
            let refused = Refused::InvalidName(format!("{given_name:?} is not a valid DNS label: {fault}"));
            Err(ApiError::refused(ACTION, &refused))
        }
        Err(error) => Err(ApiError::write_node(ACTION, id, error)),
        Ok(_) => NodeAnswer::of(&options.cluster.view(), id),
    }
}

/// Replaces the tags. An administrator may give any tag that the policy defines.
async fn set_tags(
    State(options): State<Arc<Options>>,
    once: Once,
    Path(node): Path<String>,
    Body(body): Body<SetTags>,
) -> Result<Json<NodeAnswer>, ApiError> {
    const ACTION: &str = "setting tags";
    let id = node_id(&node)?;
    if body.tags.is_empty() {
        return Err(ApiError::refused(ACTION, &Refused::NoTags));
    }
    let mut tags = BTreeSet::new();
    for text in &body.tags {
        let tag: Tag = text.parse().map_err(|error| ApiError::bad_request(ACTION).because(error))?;
        tags.insert(tag);
    }
    let mut outcome = Err(Refused::Stale.into());
    for _ in 0..MAX_ATTEMPTS {
        let view = options.cluster.linearizable().await?;
        if view.node(id).is_none() {
            return Err(ApiError::not_found("node not found"));
        }
        let policy = options.policies.in_force(&view);
        let unknown: Vec<&str> = tags.iter().filter(|tag| !policy.defines_tag(tag)).map(Tag::as_str).collect();
        if !unknown.is_empty() {
            let refused = Refused::TagsNotPermitted(format!("[{}]", unknown.join(" ")));
            return Err(ApiError::refused(ACTION, &refused));
        }
        let command = Command::SetTags { id, tags: tags.clone(), policy_version: view.policy_version() };
        outcome = options.cluster.write_once(once.0.clone(), command).await;
        if !super::logins::is_stale(&outcome) {
            break;
        }
    }
    outcome.map_err(|error| without_action(ACTION, error))?;
    NodeAnswer::of(&options.cluster.view(), id)
}

/// Replaces the approved set; an exit route of one family stands for both.
async fn approve_routes(
    State(options): State<Arc<Options>>,
    once: Once,
    Path(node): Path<String>,
    Body(body): Body<SetRoutes>,
) -> Result<Json<NodeAnswer>, ApiError> {
    let id = node_id(&node)?;
    let routes = routes::parse(&body.routes).map_err(|error| ApiError::bad_request("parsing route").because(error))?;
    write(&options, once, "setting approved routes", id, Command::SetApprovedRoutes { id, routes }).await
}

async fn backfill(
    State(options): State<Arc<Options>>,
    once: Once,
    params: Params,
) -> Result<Json<BackfillAnswer>, ApiError> {
    const ACTION: &str = "backfilling node IPs";
    if !params.flag("confirmed")? {
        return Err(ApiError::bad_request(ACTION).because("not confirmed, aborting"));
    }
    let seed = super::secret::seed(&options.cluster, "backfillips", &once);
    match options.cluster.write_once(once.0, Command::BackfillIps { seed }).await {
        Ok(Done::Changes(changes)) => Ok(Json(BackfillAnswer { changes })),
        Ok(Done::Nothing) => Ok(Json(BackfillAnswer { changes: Vec::new() })),
        Ok(other) => Err(unexpected(ACTION, &other)),
        Err(error) => Err(ApiError::write(ACTION, error)),
    }
}

async fn write(
    options: &Options,
    once: Once,
    action: &str,
    id: NodeId,
    command: Command,
) -> Result<Json<NodeAnswer>, ApiError> {
    let written = options.cluster.write_once(once.0, command).await;
    written.map_err(|error| ApiError::write_node(action, id, error))?;
    NodeAnswer::of(&options.cluster.view(), id)
}

/// Some operations say `node not found` and nothing else.
fn without_action(action: &str, error: WriteError) -> ApiError {
    match error {
        WriteError::Refused(Refused::NodeNotFound) => ApiError::not_found("node not found"),
        other => ApiError::write(action, other),
    }
}

/// A node's id in a path; the fault in Headscale's words.
fn node_id(text: &str) -> Result<NodeId, ApiError> {
    text.parse().map_err(|error| {
        let reason = super::request::go_parse_error(text, &error);
        ApiError::bad_request(format!("type mismatch, parameter: node_id, error: {reason}"))
    })
}
