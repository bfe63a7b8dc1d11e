//! The steps of a login.

use super::Oidc;
use super::allowed;
use super::claims::Claims;
use super::error::LoginError;
use super::provider::{Client, Exchange, ProviderError};
use super::seal::{Attempt, Sealer};
use crate::api::owner_of_login;
use crate::cluster::{Asked, WriteError};
use crate::config::Pkce;
use crate::limits::Source;
use crate::sensitive::Sensitive;
use crate::state::{
    AuthId, Command, Done, NodeId, Origin, Owner, PendingLogin, Refused, RegisterMethod, SshCheck, SshVerdict, State,
    Time, User, UserId, Verdict,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long somebody may take at the provider, and how long to confirm: as long as the
/// machine waits.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Longer codes and states are none of any provider's.
const LONGEST_PARAMETER: usize = 4096;
/// How often an approval is decided anew because the policy changed meanwhile.
const MAX_ATTEMPTS: usize = 5;

/// What a login is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    #[serde(rename = "r")]
    Registration,
    #[serde(rename = "s")]
    SshSession,
}

/// A cookie to set: it lives as long as the step that it is for.
#[derive(Clone, Debug)]
pub struct Cookie {
    pub name: String,
    pub value: Sensitive<String>,
    pub path: String,
    /// Whether it comes back only from this server's own pages (`SameSite=Strict`).
    pub strict: bool,
    pub secure: bool,
    /// Zero: it is taken away.
    pub lives: Duration,
}

/// Where to send the browser.
pub struct Begun {
    pub location: String,
    pub cookie: Cookie,
}

/// The cookies of one browser.
pub type Cookies = BTreeMap<String, String>;

/// What a browser brings back from the provider.
pub struct Returned<'a> {
    pub code: Option<&'a str>,
    pub state: Option<&'a str>,
    /// `iss` (RFC 9207).
    pub issuer: Option<&'a str>,
    /// `error`: the provider's reason to refuse.
    pub error: Option<&'a str>,
    pub cookies: &'a Cookies,
    pub ip: IpAddr,
}

/// What there is to do after the return.
pub enum Finished {
    /// To ask whether this machine is theirs.
    Confirm(Box<Confirmation>),
    /// Nothing: the SSH session goes on.
    SessionApproved,
    /// Nothing: the login was decided before.
    Decided(AuthId),
}

/// What a person confirms.
pub struct Confirmation {
    pub login: Arc<PendingLogin>,
    pub user: User,
    /// What the form has to bring along.
    pub token: String,
    pub cookie: Cookie,
}

/// A machine is in.
pub struct Confirmed {
    pub node: NodeId,
    /// Whether it was there before.
    pub renewed: bool,
    /// The form's cookie, to be taken away.
    pub cookie: Cookie,
}

/// What the browser carries to the provider and back.
#[derive(Serialize, Deserialize)]
struct Carried {
    #[serde(rename = "p")]
    purpose: Purpose,
    #[serde(rename = "i")]
    id: AuthId,
    /// Which of the replicas' URLs the provider was told.
    #[serde(rename = "u")]
    server_url: String,
    #[serde(rename = "d")]
    deadline: Time,
}

/// What the form carries.
#[derive(Serialize, Deserialize)]
struct Asserted {
    #[serde(rename = "i")]
    id: AuthId,
    #[serde(rename = "u")]
    user: UserId,
    #[serde(rename = "s")]
    provider_id: String,
    #[serde(rename = "e")]
    expiry: Option<Time>,
    #[serde(rename = "d")]
    deadline: Time,
}

impl Oidc {
    /// Begins a login; `None`: the provider was not found yet, and nobody can log in.
    pub fn begin(&self, purpose: Purpose, id: &AuthId) -> Option<Begun> {
        let metadata = self.provider.metadata()?;
        let server_url = self.environment.server_url.clone();
        let carried = Carried { purpose, id: id.clone(), server_url, deadline: self.now() + LIFETIME };
        let (attempt, state) = self.states.seal(&carried);
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("response_type", "code");
        query.append_pair("client_id", &self.rules.client_id);
        query.append_pair("redirect_uri", &redirect_uri(&carried.server_url));
        query.append_pair("scope", &self.rules.scope.join(" "));
        query.append_pair("state", &state);
        query.append_pair("nonce", &self.states.secret(&attempt, "nonce"));
        if let Some(method) = self.rules.pkce {
            let verifier = self.states.secret(&attempt, "verifier");
            let (challenge, method) = match method {
                Pkce::S256 => (BASE64.encode(Sha256::digest(verifier.as_bytes())), "S256"),
                Pkce::Plain => (verifier.to_string(), "plain"),
            };
            query.append_pair("code_challenge", &challenge);
            query.append_pair("code_challenge_method", method);
        }
        query.extend_pairs(&self.rules.extra_params);
        let endpoint = metadata.authorization_endpoint.to_string();
        let glue = if endpoint.contains('?') { '&' } else { '?' };
        metrics::counter!("quorumscale_oidc_logins_total", "outcome" => "begun").increment(1);
        let cookie = self.cookie(&self.states, &attempt, "/oidc/callback".into(), false);
        Some(Begun { location: format!("{endpoint}{glue}{}", query.finish()), cookie })
    }

    /// A browser came back from the provider, maybe with a login that began at another replica.
    pub async fn finish(&self, returned: &Returned<'_>) -> Result<Finished, LoginError> {
        let finished = self.finish_unrecorded(returned).await;
        if let Err(error) = &finished {
            metrics::counter!("quorumscale_oidc_logins_total", "outcome" => "refused").increment(1);
            tracing::info!(ip = %returned.ip, %error, "refused a login by the OpenID provider");
        }
        finished
    }

    async fn finish_unrecorded(&self, returned: &Returned<'_>) -> Result<Finished, LoginError> {
        let (attempt, carried) = self.carried(returned)?;
        if let Some(reason) = returned.error {
            return Err(LoginError::Denied(reason.chars().filter(|c| !c.is_control()).take(100).collect()));
        }
        let code = returned.code.filter(|code| !code.is_empty()).ok_or(LoginError::MissingParameters)?;
        let source = Source::of(returned.ip);
        if let Some(wait) = self.returns.wait(source) {
            metrics::counter!("quorumscale_limited_total", "what" => "provider logins").increment(1);
            return Err(LoginError::TooMany(wait.as_secs() + 1));
        }
        self.returns.spend(source);
        let _one_of_few = self.conversations.try_acquire().map_err(|_| LoginError::TooMany(5))?;
        if !self.used.take(attempt, self.now(), carried.deadline) {
            return Err(LoginError::Used);
        }
        let claims = self.claims(&attempt, &carried, code).await?;
        let user = self.admit(&claims, returned.ip).await?;
        match carried.purpose {
            Purpose::Registration => self.ask_to_confirm(carried.id, user, &claims).await,
            Purpose::SshSession => self.approve_session(&carried.id, &user, returned.ip).await,
        }
    }

    /// What the browser carried, if this is the browser that it was given to.
    fn carried(&self, returned: &Returned<'_>) -> Result<(Attempt, Carried), LoginError> {
        let state = returned.state.filter(|state| !state.is_empty()).ok_or(LoginError::MissingParameters)?;
        if returned.code.is_some_and(|code| code.len() > LONGEST_PARAMETER) {
            return Err(LoginError::MissingParameters);
        }
        let (attempt, carried) = self.states.open::<Carried>(state).ok_or(LoginError::ForeignState)?;
        self.check_cookie(&self.states, &attempt, returned.cookies)?;
        if carried.deadline <= self.now() {
            return Err(LoginError::Gone);
        }
        // Another provider's answer (RFC 9207, section 2.4).
        let says = self.provider.metadata().is_some_and(|m| m.authorization_response_iss_parameter_supported);
        match returned.issuer {
            Some(issuer) if issuer != self.rules.issuer => Err(LoginError::NotVerified),
            None if says => Err(LoginError::NotVerified),
            _ => Ok((attempt, carried)),
        }
    }

    async fn claims(&self, attempt: &Attempt, carried: &Carried, code: &str) -> Result<Claims, LoginError> {
        let client = Client { id: &self.rules.client_id, secret: &self.secret, pkce: self.rules.pkce };
        let exchange = Exchange {
            code,
            redirect_uri: &redirect_uri(&carried.server_url),
            verifier: &self.states.secret(attempt, "verifier"),
            nonce: &self.states.secret(attempt, "nonce"),
            now: self.now(),
        };
        self.provider.finish(&client, &exchange).await.map_err(|error| {
            tracing::warn!(issuer = self.rules.issuer, %error, "a login with the OpenID provider failed");
            match error {
                ProviderError::Unreachable(_) | ProviderError::NotFound | ProviderError::Answer { .. } => {
                    LoginError::ProviderUnavailable
                }
                ProviderError::Refused(_) | ProviderError::Token(_) | ProviderError::Claims(_) => {
                    LoginError::NotVerified
                }
            }
        })
    }

    /// The user that they are, as the provider describes them now.
    async fn admit(&self, claims: &Claims, ip: IpAddr) -> Result<User, LoginError> {
        let new = claims.to_user(&self.rules);
        if let Err(why) = allowed::check(claims, &self.rules) {
            tracing::warn!(who = new.provider_id, why = why.name(), "somebody may not join by the OpenID provider");
            return Err(why.into());
        }
        let asked = origin(&new.provider_id, ip);
        match self.environment.cluster.write_once(asked, Command::PutProviderUser(new)).await {
            Ok(Done::User(user)) => Ok(user),
            Ok(_) => Err(LoginError::ProviderUnavailable),
            Err(error) => Err(error.into()),
        }
    }

    /// A link to a login can be sent to anybody: whoever follows it sees which machine it is
    /// before it becomes theirs.
    async fn ask_to_confirm(&self, id: AuthId, user: User, claims: &Claims) -> Result<Finished, LoginError> {
        let view = self.environment.cluster.linearizable().await?;
        let login = self.login(&view, &id)?;
        if login.verdict != Verdict::Waiting {
            return Ok(Finished::Decided(id));
        }
        let asserted = Asserted {
            id,
            user: user.id,
            provider_id: user.provider_id.clone(),
            expiry: self.rules.use_expiry_from_token.then_some(claims.expiry),
            deadline: self.now() + LIFETIME,
        };
        let (attempt, token) = self.confirmations.seal(&asserted);
        let cookie = self.cookie(&self.confirmations, &attempt, confirm_path(&asserted.id), true);
        Ok(Finished::Confirm(Box::new(Confirmation { login, user, token, cookie })))
    }

    /// The person said that the machine is theirs.
    pub async fn confirm(
        &self,
        id: &AuthId,
        token: &str,
        cookies: &Cookies,
        ip: IpAddr,
    ) -> Result<Confirmed, LoginError> {
        let (attempt, asserted) = self.confirmations.open::<Asserted>(token).ok_or(LoginError::ForeignState)?;
        if asserted.id != *id {
            return Err(LoginError::ForeignState);
        }
        self.check_cookie(&self.confirmations, &attempt, cookies)?;
        if asserted.deadline <= self.now() {
            return Err(LoginError::Gone);
        }
        let (node, renewed) = self.register(&asserted, ip).await?;
        metrics::counter!("quorumscale_oidc_logins_total", "outcome" => "registered").increment(1);
        tracing::info!(%node, who = asserted.provider_id, %ip, "a machine was let in by the OpenID provider");
        let cookie = self.cookie(&self.confirmations, &attempt, confirm_path(id), true);
        Ok(Confirmed { node, renewed, cookie: Cookie { lives: Duration::ZERO, value: Sensitive::default(), ..cookie } })
    }

    /// The node, and whether it was there before.
    async fn register(&self, asserted: &Asserted, ip: IpAddr) -> Result<(NodeId, bool), LoginError> {
        let cluster = &self.environment.cluster;
        let seed = rand::random();
        for _ in 0..MAX_ATTEMPTS {
            let view = cluster.linearizable().await?;
            let user = view.user(asserted.user).filter(|user| user.provider_id == asserted.provider_id);
            let user = user.ok_or(Refused::UserNotFound)?.id;
            let login = self.login(&view, &asserted.id)?;
            let policy = self.environment.policies.in_force(&view);
            let owner = owner_of_login(&policy, &view, user, &login)?;
            let command = Command::ApproveLogin {
                auth_id: asserted.id.clone(),
                user,
                v4_pools: policy.ip_pools(&owner),
                owner,
                method: RegisterMethod::Oidc,
                policy_version: view.policy_version(),
                seed,
                provider_expiry: asserted.expiry,
            };
            match cluster.write_once(origin(&asserted.provider_id, ip), command).await {
                Ok(Done::Node(node)) => return Ok((node, view.node(node).is_some())),
                Err(WriteError::Refused(Refused::Stale)) => {}
                // The same form, sent twice.
                Err(WriteError::Refused(Refused::LoginDecided)) => {
                    let view = cluster.linearizable().await?;
                    match self.login(&view, &asserted.id)?.verdict {
                        Verdict::Registered(node) if is_of(&view, node, user) => {
                            let renewed = view.node(node).is_some_and(|node| node.created < login.created);
                            return Ok((node, renewed));
                        }
                        _ => return Err(Refused::LoginDecided.into()),
                    }
                }
                Ok(_) => return Err(Refused::LoginNotFound.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refused::Stale.into())
    }

    /// An SSH session is let through by whoever owns the machine that it comes from.
    async fn approve_session(&self, id: &AuthId, user: &User, ip: IpAddr) -> Result<Finished, LoginError> {
        let cluster = &self.environment.cluster;
        let view = cluster.linearizable().await?;
        let check = self.ssh_check(&view, id)?;
        if view.node(check.source).is_none_or(|node| node.owner != Owner::User(user.id)) {
            return Err(LoginError::NotYourSession);
        }
        if check.verdict != SshVerdict::Waiting {
            return Ok(Finished::Decided(id.clone()));
        }
        let by = format!("oidc {}", user.provider_id);
        let command = Command::DecideSshCheck { auth_id: id.clone(), approve: true, by };
        cluster.write_once(origin(&user.provider_id, ip), command).await?;
        Ok(Finished::SessionApproved)
    }

    fn login(&self, view: &State, id: &AuthId) -> Result<Arc<PendingLogin>, LoginError> {
        view.login(id).filter(|login| login.deadline > self.now()).cloned().ok_or(LoginError::Gone)
    }

    fn ssh_check(&self, view: &State, id: &AuthId) -> Result<Arc<SshCheck>, LoginError> {
        view.ssh_check(id).filter(|check| check.deadline > self.now()).cloned().ok_or(LoginError::Gone)
    }

    fn now(&self) -> Time {
        Time::now().max(self.environment.cluster.view().clock())
    }

    /// Binds an attempt to a browser.
    fn cookie(&self, sealer: &Sealer, attempt: &Attempt, path: String, strict: bool) -> Cookie {
        Cookie {
            name: cookie_name(strict, attempt),
            value: sealer.secret(attempt, "browser"),
            path,
            strict,
            secure: self.environment.server_url.starts_with("https:"),
            lives: LIFETIME,
        }
    }

    fn check_cookie(&self, sealer: &Sealer, attempt: &Attempt, cookies: &Cookies) -> Result<(), LoginError> {
        let strict = std::ptr::eq(sealer, &self.confirmations);
        let value = cookies.get(&cookie_name(strict, attempt)).ok_or(LoginError::NoCookie)?;
        if Sensitive::new(value.clone()) == sealer.secret(attempt, "browser") {
            Ok(())
        } else {
            Err(LoginError::OtherBrowser)
        }
    }
}

/// Each tab has its own.
fn cookie_name(confirms: bool, attempt: &Attempt) -> String {
    let kind = if confirms { "quorumscale_register_confirm" } else { "quorumscale_oidc_state" };
    format!("{kind}_{}", attempt.short())
}

/// Where the form goes.
fn confirm_path(id: &AuthId) -> String {
    format!("/register/confirm/{id}")
}

fn redirect_uri(server_url: &str) -> String {
    format!("{server_url}/oidc/callback")
}

/// For the record: who it was, by the provider's word.
fn origin(provider_id: &str, ip: IpAddr) -> Asked {
    Origin { by: format!("oidc {provider_id}"), from: ip.to_string() }.into()
}

fn is_of(view: &State, node: NodeId, user: UserId) -> bool {
    view.node(node).is_some_and(|node| match node.owner {
        Owner::User(owner) => owner == user,
        Owner::Tags(_) => true,
    })
}
