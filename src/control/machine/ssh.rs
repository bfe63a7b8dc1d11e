//! `GET /machine/ssh/action/{src}/to/{dst}`: the machine that an SSH session goes to asks
//! what to do with it (protocol section 5.9).
//!
//! It asks first for the session, and is sent to itself again with the id of a check; that
//! request is held until somebody has decided, maybe through another replica. What the
//! policy says is looked up each time: nothing of it is taken from the request.

use super::Peer;
use super::logins::Logins;
use super::lookups::{Later, Lookups};
use crate::cluster::{Cluster, WriteError};
use crate::policy::{Policies, SshAnswer};
use crate::state::{AuthId, Command, NodeId, Refused, SshCheck, SshVerdict, State, Time};
use axum::extract::{self, Path, Query};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// How long a session waits for its verdict, as a login does.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How long a request is held before it is sent to itself again: shorter than proxies
/// give up. The client asks again at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(75);
/// The longest account name that is kept; longer ones are none on any system.
const MAX_LOCAL_USER: usize = 256;

/// What decides about SSH sessions.
pub(super) struct Sessions {
    pub cluster: Cluster,
    pub policies: Arc<Policies>,
    /// This replica's own, without a slash at its end.
    pub server_url: String,
    pub logins: Arc<Logins>,
    /// Whether people log in by themselves, with an OpenID provider.
    pub by_provider: bool,
    pub lookups: Lookups,
    /// [`PATIENCE`], but for tests.
    pub patience: Duration,
}

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    local_user: String,
    #[serde(default)]
    auth_id: String,
}

/// `tailcfg.SSHAction`, as far as it is used.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Action {
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "is_false")]
    reject: bool,
    #[serde(skip_serializing_if = "is_false")]
    accept: bool,
    #[serde(skip_serializing_if = "is_false")]
    allow_agent_forwarding: bool,
    #[serde(skip_serializing_if = "is_false")]
    allow_local_port_forwarding: bool,
    #[serde(skip_serializing_if = "is_false")]
    allow_remote_port_forwarding: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    hold_and_delegate: String,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Decides about one request. What a client should ask again later is not 200.
pub(super) async fn endpoint(
    extract::State(sessions): extract::State<Arc<Sessions>>,
    Extension(peer): Extension<Peer>,
    Path((source, destination)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Response {
    let (Ok(source), Ok(destination)) = (source.parse(), destination.parse()) else {
        let text = format!("{source:?} and {destination:?} must be ids of nodes");
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    if asked.local_user.len() > MAX_LOCAL_USER {
        return (StatusCode::BAD_REQUEST, "local_user is too long to be an account").into_response();
    }
    match sessions.action(&peer, source, destination, &asked).await {
        Ok(action) => Json(action).into_response(),
        Err(Trouble::NoSuchNode) => (StatusCode::NOT_FOUND, "node not found").into_response(),
        Err(Trouble::NotYours) => (StatusCode::UNAUTHORIZED, "machine key does not match").into_response(),
        Err(Trouble::Later(later)) => {
            let retry_after = [(header::RETRY_AFTER, later.0.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, retry_after, later.to_string()).into_response()
        }
        Err(Trouble::Unavailable(text)) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], text).into_response()
        }
    }
}

/// Why there is no action.
enum Trouble {
    /// The destination is no node.
    NoSuchNode,
    /// It is not the machine that asks.
    NotYours,
    /// No node, and its address asks too often.
    Later(Later),
    Unavailable(String),
}

impl Sessions {
    async fn action(&self, peer: &Peer, source: NodeId, destination: NodeId, asked: &Asked) -> Result<Action, Trouble> {
        self.lookups.ask(peer).map_err(Trouble::Later)?;
        let view = self.cluster.linearizable().await.map_err(|error| Trouble::Unavailable(error.to_string()))?;
        let node = view.node(destination).ok_or(Trouble::NoSuchNode)?;
        if node.machine_key != peer.machine_key {
            return Err(Trouble::NotYours);
        }
        let session = Session { source, destination, local_user: &asked.local_user };
        if let Some(id) = self.known(&view, &session, &asked.auth_id) {
            let view = self.logins.ssh_decided(&self.cluster, &id, self.patience).await;
            return match view.ssh_check(&id).map(|check| check.verdict) {
                Some(SshVerdict::Waiting) => Ok(Action { hold_and_delegate: session.url(&id), ..Action::default() }),
                Some(SshVerdict::Rejected) => Ok(refuse("This session was rejected by an administrator.")),
                // The policy may be another one by now.
                Some(SshVerdict::Approved) => self.decide(&view, &session, true).await,
                None => self.decide(&view, &session, false).await,
            };
        }
        self.decide(&view, &session, false).await
    }

    /// The check that a request names, if it is this session's.
    fn known(&self, view: &State, session: &Session, auth_id: &str) -> Option<AuthId> {
        let id: AuthId = auth_id.parse().ok()?;
        let check = view.ssh_check(&id)?;
        let is_its = check.source == session.source
            && check.destination == session.destination
            && check.local_user == session.local_user;
        is_its.then_some(id)
    }

    /// By the policy that is in force, and what was approved under it.
    async fn decide(&self, view: &State, session: &Session<'_>, approved: bool) -> Result<Action, Trouble> {
        let policy = self.policies.in_force(view);
        match policy.ssh_answer(session.source, session.destination, session.local_user) {
            SshAnswer::Denied => Ok(refuse("The policy does not allow this session.")),
            SshAnswer::Accepted => Ok(accept()),
            SshAnswer::Checked(_) if approved => Ok(accept()),
            SshAnswer::Checked(period) if session.is_approved(view, period) => Ok(accept()),
            SshAnswer::Checked(period) => self.ask(view, session, period).await,
        }
    }

    /// Somebody has to decide.
    async fn ask(&self, view: &State, session: &Session<'_>, period: Duration) -> Result<Action, Trouble> {
        let now = Time::now();
        let check = SshCheck {
            id: AuthId::generate(),
            source: session.source,
            destination: session.destination,
            local_user: session.local_user.into(),
            period,
            policy_version: view.policy_version(),
            created: now,
            deadline: now + LIFETIME,
            verdict: SshVerdict::Waiting,
        };
        let id = check.id.clone();
        match self.cluster.write(Command::StartSshCheck(check)).await {
            Ok(_) => Ok(Action {
                message: format!(
                    "# {}\r\n#\r\n#    {}/auth/{id}\r\n#\r\n",
                    match self.by_provider {
                        true => "This session waits until you have logged in here:",
                        false => "This session waits until an administrator lets it through. Send them this page:",
                    },
                    self.server_url
                ),
                hold_and_delegate: session.url(&id),
                ..Action::default()
            }),
            // It would ask again and again.
            Err(WriteError::Refused(refused @ (Refused::TooManySshChecks(_) | Refused::NodeNotFound))) => {
                Ok(refuse(&refused.to_string()))
            }
            Err(error) => Err(Trouble::Unavailable(error.to_string())),
        }
    }
}

/// What is asked about.
struct Session<'a> {
    source: NodeId,
    destination: NodeId,
    local_user: &'a str,
}

impl Session<'_> {
    /// The way back here for this check. Clients use its path alone.
    fn url(&self, id: &AuthId) -> String {
        let Self { source, destination, local_user } = self;
        let local_user: String = local_user.bytes().map(escape).collect();
        format!("https://unused/machine/ssh/action/{source}/to/{destination}?local_user={local_user}&auth_id={id}")
    }

    /// Whether an earlier approval still holds, for as long as the rule says now.
    fn is_approved(&self, view: &State, period: Duration) -> bool {
        let now = Time::now().max(view.clock());
        let approval = view.ssh_approval(self.source, self.destination);
        approval.is_some_and(|approval| now < approval.until && now < approval.approved + period)
    }
}

/// Percent-encoding by RFC 3986; also keeps `$`, which clients would fill in, out of the URL.
fn escape(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    }
}

fn accept() -> Action {
    Action {
        accept: true,
        allow_agent_forwarding: true,
        allow_local_port_forwarding: true,
        allow_remote_port_forwarding: true,
        ..Action::default()
    }
}

fn refuse(why: &str) -> Action {
    Action { reject: true, message: format!("# {why}\r\n"), ..Action::default() }
}

#[cfg(test)]
#[path = "ssh_tests.rs"]
mod tests;
