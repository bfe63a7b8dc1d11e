//! No request is applied twice.

use super::*;

fn keyed(mut proposal: Proposal, key: &str) -> Proposal {
    proposal.idempotency_key = Some(key.into());
    proposal
}

#[test]
fn a_repeated_request_gets_the_first_outcome_and_changes_nothing() {
    let mut world = World::new();
    let good = world.proposal(create_user("carol"));
    let bad = world.proposal(create_user("alice"));
    // Both are under way at once: neither acknowledges the other.
    let bad = Proposal { request: RequestId { acknowledged: good.request.acknowledged, ..bad.request }, ..bad };
    let first = [world.apply(&good), world.apply(&bad)];
    assert_eq!(first[1], Err(Refused::UserExists));
    world.wait(1);
    let again = [world.apply(&good), world.apply(&bad)];
    assert_eq!(again, first);
    assert_eq!(world.changes, []);
    assert_eq!(world.state.users().count(), 3);
}

#[test]
fn an_acknowledged_request_is_forgotten_and_refused() {
    let mut world = World::new();
    let first = world.proposal(create_user("carol"));
    world.apply(&first).expect("carol is new");
    world.ok(Command::Tick);
    assert_eq!(world.apply(&first), Err(Refused::TooLate));
    assert_eq!(world.state.tables.requests.len(), 1);
}

#[test]
fn a_request_past_its_deadline_is_refused() {
    let mut world = World::new();
    let late = world.proposal(create_user("carol"));
    world.wait(31);
    let late = Proposal { time: world.now, ..late };
    assert_eq!(world.apply(&late), Err(Refused::TooLate));
    assert_eq!(world.state.users().count(), 2);
}

#[test]
fn a_process_that_asks_for_nothing_is_forgotten() {
    let mut world = World::new();
    let mut other = world.proposal(create_user("carol"));
    other.request = RequestId { incarnation: 9, sequence: 1, acknowledged: 0 };
    world.apply(&other).expect("carol is new");
    assert_eq!(world.state.next_due(), Some(world.now + Duration::from_secs(600)));
    world.wait(600);
    world.tick();
    let known: Vec<u64> = world.state.tables.incarnations.keys().copied().collect();
    assert_eq!(known, [1], "only the one that asked for the tick");
    assert_eq!(world.state.tables.requests.len(), 1);
}

#[test]
fn an_idempotency_key_makes_one_user_of_many_attempts_through_any_replica() {
    let mut world = World::new();
    let first = keyed(world.proposal(create_user("carol")), "k");
    let outcome = world.apply(&first);
    let mut elsewhere = keyed(world.proposal(create_user("carol")), "k");
    elsewhere.request.incarnation = 7;
    assert_eq!(world.apply(&elsewhere), outcome);
    let other = keyed(world.proposal(create_user("dave")), "k");
    assert_eq!(world.apply(&other), Err(Refused::IdempotencyKeyReused("k".into())));
    world.wait(24 * 3600);
    let next_day = keyed(world.proposal(create_user("dave")), "k");
    world.apply(&next_day).expect("the key is forgotten");
}

#[test]
fn an_idempotency_key_does_not_keep_a_refusal() {
    let mut world = World::new();
    let refused = keyed(world.proposal(create_user("alice")), "k");
    assert_eq!(world.apply(&refused), Err(Refused::UserExists));
    world.ok(Command::DeleteUser { id: UserId(1) });
    let again = keyed(world.proposal(create_user("alice")), "k");
    world.apply(&again).expect("alice is free now");
}

#[test]
fn what_a_proposer_adds_by_itself_does_not_make_another_request() {
    let mut world = World::new();
    let login = login(world.now, 1, "1");
    world.ok(Command::StartLogin(login.clone()));
    let approve = |seed| Command::ApproveLogin {
        auth_id: login.id.clone(),
        user: UserId(1),
        owner: Owner::User(UserId(1)),
        method: RegisterMethod::Cli,
        policy_version: 0,
        seed,
        v4_pools: Vec::new(),
        provider_expiry: None,
    };
    let first = keyed(world.proposal(approve(1)), "k");
    let outcome = world.apply(&first);
    let again = keyed(world.proposal(approve(2)), "k");
    assert_eq!(world.apply(&again), outcome);
    assert_eq!(outcome, Ok(Done::Node(NodeId(1))));
}

#[test]
fn the_memory_of_idempotency_keys_is_bounded_and_forgets_the_oldest() {
    let mut world = World::new();
    // Without the checks of World::apply, which are too slow ten thousand times.
    for n in 0..10_001 {
        let proposal =
            keyed(world.proposal(Command::WrapDataKey { wrapped_data_key: n.to_string() }), &format!("k{n}"));
        let time = world.now + Duration::from_millis(n);
        let index = world.state.index() + 1;
        let applied = world.state.apply(index, &Proposal { time, ..proposal });
        assert_eq!(applied.outcome, Ok(Done::Nothing));
    }
    let kept = &world.state.tables.remembered_requests;
    assert_eq!((kept.len(), kept.contains_key("k0"), kept.contains_key("k1")), (10_000, false, true));
}

#[test]
fn a_tick_with_nothing_due_changes_nothing() {
    let mut world = World::new();
    world.node(1);
    let before = world.rows.clone();
    world.tick();
    assert_eq!(world.changes, []);
    let differing: Vec<_> = world.rows.iter().filter(|(key, value)| before.get(*key) != Some(value)).collect();
    let tables: BTreeSet<u8> = differing.iter().map(|(key, _)| key[0]).collect();
    assert_eq!(tables, [1, 14, 15].into(), "the clock and the memory of the request");
}
