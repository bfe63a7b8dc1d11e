//! Streams, and what clients say of themselves.

use super::*;

fn endpoint(text: &str) -> Endpoint {
    Endpoint { addr: text.parse().expect("an address"), kind: 2 }
}

#[test]
fn a_node_is_online_while_it_has_a_session_wherever() {
    let mut world = World::new();
    let id = world.node(1);
    world.open(id, 1);
    assert_eq!(world.changes, [Change::NodeChanged { node: id, what: online() }]);
    let elsewhere = SessionId { replica: ReplicaId(2), ..session(id, 1) };
    let update = world.update(id);
    world.report(vec![Report::Open { session: elsewhere, update }]);
    assert_eq!(world.changes, []);
    world.wait(10);
    world.close(id, 1);
    assert_eq!(world.changes, [Change::SessionClosed(session(id, 1))]);
    assert!(world.state.is_online(id));
    world.report(vec![Report::Close { session: elsewhere }]);
    assert_eq!(world.change_of(id), Some(online()));
    assert!(!world.state.is_online(id));
    assert_eq!(world.get(id).last_seen, Some(world.now));
}

#[test]
fn a_late_close_of_an_old_session_does_not_end_a_newer_one() {
    let mut world = World::new();
    let id = world.node(1);
    world.open(id, 1);
    world.close(id, 1);
    world.open(id, 2);
    world.close(id, 1);
    assert!(world.state.is_online(id));
    assert_eq!(world.changes, []);
}

#[test]
fn a_node_that_comes_back_within_one_command_never_was_offline() {
    let mut world = World::new();
    let id = world.node(1);
    world.open(id, 1);
    let update = world.update(id);
    world.report(vec![Report::Close { session: session(id, 1) }, Report::Open { session: session(id, 2), update }]);
    assert_eq!(world.changes, [Change::SessionClosed(session(id, 1))]);
}

#[test]
fn reports_are_accepted_or_refused_each_for_itself() {
    let mut world = World::new();
    let (a, b) = (world.node(1), world.node(2));
    let stale = NodeUpdate { node_key: NodeKey([9; 32]), ..world.update(a) };
    let unknown = NodeUpdate { node: NodeId(9), ..world.update(a) };
    let good = NodeUpdate { disco_key: disco(1), ..world.update(b) };
    let outcomes = world.report(vec![
        Report::Open { session: session(a, 1), update: stale },
        Report::Update(unknown),
        Report::Update(good),
        Report::Close { session: session(NodeId(77), 1) },
    ]);
    assert_eq!(outcomes, [Err(Refused::NodeKeyUnknown), Err(Refused::NodeNotFound), Ok(()), Ok(())]);
    assert!(!world.state.is_online(a));
    assert_eq!(
        world.changes,
        [Change::NodeChanged { node: b, what: NodeChange { disco_key: true, ..Default::default() } }]
    );
}

#[test]
fn news_is_told_as_cheaply_as_it_can_be_and_no_news_not_at_all() {
    let mut world = World::new();
    let id = world.node(1);
    let base = world.update(id);
    let told = |world: &mut World, update: NodeUpdate| {
        world.report(vec![Report::Update(update)]);
        world.change_of(id)
    };
    let some = |what: NodeChange| Some(what);
    let endpoints = NodeUpdate { endpoints: Some(vec![endpoint("192.0.2.1:1")]), ..base.clone() };
    assert_eq!(told(&mut world, endpoints.clone()), some(NodeChange { endpoints: true, ..Default::default() }));
    let version = world.get(id).version;
    assert_eq!(told(&mut world, endpoints), None);
    assert_eq!(world.get(id).version, version);

    let with_net_info = |derp, latency: &str| NodeUpdate {
        hostinfo: Some(Hostinfo {
            net_info: Some(format!("{{\"DERPLatency\":{{\"1-v4\":{latency}}}}}")),
            preferred_derp: Some(derp),
            ..hostinfo("host-1")
        }),
        ..base.clone()
    };
    assert_eq!(told(&mut world, with_net_info(7, "0.1")), some(NodeChange { home_derp: true, ..Default::default() }));
    assert_eq!(told(&mut world, with_net_info(7, "0.2")), None);
    assert_eq!(told(&mut world, NodeUpdate { cap_ver: CapVer(200), ..base.clone() }), some(record()));
    let services = Hostinfo { json: "{\"Services\":[]}".into(), ..hostinfo("host-1") };
    assert_eq!(told(&mut world, NodeUpdate { hostinfo: Some(services), ..base.clone() }), some(record()));
    assert!(world.get(id).hostinfo.net_info.is_some(), "what was left out stays");
    assert_eq!(world.get(id).hostinfo.preferred_derp, Some(7));
    assert_eq!(world.get(id).version, world.state.index());
}

#[test]
fn nothing_never_overwrites_something() {
    let mut world = World::new();
    let id = world.node(1);
    let full = NodeUpdate { disco_key: disco(1), endpoints: Some(vec![endpoint("192.0.2.1:1")]), ..world.update(id) };
    world.report(vec![Report::Update(full)]);
    let empty = NodeUpdate { disco_key: disco(0), endpoints: Some(Vec::new()), ..world.update(id) };
    world.report(vec![Report::Update(empty)]);
    assert_eq!(world.changes, []);
    assert_eq!((world.get(id).disco_key, world.get(id).endpoints.len()), (disco(1), 1));
}

#[test]
fn the_end_of_a_replicas_run_ends_the_sessions_of_that_run() {
    let mut world = World::new();
    let (a, b) = (world.node(1), world.node(2));
    world.ok(Command::ReplicaUp(replica(1, 1)));
    assert_eq!(world.changes, [Change::ReplicasChanged(ReplicaId(1))]);
    assert_eq!(world.state.replica(ReplicaId(1)).expect("the replica").since, world.now);
    world.open(a, 1);
    world.ok(Command::ReplicaUp(replica(1, 2)));
    assert!(world.state.is_online(a), "its client may come back within the grace");
    let of_second_run = SessionId { incarnation: 2, ..session(b, 1) };
    let update = world.update(b);
    world.report(vec![Report::Open { session: of_second_run, update }]);
    let update = world.update(a);
    let late = world.report(vec![Report::Open { session: session(a, 9), update }]);
    assert_eq!(late, [Err(Refused::ReplicaGone)]);

    world.ok(Command::CloseSessionsOf { replica: ReplicaId(1), incarnation: 1 });
    assert_eq!((world.state.is_online(a), world.state.is_online(b)), (false, true));
    world.ok(Command::CloseSessionsOf { replica: ReplicaId(2), incarnation: 2 });
    assert!(world.state.is_online(b));
    world.ok(Command::CloseSessionsOf { replica: ReplicaId(1), incarnation: 2 });
    assert!(!world.state.is_online(b));
}

#[test]
fn a_removed_replica_takes_its_sessions_along() {
    let mut world = World::new();
    let id = world.node(1);
    world.ok(Command::ReplicaUp(replica(1, 1)));
    world.open(id, 1);
    world.ok(Command::ReplicaRemoved(ReplicaId(1)));
    assert!(!world.state.is_online(id));
    assert!(world.state.replica(ReplicaId(1)).is_none());
}
