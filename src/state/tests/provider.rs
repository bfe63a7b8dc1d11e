//! Users that an identity provider brings.

use super::*;

fn person(subject: &str, name: Option<&str>, email: Option<&str>) -> ProviderUser {
    ProviderUser {
        provider_id: format!("https://id.example.com/{subject}"),
        name: name.map(Into::into),
        display_name: "A Person".into(),
        email: email.map(Into::into),
        profile_pic_url: String::new(),
    }
}

impl World {
    #[track_caller]
    fn person(&mut self, person: ProviderUser) -> User {
        match self.ok(Command::PutProviderUser(person)) {
            Done::User(user) => user,
            other => panic!("not a user: {other:?}"),
        }
    }
}

#[test]
fn a_person_is_one_user_whatever_the_provider_calls_them() {
    let mut world = World::new();
    let carol = world.person(person("7", Some("carol"), Some("carol@example.com")));
    assert_eq!((&*carol.name, &*carol.provider, carol.created), ("carol", "oidc", world.now));
    assert_eq!(world.changes, [Change::UserChanged(carol.id)]);
    world.wait(60);
    let same = world.person(person("7", Some("carol"), Some("carol@example.com")));
    assert_eq!((same, world.changes.len()), (carol.clone(), 0), "nothing changed, nothing is written");
    let renamed = world.person(person("7", Some("carolyn"), Some("c@example.org")));
    let expected = User { name: "carolyn".into(), email: "c@example.org".into(), ..carol.clone() };
    assert_eq!(renamed, expected);
    let untrusted = world.person(person("7", None, None));
    assert_eq!(untrusted, expected, "what cannot be trusted changes nothing");
    assert_eq!(world.state.user_by_provider_id("https://id.example.com/7").map(|user| user.id), Some(carol.id));
    assert_eq!(world.state.user_by_provider_id("https://id.example.com/"), None);
}

#[test]
fn nobody_becomes_somebody_else_by_a_name_or_an_e_mail_address() {
    let mut world = World::new();
    let alice = world.state.user_by_name("alice").expect("alice").clone();
    let other = world.person(person("1", Some("alice"), Some("alice@example.com")));
    assert_ne!(other.id, alice.id);
    assert_eq!(other.name, "alice@example.com");
    assert_eq!(world.state.user_by_name("alice"), Some(&alice), "alice is who she was");
    let third = world.person(person("2", Some("alice@example.com"), Some("alice@example.com")));
    assert_eq!(third.name, format!("user-{}", third.id), "a name that is another's address is not taken");
    let fourth = world.person(person("3", Some("https://id.example.com/1"), None));
    assert_eq!(fourth.name, format!("user-{}", fourth.id));
    assert_eq!(world.state.users().count(), 5);
}

#[test]
fn a_name_that_no_user_can_have_is_not_given() {
    let mut world = World::new();
    for (subject, name) in [("1", ""), ("2", "tagged-devices"), ("3", "a b"), ("4", "bob@")] {
        let user = world.person(person(subject, Some(name), None));
        assert_eq!(user.name, format!("user-{}", user.id));
    }
    world.refused(Command::PutProviderUser(ProviderUser { provider_id: String::new(), ..person("", None, None) }));
}

#[test]
fn a_deleted_person_who_logs_in_again_is_somebody_new() {
    let mut world = World::new();
    let before = world.person(person("1", Some("carol"), None));
    world.ok(Command::DeleteUser { id: before.id });
    let after = world.person(person("1", Some("carol"), None));
    assert!(after.id > before.id && after.name == "carol");
}

#[test]
fn what_the_provider_said_ends_the_key_unless_the_machine_asked_for_an_end() {
    let mut world = World::new();
    let until = world.now + Duration::from_secs(600);
    let asked = world.now + Duration::from_secs(60);
    for (n, expiry, expected) in [(1, None, until), (2, Some(asked), asked), (3, Some(Time(1)), until)] {
        let login = PendingLogin { expiry, ..login(world.now, n, &n.to_string()) };
        world.ok(Command::StartLogin(login.clone()));
        let done = world.ok(Command::ApproveLogin {
            auth_id: login.id.clone(),
            user: UserId(1),
            owner: Owner::User(UserId(1)),
            method: RegisterMethod::Oidc,
            policy_version: 0,
            seed: 0,
            v4_pools: Vec::new(),
            provider_expiry: Some(until),
        });
        let Done::Node(id) = done else { panic!("not a node: {done:?}") };
        assert_eq!(world.get(id).expiry, Some(expected), "machine {n}");
        assert_eq!(world.get(id).register_method, RegisterMethod::Oidc);
    }
}
