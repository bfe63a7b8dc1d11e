//! What state promises, rule by rule.
//!
//! Every command of every test goes through [`World`], which checks after each
//! that the stored rows say the same as the state.

mod audit;
mod dedupe;
mod import;
mod login;
mod nodes;
mod policy;
mod properties;
mod provider;
mod register;
mod routes;
mod sessions;
mod ssh;
mod users;

use super::*;
use crate::tailcfg::{CapVer, DiscoKey, Hostinfo, MachineKey, NodeKey};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A state, the rows that a replica would have stored for it, and a clock.
pub(super) struct World {
    pub state: State,
    pub rows: BTreeMap<Vec<u8>, Vec<u8>>,
    pub now: Time,
    pub changes: Vec<Change>,
    sequence: u64,
}

impl World {
    /// Before bootstrap.
    pub fn blank() -> Self {
        let now = Time(1_700_000_000_000);
        Self { state: State::default(), rows: BTreeMap::new(), now, changes: Vec::new(), sequence: 0 }
    }

    /// With Headscale's example prefixes, and the users alice (1) and bob (2).
    pub fn new() -> Self {
        Self::with(settings())
    }

    pub fn with(settings: Settings) -> Self {
        let mut world = Self::blank();
        world.ok(Command::Bootstrap { settings, keys: server_keys() });
        for name in ["alice", "bob"] {
            world.ok(create_user(name));
        }
        world
    }

    pub fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    pub fn proposal(&mut self, command: Command) -> Proposal {
        self.sequence += 1;
        Proposal {
            format: COMMAND_FORMAT,
            request: RequestId { incarnation: 1, sequence: self.sequence, acknowledged: self.sequence - 1 },
            deadline: self.now + Duration::from_secs(30),
            time: self.now,
            idempotency_key: None,
            origin: None,
            command,
        }
    }

    pub fn apply(&mut self, proposal: &Proposal) -> Outcome {
        let applied = self.state.apply(self.state.index() + 1, proposal);
        for Row { key, value } in applied.rows {
            match value {
                Some(value) => drop(self.rows.insert(key, value)),
                None => assert!(self.rows.remove(&key).is_some(), "a row was deleted that is not there"),
            }
        }
        self.check_rows();
        self.changes = applied.changes;
        applied.outcome
    }

    /// What is stored is the state, whole.
    fn check_rows(&self) {
        let rows: Vec<_> = self.state.rows().map(|row| (row.key, row.value.expect("a live row"))).collect();
        let stored: Vec<_> = self.rows.clone().into_iter().collect();
        assert_eq!(rows, stored, "the rows that were written are not the state's");
    }

    pub fn run(&mut self, command: Command) -> Outcome {
        let proposal = self.proposal(command);
        self.apply(&proposal)
    }

    #[track_caller]
    pub fn ok(&mut self, command: Command) -> Done {
        let name = command.name();
        self.run(command).unwrap_or_else(|refused| panic!("{name} was refused: {refused}"))
    }

    #[track_caller]
    pub fn refused(&mut self, command: Command) -> Refused {
        let name = command.name();
        let refused = self.run(command).expect_err(name);
        assert_eq!(self.changes, [], "a refused {name} changed something");
        refused
    }

    /// A key for a user, or for tags; its prefix is its name.
    pub fn key(&mut self, prefix: &str, owner: Owner, reusable: bool, ephemeral: bool) {
        let expiration = Some(self.now + Duration::from_secs(3600));
        let (prefix, hash) = (prefix.to_owned(), SecretHash::of(prefix));
        self.ok(Command::CreatePreAuthKey { prefix, hash, owner, reusable, ephemeral, expiration });
    }

    /// A node of alice's: machine `n`, node key `n`, host name `host-n`.
    #[track_caller]
    pub fn node(&mut self, n: u8) -> NodeId {
        if self.state.pre_auth_key_by_prefix("alice").is_none() {
            self.key("alice", Owner::User(UserId(1)), true, false);
        }
        self.register("alice", registration(n))
    }

    #[track_caller]
    pub fn register(&mut self, key: &str, registration: Registration) -> NodeId {
        match self.ok(with_key(key, registration)) {
            Done::Node(id) => id,
            other => panic!("not a node: {other:?}"),
        }
    }

    #[track_caller]
    pub fn get(&self, id: NodeId) -> &Node {
        self.state.node(id).expect("the node is there")
    }

    #[track_caller]
    pub fn report(&mut self, reports: Vec<Report>) -> Vec<Result<(), Refused>> {
        match self.ok(Command::Report(reports)) {
            Done::Reports(outcomes) => outcomes,
            other => panic!("not reports: {other:?}"),
        }
    }

    /// A stream of the node on replica 1 begins.
    #[track_caller]
    pub fn open(&mut self, node: NodeId, number: u64) {
        let update = self.update(node);
        assert_eq!(self.report(vec![Report::Open { session: session(node, number), update }]), [Ok(())]);
    }

    #[track_caller]
    pub fn close(&mut self, node: NodeId, number: u64) {
        assert_eq!(self.report(vec![Report::Close { session: session(node, number) }]), [Ok(())]);
    }

    /// A report of the node that says nothing new.
    pub fn update(&self, id: NodeId) -> NodeUpdate {
        let node = self.get(id);
        NodeUpdate {
            node: id,
            node_key: node.node_key,
            cap_ver: node.cap_ver,
            disco_key: None,
            endpoints: None,
            hostinfo: None,
        }
    }

    /// How the last command changed a node; `None`: not at all.
    pub fn change_of(&self, id: NodeId) -> Option<NodeChange> {
        self.changes.iter().find_map(|change| match change {
            Change::NodeChanged { node, what } if *node == id => Some(*what),
            _ => None,
        })
    }

    pub fn tick(&mut self) {
        self.ok(Command::Tick);
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        prefix_v4: Some("100.64.0.0/10".parse().expect("a prefix")),
        prefix_v6: Some("fd7a:115c:a1e0::/48".parse().expect("a prefix")),
        allocation: Allocation::Sequential,
        base_domain: "tailnet.internal".into(),
        node_expiry: Duration::ZERO,
        ephemeral_timeout: Duration::from_secs(120),
    }
}

pub(super) fn server_keys() -> ServerKeys {
    ServerKeys {
        cluster_id: "cluster".into(),
        noise_public: MachineKey([1; 32]),
        legacy_public: MachineKey([2; 32]),
        sealed: "sealed".into(),
        wrapped_data_key: "wrapped".into(),
        previous_cluster_ids: Vec::new(),
    }
}

pub(super) fn create_user(name: &str) -> Command {
    Command::CreateUser {
        name: name.into(),
        display_name: String::new(),
        email: String::new(),
        profile_pic_url: String::new(),
    }
}

pub(super) fn tags(tags: &[&str]) -> BTreeSet<Tag> {
    tags.iter().map(|tag| tag.parse().expect("a tag")).collect()
}

pub(super) fn hostinfo(hostname: &str) -> Hostinfo {
    Hostinfo { hostname: hostname.into(), json: format!("{{\"Hostname\":{hostname:?}}}"), ..Default::default() }
}

/// Machine `n`, node key `n`, host name `host-n`.
pub(super) fn registration(n: u8) -> Registration {
    Registration {
        machine_key: MachineKey([n; 32]),
        node_key: NodeKey([n; 32]),
        hostinfo: hostinfo(&format!("host-{n}")),
        cap_ver: CapVer(142),
        expiry: None,
        seed: u64::from(n),
        v4_pools: Vec::new(),
    }
}

pub(super) fn with_key(prefix: &str, registration: Registration) -> Command {
    Command::RegisterWithKey { prefix: prefix.into(), hash: SecretHash::of(prefix), registration }
}

pub(super) fn session(node: NodeId, number: u64) -> SessionId {
    SessionId { node, replica: ReplicaId(1), incarnation: 1, number }
}

pub(super) fn replica(id: u64, incarnation: u64) -> Replica {
    Replica {
        id: ReplicaId(id),
        incarnation,
        since: Time(0),
        version: "0.1.0".into(),
        command_format: COMMAND_FORMAT,
        client_addresses: Vec::new(),
        relay: None,
        config_differs: Vec::new(),
        standing: Standing::Serving,
    }
}

pub(super) fn online() -> NodeChange {
    NodeChange { online: true, ..Default::default() }
}

pub(super) fn record() -> NodeChange {
    NodeChange { record: true, ..Default::default() }
}

pub(super) fn key_change() -> NodeChange {
    NodeChange { key: true, ..Default::default() }
}

pub(super) fn disco(n: u8) -> Option<DiscoKey> {
    Some(DiscoKey([n; 32]))
}

/// A login of machine `n` that waits a quarter of an hour.
pub(super) fn login(now: Time, n: u8, id: &str) -> PendingLogin {
    PendingLogin {
        id: format!("hskey-authreq-{id:0>24}").parse().expect("an id"),
        machine_key: MachineKey([n; 32]),
        node_key: NodeKey([n; 32]),
        hostinfo: hostinfo(&format!("host-{n}")),
        cap_ver: CapVer(142),
        expiry: None,
        source: "192.0.2.1".parse().expect("an address"),
        created: now,
        deadline: now + Duration::from_secs(900),
        verdict: Verdict::Waiting,
    }
}

#[test]
fn nothing_but_bootstrap_is_accepted_before_bootstrap() {
    let mut world = World::blank();
    assert_eq!(world.refused(create_user("alice")), Refused::NotBootstrapped);
    assert_eq!(world.refused(Command::Report(Vec::new())), Refused::NotBootstrapped);
    world.ok(Command::ReplicaUp(replica(1, 7)));
    world.tick();
    let bootstrap = Command::Bootstrap { settings: settings(), keys: server_keys() };
    world.ok(bootstrap.clone());
    assert_eq!(world.changes, [Change::SettingsChanged]);
    assert_eq!(world.refused(bootstrap), Refused::Bootstrapped);
}

#[test]
fn the_clock_never_goes_back() {
    let mut world = World::new();
    let late = world.now;
    let tick = world.proposal(Command::Tick);
    assert_eq!(world.apply(&Proposal { time: Time(5), ..tick }), Ok(Done::Nothing));
    assert_eq!(world.state.clock(), late);
}

#[test]
fn a_policy_counts_its_versions_and_refuses_one_made_for_another() {
    let mut world = World::new();
    let set = |expected_version| Command::SetPolicy { text: "{}".into(), author: "socket".into(), expected_version };
    assert_eq!(world.ok(set(Some(0))), Done::PolicyVersion(1));
    assert_eq!(world.changes, [Change::PolicyChanged]);
    assert_eq!(world.refused(set(Some(0))), Refused::Stale);
    assert_eq!(world.ok(set(None)), Done::PolicyVersion(2));
    assert_eq!(world.state.policy_version(), 2);
}

#[test]
fn the_data_key_can_be_wrapped_anew() {
    let mut world = World::new();
    world.ok(Command::WrapDataKey { wrapped_data_key: "again".into() });
    assert_eq!(world.state.server_keys().expect("keys").wrapped_data_key, "again");
}

#[test]
fn a_state_can_be_loaded_from_its_rows_and_a_row_of_a_newer_release_is_an_error() {
    let mut world = World::new();
    let node = world.node(1);
    world.open(node, 1);
    let rows = world.rows.clone();
    let loaded = State::load(rows.clone()).expect("own rows can be read");
    assert_eq!(loaded.hash(), world.state.hash());
    assert_eq!(loaded.tally(), world.state.tally(), "what each command kept up to date is what is there");
    assert!(loaded.is_online(node));
    assert_eq!(loaded.node_by_name("host-1").map(|node| node.id), Some(node));

    let mut newer = rows.clone();
    newer.insert(vec![200, 1], b"{}".to_vec());
    let error = State::load(newer).expect_err("there is no table 200").to_string();
    assert!(error.contains("200") && error.contains("newer release"), "{error}");
    let mut broken = rows;
    broken.insert([vec![7], 1u64.to_be_bytes().to_vec()].concat(), b"{\"id\":1}".to_vec());
    let error = State::load(broken).expect_err("not a user").to_string();
    assert!(error.contains("users") && error.contains("name"), "{error}");
}
