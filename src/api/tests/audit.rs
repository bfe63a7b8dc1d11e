//! The record of who changed what.

use super::*;

/// Action, subject and detail of each record, the oldest first.
async fn recorded(world: &World) -> Vec<String> {
    let records = world.ok("GET", "/audit?limit=1000", Value::Null).await["records"].clone();
    let line = |record: &Value| {
        let field = |name: &str| record[name].as_str().unwrap().to_owned();
        [field("action"), field("subject"), field("detail")].join(" | ").trim_end_matches([' ', '|']).to_owned()
    };
    records.as_array().unwrap().iter().rev().map(line).collect()
}

#[tokio::test]
async fn what_administrators_change_is_recorded() {
    let world = World::new();
    world.user("alice").await;
    world.policy().await;
    let key = world
        .ok("POST", "/preauthkey", json!({"user": "1", "reusable": true, "expiration": "2099-01-02T03:04:05Z"}))
        .await;
    let prefix = key["preAuthKey"]["key"].as_str().unwrap().split('-').nth(2).unwrap().to_owned();
    world.ok("POST", "/preauthkey/expire", json!({"id": "1"})).await;
    world.ok("DELETE", "/preauthkey?id=1", Value::Null).await;
    let node = world.join("web", Owner::User(UserId(1))).await;
    world.ok("POST", &format!("/node/{node}/rename/db"), Value::Null).await;
    world.ok("POST", &format!("/node/{node}/expire"), json!({"disableExpiry": true})).await;
    world.ok("POST", &format!("/node/{node}/approve_routes"), json!({"routes": ["10.0.0.0/8"]})).await;
    world.ok("POST", &format!("/node/{node}/tags"), json!({"tags": ["tag:web"]})).await;
    world.ok("DELETE", &format!("/node/{node}"), Value::Null).await;
    let login = world.login("laptop", &[]).await;
    world.ok("POST", "/auth/register", json!({"user": "alice", "authId": login.as_str()})).await;
    let login = world.login("stranger", &[]).await;
    world.ok("POST", "/auth/reject", json!({"authId": login.as_str()})).await;
    world.ok("DELETE", "/node/2", Value::Null).await;
    world.ok("POST", "/user/1/rename/alicia", Value::Null).await;
    world.ok("DELETE", "/user/1", Value::Null).await;
    let expected = [
        "user.create | user 1 (alice)".to_owned(),
        "policy.set | policy version 1".into(),
        format!(
            "preauthkey.create | pre-auth key 1 ({prefix}) | of user 1 (alice), reusable, until 2099-01-02T03:04:05Z"
        ),
        format!("preauthkey.expire | pre-auth key 1 ({prefix})"),
        format!("preauthkey.delete | pre-auth key 1 ({prefix})"),
        "node.rename | node 1 (web) | now db".into(),
        "node.expire | node 1 (db) | never".into(),
        "node.routes | node 1 (db) | 10.0.0.0/8".into(),
        "node.tags | node 1 (db) | tag:web".into(),
        "node.delete | node 1 (db)".into(),
        "login.approve | node 2 (laptop) | of user 1 (alice)".into(),
        "login.reject | machine \"stranger\" | asked from 192.0.2.1".into(),
        "node.delete | node 2 (laptop)".into(),
        "user.rename | user 1 (alice) | now alicia".into(),
        "user.delete | user 1 (alicia)".into(),
    ];
    assert_eq!(recorded(&world).await, expected);
}

#[tokio::test]
async fn what_is_refused_or_repeated_is_not_recorded_again() {
    let world = World::new();
    world.user("alice").await;
    assert_eq!(world.call("POST", "/user", json!({"name": "alice"})).await.status, 409);
    assert_eq!(world.call("DELETE", "/user/9", Value::Null).await.status, 404);
    world.policy().await;
    world.policy().await;
    for _ in 0..2 {
        let request = request("POST", "/user").header("idempotency-key", "k");
        let answer = send(&world.api, request.body(json!({"name": "bob"}).to_string().into()).unwrap()).await;
        assert_eq!(answer.status, 200);
    }
    let expected = ["user.create | user 1 (alice)", "policy.set | policy version 1", "user.create | user 2 (bob)"];
    assert_eq!(recorded(&world).await, expected);
}

#[tokio::test]
async fn a_record_says_who_and_from_where_and_never_a_secret() {
    let world = World::new();
    let made = world.ok("POST", "/apikey", json!({"owner": "alice"})).await["apiKey"].as_str().unwrap().to_owned();
    let (shown, secret) = made.rsplit_once('-').unwrap();
    let prefix = shown.rsplit('-').next().unwrap();
    let request = request("POST", "/user")
        .header("authorization", format!("Bearer {made}"))
        .extension(axum::extract::ConnectInfo(std::net::SocketAddr::from(([192, 0, 2, 9], 4242))));
    let answer = send(&world.network(), request.body(json!({"name": "bob"}).to_string().into()).unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = world.call("GET", "/audit", Value::Null).await;
    assert!(!answer.text.contains(secret));
    let records = answer.json()["records"].clone();
    assert_eq!(
        (&records[0]["by"], &records[0]["from"]),
        (&format!("API key {prefix} (alice)").into(), &"192.0.2.9".into())
    );
    assert_eq!((&records[1]["by"], &records[1]["from"]), (&"socket".into(), &"socket of replica 1".into()));
    let detail = records[1]["detail"].as_str().unwrap();
    assert!(detail.starts_with("role admin, owner alice, until 2"), "{detail}");
}

#[tokio::test]
async fn the_socket_names_the_operating_systems_user() {
    let world = World::new();
    let request = request("POST", "/user").extension(crate::api::SocketUser(0));
    send(&world.api, request.body(json!({"name": "bob"}).to_string().into()).unwrap()).await;
    let record = world.ok("GET", "/audit", Value::Null).await["records"][0].clone();
    assert_eq!((&record["by"], &record["from"]), (&"root on replica 1".into(), &"socket of replica 1".into()));
}

#[tokio::test]
async fn records_come_newest_first_and_can_be_narrowed_down() {
    let world = World::new();
    for name in ["alice", "bob", "carol"] {
        world.user(name).await;
    }
    world.ok("DELETE", "/user/2", Value::Null).await;
    let list = async |query: &str| {
        let records = world.ok("GET", &format!("/audit?{query}"), Value::Null).await["records"].clone();
        let subjects = records.as_array().unwrap().iter().map(|record| record["subject"].as_str().unwrap().to_owned());
        subjects.collect::<Vec<_>>()
    };
    let (alice, bob, carol) = ("user 1 (alice)", "user 2 (bob)", "user 3 (carol)");
    assert_eq!(list("").await, [bob, carol, bob, alice]);
    assert_eq!(list("limit=2").await, [bob, carol]);
    assert_eq!(list("action=user.create&limit=1").await, [carol]);
    assert_eq!(list("subject=BOB").await, [bob, bob]);
    assert_eq!(list("by=somebody").await, [] as [&str; 0]);
    assert_eq!(list("since=2099-01-01T00:00:00Z").await, [] as [&str; 0]);
    assert_eq!(list("until=2099-01-01T00:00:00Z&from=socket").await.len(), 4);
    let third = world.ok("GET", "/audit?limit=3", Value::Null).await["records"][2]["id"].as_str().unwrap().to_owned();
    assert_eq!(list(&format!("before={third}")).await, [alice]);
    for (query, told) in [("limit=0", "1 to 1000"), ("limit=1001", "1 to 1000"), ("since=noon", "RFC 3339")] {
        let (status, text) = world.error("GET", &format!("/audit?{query}"), Value::Null).await;
        assert!(status == 422 && text.contains(told), "{query}: {text}");
    }
}

#[tokio::test]
async fn what_changes_the_cluster_is_recorded_before_it_is_done_and_what_cannot_be_is_not_done() {
    let world = World::new();
    let member = json!({"id": 4, "address": "host:7946"});
    let (status, reason) = world.error("POST", "/cluster/member", member.clone()).await;
    assert_eq!(status, 409);
    assert_eq!(backup(&world, "/cluster/snapshot").await, StatusCode::OK);
    let expected = [
        "replica.add | replica 4 | begun: host:7946".to_owned(),
        format!("replica.add | replica 4 | failed: {reason}"),
        "backup.take | the whole state and the server's keys".into(),
    ];
    assert_eq!(recorded(&world).await, expected);
    world.cluster.set_quorum(false);
    assert_eq!(world.error("POST", "/cluster/member", member).await.0, 503);
    assert_eq!(backup(&world, "/cluster/snapshot").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(backup(&world, "/cluster/snapshot?stale=true").await, StatusCode::OK);
}

/// A backup is no text.
async fn backup(world: &World, path: &str) -> StatusCode {
    use tower::ServiceExt;
    let request = request("GET", path).body(Body::empty()).unwrap();
    world.api.clone().oneshot(request).await.unwrap().status()
}
