//! What all operations have in common: who may ask, bad input, repetition, no quorum.

use super::*;
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};

async fn ask_with(api: &Router, authorization: &str) -> Answer {
    let request = request("GET", "/user").header(AUTHORIZATION, authorization);
    send(api, request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn the_network_wants_a_good_api_key() {
    let world = World::new();
    let api = world.network();
    let key = world.ok("POST", "/apikey", json!({})).await["apiKey"].as_str().unwrap().to_owned();
    assert_eq!(ask_with(&api, &format!("Bearer {key}")).await.status, StatusCode::OK);
    let wrong_secret = format!("{}-{}", key.rsplit_once('-').unwrap().0, "0".repeat(64));
    for bad in ["Bearer bogus", "", "Basic Og==", &format!("Bearer {wrong_secret}"), "Bearer hskey-api-0-0", &key] {
        let answer = ask_with(&api, bad).await;
        assert_eq!(answer.problem(), (401, "Unauthorized".into()), "{bad:?}");
        assert_eq!(answer.json()["title"], "Unauthorized");
        assert!(answer.headers.contains_key(WWW_AUTHENTICATE));
    }
    let answer = send(&api, request("GET", "/no/such").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "strangers do not learn what there is");
}

#[tokio::test]
async fn an_expired_or_deleted_api_key_is_worth_nothing() {
    let world = World::new();
    let api = world.network();
    let key = world.ok("POST", "/apikey", json!({})).await["apiKey"].as_str().unwrap().to_owned();
    world.ok("POST", "/apikey/expire", json!({"id": "1"})).await;
    assert_eq!(ask_with(&api, &format!("Bearer {key}")).await.status, StatusCode::UNAUTHORIZED);
    let key = world.ok("POST", "/apikey", json!({})).await["apiKey"].as_str().unwrap().to_owned();
    assert_eq!(ask_with(&api, &format!("Bearer {key}")).await.status, StatusCode::OK);
    world.ok("DELETE", "/apikey/?id=2", Value::Null).await;
    assert_eq!(ask_with(&api, &format!("Bearer {key}")).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_policys_author_is_the_api_keys_prefix() {
    let world = World::new();
    let key = world.ok("POST", "/apikey", json!({})).await["apiKey"].as_str().unwrap().to_owned();
    let body = json!({"policy": "{}"}).to_string();
    let request = request("PUT", "/policy").header(AUTHORIZATION, format!("Bearer {key}"));
    let answer = send(&world.network(), request.body(body.into()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let prefix = key.split('-').nth(2).unwrap();
    assert_eq!(world.cluster.view().policy().unwrap().author, format!("API key {prefix}"));
}

#[tokio::test]
async fn a_repeated_request_creates_one_thing_and_shows_it_again() {
    let world = World::new();
    world.user("alice").await;
    let repeat = async |path: &str, body: Value, key: &str| {
        let request = request("POST", path).header("Idempotency-Key", key).body(body.to_string().into()).unwrap();
        send(&world.api, request).await
    };
    for (path, body) in [
        ("/user", json!({"name": "bob"})),
        ("/preauthkey", json!({"user": "1"})),
        ("/apikey", json!({})),
        ("/preauthkey", json!({"user": "1", "expiration": "2099-01-02T03:04:05Z"})),
    ] {
        let key = format!("key-{path}-{}", body.to_string().len());
        let first = repeat(path, body.clone(), &key).await;
        assert_eq!(first.status, StatusCode::OK, "{}", first.text);
        let second = repeat(path, body, &key).await;
        assert_eq!(first.text, second.text, "{path}");
    }
    let view = world.cluster.view();
    assert_eq!((view.users().count(), view.pre_auth_keys().count(), view.api_keys().count()), (2, 2, 1));
    let login = world.login("laptop", &[]).await;
    let register = format!("/node/register?user=alice&key={login}");
    let first = repeat(&register, Value::Null, "r").await.json();
    assert_eq!(repeat(&register, Value::Null, "r").await.json(), first, "an approval is repeated too");
    let (status, text) = repeat("/user", json!({"name": "carol"}), "r").await.problem();
    assert_eq!(status, 422);
    assert!(text.contains("Idempotency-Key \"r\" was used for another request"), "{text}");
    for bad in ["", "a b", &"x".repeat(129)] {
        assert_eq!(repeat("/user", json!({"name": "dora"}), bad).await.problem().0, 400, "{bad:?}");
    }
    assert_eq!(world.cluster.view().users().count(), 2);
}

#[tokio::test]
async fn a_derived_key_lets_its_holder_in() {
    let world = World::new();
    let create = request("POST", "/apikey").header("Idempotency-Key", "k").body("{}".into()).unwrap();
    let key = send(&world.api, create).await.json()["apiKey"].as_str().unwrap().to_owned();
    assert_eq!(ask_with(&world.network(), &format!("Bearer {key}")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_bad_body_is_refused_by_name() {
    let world = World::new();
    let post =
        async |body: &str| send(&world.api, request("POST", "/preauthkey").body(body.to_owned().into()).unwrap()).await;
    assert_eq!(post("{").await.problem().0, 400);
    assert_eq!(post("").await.problem(), (400, "request body is required".into()));
    assert_eq!(post("[]").await.problem(), (422, "validation failed: body: expected an object, got []".into()));
    let answer = post(r#"{"reusable": "yes", "usr": 1, "aclTags": ["tag:a", 7], "expiration": "tomorrow"}"#).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let problem = answer.json();
    assert_eq!(problem["detail"], "validation failed");
    let faults = problem["errors"].as_array().unwrap();
    let texts: Vec<_> = faults.iter().map(|fault| fault["message"].as_str().unwrap()).collect();
    let expected = [
        "aclTags: expected a list of strings, got [\"tag:a\",7]",
        "expiration: expected a time as in RFC 3339 (2027-01-02T03:04:05Z), got \"tomorrow\"",
        "reusable: expected true or false, got \"yes\"",
        "usr: unexpected property",
    ];
    assert_eq!(texts, expected);
    assert_eq!((&faults[2]["location"], &faults[2]["value"]), (&json!("body.reusable"), &json!("yes")));
    let large = format!("{{\"user\": \"{}\"}}", "1".repeat(1 << 20));
    assert_eq!(post(&large).await.problem().0, 413);
    assert_eq!(world.cluster.view().pre_auth_keys().count(), 0);
    world.user("alice").await;
    assert_eq!(post(r#"{"user": 1, "expiration": null}"#).await.status, StatusCode::OK, "as the gateway of 0.29 did");
}

#[tokio::test]
async fn what_is_not_there_is_said_as_a_problem() {
    let world = World::new();
    let missing = (404, "no such operation: GET /api/v1/nothing".into());
    assert_eq!(world.error("GET", "/nothing", Value::Null).await, missing);
    let unknown = (405, "/api/v1/user does not know PATCH".into());
    assert_eq!(world.error("PATCH", "/user", Value::Null).await, unknown);
}

#[tokio::test]
async fn without_a_quorum_nothing_is_written_and_only_stale_reads_are_answered() {
    let world = World::new();
    world.user("alice").await;
    world.cluster.set_quorum(false);
    let answer = world.call("POST", "/user", json!({"name": "bob"})).await;
    let (status, text) = answer.problem();
    assert_eq!(status, 503);
    assert!(text.starts_with("the cluster has no leader"), "{text}");
    assert!(answer.headers.contains_key(RETRY_AFTER));
    assert_eq!(world.error("GET", "/user", Value::Null).await.0, 503);
    assert_eq!(world.error("GET", "/health", Value::Null).await.0, 503);
    assert_eq!(world.ok("GET", "/user?stale=true", Value::Null).await["users"].as_array().unwrap().len(), 1);
    let header = request("GET", "/user").header("X-Quorumscale-Stale", "true").body(Body::empty()).unwrap();
    assert_eq!(send(&world.api, header).await.status, StatusCode::OK);
    let status = world.ok("GET", "/cluster", Value::Null).await;
    assert_eq!((&status["leader"], &status["has_quorum"]), (&Value::Null, &json!(false)));
    world.cluster.set_quorum(true);
    assert_eq!(world.ok("GET", "/health", Value::Null).await, json!({"databaseConnectivity": true}));
    assert_eq!(world.cluster.view().users().count(), 1);
}

#[tokio::test]
async fn the_cluster_says_why_it_refuses_a_change() {
    let world = World::new();
    let status = world.ok("GET", "/cluster", Value::Null).await;
    assert_eq!(status["members"][0]["role"], "leader");
    for (method, path, body) in [
        ("POST", "/cluster/member", json!({"id": 4, "address": "host:7946"})),
        ("POST", "/cluster/member/4/promote", Value::Null),
        ("DELETE", "/cluster/member/4", Value::Null),
        ("POST", "/cluster/leader", json!({"id": 2})),
        ("POST", "/cluster/leader", json!({"id": null})),
    ] {
        let (status, text) = world.error(method, path, body).await;
        assert_eq!((status, text.is_empty()), (409, false), "{method} {path}");
    }
    let (status, text) = world.error("POST", "/cluster/member", json!({"id": 4})).await;
    assert_eq!((status, text.as_str()), (422, "validation failed: expected required property address to be present"));
    assert_eq!(world.error("DELETE", "/cluster/member/x", Value::Null).await.0, 400);
}

#[tokio::test]
async fn no_get_changes_anything() {
    let world = World::new();
    world.user("alice").await;
    world.ok("POST", "/preauthkey", json!({"user": "1"})).await;
    world.ok("POST", "/apikey", json!({})).await;
    let before = world.cluster.view().index();
    for path in [
        "/user",
        "/user/1",
        "/user/1/rename/bob",
        "/preauthkey",
        "/preauthkey/expire",
        "/apikey",
        "/apikey/expire",
        "/apikey/0123456789ab",
        "/node",
        "/node/1",
        "/node/1/expire",
        "/node/1/rename/x",
        "/node/1/tags",
        "/node/1/approve_routes",
        "/node/backfillips",
        "/node/register?user=alice&key=x",
        "/auth/register",
        "/auth/approve",
        "/auth/reject",
        "/debug/node",
        "/policy",
        "/policy/check",
        "/policy/history",
        "/policy/rollback",
        "/policy/test",
        "/policy/explain/access",
        "/health",
        "/cluster",
        "/cluster/verify",
        "/cluster/member",
        "/cluster/member/1",
        "/cluster/member/1/promote",
        "/cluster/leader",
        "/cluster/secret",
        "/audit",
    ] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let answer = send(&world.api, request(method, path).body(Body::empty()).unwrap()).await;
            assert_ne!(answer.status, StatusCode::CREATED, "{method} {path}");
            assert_eq!(world.cluster.view().index(), before, "{method} {path} wrote something: {}", answer.text);
        }
    }
}
