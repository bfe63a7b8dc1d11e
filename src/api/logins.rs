//! Pending logins: somebody decides what becomes of a machine that asked.

use super::body::{Body, Kind, Shape};
use super::nodes::NodeAnswer;
use super::problem::{ApiError, unexpected};
use super::request::{Author, Once, Params};
use super::{Options, render, routes, types};
use crate::cluster::WriteError;
use crate::policy::PolicyView;
use crate::state::{
    AuthId, Command, Done, Owner, PendingLogin, Refused, RegisterMethod, State as View, Tag, Time, UserId, Verdict,
};
use crate::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// How often an approval is decided anew because the policy changed meanwhile.
const MAX_ATTEMPTS: usize = 5;

/// How long a login that `debug/node` makes waits: as long as a real one.
const DEBUG_LOGIN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// The operations on pending logins.
pub fn routes() -> Router<Arc<Options>> {
    Router::new()
        .route("/auth/register", post(auth_register))
        .route("/auth/approve", post(approve))
        .route("/auth/reject", post(reject))
        .route("/node/register", post(node_register))
        .route("/debug/node", post(debug_create))
}

/// Whether what a write relied on has changed, so that it has to be decided anew.
pub fn is_stale(outcome: &Result<Done, WriteError>) -> bool {
    matches!(outcome, Err(WriteError::Refused(Refused::Stale)))
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Register {
    user: String,
    auth_id: String,
}

impl Shape for Register {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("user", Kind::Text), ("authId", Kind::Text)];
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Decide {
    auth_id: String,
}

impl Shape for Decide {
    const PROPERTIES: &'static [(&'static str, Kind)] = &[("authId", Kind::Text)];
}

async fn auth_register(
    State(options): State<Arc<Options>>,
    once: Once,
    Body(body): Body<Register>,
) -> Result<Json<NodeAnswer>, ApiError> {
    register(&options, once, &body.user, &body.auth_id).await
}

/// The older form, which the registration page shows; its arguments are in the query.
async fn node_register(
    State(options): State<Arc<Options>>,
    once: Once,
    params: Params,
) -> Result<Json<NodeAnswer>, ApiError> {
    register(&options, once, params.text("user"), params.text("key")).await
}

async fn register(options: &Options, once: Once, user: &str, auth_id: &str) -> Result<Json<NodeAnswer>, ApiError> {
    const ACTION: &str = "registering node";
    let auth_id: AuthId = auth_id.parse().map_err(|error| ApiError::bad_request(ACTION).because(error))?;
    let seed = super::secret::seed(&options.cluster, "registration", &once);
    let mut outcome = Err(Refused::Stale.into());
    for _ in 0..MAX_ATTEMPTS {
        let view = options.cluster.linearizable().await?;
        let user =
            view.user_by_name(user).ok_or_else(|| ApiError::refused("looking up user", &Refused::UserNotFound))?.id;
        let login = view.login(&auth_id).ok_or_else(|| ApiError::refused(ACTION, &Refused::LoginNotFound))?;
        let policy = options.policies.in_force(&view);
        let owner =
            owner_of_login(&policy, &view, user, login).map_err(|refused| ApiError::refused(ACTION, &refused))?;
        let command = Command::ApproveLogin {
            auth_id: auth_id.clone(),
            user,
            v4_pools: policy.ip_pools(&owner),
            provider_expiry: None,
            owner,
            method: RegisterMethod::Cli,
            policy_version: view.policy_version(),
            seed,
        };
        outcome = options.cluster.write_once(once.0.clone(), command).await;
        if !is_stale(&outcome) {
            break;
        }
    }
    match outcome {
        Ok(Done::Node(id)) => NodeAnswer::of(&options.cluster.view(), id),
        Ok(other) => Err(unexpected(ACTION, &other)),
        Err(error) => Err(ApiError::write(ACTION, error)),
    }
}

/// Whom a node will belong to: the tags that its client asked for, all of which the user
/// must be allowed to give, or the user.
pub fn owner_of_login(policy: &PolicyView, view: &View, user: UserId, login: &PendingLogin) -> Result<Owner, Refused> {
    let mut tags = BTreeSet::new();
    let mut refused = Vec::new();
    for text in &login.hostinfo.request_tags {
        match text.parse::<Tag>() {
            Ok(tag) if policy.may_own(view, user, &tag) => drop(tags.insert(tag)),
            _ => refused.push(text.as_str()),
        }
    }
    if !refused.is_empty() {
        return Err(Refused::TagsNotPermitted(format!("[{}]", refused.join(" "))));
    }
    if tags.is_empty() { Ok(Owner::User(user)) } else { Ok(Owner::Tags(tags)) }
}

async fn approve(
    State(options): State<Arc<Options>>,
    author: Author,
    once: Once,
    Body(body): Body<Decide>,
) -> Result<Json<types::Empty>, ApiError> {
    decide(&options, author, once, &body.auth_id, true).await
}

async fn reject(
    State(options): State<Arc<Options>>,
    author: Author,
    once: Once,
    Body(body): Body<Decide>,
) -> Result<Json<types::Empty>, ApiError> {
    decide(&options, author, once, &body.auth_id, false).await
}

/// About an SSH session, or about a login.
async fn decide(
    options: &Options,
    author: Author,
    once: Once,
    auth_id: &str,
    approve: bool,
) -> Result<Json<types::Empty>, ApiError> {
    let auth_id: AuthId = auth_id.parse().map_err(|error| ApiError::bad_request("invalid auth_id").because(error))?;
    let view = options.cluster.linearizable().await?;
    let command = match view.ssh_check(&auth_id) {
        Some(_) => Command::DecideSshCheck { auth_id: auth_id.clone(), approve, by: author.0 },
        None => Command::DecideLogin { auth_id: auth_id.clone(), approve },
    };
    match options.cluster.write_once(once.0, command).await {
        Ok(_) => Ok(Json(types::Empty {})),
        Err(WriteError::Refused(Refused::LoginNotFound | Refused::SshCheckNotFound)) => {
            Err(ApiError::not_found(format!("no pending auth session for auth_id {auth_id}")))
        }
        Err(error) => Err(ApiError::write(if approve { "approving login" } else { "rejecting login" }, error)),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DebugCreate {
    user: String,
    key: String,
    name: String,
    routes: Vec<String>,
}

impl Shape for DebugCreate {
    const PROPERTIES: &'static [(&'static str, Kind)] =
        &[("user", Kind::Text), ("key", Kind::Text), ("name", Kind::Text), ("routes", Kind::Texts)];
}

#[derive(Serialize)]
struct DebugAnswer {
    node: types::Node,
}

/// A login as if a machine had asked, for trying things out: it has keys that
/// nobody holds. The answer shows what `auth register` would make of it.
async fn debug_create(
    State(options): State<Arc<Options>>,
    once: Once,
    Body(body): Body<DebugCreate>,
) -> Result<Json<DebugAnswer>, ApiError> {
    const ACTION: &str = "debug creating node";
    let view = options.cluster.linearizable().await?;
    let user =
        view.user_by_name(&body.user).ok_or_else(|| ApiError::refused("looking up user", &Refused::UserNotFound))?;
    let announced =
        routes::parse(&body.routes).map_err(|error| ApiError::bad_request("parsing routes").because(error))?;
    let id: AuthId = body.key.parse().map_err(|error| ApiError::bad_request(ACTION).because(error))?;
    let now = Time::now().max(view.clock());
    let login = PendingLogin {
        id,
        machine_key: MachineKey(options.cluster.derive("debug/node", format!("machine {}", body.key).as_bytes())),
        node_key: NodeKey(options.cluster.derive("debug/node", format!("node {}", body.key).as_bytes())),
        hostinfo: Hostinfo {
            json: serde_json::json!({"Hostname": body.name, "OS": "TestOS", "RoutableIPs": announced}).to_string(),
            hostname: body.name,
            os: "TestOS".into(),
            routable_ips: announced.into_iter().collect(),
            ..Hostinfo::default()
        },
        cap_ver: CapVer::MIN,
        expiry: None,
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        created: now,
        deadline: now + DEBUG_LOGIN_LIFETIME,
        verdict: Verdict::Waiting,
    };
    let node = types::Node {
        available_routes: login.hostinfo.routable_ips.iter().map(ToString::to_string).collect(),
        created_at: types::ZERO_TIME.into(),
        disco_key: crate::tailcfg::DiscoKey([0; 32]).to_string(),
        id: "0".into(),
        machine_key: login.machine_key.to_string(),
        name: login.hostinfo.hostname.clone(),
        node_key: login.node_key.to_string(),
        register_method: "REGISTER_METHOD_UNSPECIFIED".into(),
        user: Some(render::user(user)),
        ..types::Node::default()
    };
    let written = options.cluster.write_once(once.0, Command::StartLogin(login)).await;
    written.map_err(|error| ApiError::write(ACTION, error))?;
    Ok(Json(DebugAnswer { node }))
}
