//! Users and keys.

use super::*;

fn rename(id: u64, name: &str) -> Command {
    Command::RenameUser { id: UserId(id), name: name.into() }
}

#[test]
fn user_names_are_unique_and_ids_are_never_used_again() {
    let mut world = World::new();
    assert_eq!(world.refused(create_user("alice")), Refused::UserExists);
    assert_eq!(world.refused(rename(2, "alice")), Refused::UserExists);
    world.ok(Command::DeleteUser { id: UserId(2) });
    assert_eq!(world.changes, [Change::UserChanged(UserId(2))]);
    let Done::User(bob) = world.ok(create_user("bob")) else { panic!("not a user") };
    assert_eq!(bob.id, UserId(3));
    world.ok(rename(3, "robert"));
    assert!(world.state.user_by_name("bob").is_none());
    assert_eq!(world.state.user_by_name("robert").map(|user| user.id), Some(UserId(3)));
    assert_eq!(world.refused(rename(2, "x")), Refused::UserNotFound);
}

#[test]
fn a_user_name_that_a_policy_could_not_name_is_refused_with_the_reason() {
    let mut world = World::new();
    for (name, reason) in [
        ("", "empty"),
        ("carol@", "leave the \"@\" out"),
        ("car ol", "spaces"),
        ("carol\n", "control characters"),
        ("car\"ol", "quote"),
        ("tagged-devices", "all tagged nodes"),
    ] {
        for command in [create_user(name), rename(1, name)] {
            let text = world.refused(command).to_string();
            assert!(text.contains(reason), "{name:?}: {text}");
        }
    }
    world.ok(create_user("carol@example.com"));
    assert_eq!(world.state.users().count(), 3);
}

#[test]
fn a_user_with_nodes_stays_and_takes_its_keys_along_when_it_goes() {
    let mut world = World::new();
    let node = world.node(1);
    assert_eq!(world.refused(Command::DeleteUser { id: UserId(1) }), Refused::UserNotEmpty);
    world.ok(Command::SetTags { id: node, tags: tags(&["tag:web"]), policy_version: 0 });
    world.ok(Command::DeleteUser { id: UserId(1) });
    assert_eq!(world.state.pre_auth_keys().count(), 0);
    assert_eq!(world.get(node).auth_key, None);
    assert_eq!(world.refused(Command::DeleteUser { id: UserId(1) }), Refused::UserNotFound);
}

#[test]
fn keys_need_an_owner_and_a_prefix_of_their_own() {
    let mut world = World::new();
    let create = |owner: Owner| Command::CreatePreAuthKey {
        prefix: "p".into(),
        hash: SecretHash::of("s"),
        owner,
        reusable: false,
        ephemeral: false,
        expiration: None,
    };
    assert_eq!(world.refused(create(Owner::User(UserId(9)))), Refused::UserNotFound);
    assert_eq!(world.refused(create(Owner::Tags(BTreeSet::new()))), Refused::NoTags);
    world.ok(create(Owner::User(UserId(1))));
    assert_eq!(world.refused(create(Owner::User(UserId(1)))), Refused::KeyPrefixTaken);
}

#[test]
fn keys_expire_now_and_go_and_unknown_ones_are_an_error() {
    let mut world = World::new();
    world.key("k", Owner::User(UserId(1)), false, false);
    world.wait(5);
    world.ok(Command::ExpirePreAuthKey { id: AuthKeyId(1) });
    let expired = world.state.pre_auth_key(AuthKeyId(1)).expect("the key").expiration;
    assert_eq!(expired, Some(world.now));
    world.wait(5);
    world.ok(Command::ExpirePreAuthKey { id: AuthKeyId(1) });
    assert_eq!(world.state.pre_auth_key(AuthKeyId(1)).expect("the key").expiration, expired);
    world.ok(Command::DeletePreAuthKey { id: AuthKeyId(1) });
    assert_eq!(world.refused(Command::DeletePreAuthKey { id: AuthKeyId(1) }), Refused::AuthKeyNotFound);
    assert_eq!(world.refused(Command::ExpirePreAuthKey { id: AuthKeyId(1) }), Refused::AuthKeyNotFound);

    let hash = SecretHash::of("s");
    world.ok(Command::CreateApiKey {
        prefix: "a".into(),
        hash,
        expiration: None,
        role: ApiKeyRole::Admin,
        owner: String::new(),
    });
    world.ok(Command::ExpireApiKey { id: ApiKeyId(1) });
    assert_eq!(world.state.api_key_by_prefix("a").expect("the key").expiration, Some(world.now));
    world.ok(Command::DeleteApiKey { id: ApiKeyId(1) });
    assert_eq!(world.refused(Command::DeleteApiKey { id: ApiKeyId(1) }), Refused::ApiKeyNotFound);
    world.ok(Command::CreateApiKey {
        prefix: "a".into(),
        hash,
        expiration: None,
        role: ApiKeyRole::Admin,
        owner: String::new(),
    });
    assert_eq!(world.state.api_key_by_prefix("a").expect("the key").id, ApiKeyId(2));
}
