//! Nodes.

use super::*;

#[tokio::test]
async fn a_node_looks_as_in_headscale() {
    let world = World::new();
    let alice = world.user("alice").await;
    let id = world.join("Alice's Laptop", Owner::User(alice)).await;
    world.come_online(id, &["10.0.0.0/8"]).await;
    let node = world.ok("GET", "/node/1", Value::Null).await["node"].clone();
    let user = world.ok("GET", "/user", Value::Null).await["users"][0].clone();
    let record = world.cluster.view().node(id).unwrap().clone();
    let key = world.ok("GET", "/preauthkey", Value::Null).await["preAuthKeys"][0].clone();
    let expected = json!({
        "approvedRoutes": [], "availableRoutes": ["10.0.0.0/8"], "createdAt": record.created.to_string(),
        "discoKey": record.disco_key.unwrap().to_string(), "expiry": null, "givenName": "alices-laptop", "id": "1",
        "ipAddresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "lastSeen": record.last_seen.unwrap().to_string(),
        "machineKey": record.machine_key.to_string(), "name": "Alice's Laptop",
        "nodeKey": record.node_key.to_string(), "online": true, "preAuthKey": key,
        "registerMethod": "REGISTER_METHOD_AUTH_KEY", "subnetRoutes": [], "tags": [], "user": user,
    });
    assert_eq!(node, expected);
    assert_eq!(world.ok("GET", "/node", Value::Null).await, json!({"nodes": [expected]}));
    world.ok("DELETE", "/preauthkey?id=1", Value::Null).await;
    assert_eq!(world.ok("GET", "/node/1", Value::Null).await["node"]["preAuthKey"], Value::Null);
}

#[tokio::test]
async fn a_tagged_node_is_listed_under_tagged_devices() {
    let world = World::new();
    let alice = world.user("alice").await;
    world.join("own", Owner::User(alice)).await;
    world.join("web", Owner::Tags(["tag:web".parse().unwrap()].into())).await;
    let names = async |query: &str| -> Vec<String> {
        let answer = world.ok("GET", &format!("/node{query}"), Value::Null).await;
        answer["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("").await, ["own", "web"]);
    assert_eq!(names("?user=alice").await, ["own"]);
    assert_eq!(names("?user=tagged-devices").await, ["web"]);
    let node = world.ok("GET", "/node/2", Value::Null).await["node"].clone();
    assert_eq!(node["tags"], json!(["tag:web"]));
    let tagged = json!({
        "createdAt": "0001-01-01T00:00:00Z", "displayName": "Tagged Devices", "email": "", "id": "2147455555",
        "name": "tagged-devices", "profilePicUrl": "", "provider": "", "providerId": "",
    });
    assert_eq!(node["user"], tagged);
    let unknown = (404, "listing nodes: user not found".into());
    assert_eq!(world.error("GET", "/node?user=nobody", Value::Null).await, unknown);
}

#[tokio::test]
async fn approved_routes_are_replaced_and_served_when_announced() {
    let world = World::new();
    let alice = world.user("alice").await;
    let id = world.join("router", Owner::User(alice)).await;
    world.come_online(id, &["10.0.0.0/8", "0.0.0.0/0", "::/0"]).await;
    let body = json!({"routes": ["10.0.0.0/8", "0.0.0.0/0", "192.168.0.0/24"]});
    let node = world.ok("POST", "/node/1/approve_routes", body).await["node"].clone();
    assert_eq!(node["approvedRoutes"], json!(["0.0.0.0/0", "10.0.0.0/8", "192.168.0.0/24", "::/0"]));
    assert_eq!(node["subnetRoutes"], json!(["0.0.0.0/0", "10.0.0.0/8", "::/0"]));
    let node = world.ok("POST", "/node/1/approve_routes", json!({"routes": []})).await["node"].clone();
    assert_eq!((&node["approvedRoutes"], &node["subnetRoutes"]), (&json!([]), &json!([])));
    let bad = (400, "parsing route: netip.ParsePrefix(\"bogus\"): no '/'".into());
    assert_eq!(world.error("POST", "/node/1/approve_routes", json!({"routes": ["bogus"]})).await, bad);
    let gone = (404, "setting approved routes: node no longer exists in NodeStore: 99".into());
    assert_eq!(world.error("POST", "/node/99/approve_routes", json!({"routes": ["10.0.0.0/8"]})).await, gone);
}

#[tokio::test]
async fn a_node_is_renamed() {
    let world = World::new();
    let alice = world.user("alice").await;
    world.join("one", Owner::User(alice)).await;
    world.join("two", Owner::User(alice)).await;
    let node = world.ok("POST", "/node/1/rename/new-name", Value::Null).await["node"].clone();
    assert_eq!((&node["givenName"], &node["name"]), (&json!("new-name"), &json!("one")));
    let error = async |path: &str| world.error("POST", path, Value::Null).await;
    let invalid = "renaming node: given name is not a valid DNS label: \"bad name!\" is not a valid DNS label: \
                   \"bad name!\" is not a valid DNS label: must end with a letter or number";
    assert_eq!(error("/node/1/rename/bad%20name!").await, (400, invalid.into()));
    assert_eq!(error("/node/1/rename/two").await, (400, "renaming node: node name is not unique: two".into()));
    let gone = (404, "renaming node: node no longer exists in NodeStore: 99".into());
    assert_eq!(error("/node/99/rename/x1").await, gone);
}

#[tokio::test]
async fn tags_are_given_if_the_policy_defines_them() {
    let world = World::new();
    let alice = world.user("alice").await;
    world.join("one", Owner::User(alice)).await;
    world.policy().await;
    let node = world.ok("POST", "/node/1/tags", json!({"tags": ["tag:server"]})).await["node"].clone();
    assert_eq!((&node["tags"], &node["user"]["name"]), (&json!(["tag:server"]), &json!("tagged-devices")));
    let error = async |node: &str, tags: &[&str]| {
        world.error("POST", &format!("/node/{node}/tags"), json!({"tags": tags})).await
    };
    let unknown = "setting tags: requested tags [tag:unknown] are invalid or not permitted";
    assert_eq!(error("1", &["tag:unknown", "tag:web"]).await, (400, unknown.into()));
    let malformed = (400, "setting tags: tag must start with the string 'tag:'".into());
    assert_eq!(error("1", &["server"]).await, malformed);
    let none = "cannot remove all tags from a node - tagged nodes must have at least one tag";
    assert_eq!(error("1", &[]).await, (400, none.into()));
    assert_eq!(error("99", &["tag:web"]).await, (404, "node not found".into()));
    let node = world.ok("GET", "/node/1", Value::Null).await["node"].clone();
    assert_eq!(node["tags"], json!(["tag:server"]), "what was refused changed nothing");
}

#[tokio::test]
async fn a_node_expires_now_later_or_never() {
    let world = World::new();
    let alice = world.user("alice").await;
    world.join("one", Owner::User(alice)).await;
    let expire = async |body: Value| world.ok("POST", "/node/1/expire", body).await["node"]["expiry"].clone();
    let now: jiff::Timestamp = expire(Value::Null).await.as_str().unwrap().parse().unwrap();
    assert!(now <= jiff::Timestamp::now());
    assert_eq!(expire(json!({"expiry": "2099-01-02T03:04:05Z"})).await, "2099-01-02T03:04:05Z");
    assert_eq!(expire(json!({"disableExpiry": true})).await, Value::Null);
    let error = async |node: &str, body: Value| world.error("POST", &format!("/node/{node}/expire"), body).await;
    let both = json!({"disableExpiry": true, "expiry": "2099-01-02T03:04:05Z"});
    assert_eq!(error("1", both).await, (400, "cannot set both disable_expiry and expiry".into()));
    let gone = (404, "expiring node: node no longer exists in NodeStore: 99".into());
    assert_eq!(error("99", Value::Null).await, gone);
}

#[tokio::test]
async fn a_node_is_deleted() {
    let world = World::new();
    let alice = world.user("alice").await;
    world.join("one", Owner::User(alice)).await;
    assert_eq!(world.ok("DELETE", "/node/1", Value::Null).await, json!({}));
    assert_eq!(world.error("DELETE", "/node/1", Value::Null).await, (404, "node not found".into()));
    assert_eq!(world.error("GET", "/node/1", Value::Null).await, (404, "node not found".into()));
    let mismatch =
        "type mismatch, parameter: node_id, error: strconv.ParseUint: parsing \"x\": invalid syntax".to_owned();
    assert_eq!(world.error("GET", "/node/x", Value::Null).await, (400, mismatch));
}

#[tokio::test]
async fn addresses_are_backfilled_only_when_confirmed() {
    let world = World::new();
    let refused = (400, "backfilling node IPs: not confirmed, aborting".into());
    assert_eq!(world.error("POST", "/node/backfillips", Value::Null).await, refused);
    assert_eq!(world.ok("POST", "/node/backfillips?confirmed=true", Value::Null).await, json!({"changes": []}));
}
