//! What another server held comes in whole, once, and into an empty cluster.

use super::*;

fn node(id: u64) -> Node {
    let byte = u8::try_from(id).expect("a small number");
    Node {
        id: NodeId(id),
        machine_key: MachineKey([byte; 32]),
        node_key: NodeKey([byte; 32]),
        disco_key: None,
        owner: Owner::User(UserId(7)),
        given_name: format!("box-{id}"),
        renamed: true,
        ipv4: Some([100, 64, 3, byte].into()),
        ipv6: None,
        hostinfo: Hostinfo { hostname: "box".into(), ..Hostinfo::default() },
        endpoints: Vec::new(),
        cap_ver: CapVer::MIN,
        created: Time(1_600_000_000_000),
        expiry: None,
        expired: false,
        last_seen: None,
        register_method: RegisterMethod::Cli,
        auth_key: None,
        ephemeral: false,
        idle_since: None,
        approved_routes: BTreeSet::new(),
        version: 99,
    }
}

fn slow(filler: &str) -> KeyHash {
    KeyHash::try_from(format!("$2a$10${}", filler.repeat(53))).expect("a hash")
}

fn content() -> Import {
    let created = Time(1_600_000_000_000);
    Import {
        source: "Headscale 0.29.2".into(),
        settings: Settings { base_domain: "old.example.net".into(), ..settings() },
        noise_public: MachineKey([0xaa; 32]),
        users: vec![User {
            id: UserId(7),
            name: "grete".into(),
            display_name: String::new(),
            email: "grete@example.net".into(),
            profile_pic_url: String::new(),
            provider: "oidc".into(),
            provider_id: "https://id.example.net/grete".into(),
            created,
        }],
        pre_auth_keys: vec![PreAuthKey {
            id: AuthKeyId(3),
            prefix: "0123456789ab".into(),
            hash: slow("a"),
            owner: Owner::User(UserId(7)),
            reusable: true,
            ephemeral: true,
            used: false,
            expiration: None,
            created,
        }],
        api_keys: vec![ApiKey {
            id: ApiKeyId(1),
            prefix: "ba9876543210".into(),
            hash: slow("b"),
            expiration: None,
            created,
            role: ApiKeyRole::Admin,
            owner: String::new(),
            last_used: None,
        }],
        nodes: vec![node(4), node(9)],
        policy: Some("{\"acls\":[]}".into()),
        last: LastNumbers { users: 8, nodes: 12, pre_auth_keys: 5, api_keys: 2 },
    }
}

fn import(content: Import) -> Command {
    let (sealed, author) = ("sealed anew".into(), "root on replica 1".into());
    Command::Import { content: Box::new(content), sealed, with_policy: true, author }
}

fn empty() -> World {
    let mut world = World::blank();
    world.ok(Command::Bootstrap { settings: settings(), keys: server_keys() });
    world
}

#[test]
fn everything_is_there_under_its_old_number_and_key() {
    let mut world = empty();
    let before = world.state.server_keys().expect("keys").clone();
    world.ok(import(content()));
    let state = &world.state;
    let imported = state.node(NodeId(9)).expect("the node");
    assert_eq!((imported.given_name.as_str(), imported.ipv4), ("box-9", Some([100, 64, 3, 9].into())));
    assert_eq!(imported.node_key, NodeKey([9; 32]));
    assert_eq!(state.user_by_name("grete").expect("the user").id, UserId(7));
    assert_eq!(state.policy().expect("a policy").text, "{\"acls\":[]}");
    assert_eq!(state.settings().expect("settings").base_domain, "old.example.net");
    let keys = state.server_keys().expect("keys");
    assert_eq!((keys.noise_public, keys.sealed.as_str()), (MachineKey([0xaa; 32]), "sealed anew"));
    assert_eq!((&keys.wrapped_data_key, &keys.cluster_id), (&before.wrapped_data_key, &before.cluster_id));
    assert!(world.changes.contains(&Change::SettingsChanged) && world.changes.contains(&Change::NodeAdded(NodeId(4))));
}

#[test]
fn an_imported_person_who_logs_in_is_who_they_were() {
    let mut world = empty();
    world.ok(import(content()));
    let Done::User(grete) = world.ok(Command::PutProviderUser(ProviderUser {
        provider_id: "https://id.example.net/grete".into(),
        name: Some("grete".into()),
        display_name: "Grete".into(),
        email: None,
        profile_pic_url: String::new(),
    })) else {
        panic!("a user")
    };
    assert_eq!((grete.id, &*grete.email), (UserId(7), "grete@example.net"));
}

#[test]
fn no_number_is_given_out_twice_after_an_import() {
    let mut world = empty();
    world.ok(import(content()));
    let Done::User(next) = world.ok(create_user("new")) else { panic!("a user") };
    assert_eq!(next.id, UserId(9), "8 was given out, and deleted, before");
}

#[test]
fn the_same_import_again_changes_nothing_and_another_one_is_refused() {
    let mut world = empty();
    world.ok(import(content()));
    world.ok(Command::DeleteNode { id: NodeId(4) });
    assert_eq!(world.ok(import(content())), Done::Nothing);
    assert_eq!(world.state.node_count(), 1, "what was deleted since stays deleted");
    let other = Import { nodes: vec![node(4)], ..content() };
    assert!(matches!(world.refused(import(other)), Refused::ImportedBefore { .. }));
}

#[test]
fn a_cluster_that_has_users_or_nodes_is_not_filled() {
    let mut world = World::new();
    let refused = world.refused(import(content()));
    assert_eq!(refused, Refused::ImportNeedsEmpty { kind: "users".into(), count: 2 });
    assert_eq!(world.state.server_keys().expect("keys").sealed, server_keys().sealed, "nothing has changed");
}

#[test]
fn the_clusters_own_api_keys_stay_and_keep_their_numbers() {
    let mut world = empty();
    let own = Command::CreateApiKey {
        prefix: "aaaaaaaaaaaa".into(),
        hash: SecretHash([1; 32]),
        expiration: None,
        role: ApiKeyRole::Admin,
        owner: String::new(),
    };
    world.ok(own);
    let Done::Changes(changes) = world.ok(import(content())) else { panic!("what changed") };
    assert!(changes[0].contains("has the number 3"), "{changes:?}");
    let id = |prefix: &str| world.state.api_key_by_prefix(prefix).expect("the key").id;
    assert_eq!((id("aaaaaaaaaaaa"), id("ba9876543210")), (ApiKeyId(1), ApiKeyId(3)));
}

#[test]
fn what_cannot_be_a_tailnet_is_refused_as_a_whole() {
    let broken: [fn(&mut Import); 9] = [
        |import| import.nodes[1].node_key = NodeKey([4; 32]),
        |import| import.nodes[1].given_name = "box-4".into(),
        |import| import.nodes[1].ipv4 = Some([100, 64, 3, 4].into()),
        |import| import.nodes[1].owner = Owner::User(UserId(8)),
        |import| import.nodes[1].owner = Owner::Tags(BTreeSet::new()),
        |import| import.nodes[1].auth_key = Some(AuthKeyId(4)),
        |import| import.nodes[1].id = NodeId(0),
        |import| import.users[0].id = UserId::TAGGED_DEVICES,
        |import| import.users.push(import.users[0].clone()),
    ];
    for breaks in broken {
        let mut world = empty();
        let mut broken = content();
        breaks(&mut broken);
        let refused = world.refused(import(broken));
        assert!(matches!(refused, Refused::ImportInvalid(_)), "{refused:?}");
        assert_eq!((world.state.node_count(), world.state.users().count()), (0, 0));
        world.ok(import(content()));
    }
}

#[test]
fn ephemeral_nodes_are_given_time_to_find_the_new_server_and_expired_ones_are_expired() {
    let mut world = empty();
    let past = Some(Time(1_600_000_000_001));
    let nodes = vec![Node { ephemeral: true, ..node(4) }, Node { expiry: past, ..node(9) }];
    world.ok(import(Import { nodes, ..content() }));
    world.wait(12 * 60 * 60);
    world.ok(Command::Tick);
    assert_eq!(world.state.node_count(), 2);
    assert!(world.state.node(NodeId(9)).expect("the node").expired);
}

#[test]
fn an_imported_key_is_checked_fast_once_it_was_used() {
    let mut world = empty();
    world.ok(import(content()));
    let secret = SecretHash::of("the secret");
    for key in [AdoptedKey::Api(ApiKeyId(1)), AdoptedKey::PreAuth(AuthKeyId(3))] {
        world.ok(Command::AdoptKey { key, hash: secret });
        // A second replica found the same, or somebody claims another.
        world.ok(Command::AdoptKey { key, hash: SecretHash([0; 32]) });
    }
    assert!(world.state.api_key(ApiKeyId(1)).expect("the key").hash.is(&secret));
    assert!(world.state.pre_auth_key(AuthKeyId(3)).expect("the key").hash.is(&secret));
}

#[test]
fn whoever_waits_for_a_decision_under_the_old_key_starts_again() {
    let mut world = empty();
    let (machine_key, node_key) = (MachineKey([50; 32]), NodeKey([50; 32]));
    let login = PendingLogin {
        id: AuthId::generate(),
        machine_key,
        node_key,
        hostinfo: Hostinfo::default(),
        cap_ver: CapVer::MIN,
        expiry: None,
        source: [192, 0, 2, 1].into(),
        created: world.now,
        deadline: world.now + Duration::from_secs(900),
        verdict: Verdict::Waiting,
    };
    world.ok(Command::StartLogin(login.clone()));
    world.ok(import(content()));
    assert!(world.state.login(&login.id).is_none());
}
