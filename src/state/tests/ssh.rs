use super::*;

const HOUR: u64 = 3600;

fn check(world: &World, n: u64, from: NodeId, to: NodeId) -> SshCheck {
    SshCheck {
        id: format!("hskey-authreq-{n:0>24}").parse().expect("an id"),
        source: from,
        destination: to,
        local_user: "root".into(),
        period: Duration::from_secs(HOUR),
        policy_version: world.state.policy_version(),
        created: world.now,
        deadline: world.now + Duration::from_secs(900),
        verdict: SshVerdict::Waiting,
    }
}

fn decide(check: &SshCheck, approve: bool) -> Command {
    Command::DecideSshCheck { auth_id: check.id.clone(), approve, by: "API key 123".into() }
}

fn pair() -> (World, NodeId, NodeId) {
    let mut world = World::new();
    let (from, to) = (world.node(1), world.node(2));
    (world, from, to)
}

#[test]
fn an_approval_lets_sessions_through_for_the_check_period_and_no_longer() {
    let (mut world, from, to) = pair();
    let one = check(&world, 1, from, to);
    world.ok(Command::StartSshCheck(one.clone()));
    assert_eq!(world.changes, [], "nobody waits less than before");
    assert!(world.state.ssh_approval(from, to).is_none());
    world.ok(decide(&one, true));
    assert_eq!(world.changes, [Change::LoginDecided(one.id.clone())]);
    let approval = world.state.ssh_approval(from, to).expect("an approval");
    assert_eq!((approval.by.as_str(), approval.until), ("API key 123", world.now + Duration::from_secs(HOUR)));
    assert!(world.state.ssh_approval(to, from).is_none(), "the way back is another");
    world.wait(HOUR - 1);
    world.tick();
    assert!(world.state.ssh_approval(from, to).is_some());
    assert_eq!(world.state.next_due(), Some(world.now + Duration::from_secs(1)));
    world.wait(1);
    world.tick();
    assert!(world.state.ssh_approval(from, to).is_none());
}

#[test]
fn a_rejected_session_and_one_that_is_always_asked_about_leave_no_approval() {
    let (mut world, from, to) = pair();
    let rejected = check(&world, 1, from, to);
    let always = SshCheck { period: Duration::ZERO, ..check(&world, 2, from, to) };
    for (one, approve) in [(&rejected, false), (&always, true)] {
        world.ok(Command::StartSshCheck(one.clone()));
        world.ok(decide(one, approve));
        assert!(world.state.ssh_approval(from, to).is_none());
    }
    assert_eq!(world.state.ssh_check(&rejected.id).map(|check| check.verdict), Some(SshVerdict::Rejected));
    assert_eq!(world.state.ssh_check(&always.id).map(|check| check.verdict), Some(SshVerdict::Approved));
}

#[test]
fn a_session_is_decided_once_and_in_time() {
    let (mut world, from, to) = pair();
    let (one, late) = (check(&world, 1, from, to), check(&world, 2, from, to));
    world.ok(Command::StartSshCheck(one.clone()));
    world.ok(Command::StartSshCheck(late.clone()));
    assert_eq!(world.refused(Command::StartSshCheck(one.clone())), Refused::SshCheckDecided);
    world.ok(decide(&one, false));
    assert_eq!(world.refused(decide(&one, true)), Refused::SshCheckDecided);
    world.wait(900);
    assert_eq!(world.refused(decide(&late, true)), Refused::SshCheckNotFound);
    world.tick();
    assert!(world.changes.contains(&Change::LoginDecided(late.id.clone())), "who waits is woken");
    assert!(world.state.ssh_check(&late.id).is_none());
    assert_eq!(world.refused(decide(&late, true)), Refused::SshCheckNotFound);
}

#[test]
fn a_changed_policy_forgets_approvals_and_one_that_comes_late_is_for_its_session_alone() {
    let (mut world, from, to) = pair();
    let put = |text: &str| Command::PutPolicy {
        text: text.into(),
        author: String::new(),
        expected_version: None,
        restores: None,
    };
    world.ok(put("{}"));
    let (one, late) = (check(&world, 1, from, to), check(&world, 2, from, to));
    world.ok(Command::StartSshCheck(one.clone()));
    world.ok(Command::StartSshCheck(late.clone()));
    world.ok(decide(&one, true));
    world.ok(put("{}"));
    assert!(world.state.ssh_approval(from, to).is_some(), "it is the same policy");
    world.ok(put("{ }"));
    assert!(world.state.ssh_approval(from, to).is_none());
    world.ok(decide(&late, true));
    assert!(world.state.ssh_approval(from, to).is_none());
}

#[test]
fn a_node_that_changed_hands_is_asked_anew() {
    let (mut world, from, to) = pair();
    let one = check(&world, 1, from, to);
    world.ok(Command::StartSshCheck(one.clone()));
    world.ok(decide(&one, true));
    world.ok(Command::SetTags { id: to, tags: tags(&["tag:a"]), policy_version: 0 });
    assert!(world.state.ssh_approval(from, to).is_none());
}

#[test]
fn a_flood_of_sessions_cannot_use_up_what_others_have() {
    let (mut world, from, to) = pair();
    let other = world.node(3);
    let mut refused = None;
    for n in 1..100 {
        let one = check(&world, n, from, to);
        refused = world.run(Command::StartSshCheck(one)).err();
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused, Some(Refused::TooManySshChecks(901)));
    let (there, back) = (check(&world, 200, from, other), check(&world, 201, other, to));
    world.ok(Command::StartSshCheck(there));
    world.ok(Command::StartSshCheck(back));
    world.wait(901);
    world.tick();
    let again = check(&world, 202, from, to);
    world.ok(Command::StartSshCheck(again));
}

#[test]
fn a_session_of_nodes_that_are_not_there_is_refused() {
    let (mut world, from, to) = pair();
    let one = check(&world, 1, from, NodeId(99));
    assert_eq!(world.refused(Command::StartSshCheck(one)), Refused::NodeNotFound);
    let one = check(&world, 1, from, to);
    world.ok(Command::StartSshCheck(one.clone()));
    world.ok(Command::DeleteNode { id: from });
    assert_eq!(world.refused(decide(&one, true)), Refused::NodeNotFound);
}
