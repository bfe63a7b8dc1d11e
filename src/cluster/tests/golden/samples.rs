//! A command of every kind, in a log that makes sense, and every message.

// Messages gain fields; what is not said here has its default.
#![allow(clippy::needless_update)]

use crate::cluster::wire::*;
use crate::state::{
    AdoptedKey, Allocation, ApiKey, ApiKeyId, ApiKeyRole, AuthKeyId, Command, Deed, Endpoint, Expiry, Import, KeyHash,
    LastNumbers, Node, NodeId, NodeUpdate, Origin, Owner, PendingLogin, PreAuthKey, Proposal, ProviderUser,
    RegisterMethod, Registration, Relay, Replica, ReplicaId, Report, RequestId, SecretHash, ServerKeys, SessionId,
    Settings, SshCheck, SshVerdict, Standing, Tag, Time, User, UserId, Verdict,
};
use crate::tailcfg::{CapVer, DiscoKey, Hostinfo, MachineKey, NodeKey};
use ipnet::IpNet;
use prost::Message;
use std::collections::BTreeSet;
use std::time::Duration;

const BEGIN: Time = Time(1_700_000_000_000);

/// All kinds, one of each, in the order of a log.
pub fn log() -> Vec<Proposal> {
    let mut log: Vec<Proposal> = Vec::new();
    let mut next = Some(first());
    while let Some(command) = next.take() {
        next = after(&command);
        let sequence = log.len() as u64 + 1;
        let time = BEGIN + Duration::from_secs(sequence);
        let repeatable = matches!(command, Command::CreateUser { .. });
        let origin = repeatable.then(|| Origin { by: "root on replica 1".into(), from: "socket of replica 1".into() });
        log.push(Proposal {
            format: Proposal::format_of(&command, origin.as_ref()),
            request: RequestId { incarnation: 5, sequence, acknowledged: sequence.saturating_sub(3) },
            deadline: time + Duration::from_secs(10),
            time,
            idempotency_key: repeatable.then(|| "a-key-of-the-client".into()),
            origin,
            command,
        });
    }
    log
}

fn route() -> IpNet {
    "10.1.0.0/16".parse().unwrap()
}

fn tags() -> BTreeSet<Tag> {
    BTreeSet::from(["tag:server".parse().unwrap()])
}

fn hostinfo(name: &str) -> Hostinfo {
    Hostinfo {
        hostname: name.into(),
        os: "linux".into(),
        ipn_version: "1.102.5".into(),
        routable_ips: vec![route()],
        request_tags: Vec::new(),
        json: format!("{{\"Hostname\":\"{name}\",\"OS\":\"linux\"}}"),
        net_info: Some("{\"PreferredDERP\":901}".into()),
        preferred_derp: Some(901),
    }
}

fn update() -> NodeUpdate {
    NodeUpdate {
        node: NodeId(1),
        node_key: NodeKey([11; 32]),
        cap_ver: CapVer(142),
        disco_key: Some(DiscoKey([12; 32])),
        endpoints: Some(vec![Endpoint { addr: "192.0.2.7:41641".parse().unwrap(), kind: 2 }]),
        hostinfo: Some(hostinfo("web")),
    }
}

fn session(number: u64) -> SessionId {
    SessionId { node: NodeId(1), replica: ReplicaId(1), incarnation: 5, number }
}

fn first() -> Command {
    Command::Bootstrap {
        settings: Settings {
            prefix_v4: Some("100.64.0.0/10".parse().unwrap()),
            prefix_v6: Some("fd7a:115c:a1e0::/48".parse().unwrap()),
            allocation: Allocation::Sequential,
            base_domain: "example.net".into(),
            node_expiry: Duration::from_secs(180 * 86400),
            ephemeral_timeout: Duration::from_secs(1800),
        },
        keys: ServerKeys {
            cluster_id: "golden".into(),
            noise_public: MachineKey([1; 32]),
            legacy_public: MachineKey([2; 32]),
            sealed: "sealed".into(),
            wrapped_data_key: "wrapped".into(),
            previous_cluster_ids: Default::default(),
        },
    }
}

/// A record of each kind that an import has.
fn import() -> Import {
    let bcrypt = |filler: &str| KeyHash::try_from(format!("$2a$10${}", filler.repeat(53))).unwrap();
    Import {
        source: "Headscale 0.29.2".into(),
        settings: match first() {
            Command::Bootstrap { settings, .. } => settings,
            _ => unreachable!("the first command sets the cluster up"),
        },
        noise_public: MachineKey([3; 32]),
        users: vec![User {
            id: UserId(4),
            name: "dora".into(),
            display_name: "Dora".into(),
            email: "dora@example.com".into(),
            profile_pic_url: String::new(),
            provider: "oidc".into(),
            provider_id: "https://id.example.com/dora".into(),
            created: BEGIN,
        }],
        pre_auth_keys: vec![PreAuthKey {
            id: AuthKeyId(5),
            prefix: "0123456789ab".into(),
            hash: bcrypt("a"),
            owner: Owner::Tags(tags()),
            reusable: true,
            ephemeral: false,
            used: false,
            expiration: Some(BEGIN),
            created: BEGIN,
        }],
        api_keys: vec![ApiKey {
            id: ApiKeyId(6),
            prefix: "ba9876543210".into(),
            hash: bcrypt("b"),
            expiration: None,
            created: BEGIN,
            role: ApiKeyRole::Admin,
            owner: String::new(),
            last_used: None,
        }],
        nodes: vec![Node {
            id: NodeId(7),
            machine_key: MachineKey([20; 32]),
            node_key: NodeKey([21; 32]),
            disco_key: Some(DiscoKey([22; 32])),
            owner: Owner::User(UserId(4)),
            given_name: "laptop".into(),
            renamed: true,
            ipv4: Some("100.64.0.7".parse().unwrap()),
            ipv6: None,
            hostinfo: hostinfo("laptop"),
            endpoints: vec![Endpoint { addr: "192.0.2.8:41641".parse().unwrap(), kind: 0 }],
            cap_ver: CapVer(113),
            created: BEGIN,
            expiry: None,
            expired: false,
            last_seen: Some(BEGIN),
            register_method: RegisterMethod::Oidc,
            auth_key: Some(AuthKeyId(5)),
            ephemeral: false,
            idle_since: None,
            approved_routes: BTreeSet::from([route()]),
            version: 0,
        }],
        policy: Some("{}".into()),
        last: LastNumbers { users: 4, nodes: 9, pre_auth_keys: 5, api_keys: 6 },
    }
}

/// The command that comes after one. A new kind is put between two of them: then this
/// compiles again, and `every_kind_of_command_has_a_golden_file` asks for its file.
#[allow(clippy::too_many_lines)]
fn after(command: &Command) -> Option<Command> {
    let auth_id = || "hskey-authreq-0123456789abcdef01234567".parse().unwrap();
    let check_id = || "hskey-authreq-76543210fedcba9876543210".parse().unwrap();
    let bounded_id = || "hskey-authreq-00112233445566778899aabb".parse().unwrap();
    let (machine_key, node_key) = (MachineKey([20; 32]), NodeKey([21; 32]));
    Some(match command {
        Command::Bootstrap { .. } => Command::WrapDataKey { wrapped_data_key: "wrapped again".into() },
        Command::WrapDataKey { .. } => Command::ReplicaUp(Replica {
            id: ReplicaId(1),
            incarnation: 5,
            since: BEGIN,
            version: "0.1.0".into(),
            command_format: 1,
            client_addresses: vec!["192.0.2.1".parse().unwrap()],
            relay: Some(Relay {
                region_id: 901,
                region_code: "r1".into(),
                region_name: "Replica 1".into(),
                host_name: "192.0.2.1".into(),
                ipv4: Some("192.0.2.1".parse().unwrap()),
                ipv6: None,
                derp_port: 8443,
                stun_port: 3478,
                cert_sha256: Some("ab".repeat(32)),
                insecure_for_tests: false,
            }),
            config_differs: vec!["dns.base_domain: here a, cluster b".into()],
            standing: Standing::Serving,
        }),
        Command::ReplicaUp(_) => Command::CreateUser {
            name: "alice".into(),
            display_name: "Alice".into(),
            email: "alice@example.com".into(),
            profile_pic_url: "https://example.com/alice.png".into(),
        },
        Command::CreateUser { .. } => Command::PutProviderUser(ProviderUser {
            provider_id: "https://id.example.com/carol".into(),
            name: Some("carol".into()),
            display_name: "Carol".into(),
            email: Some("carol@example.com".into()),
            profile_pic_url: "https://example.com/carol.png".into(),
        }),
        Command::PutProviderUser(_) => Command::RenameUser { id: UserId(1), name: "alicia".into() },
        Command::RenameUser { .. } => {
            Command::SetPolicy { text: "{\"acls\": []}".into(), author: "socket".into(), expected_version: Some(0) }
        }
        Command::SetPolicy { .. } => Command::CreatePreAuthKey {
            prefix: "0123456789ab".into(),
            hash: SecretHash::of("secret"),
            owner: Owner::User(UserId(1)),
            reusable: false,
            ephemeral: false,
            expiration: Some(BEGIN + Duration::from_secs(3600)),
        },
        Command::CreatePreAuthKey { .. } => Command::CreateApiKey {
            prefix: "ba9876543210".into(),
            hash: SecretHash::of("api"),
            expiration: None,
            role: ApiKeyRole::ReadOnly,
            owner: "alice".into(),
        },
        Command::CreateApiKey { .. } => Command::RegisterWithKey {
            prefix: "0123456789ab".into(),
            hash: SecretHash::of("secret"),
            registration: Registration {
                machine_key: MachineKey([10; 32]),
                node_key: NodeKey([11; 32]),
                hostinfo: hostinfo("web"),
                cap_ver: CapVer(142),
                expiry: Some(BEGIN + Duration::from_secs(86400)),
                seed: 7,
                v4_pools: Vec::new(),
            },
        },
        Command::RegisterWithKey { .. } => Command::StartLogin(PendingLogin {
            id: auth_id(),
            machine_key,
            node_key,
            hostinfo: hostinfo("laptop"),
            cap_ver: CapVer(142),
            expiry: None,
            source: "192.0.2.9".parse().unwrap(),
            created: BEGIN,
            deadline: BEGIN + Duration::from_secs(900),
            verdict: Verdict::Waiting,
        }),
        Command::StartLogin(_) => Command::ApproveLogin {
            auth_id: auth_id(),
            user: UserId(1),
            owner: Owner::User(UserId(1)),
            method: RegisterMethod::Cli,
            policy_version: 1,
            seed: 8,
            v4_pools: Vec::new(),
            provider_expiry: None,
        },
        Command::ApproveLogin { .. } => Command::DecideLogin { auth_id: auth_id(), approve: false },
        Command::DecideLogin { .. } => Command::SetTags { id: NodeId(1), tags: tags(), policy_version: 1 },
        Command::SetTags { .. } => Command::SetApprovedRoutes { id: NodeId(1), routes: BTreeSet::from([route()]) },
        Command::SetApprovedRoutes { .. } => Command::ApproveRoutes {
            id: NodeId(1),
            owner: Owner::Tags(tags()),
            routes: BTreeSet::from(["10.2.0.0/16".parse().unwrap()]),
            policy_version: 1,
        },
        Command::ApproveRoutes { .. } => Command::RenameNode { id: NodeId(1), given_name: "chosen".into() },
        Command::RenameNode { .. } => {
            Command::SetNodeExpiry { id: NodeId(1), expiry: Expiry::At(BEGIN + Duration::from_secs(7200)) }
        }
        Command::SetNodeExpiry { .. } => {
            Command::ShortenExpiry { node_key, machine_key, expiry: BEGIN + Duration::from_secs(600) }
        }
        Command::ShortenExpiry { .. } => Command::Logout { node_key, machine_key },
        Command::Logout { .. } => Command::DeleteNode { id: NodeId(2) },
        Command::DeleteNode { .. } => Command::CloseSessionsOf { replica: ReplicaId(1), incarnation: 4 },
        Command::CloseSessionsOf { .. } => Command::Report(vec![
            Report::Open { session: session(1), update: update() },
            Report::Update(update()),
            Report::Open { session: session(2), update: NodeUpdate { disco_key: None, hostinfo: None, ..update() } },
            Report::Close { session: session(1) },
        ]),
        Command::Report(_) => {
            Command::SetStanding { replica: ReplicaId(1), incarnation: 5, standing: Standing::Leaving }
        }
        Command::SetStanding { .. } => Command::BackfillIps { seed: 9 },
        Command::BackfillIps { .. } => Command::ExpirePreAuthKey { id: AuthKeyId(1) },
        Command::ExpirePreAuthKey { .. } => Command::ExpireApiKey { id: ApiKeyId(1) },
        Command::ExpireApiKey { .. } => Command::UseApiKeys(BTreeSet::from([ApiKeyId(1)])),
        Command::UseApiKeys(_) => Command::Note(Deed {
            action: "replica.add".into(),
            subject: "replica 4".into(),
            detail: "at 192.0.2.4:7946".into(),
        }),
        Command::Note(_) => Command::DeletePreAuthKey { id: AuthKeyId(9) },
        Command::DeletePreAuthKey { .. } => Command::DeleteApiKey { id: ApiKeyId(9) },
        Command::DeleteApiKey { .. } => Command::DeleteUser { id: UserId(9) },
        Command::DeleteUser { .. } => Command::ReplicaRemoved(ReplicaId(7)),
        Command::ReplicaRemoved(_) => Command::PutPolicy {
            text: "{\"acls\":[]}".into(),
            author: "socket".into(),
            expected_version: Some(1),
            restores: None,
        },
        Command::PutPolicy { .. } => Command::StartSshCheck(SshCheck {
            id: check_id(),
            source: NodeId(1),
            destination: NodeId(1),
            local_user: "root".into(),
            period: Duration::from_secs(3600),
            policy_version: 2,
            created: BEGIN,
            deadline: BEGIN + Duration::from_secs(900),
            verdict: SshVerdict::Waiting,
        }),
        Command::StartSshCheck(_) => {
            Command::DecideSshCheck { auth_id: check_id(), approve: true, by: "socket".into() }
        }
        Command::DecideSshCheck { .. } => Command::Import {
            content: Box::new(import()),
            sealed: "sealed with the imported key".into(),
            with_policy: true,
            author: "root on replica 1".into(),
        },
        Command::Import { .. } => Command::AdoptKey { key: AdoptedKey::Api(ApiKeyId(1)), hash: SecretHash([9; 32]) },
        Command::AdoptKey { .. } => Command::StartBoundedLogin {
            login: PendingLogin {
                id: bounded_id(),
                machine_key: MachineKey([22; 32]),
                node_key: NodeKey([23; 32]),
                hostinfo: hostinfo("phone"),
                cap_ver: CapVer(142),
                expiry: None,
                source: "192.0.2.9".parse().unwrap(),
                created: BEGIN,
                deadline: BEGIN + Duration::from_secs(900),
                verdict: Verdict::Waiting,
            },
            per_source: 1_000,
            in_all: 50_000,
        },
        Command::StartBoundedLogin { .. } => Command::Tick,
        Command::Tick => return None,
    })
}

/// A message as this release writes it.
pub struct Sample {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// What this release understands of other bytes, as it would write it.
    pub read: fn(&[u8]) -> Result<Vec<u8>, prost::DecodeError>,
}

fn sample<M: Message + Default>(name: &'static str, message: M) -> Sample {
    Sample { name, bytes: message.encode_to_vec(), read: |bytes| Ok(M::decode(bytes)?.encode_to_vec()) }
}

/// Every message between replicas, and every record of Raft's on disk.
pub fn messages() -> Vec<Sample> {
    let id = |index| LogId { term: 3, replica: 2, index };
    let vote = || Vote { term: 3, replica: 2, committed: true };
    let member = |id: u64| membership::Member { id, address: format!("replica{id}.example.net:7946") };
    let membership = || Membership {
        configs: vec![membership::Config { voters: vec![1, 2] }, membership::Config { voters: vec![1, 2, 3] }],
        members: vec![member(1), member(2), member(3)],
    };
    let command = serde_json::to_vec(&log()[3]).unwrap();
    let entry = |index, kind: entry::Kind, payload| Entry { id: Some(id(index)), kind: kind.into(), payload };
    let entries = || {
        vec![
            entry(7, entry::Kind::Blank, Vec::new()),
            entry(8, entry::Kind::Command, command.clone()),
            entry(9, entry::Kind::Membership, membership().encode_to_vec()),
        ]
    };
    let applied = || Applied {
        last: Some(id(9)),
        membership_id: Some(id(9)),
        membership: Some(membership()),
        removed: vec![7],
        ..Applied::default()
    };
    let appended = |result| AppendResponse { result: Some(result) };
    let forwarded = |result| ForwardResponse { result: Some(result) };
    let outcome = br#"{"Ok":{"Node":4}}"#.to_vec();
    let change = |change| MembershipRequest { change: Some(change) };
    let add = || membership_request::Add { id: 4, address: "replica4.example.net:7946".into() };
    let changed = |result| MembershipResponse { result: Some(result) };
    let kind = digest_response::Kind { name: "users".into(), records: 3, hash: vec![9; 32] };
    let digest = digest_response::Digest {
        kinds: vec![kind],
        differs_on_disk: vec!["nodes".into()],
        disk_problem: "it cannot be read".into(),
    };
    vec![
        sample("vote", vote()),
        sample("log_id", id(7)),
        sample("entry_blank", entries().remove(0)),
        sample("entry_command", entries().remove(1)),
        sample("entry_membership", entries().remove(2)),
        sample("membership", membership()),
        sample("applied", applied()),
        sample(
            "append_request",
            AppendRequest {
                vote: Some(vote()),
                previous: Some(id(6)),
                entries: entries(),
                leader_commit: Some(id(6)),
                ..AppendRequest::default()
            },
        ),
        sample(
            "append_response_matching",
            appended(append_response::Result::Matching(append_response::Matching { id: Some(id(9)) })),
        ),
        sample("append_response_conflict", appended(append_response::Result::Conflict(id(9)))),
        sample("append_response_higher_vote", appended(append_response::Result::HigherVote(vote()))),
        sample(
            "vote_request",
            VoteRequest { vote: Some(vote()), last_log: Some(id(9)), leadership_transfer: true, ..Default::default() },
        ),
        sample(
            "vote_response",
            VoteResponse { vote: Some(vote()), granted: true, last_log: Some(id(9)), ..Default::default() },
        ),
        sample(
            "transfer_request",
            TransferRequest { from: Some(vote()), to: 3, last_log: Some(id(9)), ..Default::default() },
        ),
        sample(
            "transfer_response",
            TransferResponse {
                refused: Some(transfer_response::Refused::LogNotFlushed(transfer_response::Logs {
                    expected: Some(id(9)),
                    actual: Some(id(8)),
                })),
            },
        ),
        sample(
            "snapshot_start",
            SnapshotChunk {
                part: Some(snapshot_chunk::Part::Start(snapshot_chunk::Start { vote: Some(vote()), size: 77 })),
            },
        ),
        sample("snapshot_data", SnapshotChunk { part: Some(snapshot_chunk::Part::Data(vec![1, 2, 3])) }),
        sample("snapshot_response", SnapshotResponse { vote: Some(vote()) }),
        sample("snapshot_header", SnapshotHeader { format: 1, applied: Some(applied()), ..Default::default() }),
        sample("snapshot_row", SnapshotRow { key: vec![7, 1], value: b"{}".to_vec() }),
        sample(
            "forward_request",
            ForwardRequest { proposal: command.clone(), patience_ms: 9000, ..Default::default() },
        ),
        sample(
            "forward_many_request",
            ForwardManyRequest { requests: vec![ForwardRequest { proposal: command.clone(), patience_ms: 9000 }] },
        ),
        sample(
            "forward_many_response",
            ForwardManyResponse {
                responses: vec![forwarded(forward_response::Result::NotLeader(NotLeader { leader: 3 }))],
            },
        ),
        sample(
            "forward_response_answer",
            forwarded(forward_response::Result::Answer(forward_response::Answer { index: 12, outcome })),
        ),
        sample("forward_response_not_leader", forwarded(forward_response::Result::NotLeader(NotLeader { leader: 3 }))),
        sample("forward_response_in_doubt", forwarded(forward_response::Result::InDoubt(forward_response::InDoubt {}))),
        sample(
            "forward_response_unknown",
            forwarded(forward_response::Result::Unknown(Mixed {
                replica: 2,
                release: "0.1.0".into(),
                command: "SetStanding".into(),
            })),
        ),
        sample("read_index_response", ReadIndexResponse { result: Some(read_index_response::Result::Index(12)) }),
        sample(
            "status_response",
            StatusResponse {
                id: 2,
                version: "0.1.0".into(),
                cluster_id: "golden".into(),
                role: "leader".into(),
                term: 3,
                leader: 2,
                applied: Some(12),
                committed: Some(12),
                clients: 5,
                initialized: true,
                knows_caller: true,
                quorum_age_ms: Some(3),
                membership: Some(membership()),
                configured_peers: vec![member(1)],
                caller_age_ms: Some(4),
                command_format: 1,
                caller_removed: true,
                ..StatusResponse::default()
            },
        ),
        sample("membership_request_add", change(membership_request::Change::Add(add()))),
        sample("membership_request_readdress", change(membership_request::Change::Readdress(add()))),
        sample("membership_request_promote", change(membership_request::Change::Promote(4))),
        sample("membership_request_remove", change(membership_request::Change::Remove(4))),
        sample("membership_request_transfer", change(membership_request::Change::TransferTo(4))),
        sample("membership_response_done", changed(membership_response::Result::Done(4))),
        sample("membership_response_refused", changed(membership_response::Result::Refused("why".into()))),
        sample("digest_request", DigestRequest { index: 40, ..Default::default() }),
        sample("digest_response", DigestResponse { result: Some(digest_response::Result::Digest(digest)) }),
    ]
}
