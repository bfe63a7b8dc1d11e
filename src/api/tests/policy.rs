//! The policy.

use super::*;

const GOOD: &str = r#"// who may do what
{"tagOwners":{"tag:web":["alice@"],},"acls":[{"action":"accept","src":["*"],"dst":["*:*"]}],}"#;

#[tokio::test]
async fn a_policy_is_set_and_read_back_with_its_comments() {
    let world = World::new();
    let none = (500, "loading ACL from database: acl policy not found".into());
    assert_eq!(world.error("GET", "/policy", Value::Null).await, none);
    assert_eq!(world.ok("POST", "/policy/check", json!({"policy": GOOD})).await, json!({}));
    assert!(world.cluster.view().policy().is_none(), "a check changes nothing");
    let set = world.ok("PUT", "/policy", json!({"policy": GOOD})).await;
    assert_eq!(set["policy"], GOOD);
    assert!(set["updatedAt"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(world.ok("GET", "/policy", Value::Null).await, set);
    assert_eq!(world.cluster.view().policy().unwrap().author, "socket");
}

#[tokio::test]
async fn a_bad_policy_is_refused_with_its_fault_and_changes_nothing() {
    let world = World::new();
    let bad = json!({"policy": r#"{"acl": []}"#});
    let (status, text) = world.error("POST", "/policy/check", bad.clone()).await;
    assert_eq!(status, 400);
    let (once, twice) = text.split_at(text.len() / 2 - 1);
    assert_eq!(format!(": {once}"), twice, "as Headscale says it");
    assert!(once.starts_with("parsing policy: unknown field: \"acl\""), "{once}");
    assert_eq!(world.error("PUT", "/policy", bad).await, (400, format!("setting policy: {once}")));
    assert!(world.cluster.view().policy().is_none());
}

#[tokio::test]
async fn a_policy_from_a_file_is_read_but_not_set() {
    let world = World::with(PolicyMode::File);
    let text = "update is disabled for modes other than 'database'";
    let refused = (400, format!("{text}: {text}"));
    assert_eq!(world.error("PUT", "/policy", json!({"policy": GOOD})).await, refused);
    let command = Command::SetPolicy { text: GOOD.into(), author: "file on replica 1".into(), expected_version: None };
    world.cluster.write(command).await.unwrap();
    assert_eq!(world.ok("GET", "/policy", Value::Null).await["policy"], GOOD);
}
