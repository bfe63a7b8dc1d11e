//! The pages that a client sends its user to: what to do about a pending login.
//!
//! Any replica shows them. With an OpenID provider they send the browser there. Without,
//! they change nothing: an administrator decides with the command line, so that whoever has
//! the link cannot let himself in.

use super::Options;
use super::error::error_page;
use super::page::{Page, escape};
use super::{oidc, ssh_check};
use crate::cluster::{Cluster, Unavailable};
use crate::oidc::Purpose;
use crate::state::{AuthId, NodeId, PendingLogin, State as View, Time, Verdict};
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// `/register/{auth_id}` and `/auth/{auth_id}`.
pub fn routes() -> Router<Arc<Options>> {
    Router::new().route("/register/{auth_id}", get(register)).route("/auth/{auth_id}", get(check))
}

/// The page of a machine that wants to join.
async fn register(
    State(options): State<Arc<Options>>,
    Path(auth_id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    show(&options, &auth_id, query.as_deref(), waiting_registration).await
}

/// The page of an SSH session that has to be let through, or of a login.
async fn check(
    State(options): State<Arc<Options>>,
    Path(auth_id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    if let Ok(id) = auth_id.parse()
        && let Some(response) = ssh_check::show(&options, &id, query.as_deref()).await
    {
        return response;
    }
    show(&options, &auth_id, query.as_deref(), waiting_check).await
}

async fn show(
    options: &Options,
    auth_id: &str,
    query: Option<&str>,
    waiting: fn(&PendingLogin, Time) -> Page,
) -> Response {
    let cluster = &options.cluster;
    let Ok(auth_id) = auth_id.parse::<AuthId>() else {
        return error_page(
            StatusCode::BAD_REQUEST,
            "This is not a complete login link. Copy the whole link that \"tailscale up\" printed, \
             up to its last character.",
        );
    };
    if query == Some("state") {
        // The page asks every few seconds: this replica's own view is enough.
        let state = LoginState::of(&cluster.view(), &auth_id).name();
        return ([(header::CACHE_CONTROL, "no-store")], state).into_response();
    }
    match find(cluster, &auth_id).await {
        Ok(LoginState::Waiting(login)) => match oidc::redirect(options, Purpose::Registration, &auth_id) {
            Some(to_provider) => to_provider,
            None => {
                let page = waiting(&login, now(&cluster.view()));
                if options.oidc.is_some() { page.note(NO_PROVIDER).into_response() } else { page.into_response() }
            }
        },
        decided => decision(cluster, decided),
    }
}

/// A provider is configured, but was not found yet.
pub const NO_PROVIDER: &str = "Usually one logs in with the network's OpenID provider, which cannot be reached at the \
                               moment. To try again, load this page again.";

/// The page of a login that was decided meanwhile.
pub async fn show_decided(cluster: &Cluster, auth_id: &AuthId) -> Response {
    decision(cluster, find(cluster, auth_id).await)
}

fn decision(cluster: &Cluster, state: Result<LoginState, Unavailable>) -> Response {
    match state {
        Ok(LoginState::Waiting(_)) => {
            Page::new("Waiting", "Waiting").text("Nobody has decided about this yet.").into_response()
        }
        Ok(LoginState::Registered(node)) => registered(&cluster.view(), node).into_response(),
        Ok(LoginState::Approved) => {
            Page::new("Approved", "Approved").text("You are done here: you can close this page.").into_response()
        }
        Ok(LoginState::Rejected) => rejected().into_response(),
        Ok(LoginState::Gone) => error_page(
            StatusCode::GONE,
            "The link has expired, or was never given out here. Run \"tailscale up\" on the machine again; \
             it prints a new link.",
        ),
        Err(_) => error_page(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too few of the cluster's servers can reach each other, so nothing can be approved now. Your login is \
             not lost: keep \"tailscale up\" running, and load this page again in a moment.",
        ),
    }
}

/// What became of a login so far.
enum LoginState {
    Waiting(Arc<PendingLogin>),
    Registered(NodeId),
    Approved,
    Rejected,
    /// Expired, or never there.
    Gone,
}

impl LoginState {
    fn of(view: &View, auth_id: &AuthId) -> Self {
        match view.login(auth_id) {
            Some(login) if login.deadline > now(view) => match login.verdict {
                Verdict::Waiting => Self::Waiting(login.clone()),
                Verdict::Registered(node) => Self::Registered(node),
                Verdict::Approved => Self::Approved,
                Verdict::Rejected => Self::Rejected,
            },
            _ => Self::Gone,
        }
    }

    /// What the page's script compares.
    fn name(&self) -> &'static str {
        match self {
            Self::Waiting(_) => WAITING,
            Self::Registered(_) => "registered",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Gone => "gone",
        }
    }
}

const WAITING: &str = "waiting";

/// A decision that this replica has seen is final; anything else may be old
/// news here, so the leader is asked.
async fn find(cluster: &Cluster, auth_id: &AuthId) -> Result<LoginState, Unavailable> {
    match LoginState::of(&cluster.view(), auth_id) {
        LoginState::Waiting(_) | LoginState::Gone => Ok(LoginState::of(&*cluster.linearizable().await?, auth_id)),
        decided => Ok(decided),
    }
}

pub fn now(view: &View) -> Time {
    Time::now().max(view.clock())
}

fn waiting_registration(login: &PendingLogin, now: Time) -> Page {
    let id = &login.id;
    Page::new("Node registration", "Node registration")
        .watch(WAITING)
        .html(&facts(login))
        .text(
            "This machine asks to join the network. An administrator lets it in with this command, with the name of \
             the user it will belong to in place of USERNAME:",
        )
        .command(&format!("quorumscale nodes register --user USERNAME --key {id}"))
        .text("If that user does not exist yet, create it first:")
        .command("quorumscale users create USERNAME")
        .note(&format!(
            "The commands work on every server of the cluster. When it is done, this page says so by itself, and the \
             machine connects. {}",
            left(login, now)
        ))
        .html("<details><summary>Other ways</summary>")
        .text("The same, with the newer command:")
        .command(&format!("quorumscale auth register --user USERNAME --auth-id {id}"))
        .text("Is this not a machine that you know? Then do not run the commands above; to turn it away at once:")
        .command(&format!("quorumscale auth reject --auth-id {id}"))
        .html("</details>")
}

fn waiting_check(login: &PendingLogin, now: Time) -> Page {
    let id = &login.id;
    Page::new("Authentication check", "Authentication check")
        .watch(WAITING)
        .html(&facts(login))
        .text("Somebody has to confirm this login. An administrator does it with this command:")
        .command(&format!("quorumscale auth approve --auth-id {id}"))
        .text("Or turns it away with this one:")
        .command(&format!("quorumscale auth reject --auth-id {id}"))
        .note(&left(login, now))
}

/// What is known of the machine that asks. Its own words: escaped, short, and
/// kept from changing the direction of the text around them.
pub fn facts(login: &PendingLogin) -> String {
    /// Longer names say nothing more.
    const SHOWN: usize = 100;
    let info = &login.hostinfo;
    let rows = [
        ("Machine", info.hostname.clone()),
        ("System", info.os.clone()),
        ("Tags", info.request_tags.join(", ")),
        ("Key", login.machine_key.short()),
    ];
    let shown = rows.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| {
        let value: String = value.chars().take(SHOWN).collect();
        format!("<dt>{name}</dt><dd><bdi>{}</bdi></dd>", escape(&value))
    });
    format!("<dl>{}</dl>", shown.collect::<String>())
}

pub fn left(login: &PendingLogin, now: Time) -> String {
    let left = login.deadline.since(now).as_millis() as u64;
    match left.div_ceil(60_000) {
        0 | 1 => "The link expires within a minute.".into(),
        minutes => format!("The link is valid for another {minutes} minutes."),
    }
}

fn registered(view: &View, node: NodeId) -> Page {
    Page::new("Node registered", "Node registered").text(&registered_text(view, node))
}

/// What there is to say about a machine that is in.
pub fn registered_text(view: &View, node: NodeId) -> String {
    match view.node(node) {
        Some(node) => format!(
            "You are done: the machine is part of the network, under the name {}. It connects by itself; you can close \
             this page.",
            node.given_name
        ),
        None => "The machine was registered, and has been deleted since.".into(),
    }
}

fn rejected() -> Page {
    Page::new("Rejected", "Rejected").text(
        "An administrator turned this login away. If that was a mistake, run \"tailscale up\" on the machine again; it \
         prints a new link.",
    )
}
