//! Pending logins.

use super::*;

const NOWHERE: &str = "hskey-authreq-0123456789abcdef01234567";

#[tokio::test]
async fn both_forms_of_approval_make_a_personal_node() {
    let world = World::new();
    world.user("alice").await;
    let first = world.login("laptop", &[]).await;
    let node = world.ok("POST", &format!("/node/register?user=alice&key={first}"), Value::Null).await["node"].clone();
    assert_eq!((&node["givenName"], &node["user"]["name"]), (&json!("laptop"), &json!("alice")));
    assert_eq!(node["registerMethod"], "REGISTER_METHOD_CLI");
    let second = world.login("phone", &[]).await;
    let body = json!({"user": "alice", "authId": second.as_str()});
    assert_eq!(world.ok("POST", "/auth/register", body).await["node"]["id"], "2");
    assert_eq!(world.cluster.view().login(&second).unwrap().verdict, Verdict::Registered(NodeId(2)));
}

#[tokio::test]
async fn requested_tags_must_all_be_the_users_to_give() {
    let world = World::new();
    world.user("alice").await;
    world.user("bob").await;
    world.policy().await;
    let register = async |user: &str, id: &AuthId| {
        world.call("POST", "/auth/register", json!({"user": user, "authId": id.as_str()})).await
    };
    let login = world.login("server", &["tag:server", "tag:web"]).await;
    let refused = "registering node: requested tags [tag:server tag:web] are invalid or not permitted";
    assert_eq!(register("bob", &login).await.problem(), (400, refused.into()));
    assert_eq!(world.cluster.view().node_count(), 0);
    let answer = register("alice", &login).await.json();
    assert_eq!(answer["node"]["tags"], json!(["tag:server", "tag:web"]));
    assert_eq!(answer["node"]["user"]["name"], "tagged-devices");
    let mixed = world.login("other", &["tag:server", "tag:unknown", "nonsense"]).await;
    let refused = "registering node: requested tags [tag:unknown nonsense] are invalid or not permitted";
    assert_eq!(register("alice", &mixed).await.problem(), (400, refused.into()));
    assert_eq!(world.cluster.view().node_count(), 1);
}

#[tokio::test]
async fn errors_about_logins_are_headscales() {
    let world = World::new();
    world.user("alice").await;
    let prefix = "auth ID has invalid prefix: expected prefix \"hskey-authreq-\"";
    let malformed: (u16, String) = (400, format!("registering node: {prefix}"));
    assert_eq!(world.error("POST", "/node/register?user=alice&key=bogus", Value::Null).await, malformed);
    let register =
        async |user: &str, id: &str| world.error("POST", "/auth/register", json!({"user": user, "authId": id})).await;
    assert_eq!(register("alice", "bogus").await, malformed);
    let unknown = (404, "registering node: node not found in registration cache".into());
    assert_eq!(register("alice", NOWHERE).await, unknown);
    assert_eq!(register("nobody", NOWHERE).await, (404, "looking up user: user not found".into()));
    let pending = (404, format!("no pending auth session for auth_id {NOWHERE}"));
    assert_eq!(world.error("POST", "/auth/approve", json!({"authId": NOWHERE})).await, pending);
    let malformed = (400, format!("invalid auth_id: {prefix}"));
    assert_eq!(world.error("POST", "/auth/reject", json!({"authId": "x"})).await, malformed);
    assert_eq!(world.cluster.view().node_count(), 0);
}

#[tokio::test]
async fn a_decided_login_cannot_be_decided_again() {
    let world = World::new();
    world.user("alice").await;
    let login = world.login("laptop", &[]).await;
    let body = json!({"authId": login.as_str()});
    assert_eq!(world.ok("POST", "/auth/reject", body.clone()).await, json!({}));
    assert_eq!(world.error("POST", "/auth/approve", body.clone()).await.0, 409);
    assert_eq!(world.error("POST", "/auth/register", json!({"user": "alice", "authId": login.as_str()})).await.0, 409);
    let other = world.login("phone", &[]).await;
    world.ok("POST", "/auth/approve", json!({"authId": other.as_str()})).await;
    assert_eq!(world.cluster.view().login(&other).unwrap().verdict, Verdict::Approved);
}

#[tokio::test]
async fn a_debug_node_can_be_registered() {
    let world = World::new();
    world.user("alice").await;
    let body = json!({"user": "alice", "key": NOWHERE, "name": "debug", "routes": ["10.0.0.0/8"]});
    let node = world.ok("POST", "/debug/node", body).await["node"].clone();
    assert_eq!((&node["name"], &node["availableRoutes"]), (&json!("debug"), &json!(["10.0.0.0/8"])));
    let made = world.ok("POST", &format!("/node/register?user=alice&key={NOWHERE}"), Value::Null).await;
    assert_eq!(made["node"]["machineKey"], node["machineKey"]);
    assert_eq!(made["node"]["availableRoutes"], json!(["10.0.0.0/8"]));
}
