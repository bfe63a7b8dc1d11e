//! What became of a command: for the one who asked.

use super::record::*;
use super::{NodeId, UserId};
use serde::{Deserialize, Serialize};

/// A command's outcome: the same on every replica, and for every retry.
pub type Outcome = Result<Done, Refused>;

/// The command was applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Done {
    /// There is nothing to tell.
    Nothing,
    User(User),
    PreAuthKey(PreAuthKey),
    ApiKey(ApiKey),
    /// The node that was registered or changed; read it from a view.
    Node(NodeId),
    /// An ephemeral node logged out, and is gone.
    NodeGone,
    PolicyVersion(u64),
    /// One for each [`Report`](super::Report), in order.
    Reports(Vec<Result<(), Refused>>),
    /// What `BackfillIps` changed, in words.
    Changes(Vec<String>),
}

/// The command was refused, and changed nothing. The texts are for people: an
/// edge shows them as they are. Where Headscale has words for it, they are Headscale's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    #[error("user already exists")]
    UserExists,
    #[error("user not found")]
    UserNotFound,
    /// A name that no policy could name, or that would not print well.
    #[error("invalid user name {name:?}: {reason}")]
    InvalidUserName { name: String, reason: String },
    #[error("user not empty: node(s) found")]
    UserNotEmpty,
    #[error("auth-key not found: record not found")]
    AuthKeyNotFound,
    #[error("record not found")]
    ApiKeyNotFound,
    #[error("node not found")]
    NodeNotFound,
    /// The node key that a client used is another node's, or no longer this node's.
    #[error("node not found")]
    NodeKeyUnknown,
    #[error("given name is not a valid DNS label: {0}")]
    InvalidName(String),
    #[error("node name is not unique: {0}")]
    NameTaken(String),
    #[error("cannot remove all tags from a node - tagged nodes must have at least one tag")]
    NoTags,
    #[error("failed to allocate IP: no address is free in {0}")]
    AddressesExhausted(String),

    /// No pre-authenticated key has this text.
    #[error("invalid pre auth key")]
    AuthKeyInvalid,
    #[error("authkey expired")]
    AuthKeyExpired,
    #[error("authkey already used")]
    AuthKeyUsed,
    #[error("requested tags {0} are invalid or not permitted")]
    TagsNotPermitted(String),
    #[error("node key already in use by another machine")]
    NodeKeyInUse,
    /// The same machine, with the key of a node that another owner has on it.
    #[error("this machine is logged in with this key for another owner: run \"tailscale logout\" on it first")]
    NodeKeyOfOtherOwner,
    /// Another key got the same random prefix: one in 2^48.
    #[error("a key with this prefix exists already: try again")]
    KeyPrefixTaken,
    #[error("machine key maps to ambiguous node ownership")]
    AmbiguousOwnership,
    #[error("extending key is not allowed")]
    ExtendingKey,
    #[error("node not found in registration cache")]
    LoginNotFound,
    /// A stream of an earlier run of a replica, or of one that is gone.
    #[error("this replica was restarted or removed meanwhile: connect again")]
    ReplicaGone,
    /// It was decided before.
    #[error("this login was already decided: run \"tailscale up\" on the machine again for a new one")]
    LoginDecided,
    /// No SSH check has this id, or it expired.
    #[error("no SSH session waits under this id: connect again for a new one")]
    SshCheckNotFound,
    #[error("this SSH session was already decided: connect again for a new one")]
    SshCheckDecided,
    #[error("too many SSH sessions are waiting for a decision: try again in {0} seconds")]
    TooManySshChecks(u64),
    #[error("too many logins are waiting for a decision: try again in {0} seconds")]
    TooManyLogins(u64),
    /// The machine key of a request is not the one that the record belongs to.
    #[error("machine key does not match")]
    MachineMismatch,

    /// What the decision relied on has changed: look again.
    #[error("the policy changed meanwhile: try again")]
    Stale,
    #[error("this cluster is already set up")]
    Bootstrapped,
    #[error(
        "this cluster has {count} {kind} already: an import fills a cluster that has no nodes, users and pre-authenticated \
         keys. Delete them, or import into a new cluster"
    )]
    ImportNeedsEmpty { kind: String, count: usize },
    #[error("another import filled this cluster: {origin}, at {at}. Import into a new cluster")]
    ImportedBefore { origin: String, at: super::Time },
    #[error("the import cannot be a tailnet: {0}")]
    ImportInvalid(String),
    #[error("this cluster is not set up yet: try again in a moment")]
    NotBootstrapped,
    /// Its deadline passed, or its answer was already acknowledged.
    #[error("the request came too late to be applied: try again")]
    TooLate,
    #[error("Idempotency-Key {0:?} was used for another request: use a new one")]
    IdempotencyKeyReused(String),
}

/// The synthetic user that tagged nodes are shown under.
pub fn tagged_devices() -> User {
    User {
        id: UserId::TAGGED_DEVICES,
        name: "tagged-devices".into(),
        display_name: "Tagged Devices".into(),
        email: String::new(),
        profile_pic_url: String::new(),
        provider: String::new(),
        provider_id: String::new(),
        created: super::Time(-62_135_596_800_000), // Go's zero time, as Headscale prints it
    }
}
