//! `POST /machine/register`: a node joins, comes back, logs in anew or logs out
//! (protocol section 3; the order of questions is that of 3.5).

use super::auth_key::AuthKey;
use super::identity::answer_for;
use super::known::{find, is_expired, is_valid};
use super::logins::Logins;
use super::lookups::Lookups;
use super::trouble::Trouble;
use super::{Peer, body};
use crate::cluster::{Asked, Cluster, WriteError};
use crate::import::first_use;
use crate::limits::{Budget, Limits, Source};
use crate::policy::Policies;
use crate::state::{
    AdoptedKey, AuthId, Command, Done, MAX_LOGINS, MAX_LOGINS_PER_SOURCE, NodeId, Origin, PendingLogin, Refused,
    Registration, State, Tag, Time, Verdict, login_source,
};
use crate::tailcfg::{AuthKeyText, NodeKey, RegisterRequest, RegisterResponse, RequestError};
use axum::body::Body;
use axum::extract;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use ipnet::Ipv4Net;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a login waits for its verdict, as in Headscale.
const LOGIN_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How long a followup is held before it is answered with the same URL: shorter
/// than proxies give up, and long, since Tailscale's Rust client asks again at once.
pub(super) const FOLLOWUP_PATIENCE: Duration = Duration::from_secs(75);
/// What a registration needs.
pub(super) struct Registrar {
    pub cluster: Cluster,
    pub policies: Arc<Policies>,
    /// This replica's own, without a slash at its end.
    pub server_url: String,
    pub logins: Arc<Logins>,
    pub limits: Limits,
    /// Keys that opened nothing, by the address that they came from.
    pub failed_keys: Budget,
    pub lookups: Lookups,
    /// [`FOLLOWUP_PATIENCE`], but for tests.
    pub patience: Duration,
}

/// Reads a registration, and answers it.
pub(super) async fn endpoint(
    extract::State(registrar): extract::State<Arc<Registrar>>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Response {
    let body = match body::read(body).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let request = match RegisterRequest::parse(&body) {
        Ok(request) => request,
        Err(error) => {
            tracing::info!(machine = ?peer.machine_key, ip = %peer.ip, %error, "refused a registration");
            return bad_request(&error);
        }
    };
    let version = request.version;
    match registrar.register(&peer, request).await {
        Ok(answer) => Json(answer).into_response(),
        Err(trouble) => {
            tracing::info!(machine = ?peer.machine_key, ip = %peer.ip, error = %trouble, "refused a registration");
            trouble.answer(version)
        }
    }
}

/// For map requests too: an error that is the client's, as text.
pub(super) fn bad_request(error: &RequestError) -> Response {
    (StatusCode::BAD_REQUEST, error.to_string()).into_response()
}

impl Registrar {
    /// Decides about one request.
    pub async fn register(&self, peer: &Peer, request: RegisterRequest) -> Result<RegisterResponse, Trouble> {
        let asked = request.expiry.map(Time::from_jiff);
        let logs_out = asked.is_some_and(|expiry| expiry <= Time::now());
        if self.asks_the_leader(&request, logs_out) {
            self.lookups.ask(peer)?;
        }
        if logs_out {
            return self.log_out(peer, &request.node_key).await;
        }
        if request.auth_key.is_none()
            && let Some(answer) = self.known(peer, &request.node_key, asked).await?
        {
            return Ok(answer);
        }
        if let Some(url) = &request.followup
            && let Some(answer) = self.follow_up(peer, &request.node_key, url).await?
        {
            return Ok(answer);
        }
        match request.auth_key.clone() {
            Some(key) => self.with_key(peer, request, &key).await,
            None => self.start_login(peer, request).await,
        }
    }

    /// Whether this replica has never heard of what the request is about. Keys that open
    /// nothing are counted by themselves.
    fn asks_the_leader(&self, request: &RegisterRequest, logs_out: bool) -> bool {
        let view = self.cluster.view();
        if view.node_by_key(&request.node_key).is_some() {
            return false;
        }
        let followup = request.followup.as_deref().and_then(auth_id);
        match followup {
            Some(id) => view.login(&id).is_none(),
            None => logs_out || request.auth_key.is_none(),
        }
    }

    /// A time in the past: the client logs out. Who is not known is out already, so
    /// that a repetition after a lost answer is answered in the same way, and does
    /// not bring back the node with the auth key that clients send along.
    async fn log_out(&self, peer: &Peer, node_key: &NodeKey) -> Result<RegisterResponse, Trouble> {
        let logged_out = || RegisterResponse { node_key_expired: true, ..RegisterResponse::default() };
        let (_, node) = find(&self.cluster, node_key, |_| true).await?;
        if node.is_none() {
            return Ok(logged_out());
        }
        let command = Command::Logout { node_key: *node_key, machine_key: peer.machine_key };
        let by = format!("machine {}", peer.machine_key);
        match self.cluster.write_once(origin(peer, by), command).await {
            Ok(Done::Node(id)) => {
                let view = self.cluster.view();
                Ok(view.node(id).map_or_else(logged_out, |node| answer_for(&view, node)))
            }
            Ok(_) | Err(WriteError::Refused(Refused::NodeNotFound | Refused::NodeKeyUnknown)) => Ok(logged_out()),
            Err(error) => Err(error.into()),
        }
    }

    /// A client that comes back with a key that it had, and nothing else to say.
    /// `None`: nobody knows the key.
    async fn known(
        &self,
        peer: &Peer,
        node_key: &NodeKey,
        asked: Option<Time>,
    ) -> Result<Option<RegisterResponse>, Trouble> {
        let (view, node) = find(&self.cluster, node_key, |node| is_valid(node, &peer.machine_key)).await?;
        let Some(node) = node else { return Ok(None) };
        if node.machine_key != peer.machine_key {
            return Err(Trouble::Refused(Refused::MachineMismatch.to_string()));
        }
        let (Some(expiry), false) = (asked, is_expired(&node)) else {
            return Ok(Some(answer_for(&view, &node)));
        };
        let command = Command::ShortenExpiry { node_key: *node_key, machine_key: peer.machine_key, expiry };
        self.cluster.write(command).await?;
        let view = self.cluster.view();
        Ok(view.node_by_key(node_key).map(|node| answer_for(&view, node)))
    }

    /// A client that was sent to somebody for a decision asks what became of it,
    /// maybe on another replica than the one that sent it, or that decided.
    /// `None`: that login is gone, or not this client's.
    async fn follow_up(&self, peer: &Peer, node_key: &NodeKey, url: &str) -> Result<Option<RegisterResponse>, Trouble> {
        let Some(id) = auth_id(url) else { return Ok(None) };
        if self.cluster.view().login(&id).is_none() && self.cluster.linearizable().await?.login(&id).is_none() {
            return Ok(None);
        }
        let is_ours = |login: &PendingLogin| login.machine_key == peer.machine_key && login.node_key == *node_key;
        if !self.cluster.view().login(&id).is_some_and(|login| is_ours(login)) {
            return Ok(None);
        }
        let view = self.logins.decided(&self.cluster, &id, self.patience).await;
        let Some(login) = view.login(&id) else { return Ok(None) };
        match login.verdict {
            Verdict::Waiting => Ok(Some(self.ask(&id))),
            Verdict::Registered(node) => {
                let node = view.node(node).filter(|node| node.node_key == *node_key);
                Ok(node.map(|node| answer_for(&view, node)))
            }
            Verdict::Rejected => Err(Trouble::Refused("this login was rejected by an administrator".into())),
            Verdict::Approved => Ok(None),
        }
    }

    /// A key that opens nothing is counted for the address that it came from; a good one
    /// never is, and is never made to wait for those.
    async fn with_key(
        &self,
        peer: &Peer,
        request: RegisterRequest,
        key: &AuthKeyText,
    ) -> Result<RegisterResponse, Trouble> {
        let source = Source::of(peer.ip);
        let registered = match AuthKey::parse(key) {
            Ok(key) => self.try_key(peer, request, key).await,
            Err(error) => Err(Trouble::BadKey(error.to_string())),
        };
        if let Err(Trouble::BadKey(_)) = registered {
            self.may_fail(source)?;
            self.failed_keys.spend(source);
        }
        registered
    }

    async fn try_key(&self, peer: &Peer, request: RegisterRequest, key: AuthKey) -> Result<RegisterResponse, Trouble> {
        if !self.is_good(peer, &key) {
            // A look at the leader, or a write that comes to nothing.
            self.may_fail(Source::of(peer.ip))?;
            self.exists(&key).await?;
        }
        let v4_pools = self.pools(&key);
        let registration = Registration {
            machine_key: peer.machine_key,
            node_key: request.node_key,
            hostinfo: request.hostinfo,
            cap_ver: request.version,
            expiry: request.expiry.map(Time::from_jiff),
            seed: rand::random(),
            v4_pools,
        };
        let by = format!("pre-auth key {}", key.prefix);
        let command = Command::RegisterWithKey { prefix: key.prefix, hash: key.hash, registration };
        let done = self.cluster.write_once(origin(peer, by), command).await?;
        self.registered(done)
    }

    /// Whether this replica sees nothing against the key: what decides is the write. A
    /// machine that has a node may come back with the key that it used up.
    fn is_good(&self, peer: &Peer, key: &AuthKey) -> bool {
        let view = self.cluster.view();
        let now = Time::now().max(view.clock());
        view.pre_auth_key_by_prefix(&key.prefix).filter(|known| known.hash.is(&key.hash)).is_some_and(|known| {
            let opens = !known.used && known.expiration.is_none_or(|end| now < end);
            opens || view.nodes_of_machine(&peer.machine_key).next().is_some()
        })
    }

    /// Refuses who has failed too often just now.
    fn may_fail(&self, source: Source) -> Result<(), Trouble> {
        let Some(wait) = self.failed_keys.wait(source) else { return Ok(()) };
        metrics::counter!("quorumscale_limited_total", "what" => "auth keys").increment(1);
        let seconds = wait.as_secs() + 1;
        let text = format!("too many keys from this address opened nothing: try again in {seconds} seconds");
        Err(Trouble::Busy { text, seconds })
    }

    /// Where the policy wants a new node's address to come from.
    fn pools(&self, key: &AuthKey) -> Vec<Ipv4Net> {
        let view = self.cluster.view();
        let known = view.pre_auth_key_by_prefix(&key.prefix);
        known.map(|known| self.policies.in_force(&view).ip_pools(&known.owner)).unwrap_or_default()
    }

    /// A key that was never made is refused without a write: anybody can send
    /// those, and the log is for what may change something.
    async fn exists(&self, key: &AuthKey) -> Result<(), Trouble> {
        let is_known =
            |view: &State| view.pre_auth_key_by_prefix(&key.prefix).is_some_and(|known| known.hash.is(&key.hash));
        if is_known(&self.cluster.view()) {
            return Ok(());
        }
        let view = self.cluster.linearizable().await?;
        if is_known(&view) || self.is_first_use(&view, key).await? {
            return Ok(());
        }
        Err(Trouble::BadKey(Refused::AuthKeyInvalid.to_string()))
    }

    /// Whether it is a key that was imported, and is used here for the first time.
    async fn is_first_use(&self, view: &State, key: &AuthKey) -> Result<bool, Trouble> {
        let Some(known) = view.pre_auth_key_by_prefix(&key.prefix) else { return Ok(false) };
        let Some(slow) = known.hash.bcrypt() else { return Ok(false) };
        let adopted = first_use::adopt(&self.cluster, AdoptedKey::PreAuth(known.id), slow, &key.secret).await;
        adopted.map_err(|error| Trouble::Unavailable(error.to_string()))
    }

    /// What to say about a node that a write gave.
    fn registered(&self, done: Done) -> Result<RegisterResponse, Trouble> {
        let view = self.cluster.view();
        let node = |id: NodeId| view.node(id).map(|node| answer_for(&view, node));
        match done {
            // It may be gone again by now, which the client will find out.
            Done::Node(id) => Ok(node(id)
                .unwrap_or_else(|| RegisterResponse { machine_authorized: true, ..RegisterResponse::default() })),
            other => Err(Trouble::Unavailable(format!("unexpected outcome of a registration: {other:?}"))),
        }
    }

    /// Nobody has decided about this client yet: somebody has to.
    async fn start_login(&self, peer: &Peer, request: RegisterRequest) -> Result<RegisterResponse, Trouble> {
        // Whether its tags are allowed depends on who approves; whether they can be tags does not.
        for tag in &request.hostinfo.request_tags {
            tag.parse::<Tag>().map_err(|error| {
                Trouble::Refused(format!("requested tags [{tag}] are invalid or not permitted: {error}"))
            })?;
        }
        let now = Time::now();
        self.has_room(login_source(peer.ip), now)?;
        let login = PendingLogin {
            id: AuthId::generate(),
            machine_key: peer.machine_key,
            node_key: request.node_key,
            hostinfo: request.hostinfo,
            cap_ver: request.version,
            expiry: request.expiry.map(Time::from_jiff),
            source: login_source(peer.ip),
            created: now,
            deadline: now + LOGIN_LIFETIME,
            verdict: Verdict::Waiting,
        };
        let answer = self.ask(&login.id);
        self.cluster.write(self.bounded(login)).await?;
        Ok(answer)
    }

    /// All replicas have to decide alike about a login, so bounds above the usual ones are
    /// in the command.
    fn bounded(&self, login: PendingLogin) -> Command {
        let Limits { pending_logins_per_address: per_source, pending_logins: in_all, .. } = self.limits;
        match per_source <= MAX_LOGINS_PER_SOURCE && in_all <= MAX_LOGINS {
            true => Command::StartLogin(login),
            false => Command::StartBoundedLogin { login, per_source: per_source as u64, in_all: in_all as u64 },
        }
    }

    /// Refuses what would be refused, without a write: anybody can ask for logins.
    fn has_room(&self, source: IpAddr, now: Time) -> Result<(), Trouble> {
        let Limits { pending_logins_per_address, pending_logins, .. } = self.limits;
        let view = self.cluster.view();
        match view.wait_for_login(now.max(view.clock()), source, pending_logins_per_address, pending_logins) {
            None => Ok(()),
            Some(seconds) => {
                metrics::counter!("quorumscale_limited_total", "what" => "logins").increment(1);
                Err(Trouble::Busy { text: Refused::TooManyLogins(seconds).to_string(), seconds })
            }
        }
    }

    /// Sends the client's user to the page for this login, on this replica: the one
    /// that the client named before may be dead.
    fn ask(&self, id: &AuthId) -> RegisterResponse {
        RegisterResponse { auth_url: format!("{}/register/{id}", self.server_url), ..RegisterResponse::default() }
    }
}

/// For the record of registrations.
fn origin(peer: &Peer, by: String) -> Asked {
    Origin { by, from: peer.ip.to_string() }.into()
}

/// The id in a URL that some replica made.
fn auth_id(url: &str) -> Option<AuthId> {
    let path = url.split(['?', '#']).next()?;
    path.trim_end_matches('/').rsplit('/').next()?.parse().ok()
}
