//! The provider: found by its issuer (OpenID Connect Discovery), and asked about logins.

use super::claims::{Claims, Expected};
use super::jws::{Keys, TokenError};
use crate::config::Pkce;
use crate::outbound::{Ask, Http, HttpError, Limits};
use crate::sensitive::Sensitive;
use crate::state::Time;
use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Uri;
use serde::{Deserialize, Deserializer};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Between two questions for the provider's keys because a token names one that is not
/// known: whoever sends such tokens must not make this replica ask without end.
const KEYS_APART: Duration = Duration::from_secs(10);
/// After this time the keys are asked for anew anyhow: the provider may have withdrawn one.
const KEYS_AGE: Duration = Duration::from_secs(3600);
/// Between two attempts to find a provider that was not there.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Between two looks at what the provider says of itself.
const LOOK_AGAIN: Duration = Duration::from_secs(6 * 3600);

/// Of one request: the largest answers are a profile with a picture in it, and the keys of a large provider.
const LIMITS: Limits = Limits { time: Duration::from_secs(10), body: 1 << 20 };

/// A provider, there or not.
pub(super) struct Provider {
    issuer: String,
    http: Http,
    metadata: ArcSwapOption<Metadata>,
    keys: Mutex<CachedKeys>,
}

#[derive(Default)]
struct CachedKeys {
    keys: Arc<Keys>,
    asked: Option<Instant>,
    /// The same, because a token named a key that was not known.
    asked_for_token: Option<Instant>,
}

/// What the provider says of itself (OpenID Connect Discovery, section 3).
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    #[serde(deserialize_with = "url")]
    pub authorization_endpoint: Uri,
    #[serde(deserialize_with = "url")]
    token_endpoint: Uri,
    #[serde(default, deserialize_with = "some_url")]
    userinfo_endpoint: Option<Uri>,
    #[serde(deserialize_with = "url")]
    jwks_uri: Uri,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    id_token_signing_alg_values_supported: Vec<String>,
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// A login cannot be finished with the provider.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProviderError {
    #[error("the provider cannot be reached: {0}")]
    Unreachable(#[from] HttpError),
    #[error("the provider has not been found yet")]
    NotFound,
    #[error("the provider answers {status} at {what}: {reason}")]
    Answer { what: &'static str, status: u16, reason: String },
    /// The code of the login, or this server's own secret.
    #[error("the provider refused the login: {0}")]
    Refused(String),
    #[error("the provider's token cannot be taken: {0}")]
    Token(#[from] TokenError),
    #[error("the provider's token cannot be taken: {0}")]
    Claims(#[from] super::claims::ClaimError),
}

/// This server, as the provider knows it.
pub(super) struct Client<'a> {
    pub id: &'a str,
    pub secret: &'a Sensitive<String>,
    pub pkce: Option<Pkce>,
}

/// The end of one login.
pub(super) struct Exchange<'a> {
    pub code: &'a str,
    pub redirect_uri: &'a str,
    pub verifier: &'a str,
    pub nonce: &'a str,
    pub now: Time,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default, deserialize_with = "secret")]
    id_token: Sensitive<String>,
    #[serde(default, deserialize_with = "secret")]
    access_token: Sensitive<String>,
}

impl Provider {
    pub fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.into(),
            http: Http::with_the_machines_roots(LIMITS),
            metadata: ArcSwapOption::empty(),
            keys: Mutex::default(),
        }
    }

    /// What is known of it; `None`: it was not found yet.
    pub fn metadata(&self) -> Option<Arc<Metadata>> {
        self.metadata.load_full()
    }

    /// Looks for the provider until it is found, at most for `patience`.
    pub async fn find_within(&self, patience: Duration) -> Result<(), ProviderError> {
        let deadline = Instant::now() + patience;
        let mut wait = RETRY.0;
        loop {
            match tokio::time::timeout_at(deadline, self.discover()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if Instant::now() + wait >= deadline => return Err(error),
                Ok(Err(_)) => tokio::time::sleep(wait).await,
                Err(_) => return Err(ProviderError::NotFound),
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// Looks for the provider until it is found, and then now and again whether it has changed.
    pub async fn follow(&self) {
        let mut wait = RETRY.0;
        loop {
            match self.discover().await {
                Ok(()) => {
                    wait = RETRY.0;
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(error) => {
                    let known = self.metadata().is_some();
                    tracing::warn!(issuer = self.issuer, %error, known, "the OpenID provider cannot be asked who it is");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    async fn discover(&self) -> Result<(), ProviderError> {
        const WHAT: &str = "its configuration";
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let wrong = |reason: String| ProviderError::Answer { what: WHAT, status: 200, reason };
        let url: Uri = url.parse().map_err(|e| wrong(format!("{url}: {e}")))?;
        let body = self.get(WHAT, &url, None).await?;
        let metadata: Metadata = serde_json::from_slice(&body).map_err(|e| wrong(e.to_string()))?;
        if metadata.issuer != self.issuer {
            return Err(wrong(format!("it calls itself {:?}: set oidc.issuer to exactly that", metadata.issuer)));
        }
        let is_plain = |url: &Uri| url.scheme_str() != Some("https");
        if self.issuer.starts_with("https://")
            && [&metadata.token_endpoint, &metadata.jwks_uri].into_iter().any(is_plain)
        {
            return Err(wrong("it wants tokens and keys to be asked for without TLS".into()));
        }
        if self.metadata().is_none() {
            tracing::info!(issuer = self.issuer, "found the OpenID provider");
        }
        self.metadata.store(Some(Arc::new(metadata)));
        Ok(())
    }

    /// Exchanges a login's code for what the provider says of whoever logged in.
    pub async fn finish(&self, client: &Client<'_>, exchange: &Exchange<'_>) -> Result<Claims, ProviderError> {
        if self.metadata().is_none() {
            // A replica that has just started: somebody else sent the browser to the provider.
            self.discover().await?;
        }
        let metadata = self.metadata().ok_or(ProviderError::NotFound)?;
        let tokens = self.redeem(&metadata, client, exchange).await?;
        if tokens.id_token.is_empty() {
            return Err(ProviderError::Refused("it gave no id token".into()));
        }
        let content = self.verify(&metadata, &tokens.id_token).await?;
        let expected =
            Expected { issuer: &self.issuer, client_id: client.id, nonce: exchange.nonce, now: exchange.now };
        let mut claims = Claims::of_id_token(&content, &expected)?;
        if let Err(error) = self.add_user_info(&metadata, &tokens.access_token, &mut claims).await {
            tracing::warn!(issuer = self.issuer, %error, "nothing more is known of whoever logs in than the token says");
        }
        Ok(claims)
    }

    async fn redeem(
        &self,
        metadata: &Metadata,
        client: &Client<'_>,
        exchange: &Exchange<'_>,
    ) -> Result<Tokens, ProviderError> {
        let (form, authorization) = metadata.token_request(client, exchange);
        let authorization = authorization.as_ref().map(|text| text.as_str());
        let ask = Ask { url: &metadata.token_endpoint, authorization, form: Some(&form) };
        let reply = self.http.ask(ask).await?;
        if reply.status.is_server_error() {
            let reason = String::from("it has a fault of its own");
            return Err(ProviderError::Answer { what: "its tokens", status: reply.status.as_u16(), reason });
        }
        if !reply.status.is_success() {
            return Err(ProviderError::Refused(oauth_error(&reply.body)));
        }
        serde_json::from_slice(&reply.body)
            .map_err(|e| ProviderError::Refused(format!("its answer has no tokens: {e}")))
    }

    /// With the keys that are known, and once more with those that the provider has now.
    async fn verify(&self, metadata: &Metadata, token: &str) -> Result<Vec<u8>, ProviderError> {
        let allowed = |name: &str| metadata.signs_with(name);
        let keys = self.keys(metadata, false).await?;
        match keys.verify(token, allowed) {
            Err(TokenError::UnknownKey(_)) => {
                let keys = self.keys(metadata, true).await?;
                Ok(keys.verify(token, allowed)?)
            }
            other => Ok(other?),
        }
    }

    /// The keys as they are known; `anew`: as the provider has them now, if it was not asked
    /// for that just before.
    async fn keys(&self, metadata: &Metadata, anew: bool) -> Result<Arc<Keys>, ProviderError> {
        const WHAT: &str = "its keys";
        let mut cached = self.keys.lock().await;
        let within = |asked: Option<Instant>, age| asked.is_some_and(|asked| asked.elapsed() < age);
        if if anew { within(cached.asked_for_token, KEYS_APART) } else { within(cached.asked, KEYS_AGE) } {
            return Ok(cached.keys.clone());
        }
        if anew {
            cached.asked_for_token = Some(Instant::now());
        }
        let parse =
            |body: &[u8]| Keys::parse(body).map_err(|reason| ProviderError::Answer { what: WHAT, status: 200, reason });
        match self.get(WHAT, &metadata.jwks_uri, None).await.and_then(|body| parse(&body)) {
            Ok(keys) => (cached.keys, cached.asked) = (Arc::new(keys), Some(Instant::now())),
            // Those from before may do; without any, the next login asks again.
            Err(error) if cached.asked.is_none() => return Err(error),
            Err(error) => tracing::warn!(issuer = self.issuer, %error, "the OpenID provider's keys may be out of date"),
        }
        Ok(cached.keys.clone())
    }

    async fn add_user_info(
        &self,
        metadata: &Metadata,
        access_token: &Sensitive<String>,
        claims: &mut Claims,
    ) -> Result<(), ProviderError> {
        let (Some(url), false) = (&metadata.userinfo_endpoint, access_token.is_empty()) else { return Ok(()) };
        let authorization = Sensitive::new(format!("Bearer {}", **access_token));
        let body = self.get("its user information", url, Some(&authorization)).await?;
        Ok(claims.add_user_info(&body)?)
    }

    async fn get(
        &self,
        what: &'static str,
        url: &Uri,
        authorization: Option<&str>,
    ) -> Result<bytes::Bytes, ProviderError> {
        let reply = self.http.ask(Ask { url, authorization, form: None }).await?;
        if reply.status.is_success() {
            return Ok(reply.body);
        }
        Err(ProviderError::Answer { what, status: reply.status.as_u16(), reason: format!("asked at {url}") })
    }
}

impl Metadata {
    /// The form, and the header that says who asks, if the form does not.
    fn token_request(
        &self,
        client: &Client<'_>,
        exchange: &Exchange<'_>,
    ) -> (Sensitive<String>, Option<Sensitive<String>>) {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code");
        form.append_pair("code", exchange.code);
        form.append_pair("redirect_uri", exchange.redirect_uri);
        if client.pkce.is_some() {
            form.append_pair("code_verifier", exchange.verifier);
        }
        if self.takes_basic() {
            return (Sensitive::new(form.finish()), Some(Sensitive::new(basic(client))));
        }
        form.append_pair("client_id", client.id);
        form.append_pair("client_secret", client.secret);
        (Sensitive::new(form.finish()), None)
    }

    /// Without a word about it, it is the default (Discovery, section 3).
    fn takes_basic(&self) -> bool {
        let methods = &self.token_endpoint_auth_methods_supported;
        methods.is_empty()
            || methods.iter().any(|method| method == "client_secret_basic")
            || !methods.iter().any(|method| method == "client_secret_post")
    }

    fn signs_with(&self, algorithm: &str) -> bool {
        let algorithms = &self.id_token_signing_alg_values_supported;
        if algorithms.is_empty() { algorithm == "RS256" } else { algorithms.iter().any(|one| one == algorithm) }
    }
}

/// RFC 6749, section 2.3.1: both parts are encoded as forms are.
fn basic(client: &Client<'_>) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let both = Sensitive::new(format!("{}:{}", encode(client.id), encode(client.secret)));
    format!("Basic {}", BASE64.encode(both.as_bytes()))
}

/// RFC 6749, section 5.2. Never the whole answer, which may have anything in it.
fn oauth_error(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    struct Refusal {
        #[serde(default)]
        error: String,
        #[serde(default)]
        error_description: String,
    }
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let text = format!("{} {}", refusal.error, refusal.error_description);
    text.trim().chars().filter(|c| !c.is_control()).take(200).collect()
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sensitive<String>, D::Error> {
    String::deserialize(deserializer).map(Sensitive::new)
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uri, D::Error> {
    let text = String::deserialize(deserializer)?;
    let uri: Option<Uri> = text.parse().ok();
    let is_web = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    uri.filter(is_web).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no URL of a web server")))
}

fn some_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uri>, D::Error> {
    url(deserializer).map(Some)
}
