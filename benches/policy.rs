//! What a join, a route approval and a policy change cost, by the number of nodes and
//! the size of the policy: `make bench`, and the table in `docs/performance.md`.
//!
//! Each event is measured in two parts. "applied" is what it takes until the policy in
//! force knows of it. "told" is to find who has to be told what, when every node has a
//! stream here; and to make the packet filter of one node of each class whose filter
//! changed, which is what its streams share.

use quorumscale::policy::{Policies, PolicyView, Step};
use quorumscale::state::*;
use quorumscale::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SIZES: [u64; 4] = [100, 1_000, 10_000, 100_000];
/// Times that an event is measured; the median counts.
const ROUNDS: usize = 5;
const USERS: u64 = 1_000;

fn main() {
    // `cargo test --benches` and friends only want to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("| policy | nodes | classes | event | applied | told | viewers told | nodes told of |");
    println!("|---|--:|--:|---|--:|--:|--:|--:|");
    let sizes: Vec<u64> = match std::env::var("BENCH_NODES") {
        Ok(sizes) => sizes.split(',').filter_map(|size| size.parse().ok()).collect(),
        Err(_) => SIZES.to_vec(),
    };
    for (name, policy) in [("small", small as fn(u64) -> String), ("large", large)] {
        for nodes in &sizes {
            measure(name, policy, *nodes);
        }
    }
}

/// Ten rules, as for a small company.
fn small(version: u64) -> String {
    format!(
        r#"{{"groups": {{"group:dev": ["u0@", "u1@", "u2@"], "group:ops": ["u3@", "u4@"]}},
            "tagOwners": {{"tag:t0": [], "tag:t1": [], "tag:t2": []}},
            "hosts": {{"office": "10.0.0.0/16"}},
            "acls": [
                {{"action": "accept", "src": ["group:ops"], "dst": ["*:22"]}},
                {{"action": "accept", "src": ["group:dev"], "dst": ["tag:t0:80,443", "tag:t1:5432"]}},
                {{"action": "accept", "src": ["u5@"], "dst": ["tag:t2:{port}"]}},
                {{"action": "accept", "src": ["tag:t0"], "dst": ["tag:t1:5432"]}},
                {{"action": "accept", "src": ["group:dev", "group:ops"], "dst": ["office:*"]}},
            ],
            "ssh": [{{"action": "accept", "src": ["group:ops"], "dst": ["tag:t0"], "users": ["root"]}}]}}"#,
        port = 8000 + version
    )
}

/// 2,000 rules, 500 groups and 1,000 tags.
fn large(version: u64) -> String {
    let (mut groups, mut tags, mut rules) = (String::new(), String::new(), String::new());
    for n in 0..500 {
        let members: Vec<String> = (0..4).map(|m| format!("\"u{}@\"", (n * 2 + m * 251) % USERS)).collect();
        let _ = write!(groups, r#""group:g{n}": [{}],"#, members.join(","));
    }
    for n in 0..1000 {
        let _ = write!(tags, r#""tag:t{n}": [],"#);
    }
    for n in 0..2000u64 {
        let source = match n % 4 {
            3 => format!("tag:t{}", (n * 7) % 1000),
            _ => format!("group:g{}", (n * 3) % 500),
        };
        let destination = match n % 10 {
            9 => format!("10.{}.0.0/16", n % 200),
            _ => format!("tag:t{}", (n * 13) % 1000),
        };
        let port = if n == 0 { 8000 + version } else { 443 };
        let _ = write!(rules, r#"{{"action": "accept", "src": ["{source}"], "dst": ["{destination}:{port}"]}},"#);
    }
    format!(r#"{{"groups": {{{groups}}}, "tagOwners": {{{tags}}}, "acls": [{rules}]}}"#)
}

fn measure(name: &str, policy: fn(u64) -> String, nodes: u64) {
    let mut tailnet = Tailnet::new();
    tailnet.run(set(policy(0)));
    for _ in 0..nodes {
        tailnet.join();
    }
    let policies = Policies::default();
    let started = Instant::now();
    let view = policies.in_force(&tailnet.state);
    row(name, nodes, &view, "first compiled", &[Cost { applied: started.elapsed(), ..Cost::default() }]);
    make_filters(&view, &tailnet.state, None);

    let joins: Vec<Cost> = (0..ROUNDS).map(|_| tailnet.event(&policies, |tailnet| tailnet.join())).collect();
    row(name, nodes, &policies.in_force(&tailnet.state), "a node joins", &joins);
    let routes: Vec<Cost> = (0..ROUNDS)
        .map(|n| {
            let id = NodeId(2 * n as u64 + 2);
            let route = format!("10.{}.{n}.0/24", n + 1).parse().expect("a prefix");
            tailnet.event(&policies, |tailnet| {
                tailnet.run(Command::SetApprovedRoutes { id, routes: BTreeSet::from([route]) });
                id
            })
        })
        .collect();
    row(name, nodes, &policies.in_force(&tailnet.state), "a route is approved", &routes);
    let changes: Vec<Cost> = (0..ROUNDS)
        .map(|n| {
            tailnet.event(&policies, |tailnet| {
                tailnet.run(set(policy(1 + n as u64)));
                NodeId(0)
            })
        })
        .collect();
    row(name, nodes, &policies.in_force(&tailnet.state), "the policy changes", &changes);
}

#[derive(Clone, Copy, Default)]
struct Cost {
    applied: Duration,
    told: Duration,
    viewers: usize,
    peers: usize,
}

fn row(name: &str, nodes: u64, view: &PolicyView, event: &str, costs: &[Cost]) {
    let mut costs = costs.to_vec();
    costs.sort_by_key(|cost| cost.applied + cost.told);
    let Cost { applied, told, viewers, peers } = costs[costs.len() / 2];
    let classes = view.class_count();
    let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
    println!("| {name} | {nodes} | {classes} | {event} | {} | {} | {viewers} | {peers} |", ms(applied), ms(told));
}

struct Tailnet {
    state: State,
    joined: u64,
}

impl Tailnet {
    fn new() -> Self {
        let mut tailnet = Self { state: State::default(), joined: 0 };
        tailnet.run(Command::Bootstrap {
            settings: Settings {
                prefix_v4: Some("100.64.0.0/10".parse().expect("a prefix")),
                prefix_v6: Some("fd7a:115c:a1e0::/48".parse().expect("a prefix")),
                allocation: Allocation::Sequential,
                base_domain: "example.net".into(),
                node_expiry: Duration::ZERO,
                ephemeral_timeout: Duration::ZERO,
            },
            keys: ServerKeys {
                cluster_id: String::new(),
                noise_public: MachineKey([1; 32]),
                legacy_public: MachineKey([2; 32]),
                sealed: String::new(),
                wrapped_data_key: String::new(),
                previous_cluster_ids: Vec::new(),
            },
        });
        for n in 0..USERS {
            let empty = String::new;
            let name = format!("u{n}");
            tailnet.run(Command::CreateUser { name, display_name: empty(), email: empty(), profile_pic_url: empty() });
            tailnet.key(format!("u{n}"), Owner::User(UserId(n + 1)));
            let tag: Tag = format!("tag:t{n}").parse().expect("a tag");
            tailnet.key(format!("t{n}"), Owner::Tags([tag].into()));
        }
        tailnet
    }

    fn key(&mut self, prefix: String, owner: Owner) {
        let hash = SecretHash::of("secret");
        let (reusable, ephemeral, expiration) = (true, false, None);
        self.run(Command::CreatePreAuthKey { prefix, hash, owner, reusable, ephemeral, expiration });
    }

    /// Half of the nodes are tagged; each announces a subnet of its own.
    fn join(&mut self) -> NodeId {
        self.joined += 1;
        let n = self.joined;
        let prefix = format!("{}{}", if n.is_multiple_of(2) { "t" } else { "u" }, n / 2 % USERS);
        let mut key = [7; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        let (a, b) = (n % 200, n % 256);
        let routable_ips = (0..200).filter(|_| n <= 20).map(|m| format!("10.{m}.{}.0/24", (n / 2 - 1) % 256));
        let registration = Registration {
            machine_key: MachineKey(key),
            node_key: NodeKey(key),
            hostinfo: Hostinfo {
                hostname: format!("n{n}-{a}-{b}"),
                routable_ips: routable_ips.map(|route| route.parse().expect("a prefix")).collect(),
                ..Hostinfo::default()
            },
            cap_ver: CapVer(142),
            expiry: None,
            seed: 0,
            v4_pools: Vec::new(),
        };
        self.run(Command::RegisterWithKey { prefix, hash: SecretHash::of("secret"), registration });
        NodeId(n)
    }

    fn run(&mut self, command: Command) {
        let index = self.state.index() + 1;
        let request = RequestId { incarnation: 1, sequence: index, acknowledged: index - 1 };
        let (deadline, time) = (Time(1_000_000), Time(1));
        let proposal =
            Proposal { format: COMMAND_FORMAT, request, deadline, time, idempotency_key: None, origin: None, command };
        self.state.apply(index, &proposal).outcome.expect("the command is good");
    }

    /// What an event costs, whose node is returned by `happens`.
    fn event(&mut self, policies: &Policies, happens: impl FnOnce(&mut Self) -> NodeId) -> Cost {
        let old = policies.in_force(&self.state);
        let node = happens(self);
        let started = Instant::now();
        let new = policies.in_force(&self.state);
        let applied = started.elapsed();
        let started = Instant::now();
        let step = Step::new(old.clone(), new.clone(), [node].into_iter());
        let viewers: Vec<NodeId> = match step.audience(self.state.node_count()) {
            Some(viewers) => viewers.into_iter().collect(),
            None => self.state.nodes().map(|node| node.id).collect(),
        };
        let (mut told, mut peers) = (0, 0);
        for viewer in viewers {
            let plan = step.plan(viewer);
            let about = plan.seen.len() + plan.flipped.len();
            peers += about;
            told += usize::from(plan.rules || about > 0);
        }
        make_filters(&new, &self.state, Some(&old));
        Cost { applied, told: started.elapsed(), viewers: told, peers }
    }
}

/// Makes the filter of one node of each class, if it is not the one that it was.
fn make_filters(view: &Arc<PolicyView>, state: &State, before: Option<&Arc<PolicyView>>) {
    for node in view.examples(before.map(|before| &**before)) {
        if let Some(node) = state.node(node) {
            std::hint::black_box(view.packet_filter(node));
        }
    }
}

fn set(text: String) -> Command {
    Command::SetPolicy { text, author: String::new(), expected_version: None }
}
