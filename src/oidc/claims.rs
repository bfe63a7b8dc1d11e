//! What a provider says of somebody.

use super::identity::provider_id;
use crate::config::Oidc;
use crate::state::{ProviderUser, Time, user_name_fault};
use serde::Deserialize;
use serde_json::Value;

/// The longest texts that are kept: a name, and a picture's URL.
const LONGEST_NAME: usize = 254;
const LONGEST_URL: usize = 2048;
/// RFC 7519 says no bound; OpenID Connect Core says 255 for a subject.
const LONGEST_SUBJECT: usize = 255;
/// Providers whose clocks are ahead: their tokens are valid from a moment that is not yet.
const CLOCK_SKEW_MS: i64 = 5 * 60 * 1000;

/// Whoever logged in, as the provider describes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    pub issuer: String,
    pub subject: String,
    pub name: String,
    pub username: String,
    pub email: String,
    pub email_verified: bool,
    pub picture: String,
    pub groups: Vec<String>,
    /// When the token ends.
    pub expiry: Time,
}

/// What a token must say.
pub(super) struct Expected<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
    pub now: Time,
}

/// A token that is signed well, but is not for this login.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClaimError {
    #[error("it is not a list of claims: {0}")]
    Form(String),
    #[error("it is {0:?}'s, and not the configured issuer's")]
    Issuer(String),
    #[error("it is for {0:?}, and not for this server's oidc.client_id")]
    Audience(String),
    #[error("it ended at {0}")]
    Expired(Time),
    #[error("it is not valid before {0}: do the clocks of this server and the provider agree?")]
    NotYet(Time),
    #[error("it belongs to another login (its nonce is another one)")]
    Nonce,
    #[error("it says of nobody who they are (no subject, or one that is too long)")]
    Subject,
}

/// As the provider writes it.
#[derive(Deserialize)]
struct Token {
    iss: String,
    aud: OneOrMany,
    #[serde(default)]
    azp: Option<String>,
    exp: serde_json::Number,
    #[serde(default)]
    nbf: Option<serde_json::Number>,
    #[serde(default)]
    nonce: String,
    #[serde(flatten)]
    profile: Profile,
}

/// What an id token and the user-info endpoint have in common. Whatever has an
/// unexpected shape counts as not said.
#[derive(Default, Deserialize)]
struct Profile {
    #[serde(default)]
    sub: String,
    #[serde(default)]
    name: Value,
    #[serde(default)]
    preferred_username: Value,
    #[serde(default)]
    email: Value,
    #[serde(default)]
    email_verified: Value,
    #[serde(default)]
    picture: Value,
    #[serde(default)]
    groups: Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl Claims {
    /// From the content of an id token whose signature is good (OpenID Connect Core,
    /// section 3.1.3.7).
    pub fn of_id_token(content: &[u8], expected: &Expected) -> Result<Self, ClaimError> {
        use subtle::ConstantTimeEq;
        let token: Token = serde_json::from_slice(content).map_err(|e| ClaimError::Form(e.to_string()))?;
        if token.iss != expected.issuer {
            return Err(ClaimError::Issuer(token.iss));
        }
        let audience = token.aud.all();
        let is_ours = |client: &String| client == expected.client_id;
        if !audience.iter().any(is_ours) || !token.azp.as_ref().is_none_or(is_ours) {
            return Err(ClaimError::Audience(audience.join(" ")));
        }
        let expiry = time(&token.exp)?;
        if expiry <= expected.now {
            return Err(ClaimError::Expired(expiry));
        }
        if let Some(start) = token.nbf.as_ref().map(time).transpose()?
            && start.0 > expected.now.0.saturating_add(CLOCK_SKEW_MS)
        {
            return Err(ClaimError::NotYet(start));
        }
        if expected.nonce.is_empty() || !bool::from(token.nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
            return Err(ClaimError::Nonce);
        }
        let subject = token.profile.sub.clone();
        // Of slashes and spaces alone nothing would be left in an identity.
        if subject.split('/').all(|part| part.trim().is_empty()) || subject.len() > LONGEST_SUBJECT {
            return Err(ClaimError::Subject);
        }
        let mut claims = Self { issuer: token.iss, subject, expiry, ..Self::default() };
        claims.take(&token.profile);
        Ok(claims)
    }

    /// What the user-info endpoint says counts more, if it is about the same person
    /// (section 5.3.2).
    pub fn add_user_info(&mut self, content: &[u8]) -> Result<(), ClaimError> {
        let profile: Profile = serde_json::from_slice(content).map_err(|e| ClaimError::Form(e.to_string()))?;
        if profile.sub != self.subject {
            return Err(ClaimError::Subject);
        }
        self.take(&profile);
        Ok(())
    }

    fn take(&mut self, profile: &Profile) {
        let put = |field: &mut String, value: &Value| {
            if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
                *field = text.into();
            }
        };
        put(&mut self.name, &profile.name);
        put(&mut self.username, &profile.preferred_username);
        put(&mut self.picture, &profile.picture);
        let verified = truth(&profile.email_verified);
        match profile.email.as_str().filter(|email| !email.is_empty()) {
            // Another address is not verified because the one before it was.
            Some(email) if email != self.email => {
                (self.email, self.email_verified) = (email.into(), verified.unwrap_or(false));
            }
            _ => self.email_verified = verified.unwrap_or(self.email_verified),
        }
        let groups = texts(&profile.groups);
        if !groups.is_empty() {
            self.groups = groups;
        }
    }

    /// The address, if it is to be believed.
    pub fn trusted_email(&self, rules: &Oidc) -> Option<&str> {
        let is_trusted = self.email_verified || !rules.email_verified_required;
        Some(self.email.as_str()).filter(|email| is_trusted && is_address(email))
    }

    /// What the cluster keeps of them.
    pub fn to_user(&self, rules: &Oidc) -> ProviderUser {
        let clip = |text: &str| text.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect::<String>();
        let is_url = self.picture.len() <= LONGEST_URL
            && (self.picture.starts_with("https://") || self.picture.starts_with("http://"));
        ProviderUser {
            provider_id: provider_id(&self.issuer, &self.subject),
            name: Some(self.username.clone()).filter(|name| is_name(name)),
            display_name: clip(&self.name),
            email: self.trusted_email(rules).map(Into::into),
            profile_pic_url: if is_url { self.picture.clone() } else { String::new() },
        }
    }
}

/// Headscale's rule for names from a provider, and ours for names.
fn is_name(name: &str) -> bool {
    let starts_well = name.chars().next().is_some_and(char::is_alphabetic);
    let goes_on_well = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | '@'));
    name.chars().count() >= 2
        && starts_well
        && goes_on_well
        && name.matches('@').count() <= 1
        && user_name_fault(name).is_none()
}

/// Something before and behind one `@`, without spaces or quotes.
fn is_address(text: &str) -> bool {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\\' | '<' | '>' | ',' | '@');
    let parts = text.split_once('@');
    let is_part = |part: &str| !part.is_empty() && part.chars().all(is_plain);
    text.len() <= LONGEST_NAME && parts.is_some_and(|(local, domain)| is_part(local) && is_part(domain))
}

/// Some providers write truth as a text.
fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) => Some(text == "true"),
        _ => None,
    }
}

/// A list of texts, or one text.
fn texts(value: &Value) -> Vec<String> {
    /// More groups than anybody is in.
    const MOST: usize = 2000;
    match value {
        Value::String(one) if !one.is_empty() => vec![one.clone()],
        Value::Array(many) => many.iter().filter_map(|item| item.as_str().map(Into::into)).take(MOST).collect(),
        _ => Vec::new(),
    }
}

/// Seconds since 1970, maybe with a fraction.
fn time(seconds: &serde_json::Number) -> Result<Time, ClaimError> {
    let seconds = seconds.as_f64().filter(|seconds| (0.0..1e11).contains(seconds));
    // The range was checked: the product fits.
    #[allow(clippy::cast_possible_truncation)]
    let milliseconds = seconds.map(|seconds| (seconds * 1000.0) as i64);
    milliseconds.map(Time).ok_or_else(|| ClaimError::Form("a time that is none".into()))
}
