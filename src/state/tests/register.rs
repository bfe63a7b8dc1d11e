//! Registrations with pre-authenticated keys.

use super::*;

const ALICE: Owner = Owner::User(UserId(1));
const BOB: Owner = Owner::User(UserId(2));

fn rotated(n: u8, node_key: u8) -> Registration {
    Registration { node_key: NodeKey([node_key; 32]), ..registration(n) }
}

#[test]
fn a_new_node_gets_id_name_addresses_and_the_keys_owner() {
    let mut world = World::new();
    let id = world.node(1);
    assert_eq!(world.changes, [Change::NodeAdded(id)]);
    let index = world.state.index();
    let node = world.get(id);
    assert_eq!((node.id, node.given_name.as_str()), (NodeId(1), "host-1"));
    assert_eq!(node.ipv4, Some("100.64.0.1".parse().expect("an address")));
    assert_eq!(node.ipv6, Some("fd7a:115c:a1e0::1".parse().expect("an address")));
    assert_eq!(
        (&node.owner, node.auth_key, node.register_method),
        (&ALICE, Some(AuthKeyId(1)), RegisterMethod::AuthKey)
    );
    assert_eq!((node.expiry, node.last_seen, node.version), (None, Some(world.now), index));
    assert!(!world.state.is_online(id));
    assert_eq!(world.state.node_by_ip("100.64.0.1".parse().expect("an address")).map(|n| n.id), Some(id));
    assert_eq!(world.state.node_by_key(&NodeKey([1; 32])).map(|n| n.id), Some(id));
}

#[test]
fn a_single_use_key_registers_exactly_one_node() {
    let mut world = World::new();
    world.key("once", ALICE, false, false);
    world.register("once", registration(1));
    assert!(world.state.pre_auth_key_by_prefix("once").expect("the key").used);
    assert_eq!(world.refused(with_key("once", registration(2))), Refused::AuthKeyUsed);
    assert_eq!(world.state.node_count(), 1);
}

#[test]
fn a_reusable_key_registers_many_and_is_never_used_up() {
    let mut world = World::new();
    for n in 1..=5 {
        world.node(n);
    }
    assert_eq!(world.state.node_count(), 5);
    assert!(!world.state.pre_auth_key_by_prefix("alice").expect("the key").used);
}

#[test]
fn an_unknown_key_and_a_wrong_secret_are_the_same_error() {
    let mut world = World::new();
    world.key("k", ALICE, false, false);
    assert_eq!(world.refused(with_key("nope", registration(1))), Refused::AuthKeyInvalid);
    let guess =
        Command::RegisterWithKey { prefix: "k".into(), hash: SecretHash::of("guess"), registration: registration(1) };
    assert_eq!(world.refused(guess), Refused::AuthKeyInvalid);
}

#[test]
fn an_expired_key_registers_nobody() {
    let mut world = World::new();
    world.key("k", ALICE, false, false);
    world.wait(3600);
    assert_eq!(world.refused(with_key("k", registration(1))), Refused::AuthKeyExpired);
}

#[test]
fn a_machine_that_comes_back_unchanged_needs_no_valid_key_but_an_existing_one() {
    let mut world = World::new();
    world.key("once", ALICE, false, false);
    let id = world.register("once", registration(1));
    world.wait(7200);
    assert_eq!(world.register("once", registration(1)), id);
    assert_eq!(world.changes, []);
    assert_eq!(world.refused(with_key("once", rotated(1, 9))), Refused::AuthKeyExpired);
    world.ok(Command::DeletePreAuthKey { id: AuthKeyId(1) });
    assert_eq!(world.refused(with_key("once", registration(1))), Refused::AuthKeyInvalid);
}

#[test]
fn a_machine_that_comes_back_unchanged_cannot_prolong_its_key() {
    let mut world = World::new();
    world.key("once", ALICE, false, false);
    let expiry = Some(world.now + Duration::from_secs(100));
    let id = world.register("once", Registration { expiry, ..registration(1) });
    let longer = Some(world.now + Duration::from_secs(9000));
    world.register("once", Registration { expiry: longer, ..registration(1) });
    assert_eq!(world.get(id).expiry, expiry);
    world.wait(100);
    assert_eq!(world.refused(with_key("once", registration(1))), Refused::AuthKeyUsed);
}

#[test]
fn a_new_node_key_keeps_the_node_and_changes_only_its_key() {
    let mut world = World::new();
    let id = world.node(1);
    let update = NodeUpdate {
        disco_key: disco(5),
        endpoints: Some(vec![Endpoint { addr: "192.0.2.7:41641".parse().expect("an address"), kind: 1 }]),
        hostinfo: Some(Hostinfo { net_info: Some("{}".into()), preferred_derp: Some(9), ..hostinfo("host-1") }),
        ..world.update(id)
    };
    world.report(vec![Report::Update(update)]);
    world.ok(Command::SetApprovedRoutes { id, routes: ["10.0.0.0/8".parse().expect("a route")].into() });
    let before = world.get(id).clone();

    assert_eq!(world.register("alice", rotated(1, 9)), id);
    assert_eq!(world.change_of(id), Some(key_change()));
    let node_key = NodeKey([9; 32]);
    assert_eq!(*world.get(id), Node { node_key, version: world.state.index(), ..before });
    assert!(world.state.node_by_key(&NodeKey([1; 32])).is_none());
}

#[test]
fn the_same_machine_with_another_users_key_is_a_second_node() {
    let mut world = World::new();
    let alices = world.node(1);
    world.key("bob", BOB, true, false);
    let bobs = world.register("bob", rotated(1, 2));
    assert_ne!(alices, bobs);
    assert_eq!(world.state.nodes_of_machine(&MachineKey([1; 32])).count(), 2);
    assert_eq!(world.get(bobs).given_name, "host-1-1");
    let same_key = world.refused(with_key("bob", Registration { node_key: NodeKey([1; 32]), ..registration(1) }));
    assert_eq!(same_key, Refused::NodeKeyOfOtherOwner);
}

#[test]
fn a_node_key_of_another_machine_is_refused() {
    let mut world = World::new();
    world.node(1);
    assert_eq!(world.refused(with_key("alice", rotated(2, 1))), Refused::NodeKeyInUse);
}

#[test]
fn a_tagged_key_makes_tagged_nodes_that_never_expire() {
    let mut world = World::with(Settings { node_expiry: Duration::from_secs(600), ..settings() });
    let web = Owner::Tags(tags(&["tag:web"]));
    world.key("web", web.clone(), true, false);
    let asked = Some(world.now + Duration::from_secs(60));
    let id = world.register("web", Registration { expiry: asked, ..registration(1) });
    assert_eq!((&world.get(id).owner, world.get(id).expiry), (&web, None));
}

#[test]
fn tags_that_a_machine_asks_for_are_refused_when_it_has_a_key() {
    let mut world = World::new();
    world.key("web", Owner::Tags(tags(&["tag:web"])), true, false);
    let asking = |n: u8| {
        let request_tags = vec!["tag:a".to_owned(), "tag:b".to_owned()];
        Registration { hostinfo: Hostinfo { request_tags, ..hostinfo("h") }, ..registration(n) }
    };
    let refused = world.refused(with_key("web", asking(1)));
    assert_eq!(refused.to_string(), "requested tags [tag:a tag:b] are invalid or not permitted");
    world.node(2);
    assert!(matches!(world.refused(with_key("alice", asking(3))), Refused::TagsNotPermitted(_)));
}

#[test]
fn a_tagged_key_converts_the_machines_only_personal_node_and_is_checked_for_it() {
    let mut world = World::new();
    let id = world.node(1);
    let web = Owner::Tags(tags(&["tag:web"]));
    world.key("web", web.clone(), false, false);
    world.wait(3600);
    assert_eq!(world.refused(with_key("web", registration(1))), Refused::AuthKeyExpired);
    world.key("web2", web.clone(), false, false);
    assert_eq!(world.register("web2", registration(1)), id);
    assert_eq!(world.get(id).owner, web);
    assert_eq!(world.change_of(id), Some(record()));
    assert!(world.state.pre_auth_key_by_prefix("web2").expect("the key").used);
}

#[test]
fn a_tagged_key_on_a_machine_of_several_users_is_ambiguous() {
    let mut world = World::new();
    world.node(1);
    world.key("bob", BOB, true, false);
    world.register("bob", rotated(1, 2));
    world.key("web", Owner::Tags(tags(&["tag:web"])), true, false);
    assert_eq!(world.refused(with_key("web", rotated(1, 3))), Refused::AmbiguousOwnership);
}

#[test]
fn a_tagged_node_keeps_its_tags_when_it_registers_again() {
    let mut world = World::new();
    world.key("web", Owner::Tags(tags(&["tag:web"])), true, false);
    world.key("db", Owner::Tags(tags(&["tag:db"])), true, false);
    world.key("bob", BOB, true, false);
    let id = world.register("web", registration(1));
    for (key, node_key) in [("db", 8), ("bob", 9)] {
        assert_eq!(world.register(key, rotated(1, node_key)), id);
        assert_eq!(world.get(id).owner, Owner::Tags(tags(&["tag:web"])));
    }
}

#[test]
fn expiry_is_what_the_client_asks_for_else_the_default_else_none() {
    let mut world = World::with(Settings { node_expiry: Duration::from_secs(600), ..settings() });
    let by_default = world.node(1);
    assert_eq!(world.get(by_default).expiry, Some(world.now + Duration::from_secs(600)));
    let expiry = Some(world.now + Duration::from_secs(60));
    let asked = world.register("alice", Registration { expiry, ..registration(2) });
    assert_eq!(world.get(asked).expiry, expiry);
    let mut world = World::new();
    let id = world.node(1);
    assert_eq!(world.get(id).expiry, None);
}

#[test]
fn host_names_become_unique_labels() {
    let mut world = World::new();
    world.node(1);
    for (n, name) in [(2, "my-box"), (3, "my-box-1"), (4, "my-box-2")] {
        let id = world.register("alice", Registration { hostinfo: hostinfo("My_Box.local"), ..registration(n) });
        assert_eq!(world.get(id).given_name, name);
        assert_eq!(world.get(id).hostinfo.hostname, "My_Box.local");
    }
    world.ok(Command::DeleteNode { id: NodeId(3) });
    let id = world.register("alice", Registration { hostinfo: hostinfo("my-box"), ..registration(5) });
    assert_eq!((id, world.get(id).given_name.as_str()), (NodeId(5), "my-box-1"));
}

#[test]
fn a_full_prefix_refuses_and_a_deleted_node_makes_room() {
    let mut world = World::with(Settings { prefix_v4: Some("10.0.0.0/30".parse().expect("a prefix")), ..settings() });
    let (first, second) = (world.node(1), world.node(2));
    let full = world.refused(with_key("alice", registration(3)));
    assert_eq!(full.to_string(), "failed to allocate IP: no address is free in 10.0.0.0/30");
    let freed = world.get(first).ipv4;
    world.ok(Command::DeleteNode { id: first });
    let third = world.node(3);
    assert_eq!(world.get(third).ipv4, freed);
    assert_ne!(world.get(second).ipv4, freed);
    assert_eq!(third, NodeId(3), "a refused registration uses up no number");
}

#[test]
fn random_allocation_follows_the_seed() {
    let random = Settings { allocation: Allocation::Random, ..settings() };
    let (mut a, mut b) = (World::with(random.clone()), World::with(random));
    let (x, y) = (a.node(1), a.node(2));
    assert_eq!(b.node(1), x);
    assert_eq!(a.get(x).ipv4, b.get(x).ipv4);
    assert_ne!(a.get(y).ipv4.map(u32::from), a.get(x).ipv4.map(|ip| u32::from(ip) + 1));
}

#[test]
fn a_new_node_gets_its_address_from_the_first_pool_with_room_and_keeps_it() {
    let mut world = World::new();
    world.key("alice", ALICE, true, false);
    let from = |n: u8, pools: &[&str]| {
        let v4_pools = pools.iter().map(|pool| pool.parse().expect("a prefix")).collect();
        Registration { v4_pools, ..registration(n) }
    };
    let mut join = |n: u8, pools: &[&str]| {
        let id = world.register("alice", from(n, pools));
        world.get(id).ipv4.expect("an address").to_string()
    };
    let pools = ["100.81.0.0/30", "100.82.0.0/30"];
    let joined: Vec<_> = (1..=4).map(|n| join(n, &pools)).collect();
    assert_eq!(joined, ["100.81.0.1", "100.81.0.2", "100.82.0.1", "100.82.0.2"]);
    assert_eq!(join(1, &["100.83.0.0/16"]), "100.81.0.1", "a machine that comes back keeps what it has");
    assert_eq!(join(5, &[]), "100.64.0.1", "others are not counted on from a pool");
    let full = Refused::AddressesExhausted("100.81.0.0/30 100.82.0.0/30".into());
    assert_eq!(world.refused(with_key("alice", from(6, &pools))), full);
}
