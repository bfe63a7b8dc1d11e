use super::*;

fn put(text: &str, expected_version: Option<u64>) -> Command {
    Command::PutPolicy { text: text.into(), author: format!("author of {text:.8}"), expected_version, restores: None }
}

fn versions(world: &World) -> Vec<u64> {
    world.state.policy_versions().map(|policy| policy.version).collect()
}

#[test]
fn every_policy_is_kept_with_its_author_and_time() {
    let mut world = World::new();
    let first = world.now;
    assert_eq!(world.ok(put("{}", Some(0))), Done::PolicyVersion(1));
    assert_eq!(world.changes, [Change::PolicyChanged]);
    world.wait(60);
    assert_eq!(world.refused(put("{ }", Some(0))), Refused::Stale);
    assert_eq!(world.ok(put("{ }", Some(1))), Done::PolicyVersion(2));
    assert_eq!(versions(&world), [2, 1]);
    let old = world.state.policy_of_version(1).expect("it is kept");
    assert_eq!((old.text.as_str(), old.author.as_str(), old.updated), ("{}", "author of {}", first));
    assert_eq!(world.state.policy().map(|policy| policy.text.as_str()), Some("{ }"));
    assert_eq!(world.state.policy_of_version(3), None);
}

#[test]
fn the_policy_that_is_in_force_already_is_no_new_version() {
    let mut world = World::new();
    world.ok(put("{}", None));
    let before = world.state.policy().cloned();
    world.wait(60);
    assert_eq!(world.ok(put("{}", None)), Done::PolicyVersion(1));
    assert_eq!(world.changes, []);
    assert_eq!(world.state.policy().cloned(), before);
}

#[test]
fn the_oldest_policies_are_forgotten_by_count_and_by_size() {
    let mut world = World::new();
    for n in 0..150 {
        world.ok(put(&format!("{{}} // {n}"), None));
    }
    assert_eq!(versions(&world), (50..=150).rev().collect::<Vec<_>>());
    let large = "x".repeat(6 << 20);
    for n in 0..3 {
        world.ok(put(&format!("{n} {large}"), None));
    }
    assert_eq!(versions(&world).len(), 101, "what is in force does not count as history");
    world.ok(put(&format!("3 {large}"), None));
    assert_eq!(versions(&world), [154, 153, 152]);
}

#[test]
fn a_record_of_the_first_release_is_read_and_stays_as_it_is() {
    let stored = r#"{"version":3,"text":"{}","updated":1700000000000,"author":"socket"}"#;
    let policy: PolicyText = serde_json::from_str(stored).expect("it is read");
    assert_eq!((policy.version, policy.restores), (3, None));
    assert_eq!(serde_json::to_string(&policy).expect("JSON"), stored);
}
