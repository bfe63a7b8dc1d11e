//! What the cluster replicates, one type for each kind of record.
//!
//! Records are stored and sent as JSON with named fields, so that the version
//! before and the version after can read them: a new field has a default, and
//! no field changes its meaning.
//!
//! Replicas of different releases must also write the same bytes for the same record, as
//! they are compared with each other. So a new field comes after the others and is left out
//! while it has its default (`#[serde(default, skip_serializing_if = "…")]`), and only a
//! command of a format that all members know sets it ([`Command::format`](super::Command::format)).
//! `tests/fixtures/golden` holds the bytes that each release writes.

use super::{ApiKeyId, AuthId, AuthKeyId, KeyHash, NodeId, ReplicaId, Time, UserId};
use crate::tailcfg::{CapVer, DiscoKey, Hostinfo, MachineKey, NodeKey};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// A tag, `tag:` included: a letter, then letters, digits and dashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

/// A text was not a [`Tag`]. The words are Headscale's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// No `tag:` in front.
    #[error("tag must start with the string 'tag:'")]
    Prefix,
    /// Upper-case letters.
    #[error("tag should be lowercase")]
    Case,
    /// Something else than letters, digits and dashes, or no letter in front.
    #[error("tag {0:?} must be a letter, then letters, digits and dashes, after 'tag:'")]
    Characters(String),
}

impl Tag {
    /// The text form, `tag:` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Tag {
    type Err = TagError;
    fn from_str(text: &str) -> Result<Self, TagError> {
        let name = text.strip_prefix("tag:").ok_or(TagError::Prefix)?;
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(TagError::Case);
        }
        let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        let goes_on_well = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if starts_well && goes_on_well { Ok(Self(text.into())) } else { Err(TagError::Characters(text.into())) }
    }
}

impl TryFrom<String> for Tag {
    type Error = TagError;
    fn try_from(text: String) -> Result<Self, TagError> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> String {
        tag.0
    }
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who owns a node, or what a pre-authenticated key makes its nodes belong to:
/// a user, or tags, never both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// A personal node.
    User(UserId),
    /// A tagged node; the set is not empty.
    Tags(BTreeSet<Tag>),
}

/// A person. Names are unique.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: UserId,
    pub name: String,
    pub display_name: String,
    pub email: String,
    pub profile_pic_url: String,
    /// `oidc`, or empty for a user that an administrator made.
    pub provider: String,
    pub provider_id: String,
    pub created: Time,
}

/// A BLAKE2s-256 hash of a key's secret part. Keys are 256 random bits, so a
/// fast hash gives nothing away. Two are compared in constant time.
#[derive(Clone, Copy, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// The hash of a secret's text.
    pub fn of(secret: &str) -> Self {
        use blake2::Digest;
        Self(blake2::Blake2s256::digest(secret.as_bytes()).into())
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hash)")
    }
}

impl TryFrom<String> for SecretHash {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> String {
        hex::encode(hash.0)
    }
}

/// A pre-authenticated key: `hskey-auth-PREFIX-SECRET`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreAuthKey {
    pub id: AuthKeyId,
    /// Unique, shown; 12 hex digits.
    pub prefix: String,
    pub hash: KeyHash,
    pub owner: Owner,
    pub reusable: bool,
    pub ephemeral: bool,
    /// Whether a single-use key was used; never set for a reusable one (as in Headscale).
    pub used: bool,
    /// `None`: never.
    pub expiration: Option<Time>,
    pub created: Time,
}

/// An API key: `hskey-api-PREFIX-SECRET`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    pub id: ApiKeyId,
    /// Unique, shown; 12 hex digits, or 7 characters of an old one that was imported.
    pub prefix: String,
    pub hash: KeyHash,
    /// `None`: never.
    pub expiration: Option<Time>,
    pub created: Time,
    /// What it lets its holder do.
    #[serde(default, skip_serializing_if = "ApiKeyRole::is_admin")]
    pub role: ApiKeyRole,
    /// Whose key it is, in an administrator's words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// When it last let somebody in, to the minute; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Time>,
}

/// What an API key lets its holder do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApiKeyRole {
    /// Everything. Keys of releases without roles have this one.
    #[default]
    Admin,
    /// To look, and nothing else.
    ReadOnly,
}

/// A text was no [`ApiKeyRole`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role: it must be admin or read-only")]
pub struct RoleError(pub String);

impl ApiKeyRole {
    /// Whether it is the role that keys have unless told otherwise.
    pub fn is_admin(&self) -> bool {
        *self == Self::Admin
    }
}

impl std::str::FromStr for ApiKeyRole {
    type Err = RoleError;
    fn from_str(text: &str) -> Result<Self, RoleError> {
        match text {
            "admin" => Ok(Self::Admin),
            "read-only" => Ok(Self::ReadOnly),
            other => Err(RoleError(other.into())),
        }
    }
}

impl std::fmt::Display for ApiKeyRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::ReadOnly => "read-only",
        })
    }
}

/// How a node came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegisterMethod {
    AuthKey,
    Cli,
    Oidc,
}

/// One address at which a node may be reached, and how the node learned of it
/// (`tailcfg.EndpointType`: 1 local, 2 STUN, 3 port mapping, 4, 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub addr: SocketAddr,
    pub kind: i32,
}

/// A node of the tailnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    pub machine_key: MachineKey,
    /// Unique among nodes.
    pub node_key: NodeKey,
    /// Unknown until the node's first map request.
    pub disco_key: Option<DiscoKey>,
    pub owner: Owner,
    /// The MagicDNS label, unique among nodes.
    pub given_name: String,
    /// Whether an administrator chose `given_name`; else it follows the host name.
    pub renamed: bool,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// `net_info` and `preferred_derp` here are the last that the node sent.
    pub hostinfo: Hostinfo,
    pub endpoints: Vec<Endpoint>,
    pub cap_ver: CapVer,
    pub created: Time,
    /// When the node key stops being valid; `None`: never.
    pub expiry: Option<Time>,
    /// Whether the passing of `expiry` has been applied.
    pub expired: bool,
    /// When the node was last online, or registered.
    pub last_seen: Option<Time>,
    pub register_method: RegisterMethod,
    /// The key it registered with, as long as that exists.
    pub auth_key: Option<AuthKeyId>,
    /// Deleted by itself some time after it went away.
    pub ephemeral: bool,
    /// For ephemeral nodes without a session: since when its inactivity counts, by the
    /// clock that stands still while there is no leader. For one that has registered
    /// and not polled since, that is in the future.
    pub idle_since: Option<Time>,
    /// Approved by an administrator or a policy, announced or not.
    pub approved_routes: BTreeSet<IpNet>,
    /// The log index of the last command that changed what others see of this node,
    /// whether it is in this record, its sessions or its primary routes.
    pub version: u64,
}

/// One stream of one node on one replica. A node is online while it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId {
    pub node: NodeId,
    pub replica: ReplicaId,
    /// Of the replica: a number that is new each time it starts.
    pub incarnation: u64,
    /// Counts on one incarnation of a replica.
    pub number: u64,
}

/// A login that waits for somebody's decision (protocol section 3.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingLogin {
    pub id: AuthId,
    pub machine_key: MachineKey,
    pub node_key: NodeKey,
    pub hostinfo: Hostinfo,
    pub cap_ver: CapVer,
    /// What the client asked for.
    pub expiry: Option<Time>,
    /// Where the request came from; logins are bounded for each address.
    pub source: IpAddr,
    pub created: Time,
    /// Forgotten at this time, decided or not.
    pub deadline: Time,
    pub verdict: Verdict,
}

/// What became of a pending login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    Waiting,
    /// The node that it became.
    Registered(NodeId),
    /// `auth approve` without a node: the client starts again (Headscale's behaviour).
    Approved,
    Rejected,
}

/// The policy in force, as its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// Counts from 1.
    pub version: u64,
    /// HuJSON.
    pub text: String,
    pub updated: Time,
    /// Who set it: an API key by its prefix, an operating system's user on a replica, or
    /// a replica's file.
    pub author: String,
    /// The earlier version that it restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<u64>,
}

/// What configuration decides about outcomes. From the first replica's file at
/// bootstrap; the same on all replicas since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub prefix_v4: Option<Ipv4Net>,
    pub prefix_v6: Option<Ipv6Net>,
    pub allocation: Allocation,
    /// Without a trailing dot; may be empty (no MagicDNS names).
    pub base_domain: String,
    /// Default key expiry of personal nodes; zero: none.
    pub node_expiry: Duration,
    pub ephemeral_timeout: Duration,
}

/// `prefixes.allocation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allocation {
    #[default]
    Sequential,
    Random,
}

/// The cluster's own identity and keys, made once at bootstrap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKeys {
    /// A random name that replicas check in each other.
    pub cluster_id: String,
    /// What clients know the server by: the Noise static key.
    pub noise_public: MachineKey,
    /// Never used, but not zero: a client that is told a zero key asks for it again
    /// and again (protocol section 1.1).
    pub legacy_public: MachineKey,
    /// The private keys, encrypted under the data key; base64.
    pub sealed: String,
    /// The data key, encrypted under the cluster's shared secret; base64.
    pub wrapped_data_key: String,
    /// The names of the clusters that this one was recovered from: their
    /// replicas' data is out of date, and must not come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous_cluster_ids: Vec<String>,
}

/// What a replica tells the others about itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    pub id: ReplicaId,
    pub incarnation: u64,
    /// When this incarnation said that it is up.
    pub since: Time,
    /// The release that it runs.
    pub version: String,
    /// The newest command format that it can apply.
    pub command_format: u32,
    /// IP addresses (with a port if it is not the login URL's) at which clients reach it.
    pub client_addresses: Vec<IpAddr>,
    /// Its relay, if it has one.
    pub relay: Option<Relay>,
    /// Replicated settings that its own file contradicts: `key: here X, cluster Y`.
    pub config_differs: Vec<String>,
    /// How far it can be counted on; a new run starts with [`Standing::Serving`].
    #[serde(default)]
    pub standing: Standing,
}

/// How far a run of a replica can be counted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It serves clients.
    #[default]
    Serving,
    /// It is stopping: its clients are going elsewhere.
    Leaving,
    /// The leader has not heard of it for the offline grace: whether its clients still
    /// reach it is not known, so nobody is sent there, and a router that another one
    /// can stand in for is not primary there.
    Away,
}

/// A replica's embedded DERP server: a region of its own (protocol section 6.7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    pub region_id: u32,
    pub region_code: String,
    pub region_name: String,
    pub host_name: String,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub derp_port: u16,
    /// 0: no STUN.
    pub stun_port: u16,
    /// SHA-256 of the certificate's DER, hex; `None`: the certificate has a CA that clients trust.
    pub cert_sha256: Option<String>,
    /// For tests with a client that cannot pin a certificate.
    pub insecure_for_tests: bool,
}
