//! Routes, and which of several routers has one.

use super::*;
use ipnet::IpNet;

fn nets(routes: &[&str]) -> Vec<IpNet> {
    routes.iter().map(|route| route.parse().expect("a route")).collect()
}

impl World {
    /// Node `n` announces routes, and they are approved.
    fn router(&mut self, n: u8, routes: &[&str]) -> NodeId {
        let id = self.node(n);
        self.announce(id, routes);
        self.approve(id, routes);
        id
    }

    fn announce(&mut self, id: NodeId, routes: &[&str]) {
        let hostinfo = Hostinfo { routable_ips: nets(routes), ..self.get(id).hostinfo.clone() };
        let update = NodeUpdate { hostinfo: Some(hostinfo), ..self.update(id) };
        self.report(vec![Report::Update(update)]);
    }

    fn approve(&mut self, id: NodeId, routes: &[&str]) {
        self.ok(Command::SetApprovedRoutes { id, routes: nets(routes).into_iter().collect() });
    }

    fn primary(&self, id: NodeId) -> Vec<String> {
        self.state.primary_routes(id).iter().map(IpNet::to_string).collect()
    }
}

#[test]
fn a_route_is_in_effect_when_it_is_announced_and_approved() {
    let mut world = World::new();
    let id = world.node(1);
    world.open(id, 1);
    world.approve(id, &["10.1.0.0/16"]);
    assert_eq!(world.changes, [], "nobody sees a route that is not announced");
    world.announce(id, &["10.1.0.0/16", "10.2.0.0/16"]);
    assert_eq!(world.change_of(id), Some(record()));
    assert_eq!(world.state.effective_routes(world.get(id)), nets(&["10.1.0.0/16"]));
    assert_eq!(world.primary(id), ["10.1.0.0/16"]);
    world.approve(id, &[]);
    assert_eq!(world.change_of(id), Some(record()));
    assert!(world.primary(id).is_empty());
}

#[test]
fn one_exit_route_approves_both_and_neither_is_elected() {
    let mut world = World::new();
    let (a, b) = (world.router(1, &["0.0.0.0/0", "::/0"]), world.node(2));
    world.open(a, 1);
    world.announce(b, &["0.0.0.0/0", "::/0"]);
    world.approve(b, &["::/0"]);
    for id in [a, b] {
        assert_eq!(world.state.effective_routes(world.get(id)), nets(&["0.0.0.0/0", "::/0"]));
        assert!(world.primary(id).is_empty());
    }
}

#[test]
fn of_several_online_routers_exactly_one_has_the_route_and_another_takes_over() {
    let mut world = World::new();
    let lan = ["192.168.0.0/16"];
    let (a, b, c) = (world.router(1, &lan), world.router(2, &lan), world.router(3, &lan));
    assert!([a, b, c].iter().all(|id| world.primary(*id).is_empty()), "none is online");
    world.open(b, 1);
    assert_eq!(world.primary(b), lan);
    assert_eq!(world.change_of(b), Some(NodeChange { online: true, record: true, ..Default::default() }));
    world.open(a, 1);
    world.open(c, 1);
    assert_eq!(world.primary(b), lan, "who has it keeps it");
    world.close(b, 1);
    assert_eq!((world.primary(a), world.primary(b)), (vec![lan[0].to_owned()], vec![]));
    for id in [a, b] {
        assert!(world.change_of(id).expect("both changed").record);
    }
    assert_eq!(world.change_of(c), None);
    world.open(b, 2);
    assert_eq!(world.primary(a), lan, "who comes back does not take it back");
    world.ok(Command::SetNodeExpiry { id: a, expiry: Expiry::Now });
    assert_eq!(world.primary(b), lan, "an expired router cannot route");
}

#[test]
fn when_no_router_is_online_the_last_one_keeps_the_route_while_it_is_approved() {
    let mut world = World::new();
    let lan = ["192.168.0.0/16"];
    let (a, b) = (world.router(1, &lan), world.router(2, &lan));
    world.open(b, 1);
    world.close(b, 1);
    assert_eq!(world.primary(b), lan);
    world.approve(b, &[]);
    assert!(world.primary(a).is_empty() && world.primary(b).is_empty());
    world.approve(b, &lan);
    world.open(b, 2);
    world.open(a, 1);
    world.ok(Command::DeleteNode { id: b });
    assert_eq!(world.primary(a), lan);
}

#[test]
fn a_route_is_kept_without_its_host_bits() {
    let mut world = World::new();
    let id = world.node(1);
    world.announce(id, &["10.1.2.3/8"]);
    world.approve(id, &["10.9.9.9/8"]);
    assert_eq!(world.state.effective_routes(world.get(id)), nets(&["10.0.0.0/8"]));
    assert!(world.state.nodes().all(|node| node.approved_routes.iter().all(|route| *route == route.trunc())));
}

#[test]
fn a_router_on_a_replica_that_is_away_gives_its_routes_to_one_that_is_reached() {
    let mut world = World::new();
    let route: IpNet = "10.1.0.0/16".parse().expect("a prefix");
    world.ok(Command::ReplicaUp(replica(1, 1)));
    world.ok(Command::ReplicaUp(replica(2, 2)));
    let nodes = [1, 2].map(|n| {
        let registration =
            Registration { hostinfo: Hostinfo { routable_ips: vec![route], ..hostinfo("r") }, ..registration(n) };
        world.node(9);
        let id = world.register("alice", registration);
        world.ok(Command::SetApprovedRoutes { id, routes: BTreeSet::from([route]) });
        id
    });
    let [here, there] = nodes;
    world.open(here, 1);
    let update = world.update(there);
    let session = SessionId { replica: ReplicaId(2), incarnation: 2, ..session(there, 1) };
    world.report(vec![Report::Open { session, update }]);
    assert_eq!(world.state.primary_routes(here), [route]);
    let away = |replica, incarnation| Command::SetStanding {
        replica: ReplicaId(replica),
        incarnation,
        standing: Standing::Away,
    };
    world.ok(away(1, 77));
    assert_eq!(world.state.primary_routes(here), [route], "that was about another run");
    world.ok(away(1, 1));
    assert_eq!(world.state.primary_routes(there), [route]);
    assert!(world.changes.contains(&Change::ReplicasChanged(ReplicaId(1))));
    assert!(world.state.is_online(here));
    world.ok(away(2, 2));
    assert_eq!(world.state.primary_routes(there), [route], "nobody is better, so nothing flaps");
    world.ok(Command::ReplicaUp(replica(1, 1)));
    assert_eq!(world.state.replica(ReplicaId(1)).expect("the replica").standing, Standing::Serving);
}
