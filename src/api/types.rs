//! The REST API's objects (`/api/v1`), as Headscale shapes them: camelCase,
//! 64-bit numbers as strings, times in RFC 3339, keys in alphabetical order.
//! The server renders them; the command line reads and prints the same types.

use crate::sensitive::Sensitive;
use serde::{Deserialize, Serialize};

/// Go's zero time, which Headscale prints for "never set".
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    pub created_at: String,
    pub display_name: String,
    pub email: String,
    pub id: String,
    pub name: String,
    pub profile_pic_url: String,
    pub provider: String,
    pub provider_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PreAuthKey {
    pub acl_tags: Vec<String>,
    pub created_at: String,
    pub ephemeral: bool,
    pub expiration: Option<String>,
    pub id: String,
    /// In full in the answer to its creation, else `hskey-auth-PREFIX-***`.
    pub key: String,
    pub reusable: bool,
    pub used: bool,
    pub user: Option<User>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiKey {
    pub created_at: String,
    pub expiration: Option<String>,
    pub id: String,
    /// When it last let somebody in, to the minute.
    pub last_seen: Option<String>,
    /// Whose key it is, in an administrator's words.
    pub owner: String,
    /// `hskey-api-PREFIX-***`.
    pub prefix: String,
    /// `admin` or `read-only`.
    pub role: String,
}

/// Changes that people made, from the newest on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditList {
    pub records: Vec<AuditRecord>,
}

/// One change that somebody made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditRecord {
    /// A kind of thing and what was done to it, as in `user.create`.
    pub action: String,
    /// Who: an API key, an operating system's user on a replica, a pre-authenticated key.
    pub by: String,
    /// What changed; may be empty.
    pub detail: String,
    /// Where from: an IP address, or a socket.
    pub from: String,
    /// Ascends with time.
    pub id: String,
    /// What it was done to.
    pub subject: String,
    pub time: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    pub approved_routes: Vec<String>,
    pub available_routes: Vec<String>,
    pub created_at: String,
    pub disco_key: String,
    pub expiry: Option<String>,
    pub given_name: String,
    pub id: String,
    pub ip_addresses: Vec<String>,
    pub last_seen: Option<String>,
    pub machine_key: String,
    /// The host name as the machine says it.
    pub name: String,
    pub node_key: String,
    pub online: bool,
    pub pre_auth_key: Option<PreAuthKey>,
    /// `REGISTER_METHOD_{UNSPECIFIED,AUTH_KEY,CLI,OIDC}`.
    pub register_method: String,
    /// The routes that go through this node now: primary subnet routes, and exit routes.
    pub subnet_routes: Vec<String>,
    pub tags: Vec<String>,
    pub user: Option<User>,
}

/// The policies that are kept, from the newest, which is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyHistory {
    pub versions: Vec<PolicyVersion>,
}

/// A policy that is or was in force, without its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyVersion {
    pub author: String,
    pub bytes: String,
    pub in_force: bool,
    /// The version whose text it put in force anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restores: Option<String>,
    /// What it changed, in a few words.
    pub summary: String,
    pub updated_at: String,
    pub version: String,
}

/// A policy with its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyOfVersion {
    pub author: String,
    pub policy: String,
    pub updated_at: String,
    pub version: String,
}

/// How two policies differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyDiff {
    pub from: String,
    pub to: String,
    /// Unified; empty: they are the same.
    pub diff: String,
}

/// An error, by RFC 9457 (`application/problem+json`), with what clients of
/// Headscale up to 0.29 read beside it (`code`, `message`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    pub title: String,
    pub status: u16,
    pub detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemDetail>,
    pub code: u16,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProblemDetail {
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub location: String,
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub value: serde_json::Value,
}

/// The answer to an operation that has nothing to tell: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// What a release says about itself: `/version`, and `version -o json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VersionInfo {
    pub version: String,
    pub commit: String,
    pub build_time: String,
    /// The compiler; Headscale's key is kept.
    pub go: CompilerInfo,
    pub dirty: bool,
}

/// The compiler and the platform, named as Go names platforms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CompilerInfo {
    pub version: String,
    pub os: String,
    pub arch: String,
}

impl VersionInfo {
    /// This release. The build may name its commit and time in
    /// `QUORUMSCALE_COMMIT` and `QUORUMSCALE_BUILD_TIME`.
    pub fn current() -> Self {
        let os = match std::env::consts::OS {
            "macos" => "darwin",
            other => other,
        };
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: option_env!("QUORUMSCALE_COMMIT").unwrap_or("unknown").into(),
            build_time: option_env!("QUORUMSCALE_BUILD_TIME").unwrap_or("unknown").into(),
            go: CompilerInfo {
                version: concat!("rust", env!("CARGO_PKG_RUST_VERSION")).into(),
                os: os.into(),
                arch: arch.into(),
            },
            dirty: false,
        }
    }
}

/// `POST /import`. The content is as state has it, which is no promise to other programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportRequest {
    /// Look, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// The server's Noise key, as `privkey:` and hex digits.
    pub noise_private_key: PrivateKeyText,
    pub content: Box<crate::state::Import>,
}

/// The answer to [`ImportRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportAnswer {
    /// It was done now.
    pub applied: bool,
    /// The same was imported before, and nothing has changed.
    pub repeated: bool,
    /// What an operator should know, a sentence each.
    pub notes: Vec<String>,
}

/// A private key as text, secret and all; `Debug` hides it.
#[derive(Clone, Debug)]
pub struct PrivateKeyText(pub crate::tailcfg::PrivateKey);

impl Serialize for PrivateKeyText {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&Sensitive::new(self.0.reveal()))
    }
}

impl<'de> Deserialize<'de> for PrivateKeyText {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Sensitive::new(String::deserialize(d)?);
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}
