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
    for (method, path, body) in
        [("PUT", "/policy", json!({"policy": GOOD})), ("POST", "/policy/rollback", json!({"version": 1}))]
    {
        let (status, text) = world.error(method, path, body).await;
        assert_eq!(status, 400);
        assert!(text.starts_with("update is disabled for modes other than 'database': "), "{text}");
        assert!(text.contains("change the file that policy.path names"), "{text}");
    }
    let command = Command::SetPolicy { text: GOOD.into(), author: "file on replica 1".into(), expected_version: None };
    world.cluster.write(command).await.unwrap();
    assert_eq!(world.ok("GET", "/policy", Value::Null).await["policy"], GOOD);
}

async fn set(world: &World, text: &str) {
    world.ok("PUT", "/policy", json!({"policy": text})).await;
}

#[tokio::test]
async fn every_policy_is_kept_with_its_author_and_what_it_changed() {
    let world = World::new();
    assert_eq!(world.ok("GET", "/policy/history", Value::Null).await, json!({"versions": []}));
    set(&world, "{\n\"groups\": {}\n}").await;
    set(&world, "{\n\"groups\": {},\n\"hosts\": {}\n}").await;
    let history = world.ok("GET", "/policy/history", Value::Null).await;
    let versions = history["versions"].as_array().unwrap();
    let shown: Vec<_> = versions
        .iter()
        .map(|v| (v["version"].as_str().unwrap(), v["inForce"].as_bool().unwrap(), v["summary"].as_str().unwrap()))
        .collect();
    assert_eq!(shown, [("2", true, "+2 -1 lines"), ("1", false, "3 lines, the first")]);
    assert_eq!(versions[0]["author"], "socket");
    assert_eq!(versions[0]["bytes"], "29");
    let old = world.ok("GET", "/policy/history/1", Value::Null).await;
    assert_eq!(old["policy"], "{\n\"groups\": {}\n}");
    let (status, text) = world.error("GET", "/policy/history/7", Value::Null).await;
    assert_eq!((status, text.as_str()), (404, "policy version 7 is not kept: there are versions 1 to 2"));
}

#[tokio::test]
async fn a_difference_is_unified_and_by_default_from_the_version_before() {
    let world = World::new();
    set(&world, "{\n\"groups\": {}\n}\n").await;
    set(&world, "{\n\"hosts\": {}\n}\n").await;
    set(&world, "{}\n").await;
    let diff = async |query: &str| world.ok("GET", &format!("/policy/diff{query}"), Value::Null).await;
    let last = diff("").await;
    assert_eq!((&last["from"], &last["to"]), (&json!("2"), &json!("3")));
    let named = diff("?from=1&to=2").await["diff"].as_str().unwrap().to_owned();
    let expected = "--- version 1\n+++ version 2\n@@ -1,3 +1,3 @@\n {\n-\"groups\": {}\n+\"hosts\": {}\n }\n";
    assert_eq!(named, expected);
    assert_eq!(diff("?from=1").await["to"], "3");
    assert_eq!(diff("?from=2&to=2").await["diff"], "");
    assert_eq!(world.error("GET", "/policy/diff?from=x", Value::Null).await.0, 400);
    assert_eq!(world.error("GET", "/policy/diff?from=9", Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_rollback_is_a_new_version_with_the_old_text_that_is_checked_again() {
    let world = World::new();
    set(&world, "{\"groups\": {\"group:a\": [\"alice@\"]}}").await;
    set(&world, "{}").await;
    let back = world.ok("POST", "/policy/rollback", json!({"version": "1"})).await;
    assert_eq!(back["policy"], "{\"groups\": {\"group:a\": [\"alice@\"]}}");
    assert_eq!(back["version"], "3");
    let history = world.ok("GET", "/policy/history", Value::Null).await;
    assert_eq!(history["versions"][0]["restores"], "1");
    assert_eq!(history["versions"][0]["summary"], "restores version 1, +1 -1 lines");
    // By now two users fit.
    set(&world, "{}").await;
    world.ok("POST", "/user", json!({"name": "alice"})).await;
    world.ok("POST", "/user", json!({"name": "bob", "email": "alice"})).await;
    let (status, text) = world.error("POST", "/policy/rollback", json!({"version": 1})).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("rolling back to policy version 1: ") && text.contains("multiple users"), "{text}");
    assert_eq!(world.error("POST", "/policy/rollback", json!({"version": 9})).await.0, 404);
    assert_eq!(world.error("POST", "/policy/rollback", json!({})).await.0, 422);
    let (status, text) = world.error("POST", "/policy/rollback", json!({"version": 4})).await;
    assert_eq!((status, text.as_str()), (409, "policy version 4 is in force already"));
}
