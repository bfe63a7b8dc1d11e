//! Logins that somebody decides.

use super::*;

fn approve(login: &PendingLogin, user: u64, owner: Owner) -> Command {
    Command::ApproveLogin {
        auth_id: login.id.clone(),
        user: UserId(user),
        owner,
        method: RegisterMethod::Cli,
        policy_version: 0,
        seed: 0,
        v4_pools: Vec::new(),
        provider_expiry: None,
    }
}

fn alice() -> Owner {
    Owner::User(UserId(1))
}

fn server() -> Owner {
    Owner::Tags(tags(&["tag:server"]))
}

impl World {
    #[track_caller]
    fn log_in(&mut self, login: &PendingLogin, user: u64, owner: Owner) -> NodeId {
        self.ok(Command::StartLogin(login.clone()));
        match self.ok(approve(login, user, owner)) {
            Done::Node(id) => id,
            other => panic!("not a node: {other:?}"),
        }
    }
}

#[test]
fn an_approved_login_becomes_a_node_and_tells_who_waits_for_it() {
    let mut world = World::new();
    let login = login(world.now, 1, "1");
    world.ok(Command::StartLogin(login.clone()));
    assert_eq!(world.changes, []);
    let Done::Node(id) = world.ok(approve(&login, 1, alice())) else { panic!("not a node") };
    assert_eq!(world.changes, [Change::NodeAdded(id), Change::LoginDecided(login.id.clone())]);
    assert_eq!(world.state.login(&login.id).expect("it stays").verdict, Verdict::Registered(id));
    let node = world.get(id);
    assert_eq!((node.register_method, &node.owner, node.auth_key), (RegisterMethod::Cli, &alice(), None));
    assert_eq!(world.refused(approve(&login, 1, alice())), Refused::LoginDecided);
}

#[test]
fn a_decision_needs_a_waiting_login_a_user_and_the_policy_in_force() {
    let mut world = World::new();
    let login = login(world.now, 1, "1");
    assert_eq!(world.refused(approve(&login, 1, alice())), Refused::LoginNotFound);
    world.ok(Command::StartLogin(login.clone()));
    assert_eq!(world.refused(approve(&login, 9, alice())), Refused::UserNotFound);
    assert_eq!(world.refused(approve(&login, 9, server())), Refused::UserNotFound);
    assert_eq!(world.refused(approve(&login, 1, Owner::Tags(BTreeSet::new()))), Refused::NoTags);
    world.ok(Command::SetPolicy { text: "{}".into(), author: String::new(), expected_version: None });
    assert_eq!(world.refused(approve(&login, 1, alice())), Refused::Stale);
    assert_eq!(world.state.node_count(), 0);
    world.wait(900);
    assert_eq!(
        world.refused(Command::DecideLogin { auth_id: login.id.clone(), approve: true }),
        Refused::LoginNotFound
    );
}

#[test]
fn a_verdict_without_a_node_is_kept_for_who_waits() {
    let mut world = World::new();
    for (n, approve, verdict) in [(1, true, Verdict::Approved), (2, false, Verdict::Rejected)] {
        let login = login(world.now, n, &n.to_string());
        world.ok(Command::StartLogin(login.clone()));
        world.ok(Command::DecideLogin { auth_id: login.id.clone(), approve });
        assert_eq!(world.changes, [Change::LoginDecided(login.id.clone())]);
        assert_eq!(world.state.login(&login.id).expect("it stays").verdict, verdict);
    }
    assert_eq!(world.state.node_count(), 0);
}

#[test]
fn a_login_is_forgotten_at_its_deadline_and_its_waiters_wake() {
    let mut world = World::new();
    let login = login(world.now, 1, "1");
    world.ok(Command::StartLogin(login.clone()));
    assert_eq!(world.state.login(&login.id).expect("it waits").deadline, login.deadline);
    world.wait(899);
    world.tick();
    assert!(world.state.login(&login.id).is_some());
    world.wait(1);
    world.tick();
    assert!(world.state.login(&login.id).is_none());
    assert_eq!(world.changes, [Change::LoginDecided(login.id)]);
}

#[test]
fn a_flood_of_logins_from_one_address_hurts_only_that_address() {
    let mut world = World::new();
    for n in 0..64 {
        world.wait(1);
        world.ok(Command::StartLogin(login(world.now, 1, &n.to_string())));
    }
    let refused = world.refused(Command::StartLogin(login(world.now, 1, "99")));
    assert_eq!(refused, Refused::TooManyLogins(900 - 63 + 1));
    let elsewhere = PendingLogin { source: "192.0.2.2".parse().expect("an address"), ..login(world.now, 1, "aa") };
    world.ok(Command::StartLogin(elsewhere));
    let decided = login(world.now, 1, "5").id;
    world.ok(Command::DecideLogin { auth_id: decided, approve: false });
    world.ok(Command::StartLogin(login(world.now, 1, "99")));
}

#[test]
fn a_node_that_logs_in_again_stays_what_it_is() {
    let mut world = World::new();
    let id = world.log_in(&login(world.now, 1, "1"), 1, alice());
    world.ok(Command::RenameNode { id, given_name: "kept".into() });
    world.ok(Command::SetNodeExpiry { id, expiry: Expiry::Now });
    let again = PendingLogin { node_key: NodeKey([7; 32]), ..login(world.now, 1, "2") };
    assert_eq!(world.log_in(&again, 1, alice()), id);
    let node = world.get(id);
    assert_eq!(
        (node.given_name.as_str(), node.node_key, node.expiry, node.expired),
        ("kept", NodeKey([7; 32]), None, false)
    );
    assert_eq!(world.change_of(id), Some(key_change()));
}

#[test]
fn tags_make_a_personal_node_tagged_and_none_make_it_personal_again() {
    let mut world = World::with(Settings { node_expiry: Duration::from_secs(600), ..settings() });
    let rotated =
        |world: &World, n: u8| PendingLogin { node_key: NodeKey([n; 32]), ..login(world.now, 1, &n.to_string()) };
    let first = rotated(&world, 1);
    let id = world.log_in(&first, 1, alice());
    assert!(world.get(id).expiry.is_some());
    let tagged = rotated(&world, 2);
    assert_eq!(world.log_in(&tagged, 1, server()), id);
    assert_eq!((&world.get(id).owner, world.get(id).expiry), (&server(), None));
    assert_eq!(world.change_of(id), Some(NodeChange { key: true, record: true, ..Default::default() }));
    let back = rotated(&world, 3);
    assert_eq!(world.log_in(&back, 2, Owner::User(UserId(2))), id);
    assert_eq!(world.get(id).owner, Owner::User(UserId(2)));
    assert!(world.get(id).expiry.is_some());
}

#[test]
fn another_users_login_on_one_machine_is_a_second_node() {
    let mut world = World::new();
    let alices = world.log_in(&login(world.now, 1, "1"), 1, alice());
    let other = PendingLogin { node_key: NodeKey([7; 32]), ..login(world.now, 1, "2") };
    let bobs = world.log_in(&other, 2, Owner::User(UserId(2)));
    assert_ne!(alices, bobs);
    assert_eq!(world.get(alices).owner, alice());
}

#[test]
fn a_login_with_another_machines_node_key_cannot_be_approved() {
    let mut world = World::new();
    world.node(1);
    let thief = PendingLogin { node_key: NodeKey([1; 32]), ..login(world.now, 2, "1") };
    world.ok(Command::StartLogin(thief.clone()));
    assert_eq!(world.refused(approve(&thief, 1, alice())), Refused::NodeKeyInUse);
}

/// Found by `fuzz_apply`: the difference of two times that no clock shows.
#[test]
fn a_deadline_at_the_end_of_time_ends_no_replica() {
    let mut world = World::new();
    let (first, last) = (Time(i64::MIN), Time(i64::MAX));
    let login = PendingLogin { created: first, deadline: last, ..login(world.now, 1, "a") };
    world.run(Command::StartLogin(login)).unwrap();
    assert_eq!(last.since(first), Duration::from_millis(i64::MAX as u64));
    assert_eq!(first.since(last), Duration::ZERO);
}

#[test]
fn an_office_may_be_allowed_more_logins_than_usual() {
    let mut world = World::new();
    let start = |world: &World, n: usize, per_source: u64, in_all: u64| Command::StartBoundedLogin {
        login: login(world.now, 1, &n.to_string()),
        per_source,
        in_all,
    };
    for n in 0..70 {
        let command = start(&world, n, 70, u64::MAX);
        world.ok(command);
    }
    let one_more = start(&world, 70, 70, u64::MAX);
    assert!(matches!(world.refused(one_more), Refused::TooManyLogins(_)));
    let in_all = start(&world, 70, 1_000, 70);
    assert!(matches!(world.refused(in_all), Refused::TooManyLogins(_)));
}
