//! `oidc`: login through an OpenID provider.

use crate::sensitive::Sensitive;
use std::path::PathBuf;

/// The provider, and who may come in by it.
#[derive(Clone, Debug, PartialEq)]
pub struct Oidc {
    /// The provider's URL, as it writes it itself.
    pub issuer: String,
    pub when_unavailable: WhenUnavailable,
    pub client_id: String,
    pub client_secret: ClientSecret,
    /// With `openid` in it.
    pub scope: Vec<String>,
    /// More parameters for the provider's login page, in the file's order.
    pub extra_params: Vec<(String, String)>,
    /// Of these three, an empty list allows everybody; all that are not empty must agree.
    pub allowed_domains: Vec<String>,
    pub allowed_users: Vec<String>,
    pub allowed_groups: Vec<String>,
    /// Whether an e-mail address counts only when the provider has verified it.
    pub email_verified_required: bool,
    /// Whether a machine's key expires with the token of the login.
    pub use_expiry_from_token: bool,
    /// `None`: not used.
    pub pkce: Option<Pkce>,
}

/// `oidc.only_start_if_oidc_is_available`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenUnavailable {
    /// The server does not start. (It goes on when the provider is lost later.)
    Refuse,
    /// The server serves, and administrators can let machines in until the provider is there.
    Serve,
}

/// What proves to the provider that it is this server.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientSecret {
    Text(Sensitive<String>),
    /// A file with nothing else in it.
    File(PathBuf),
}

/// How a login's code is bound to whoever began it (RFC 7636).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pkce {
    S256,
    Plain,
}
