//! The only way to change state: what edges may ask for.

use super::record::*;
use super::{
    AdoptedKey, ApiKeyId, AuthId, AuthKeyId, Deed, Import, NodeId, Origin, ProviderUser, ReplicaId, SshCheck, Time,
    UserId,
};
use crate::tailcfg::{CapVer, DiscoKey, Hostinfo, MachineKey, NodeKey};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The newest format of commands that this release can apply. A kind of command
/// or field that older releases do not know raises it: see [`Command::format`].
pub const COMMAND_FORMAT: u32 = 4;

/// A command on its way through the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// The format that a replica must know to apply it.
    pub format: u32,
    /// Who asked, so that a repetition is recognised.
    pub request: RequestId,
    /// Refused when applied later than this.
    pub deadline: Time,
    /// The leader's clock when it was proposed; state never goes back before it.
    pub time: Time,
    /// `Idempotency-Key` of a request from outside: a repetition within a day,
    /// through any replica, gets the first one's outcome.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// On whose behalf it is. Left out while a member runs a release that keeps no
    /// record of that: see [`Proposal::format_of`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    pub command: Command,
}

/// A request's name: the same for every retry of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// A random number of the proposing replica's process.
    pub incarnation: u64,
    /// Counts from 1 in that process.
    pub sequence: u64,
    /// Every request up to this one has had its answer: state forgets their outcomes.
    pub acknowledged: u64,
}

/// Each variant is one change, applied whole or refused whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// The first command of a cluster; refused when there are keys already.
    Bootstrap {
        settings: Settings,
        keys: ServerKeys,
    },
    /// The shared secret changed: the data key under the new one.
    WrapDataKey {
        wrapped_data_key: String,
    },
    /// A replica started.
    ReplicaUp(Replica),
    /// A replica left the cluster for good.
    ReplicaRemoved(ReplicaId),

    CreateUser {
        name: String,
        display_name: String,
        email: String,
        profile_pic_url: String,
    },
    RenameUser {
        id: UserId,
        name: String,
    },
    /// Refused while it owns nodes; its pre-authenticated keys go with it.
    DeleteUser {
        id: UserId,
    },
    /// Somebody logged in with an identity provider: the user that it knows by this
    /// identity is made, or has what the provider says now.
    PutProviderUser(ProviderUser),

    CreatePreAuthKey {
        prefix: String,
        hash: SecretHash,
        owner: Owner,
        reusable: bool,
        ephemeral: bool,
        expiration: Option<Time>,
    },
    ExpirePreAuthKey {
        id: AuthKeyId,
    },
    DeletePreAuthKey {
        id: AuthKeyId,
    },
    CreateApiKey {
        prefix: String,
        hash: SecretHash,
        expiration: Option<Time>,
        #[serde(default, skip_serializing_if = "ApiKeyRole::is_admin")]
        role: ApiKeyRole,
        /// As [`ApiKey::owner`].
        #[serde(default, skip_serializing_if = "String::is_empty")]
        owner: String,
    },
    ExpireApiKey {
        id: ApiKeyId,
    },
    DeleteApiKey {
        id: ApiKeyId,
    },
    /// These let somebody in within the last minute. Those that are gone are skipped.
    UseApiKeys(BTreeSet<ApiKeyId>),
    /// Something was done that has no command of its own; it goes into the record.
    Note(Deed),

    /// A registration with a pre-authenticated key (protocol section 3.6).
    RegisterWithKey {
        prefix: String,
        hash: SecretHash,
        registration: Registration,
    },
    /// A registration that needs somebody's decision.
    StartLogin(PendingLogin),
    /// The same where `limits` allows more logins than [`super::MAX_LOGINS_PER_SOURCE`] and
    /// [`super::MAX_LOGINS`]: as many of one address, and as many in all.
    StartBoundedLogin {
        login: PendingLogin,
        per_source: u64,
        in_all: u64,
    },
    /// Somebody decides that a pending login becomes a node. `owner` was decided by
    /// a policy of `policy_version`; refused as stale when that is no longer in force.
    ApproveLogin {
        auth_id: AuthId,
        /// Who approved, or on whose behalf: must exist, also for a tagged node.
        user: UserId,
        owner: Owner,
        method: RegisterMethod,
        policy_version: u64,
        seed: u64,
        /// As [`Registration::v4_pools`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        v4_pools: Vec<Ipv4Net>,
        /// When what the provider said ends; a machine that asked for an expiry has that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider_expiry: Option<Time>,
    },
    /// A verdict without a node: `auth approve` (of an SSH check) or `auth reject`.
    DecideLogin {
        auth_id: AuthId,
        approve: bool,
    },
    /// A client logs out: its key expires now; an ephemeral node goes at once.
    Logout {
        node_key: NodeKey,
        machine_key: MachineKey,
    },
    /// A client asks for an earlier expiry of its own key.
    ShortenExpiry {
        node_key: NodeKey,
        machine_key: MachineKey,
        expiry: Time,
    },

    /// `None`: never. `At(past)` is stored as now.
    SetNodeExpiry {
        id: NodeId,
        expiry: Expiry,
    },
    RenameNode {
        id: NodeId,
        given_name: String,
    },
    /// Replaces the node's tags, and its owner; checked against `policy_version`.
    SetTags {
        id: NodeId,
        tags: BTreeSet<Tag>,
        policy_version: u64,
    },
    /// Replaces the approved set.
    SetApprovedRoutes {
        id: NodeId,
        routes: BTreeSet<IpNet>,
    },
    /// Adds to the approved set what the policy's `autoApprovers` approve for this
    /// owner; refused as stale when either is another one by now.
    ApproveRoutes {
        id: NodeId,
        owner: Owner,
        routes: BTreeSet<IpNet>,
        policy_version: u64,
    },
    DeleteNode {
        id: NodeId,
    },
    /// Gives every node the address families that the settings have, and takes others away.
    BackfillIps {
        seed: u64,
    },

    SetPolicy {
        text: String,
        author: String,
        /// Refused as stale when another version is in force.
        expected_version: Option<u64>,
    },
    /// As `SetPolicy`, and keeps what was in force before. The text that is in force
    /// already changes nothing.
    PutPolicy {
        text: String,
        author: String,
        /// Refused as stale when another version is in force.
        expected_version: Option<u64>,
        /// The earlier version that this text is of.
        restores: Option<u64>,
    },
    /// An SSH session that needs somebody's decision.
    StartSshCheck(SshCheck),
    /// The decision.
    DecideSshCheck {
        auth_id: AuthId,
        approve: bool,
        /// Who decided, as in [`PolicyText::author`].
        by: String,
    },
    /// What clients reported since the last one of these, in order; each is
    /// accepted or refused for itself.
    Report(Vec<Report>),
    /// All sessions of a replica that is gone: those of the named incarnation
    /// and, unless it is its current one, nothing else.
    CloseSessionsOf {
        replica: ReplicaId,
        incarnation: u64,
    },
    /// How far a run of a replica can be counted on. No effect on any other run.
    SetStanding {
        replica: ReplicaId,
        incarnation: u64,
        standing: Standing,
    },
    /// Everything that another server held; only for a cluster that has no nodes, users and
    /// pre-authenticated keys. The same content again changes nothing.
    Import {
        content: Box<Import>,
        /// As [`ServerKeys::sealed`], with the imported Noise key.
        sealed: String,
        /// Whether its policy is put in force.
        with_policy: bool,
        author: String,
    },
    /// An imported key was used, and its secret fits its slow hash.
    AdoptKey {
        key: AdoptedKey,
        hash: SecretHash,
    },
    /// Everything that is due at the command's time: key expiry, ephemeral
    /// nodes, pending logins, SSH checks and approvals, remembered outcomes.
    Tick,
}

/// When a key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiry {
    Never,
    Now,
    At(Time),
}

/// What a client sends to register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub machine_key: MachineKey,
    pub node_key: NodeKey,
    pub hostinfo: Hostinfo,
    pub cap_ver: CapVer,
    /// What the client asked for.
    pub expiry: Option<Time>,
    /// Randomness for the choice of an address.
    pub seed: u64,
    /// Where the policy wants a new node's IPv4 address to come from: the first of them
    /// that has a free one. Empty: from the tailnet's whole prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub v4_pools: Vec<Ipv4Net>,
}

/// One thing that a client told a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// A stream begins; what came with it is stored in the same step.
    Open { session: SessionId, update: NodeUpdate },
    /// A lite update.
    Update(NodeUpdate),
    /// A stream ended, and its node did not come back to this replica in time.
    Close { session: SessionId },
}

/// What a map request says about its node. `None`: not said, so unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeUpdate {
    pub node: NodeId,
    /// Must be the node's current key.
    pub node_key: NodeKey,
    pub cap_ver: CapVer,
    pub disco_key: Option<DiscoKey>,
    pub endpoints: Option<Vec<Endpoint>>,
    pub hostinfo: Option<Hostinfo>,
}

impl Proposal {
    /// The first format in which [`Proposal::origin`] says something.
    pub const ORIGIN_FORMAT: u32 = 3;

    /// The format that a replica must know to apply `command`, with an origin or without.
    pub fn format_of(command: &Command, origin: Option<&Origin>) -> u32 {
        command.format().max(if origin.is_some() { Self::ORIGIN_FORMAT } else { 1 })
    }
}

impl Command {
    /// The command's name, for logs: never its content, which may be secret.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Bootstrap { .. } => "Bootstrap",
            Command::WrapDataKey { .. } => "WrapDataKey",
            Command::ReplicaUp(_) => "ReplicaUp",
            Command::ReplicaRemoved(_) => "ReplicaRemoved",
            Command::CreateUser { .. } => "CreateUser",
            Command::RenameUser { .. } => "RenameUser",
            Command::DeleteUser { .. } => "DeleteUser",
            Command::PutProviderUser(_) => "PutProviderUser",
            Command::CreatePreAuthKey { .. } => "CreatePreAuthKey",
            Command::ExpirePreAuthKey { .. } => "ExpirePreAuthKey",
            Command::DeletePreAuthKey { .. } => "DeletePreAuthKey",
            Command::CreateApiKey { .. } => "CreateApiKey",
            Command::ExpireApiKey { .. } => "ExpireApiKey",
            Command::DeleteApiKey { .. } => "DeleteApiKey",
            Command::UseApiKeys(_) => "UseApiKeys",
            Command::Note(_) => "Note",
            Command::RegisterWithKey { .. } => "RegisterWithKey",
            Command::StartLogin(_) => "StartLogin",
            Command::StartBoundedLogin { .. } => "StartBoundedLogin",
            Command::ApproveLogin { .. } => "ApproveLogin",
            Command::DecideLogin { .. } => "DecideLogin",
            Command::Logout { .. } => "Logout",
            Command::ShortenExpiry { .. } => "ShortenExpiry",
            Command::SetNodeExpiry { .. } => "SetNodeExpiry",
            Command::RenameNode { .. } => "RenameNode",
            Command::SetTags { .. } => "SetTags",
            Command::SetApprovedRoutes { .. } => "SetApprovedRoutes",
            Command::ApproveRoutes { .. } => "ApproveRoutes",
            Command::DeleteNode { .. } => "DeleteNode",
            Command::BackfillIps { .. } => "BackfillIps",
            Command::SetPolicy { .. } => "SetPolicy",
            Command::PutPolicy { .. } => "PutPolicy",
            Command::StartSshCheck(_) => "StartSshCheck",
            Command::DecideSshCheck { .. } => "DecideSshCheck",
            Command::Report(_) => "Report",
            Command::CloseSessionsOf { .. } => "CloseSessionsOf",
            Command::SetStanding { .. } => "SetStanding",
            Command::Import { .. } => "Import",
            Command::AdoptKey { .. } => "AdoptKey",
            Command::Tick => "Tick",
        }
    }

    /// The format that a replica must know to apply this command. A leader writes it
    /// only when all members know that. A new kind gets a new format here; so does a
    /// command with a new field that says something, because a release that does not
    /// know the field would skip it, and the replicas would differ; and so does whatever
    /// gives a record a field that older releases do not know, or an outcome that they
    /// would not give.
    pub fn format(&self) -> u32 {
        match self {
            Command::StartBoundedLogin { .. } | Command::PutProviderUser(_) => 4,
            Command::ApproveLogin { provider_expiry: Some(_), .. } => 4,
            Command::UseApiKeys(_) | Command::Note(_) => 3,
            Command::CreateApiKey { role, owner, .. } if !role.is_admin() || !owner.is_empty() => 3,
            Command::SetStanding { .. }
            | Command::PutPolicy { .. }
            | Command::StartSshCheck(_)
            | Command::DecideSshCheck { .. } => 2,
            Command::Import { .. } | Command::AdoptKey { .. } => 3,
            Command::ApproveLogin { v4_pools, .. } if !v4_pools.is_empty() => 2,
            Command::RegisterWithKey { registration, .. } if !registration.v4_pools.is_empty() => 2,
            _ => 1,
        }
    }
}

/// Where a login came from, for the bound on pending ones: IPv6 by /64.
pub fn login_source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}
