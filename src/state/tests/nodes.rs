//! Nodes that are there.

use super::*;

fn expire(id: NodeId, expiry: Expiry) -> Command {
    Command::SetNodeExpiry { id, expiry }
}

fn rename(id: NodeId, name: &str) -> Command {
    Command::RenameNode { id, given_name: name.into() }
}

fn logout(n: u8) -> Command {
    Command::Logout { node_key: NodeKey([n; 32]), machine_key: MachineKey([n; 32]) }
}

#[test]
fn a_key_expires_when_its_time_comes_and_others_learn_of_it_once() {
    let mut world = World::new();
    let id = world.node(1);
    world.ok(expire(id, Expiry::At(world.now + Duration::from_secs(60))));
    assert_eq!(world.change_of(id), Some(key_change()));
    assert_eq!(world.state.next_due(), Some(world.now + Duration::from_secs(60)));
    world.wait(59);
    world.tick();
    assert_eq!(world.changes, []);
    world.wait(1);
    world.tick();
    assert_eq!(world.change_of(id), Some(key_change()));
    assert!(world.get(id).expired);
    world.wait(1);
    world.tick();
    assert_eq!(world.changes, []);
}

#[test]
fn an_administrator_may_expire_prolong_and_disable() {
    let mut world = World::new();
    let id = world.node(1);
    world.ok(expire(id, Expiry::Now));
    assert_eq!((world.get(id).expiry, world.get(id).expired), (Some(world.now), true));
    let later = world.now + Duration::from_secs(60);
    world.ok(expire(id, Expiry::At(later)));
    assert_eq!((world.get(id).expiry, world.get(id).expired), (Some(later), false));
    world.ok(expire(id, Expiry::Never));
    assert_eq!((world.get(id).expiry, world.get(id).expired), (None, false));
    world.ok(expire(id, Expiry::At(Time(5))));
    assert_eq!((world.get(id).expiry, world.get(id).expired), (Some(world.now), true));
    assert_eq!(world.refused(expire(NodeId(9), Expiry::Now)), Refused::NodeNotFound);
}

#[test]
fn a_client_may_shorten_its_expiry_and_never_prolong_it() {
    let mut world = World::new();
    let id = world.node(1);
    let shorten = |now: Time, seconds| Command::ShortenExpiry {
        node_key: NodeKey([1; 32]),
        machine_key: MachineKey([1; 32]),
        expiry: now + Duration::from_secs(seconds),
    };
    let now = world.now;
    world.ok(shorten(now, 100));
    world.ok(shorten(now, 50));
    assert_eq!(world.refused(shorten(now, 51)), Refused::ExtendingKey);
    assert_eq!(world.get(id).expiry, Some(now + Duration::from_secs(50)));
    world.wait(50);
    world.tick();
    assert_eq!(world.refused(shorten(now, 50)), Refused::ExtendingKey);
}

#[test]
fn a_logout_expires_the_key_and_keeps_the_node() {
    let mut world = World::new();
    let id = world.node(1);
    let stolen = Command::Logout { node_key: NodeKey([1; 32]), machine_key: MachineKey([2; 32]) };
    assert_eq!(world.refused(stolen), Refused::MachineMismatch);
    assert_eq!(world.refused(logout(9)), Refused::NodeKeyUnknown);
    assert_eq!(world.ok(logout(1)), Done::Node(id));
    assert_eq!((world.get(id).expiry, world.get(id).expired), (Some(world.now), true));
    let expiry = world.get(id).expiry;
    world.wait(5);
    assert_eq!(world.ok(logout(1)), Done::Node(id));
    assert_eq!(world.get(id).expiry, expiry);
    assert_eq!(world.node(1), id, "it may come back");
    assert!(!world.get(id).expired);
}

#[test]
fn an_ephemeral_node_that_logs_out_is_gone_at_once() {
    let mut world = World::new();
    world.key("ci", Owner::User(UserId(1)), true, true);
    let id = world.register("ci", registration(1));
    world.open(id, 1);
    assert_eq!(world.ok(logout(1)), Done::NodeGone);
    assert_eq!(world.changes, [Change::NodeRemoved(id), Change::SessionClosed(session(id, 1))]);
    assert!(world.state.node(id).is_none());
}

/// The leader's pulse, while time passes.
fn wait_with_a_leader(world: &mut World, seconds: u64) {
    let pulse = LEADER_PULSE.as_secs();
    for passed in (0..seconds).step_by(usize::try_from(pulse).expect("seconds")) {
        world.wait(pulse.min(seconds - passed));
        world.tick();
    }
}

#[test]
fn an_ephemeral_node_goes_some_time_after_it_went_away() {
    let mut world = World::new();
    world.key("ci", Owner::User(UserId(1)), true, true);
    let id = world.register("ci", registration(1));
    world.open(id, 1);
    world.wait(9999);
    world.tick();
    assert!(world.state.node(id).is_some(), "it is online");
    world.close(id, 1);
    wait_with_a_leader(&mut world, 60);
    world.open(id, 2);
    wait_with_a_leader(&mut world, 60);
    assert!(world.state.node(id).is_some(), "it came back in time");
    world.close(id, 2);
    wait_with_a_leader(&mut world, 119);
    assert!(world.state.node(id).is_some());
    assert_eq!(world.state.next_due(), Some(world.now + Duration::from_secs(1)));
    wait_with_a_leader(&mut world, 1);
    assert!(world.state.node(id).is_none());
}

/// Headscale removes such nodes (its issue 3423).
#[test]
fn ephemeral_ttl_starts_after_first_poll() {
    let mut world = World::new();
    world.key("ci", Owner::User(UserId(1)), true, true);
    let id = world.register("ci", registration(1));
    wait_with_a_leader(&mut world, 1800);
    assert!(world.state.node(id).is_some(), "it has not polled yet");
    world.open(id, 1);
    world.close(id, 1);
    wait_with_a_leader(&mut world, 115);
    // A container that starts again registers first, and polls then.
    world.register("ci", registration(1));
    wait_with_a_leader(&mut world, 300);
    assert!(world.state.node(id).is_some(), "it registered again, and has not polled since");
    world.open(id, 2);
    world.close(id, 2);
    wait_with_a_leader(&mut world, 120);
    assert!(world.state.node(id).is_none());
}

#[test]
fn an_ephemeral_node_that_never_polls_does_not_stay_for_ever() {
    let mut world = World::new();
    world.key("ci", Owner::User(UserId(1)), true, true);
    let id = world.register("ci", registration(1));
    wait_with_a_leader(&mut world, 24 * 3600 + 119);
    assert!(world.state.node(id).is_some());
    wait_with_a_leader(&mut world, 1);
    assert!(world.state.node(id).is_none());
}

#[test]
fn an_ephemeral_node_is_not_removed_because_there_was_no_leader_for_long() {
    let mut world = World::new();
    world.key("ci", Owner::User(UserId(1)), true, true);
    let id = world.register("ci", registration(1));
    world.open(id, 1);
    world.close(id, 1);
    wait_with_a_leader(&mut world, 60);
    world.wait(3600);
    world.tick();
    assert!(world.state.node(id).is_some(), "an hour without a leader does not count");
    wait_with_a_leader(&mut world, 54);
    assert!(world.state.node(id).is_some(), "there was a leader for 119 s at most");
    wait_with_a_leader(&mut world, 6);
    assert!(world.state.node(id).is_none());
}

#[test]
fn a_key_expires_at_its_time_whether_there_was_a_leader_or_not() {
    let mut world = World::new();
    let id = world.node(1);
    world.ok(Command::SetNodeExpiry { id, expiry: Expiry::At(world.now + Duration::from_secs(600)) });
    world.wait(3600);
    world.tick();
    assert!(world.get(id).expired);
}

#[test]
fn a_chosen_name_must_be_valid_and_free_and_sticks() {
    let mut world = World::new();
    let (id, _other) = (world.node(1), world.node(2));
    assert_eq!(
        world.refused(rename(id, "Bad Name!")).to_string(),
        "given name is not a valid DNS label: \"Bad Name!\" is not a valid DNS label: must be lowercase"
    );
    assert_eq!(world.refused(rename(id, "host-2")).to_string(), "node name is not unique: host-2");
    assert_eq!(world.refused(rename(NodeId(9), "x")), Refused::NodeNotFound);
    world.ok(rename(id, "chosen"));
    assert_eq!(world.change_of(id), Some(record()));
    world.ok(rename(id, "chosen"));
    assert_eq!(world.changes, []);
    let update = NodeUpdate { hostinfo: Some(hostinfo("other")), ..world.update(id) };
    world.report(vec![Report::Update(update)]);
    assert_eq!(world.get(id).given_name, "chosen");
    assert_eq!(world.get(id).hostinfo.hostname, "other");
}

#[test]
fn a_derived_name_follows_the_host_name() {
    let mut world = World::new();
    let (id, _) = (world.node(1), world.node(2));
    let mut named = |hostname: &str| {
        let update = NodeUpdate { hostinfo: Some(hostinfo(hostname)), ..world.update(id) };
        world.report(vec![Report::Update(update)]);
        world.get(id).given_name.clone()
    };
    assert_eq!(named("laptop"), "laptop");
    assert_eq!(named("Host_2"), "host-2-1");
    assert_eq!(named("host 2"), "host-2-1", "the same label as before: no change");
    assert_eq!(named("host-2-1"), "host-2-1", "its own name is free for it");
}

#[test]
fn tags_replace_the_owner_and_end_the_expiry() {
    let mut world = World::new();
    let id = world.node(1);
    world.ok(expire(id, Expiry::Now));
    let set = |id, names: &[&str], policy_version| Command::SetTags { id, tags: tags(names), policy_version };
    assert_eq!(world.refused(set(id, &[], 0)), Refused::NoTags);
    assert_eq!(world.refused(set(NodeId(9), &["tag:a"], 0)), Refused::NodeNotFound);
    assert_eq!(world.refused(set(id, &["tag:a"], 4)), Refused::Stale);
    world.ok(set(id, &["tag:a", "tag:b"], 0));
    let node = world.get(id);
    assert_eq!((&node.owner, node.expiry, node.expired), (&Owner::Tags(tags(&["tag:a", "tag:b"])), None, false));
    assert_eq!(world.change_of(id), Some(NodeChange { key: true, record: true, ..Default::default() }));
}

#[test]
fn a_deleted_node_takes_its_sessions_along_and_its_number_is_never_used_again() {
    let mut world = World::new();
    let id = world.node(1);
    world.open(id, 1);
    world.ok(Command::DeleteNode { id });
    assert_eq!(world.changes, [Change::NodeRemoved(id), Change::SessionClosed(session(id, 1))]);
    assert_eq!(world.state.sessions().count(), 0);
    assert_eq!(world.refused(Command::DeleteNode { id }), Refused::NodeNotFound);
    assert_eq!(world.node(1), NodeId(2));
}

#[test]
fn addresses_are_filled_in_and_taken_away_as_the_prefixes_say() {
    let mut world = World::with(Settings { prefix_v6: None, ..settings() });
    let id = world.node(1);
    assert_eq!(world.get(id).ipv6, None);
    assert_eq!(world.ok(Command::BackfillIps { seed: 1 }), Done::Changes(Vec::new()));

    // The settings cannot be changed by a command yet, so the stored row is.
    let changed = Settings { prefix_v4: None, ..settings() };
    let mut rows = world.rows.clone();
    rows.insert(vec![3], serde_json::to_vec(&changed).expect("JSON"));
    world.state = State::load(rows.clone()).expect("rows");
    world.rows = rows;
    let changes = [
        "removing IPv4 \"100.64.0.1\" from Node(1) \"host-1\"",
        "assigned IPv6 \"fd7a:115c:a1e0::1\" to Node(1) \"host-1\"",
    ];
    assert_eq!(world.ok(Command::BackfillIps { seed: 1 }), Done::Changes(changes.map(String::from).into()));
    assert_eq!(world.change_of(id), Some(record()));
    assert!(world.state.node_by_ip("100.64.0.1".parse().expect("an address")).is_none());
}
