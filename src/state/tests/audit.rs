//! The record of what people change.

use super::*;

fn origin(by: &str) -> Option<Origin> {
    Some(Origin { by: by.into(), from: "192.0.2.1".into() })
}

fn note(number: u64) -> Command {
    Command::Note(Deed { action: "replica.add".into(), subject: format!("replica {number}"), detail: String::new() })
}

#[test]
fn the_record_is_bounded_and_machines_do_not_push_out_what_administrators_did() {
    let mut world = World::new();
    let mut apply = |by: &str, command: Command| {
        let proposal = Proposal { origin: origin(by), ..world.proposal(command) };
        world.state.apply(world.state.index() + 1, &proposal).outcome.unwrap();
        world.state.clone()
    };
    apply("carol", create_user("carol"));
    let owner = Owner::User(UserId(1));
    let (prefix, hash) = ("0123456789ab".to_owned(), SecretHash::of("s"));
    let (reusable, ephemeral, expiration) = (true, false, None);
    apply("carol", Command::CreatePreAuthKey { prefix: prefix.clone(), hash, owner, reusable, ephemeral, expiration });
    // One machine that registers with one node key after the other.
    for number in 1..=5_010u64 {
        let mut node_key = [0; 32];
        node_key[..8].copy_from_slice(&number.to_be_bytes());
        let registration = Registration {
            machine_key: MachineKey([9; 32]),
            node_key: NodeKey(node_key),
            hostinfo: Hostinfo::default(),
            cap_ver: CapVer::MIN,
            expiry: None,
            seed: 0,
            v4_pools: Vec::new(),
        };
        apply("a key", Command::RegisterWithKey { prefix: prefix.clone(), hash, registration });
    }
    let state = apply("carol", note(1));
    let count = |state: &State, by: &str| state.audit().filter(|record| record.by == by).count();
    assert_eq!((count(&state, "a key"), count(&state, "carol")), (5_000, 3));
    let ids: Vec<u64> = state.audit().map(|record| record.id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] > pair[1]), "the newest first, of both lists");
    let mut state = state;
    for number in 2..=10_005 {
        state = apply("dave", note(number));
    }
    assert_eq!((count(&state, "dave"), count(&state, "carol"), count(&state, "a key")), (10_000, 0, 5_000));
}

#[test]
fn what_has_no_origin_or_comes_to_nothing_is_not_recorded() {
    let mut world = World::new();
    world.ok(create_user("carol"));
    let again = Proposal { origin: origin("x"), ..world.proposal(create_user("carol")) };
    assert_eq!(world.apply(&again), Err(Refused::UserExists));
    assert_eq!(world.state.audit().count(), 0);
    let once = Proposal { origin: origin("x"), ..world.proposal(create_user("dave")) };
    world.apply(&once).unwrap();
    world.apply(&once).unwrap();
    assert_eq!(world.state.audit().count(), 1, "a retry is the same request");
}

#[test]
fn a_record_is_short_and_safe_to_show() {
    let mut world = World::new();
    let deed = Deed { action: "replica.add".into(), subject: "x".repeat(5_000), detail: "\u{1b}[2Jgone\n".into() };
    let proposal = Proposal { origin: origin("a\nb"), ..world.proposal(Command::Note(deed)) };
    world.apply(&proposal).unwrap();
    let record = world.state.audit().next().unwrap();
    assert_eq!((record.subject.chars().count(), record.subject.ends_with('…')), (200, true));
    assert_eq!((record.detail.as_str(), record.by.as_str()), ("\u{fffd}[2Jgone\u{fffd}", "a\u{fffd}b"));
}
