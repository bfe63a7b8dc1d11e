//! Promises that hold for any sequence of commands.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

/// A command of small numbers, so that different commands meet the same things.
#[derive(Clone, Debug)]
struct Draw {
    kind: u8,
    a: u8,
    b: u8,
    seconds: u64,
    repeat: bool,
}

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let draw = (0u8..40, 0u8..6, 0u8..6, prop_oneof![9 => 0u64..3, 1 => 50u64..400], prop::bool::weighted(0.1));
    prop::collection::vec(draw.prop_map(|(kind, a, b, seconds, repeat)| Draw { kind, a, b, seconds, repeat }), 1..80)
}

fn draw_settings() -> impl Strategy<Value = Settings> {
    let v4 = prop_oneof![Just("10.0.0.0/29"), Just("100.64.0.0/10"), Just("100.100.100.96/28")];
    (v4, any::<bool>(), prop_oneof![Just(0u64), Just(60)]).prop_map(|(v4, random, expiry)| Settings {
        prefix_v4: Some(v4.parse().expect("a prefix")),
        allocation: if random { Allocation::Random } else { Allocation::Sequential },
        node_expiry: Duration::from_secs(expiry),
        ..settings()
    })
}

fn owner(n: u8) -> Owner {
    match n {
        0..=2 => Owner::User(UserId(u64::from(n) + 1)),
        3 => Owner::Tags(tags(&["tag:a"])),
        _ => Owner::Tags(tags(&["tag:a", "tag:b"])),
    }
}

fn routes(n: u8) -> Vec<ipnet::IpNet> {
    let all = ["10.1.0.0/16", "10.2.0.0/16", "0.0.0.0/0", "::/0"];
    all.iter().skip(usize::from(n) % 3).take(2).map(|route| route.parse().expect("a route")).collect()
}

fn named(n: u8, routes_of: u8) -> Hostinfo {
    let hostname = ["web", "web-1", "Web.local", "", "x y", "db"][usize::from(n) % 6];
    Hostinfo { routable_ips: routes(routes_of), ..hostinfo(hostname) }
}

fn arrival(a: u8, b: u8) -> Registration {
    Registration { node_key: NodeKey([b; 32]), hostinfo: named(b, a), ..registration(a) }
}

fn command(world: &World, draw: &Draw) -> Command {
    let (a, b) = (draw.a, draw.b);
    let nodes: Vec<NodeId> = world.state.nodes().map(|node| node.id).collect();
    let id = nodes.get(usize::from(a) % nodes.len().max(1)).copied().unwrap_or(NodeId(u64::from(a)));
    let node_key = world.state.node(id).map_or(NodeKey([b; 32]), |node| node.node_key);
    let machine_key = world.state.node(id).map_or(MachineKey([b; 32]), |node| node.machine_key);
    let auth_key = AuthKeyId(u64::from(a) + 4);
    let session = SessionId { replica: ReplicaId(u64::from(b % 3)), ..session(id, u64::from(b)) };
    let news = NodeUpdate {
        node: id,
        node_key,
        cap_ver: CapVer(142),
        disco_key: disco(b),
        endpoints: None,
        hostinfo: (a % 2 == 0).then(|| named(b, a)),
    };
    let secret = a.to_string();
    match draw.kind {
        0 => create_user(["carol", "dave", "alice", "", "x@", "erin"][usize::from(a)]),
        1 => Command::RenameUser { id: UserId(u64::from(a)), name: ["carol", "zoe"][usize::from(b % 2)].into() },
        2 => Command::DeleteUser { id: UserId(u64::from(a)) },
        3..=5 => Command::CreatePreAuthKey {
            hash: SecretHash::of(&secret),
            prefix: secret,
            owner: owner(b),
            reusable: b % 2 == 0,
            ephemeral: b % 3 == 0,
            expiration: (b % 2 == 1).then(|| world.now + Duration::from_secs(60)),
        },
        6 => Command::ExpirePreAuthKey { id: auth_key },
        7 => Command::DeletePreAuthKey { id: auth_key },
        8 => Command::CreateApiKey {
            hash: SecretHash::of(&secret),
            prefix: secret,
            expiration: None,
            role: ApiKeyRole::Admin,
            owner: String::new(),
        },
        9 => Command::DeleteApiKey { id: ApiKeyId(u64::from(a)) },
        10..=14 => with_key(&secret, arrival(b, a ^ b)),
        15 if b % 2 == 0 => Command::StartLogin(login(world.now, b, &a.to_string())),
        16 | 17 | 36 => Command::ApproveLogin {
            auth_id: login(world.now, a, &a.to_string()).id,
            user: UserId(u64::from(b % 3) + 1),
            owner: owner(b),
            method: RegisterMethod::Cli,
            policy_version: world.state.policy_version(),
            seed: u64::from(b),
            v4_pools: Vec::new(),
            provider_expiry: None,
        },
        15 if b == 5 => Command::PutProviderUser(ProviderUser {
            provider_id: format!("https://id.example.com/{}", a % 3),
            name: (a % 2 == 0).then(|| format!("user-{}", a % 5)),
            display_name: String::new(),
            email: (a % 4 == 0).then(|| format!("user-{}", a % 7)),
            profile_pic_url: String::new(),
        }),
        15 => Command::StartSshCheck(ssh_check(world, id, NodeId(u64::from(b)), a)),
        18 if b % 3 == 0 => {
            let auth_id = ssh_check(world, id, id, a).id;
            Command::DecideSshCheck { auth_id, approve: b % 2 == 0, by: secret }
        }
        18 => Command::DecideLogin { auth_id: login(world.now, a, &a.to_string()).id, approve: b % 2 == 0 },
        19 => Command::Logout { node_key, machine_key },
        20 => Command::ShortenExpiry { node_key, machine_key, expiry: world.now + Duration::from_secs(10) },
        21 => Command::SetNodeExpiry {
            id,
            expiry: [Expiry::Now, Expiry::Never, Expiry::At(world.now)][usize::from(b % 3)],
        },
        22 => Command::RenameNode {
            id,
            given_name: ["web", "web-1", "web-2", "Bad!", "node", "q"][usize::from(b)].into(),
        },
        23 => Command::SetTags { id, tags: tags(&["tag:b"]), policy_version: world.state.policy_version() },
        24 | 37 => Command::SetApprovedRoutes { id, routes: routes(b).into_iter().collect() },
        38 => Command::ApproveRoutes {
            id,
            owner: world.state.node(id).map_or(Owner::User(UserId(1)), |node| node.owner.clone()),
            routes: routes(b).into_iter().collect(),
            policy_version: world.state.policy_version(),
        },
        25 => Command::DeleteNode { id },
        26 => Command::BackfillIps { seed: u64::from(a) },
        27 if b % 2 == 0 => {
            let author = secret.clone();
            Command::PutPolicy { text: secret, author, expected_version: None, restores: None }
        }
        27 => Command::SetPolicy { text: secret, author: String::new(), expected_version: None },
        33..=35 => with_key(&format!("first-{}", a % 4), arrival(b, a ^ b)),
        28..=30 => Command::Report(vec![Report::Open { session, update: news.clone() }, Report::Update(news)]),
        31 => Command::Report(vec![Report::Close { session }]),
        32 => match b {
            0 => Command::ReplicaUp(replica(u64::from(a), u64::from(b))),
            1 => Command::ReplicaRemoved(ReplicaId(u64::from(a))),
            2 => Command::SetStanding {
                replica: ReplicaId(u64::from(a)),
                incarnation: 0,
                standing: [Standing::Away, Standing::Serving, Standing::Leaving][usize::from(a) % 3],
            },
            _ => Command::CloseSessionsOf { replica: ReplicaId(u64::from(a)), incarnation: 1 },
        },
        _ => Command::Tick,
    }
}

fn ssh_check(world: &World, source: NodeId, destination: NodeId, n: u8) -> SshCheck {
    SshCheck {
        id: login(world.now, n, &n.to_string()).id,
        source,
        destination,
        local_user: "root".into(),
        period: Duration::from_secs(20),
        policy_version: world.state.policy_version(),
        created: world.now,
        deadline: world.now + Duration::from_secs(30),
        verdict: SshVerdict::Waiting,
    }
}

fn check(world: &World, gone: &HashSet<NodeId>) {
    let state = &world.state;
    let (mut keys, mut names, mut ips) = (HashSet::new(), HashSet::new(), HashSet::new());
    for node in state.nodes() {
        assert!(!gone.contains(&node.id), "node id {} was used before", node.id);
        assert!(keys.insert(node.node_key), "two nodes with one key");
        assert!(names.insert(&node.given_name), "two nodes with one name");
        assert!(node.ipv4.is_some() && node.ipv6.is_some(), "a node without an address");
        let v4 = node.ipv4.map(std::net::IpAddr::V4);
        let v6 = node.ipv6.map(std::net::IpAddr::V6);
        for ip in [v4, v6].into_iter().flatten() {
            assert!(ips.insert(ip), "two nodes with one address");
            assert_eq!(state.node_by_ip(ip).map(|node| node.id), Some(node.id));
        }
        assert_eq!(state.node_by_key(&node.node_key).map(|node| node.id), Some(node.id));
        assert_eq!(state.node_by_name(&node.given_name).map(|node| node.id), Some(node.id));
        assert!(state.nodes_of_machine(&node.machine_key).any(|other| other.id == node.id));
        match &node.owner {
            Owner::User(user) => assert!(state.user(*user).is_some(), "a node of no user"),
            Owner::Tags(tags) => assert!(!tags.is_empty(), "a node of nobody"),
        }
        assert!(node.auth_key.is_none_or(|key| state.pre_auth_key(key).is_some()), "a key that is not there");
        assert_eq!(node.idle_since.is_some(), node.ephemeral && !state.is_online(node.id));
        check_routes(world, node);
    }
    assert!(state.sessions().all(|session| state.node(session.node).is_some()), "a session of no node");
}

/// Every route that some router can serve has exactly one primary, which can.
fn check_routes(world: &World, node: &Node) {
    let state = &world.state;
    let can_serve = |node: &Node| state.is_online(node.id) && node.expiry.is_none_or(|time| time > state.clock());
    for route in state.effective_routes(node).into_iter().filter(|route| route.prefix_len() > 0) {
        let routers: Vec<_> = state.nodes().filter(|node| state.effective_routes(node).contains(&route)).collect();
        let primaries: Vec<_> = routers.iter().filter(|node| state.primary_routes(node.id).contains(&route)).collect();
        // A key that expired without anybody having applied it yet moves nothing.
        let settled = state.nodes().all(|node| node.expired || node.expiry.is_none_or(|time| time > state.clock()));
        assert!(primaries.len() <= 1, "two primaries");
        if settled && routers.iter().any(|node| can_serve(node)) {
            assert!(primaries.iter().any(|node| can_serve(node)), "a route that nobody has");
        }
    }
    for route in state.primary_routes(node.id) {
        assert!(state.effective_routes(node).contains(&route), "a primary that is no router");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// After every command: names, keys, addresses and ids are unique, owners exist,
    /// what is stored loads into an equal state, and a replica that was loaded from
    /// it just now does exactly what one does that has run all along.
    #[test]
    fn any_order_of_commands_keeps_everything_unique_and_replicas_equal(settings in draw_settings(), draws in draws()) {
        let mut world = World::with(settings);
        for n in 0..4 {
            world.key(&format!("first-{n}"), owner([0, 1, 3, 0][n]), true, n == 3);
        }
        let mut gone = HashSet::new();
        for draw in &draws {
            world.wait(draw.seconds);
            let command = command(&world, draw);
            let proposal = world.proposal(command);
            let mut restarted = State::load(world.rows.clone()).expect("own rows can be read");
            prop_assert_eq!(restarted.hash(), world.state.hash());
            prop_assert_eq!(restarted.tally(), world.state.tally());
            let there = restarted.apply(world.state.index() + 1, &proposal);

            let before: Vec<NodeId> = world.state.nodes().map(|node| node.id).collect();
            let outcome = world.apply(&proposal);
            gone.extend(before.into_iter().filter(|id| world.state.node(*id).is_none()));
            prop_assert_eq!(&there.outcome, &outcome);
            prop_assert_eq!(&there.changes, &world.changes);
            prop_assert_eq!(restarted.hash(), world.state.hash());
            prop_assert_eq!(restarted.tally(), world.state.tally());
            prop_assert!(outcome.is_ok() || world.changes.is_empty(), "a refused command changed something");
            check(&world, &gone);

            if draw.repeat {
                let stored = meaning(&world);
                prop_assert_eq!(world.apply(&proposal), outcome);
                prop_assert!(world.changes.is_empty(), "a repeated request changed something");
                prop_assert_eq!(meaning(&world), stored);
            }
        }
    }
}

/// All rows but the clock.
fn meaning(world: &World) -> Vec<(Vec<u8>, Vec<u8>)> {
    world.rows.iter().filter(|(key, _)| key[0] != 1).map(|(key, value)| (key.clone(), value.clone())).collect()
}
