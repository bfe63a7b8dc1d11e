//! Users.

use super::*;

#[tokio::test]
async fn a_user_looks_as_in_headscale() {
    let world = World::new();
    let body = json!({"name": "bob", "displayName": "Bob B", "email": "bob@example.com", "pictureUrl": "http://x/p"});
    let answer = world.ok("POST", "/user", body).await;
    let created = answer["user"]["createdAt"].clone();
    assert!(created.as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let expected = json!({
        "createdAt": created, "displayName": "Bob B", "email": "bob@example.com", "id": "1", "name": "bob",
        "profilePicUrl": "http://x/p", "provider": "", "providerId": "",
    });
    assert_eq!(answer, json!({"user": expected}));
    assert_eq!(world.ok("GET", "/user", Value::Null).await, json!({"users": [expected]}));
}

#[tokio::test]
async fn users_are_listed_by_name_else_email_else_id() {
    let world = World::new();
    world.user("alice").await;
    world.ok("POST", "/user", json!({"name": "bob", "email": "b@x"})).await;
    let names = async |query: &str| -> Vec<String> {
        let answer = world.ok("GET", &format!("/user{query}"), Value::Null).await;
        let users = answer["users"].as_array().unwrap().clone();
        users.iter().map(|user| user["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("").await, ["alice", "bob"]);
    assert_eq!(names("?name=bob&id=1").await, ["bob"]);
    assert_eq!(names("?email=b%40x&id=1").await, ["bob"]);
    assert_eq!(names("?id=1").await, ["alice"]);
    assert_eq!(names("?id=0").await, ["alice", "bob"]);
    assert_eq!(names("?name=nobody").await, Vec::<String>::new());
    let (status, text) = world.error("GET", "/user?id=x", Value::Null).await;
    assert_eq!((status, text.as_str()), (400, "invalid id: strconv.ParseUint: parsing \"x\": invalid syntax"));
}

#[tokio::test]
async fn a_user_is_renamed_and_deleted() {
    let world = World::new();
    world.user("carol").await;
    let renamed = world.ok("POST", "/user/1/rename/ka%2Brol", Value::Null).await;
    assert_eq!(renamed["user"]["name"], "ka+rol");
    assert_eq!(world.ok("DELETE", "/user/1", Value::Null).await, json!({}));
    assert_eq!(world.ok("GET", "/user", Value::Null).await, json!({"users": []}));
}

#[tokio::test]
async fn errors_about_users_are_headscales() {
    let world = World::new();
    let alice = world.user("alice").await;
    world.join("laptop", Owner::User(alice)).await;
    let bob = json!({"name": "bob"});
    world.ok("POST", "/user", bob.clone()).await;
    assert_eq!(world.error("POST", "/user", bob).await, (409, "user already exists".into()));
    assert_eq!(world.error("POST", "/user/2/rename/alice", Value::Null).await, (409, "user already exists".into()));
    let missing = (404, "renaming user: user not found".into());
    assert_eq!(world.error("POST", "/user/99/rename/x", Value::Null).await, missing);
    let missing = (404, "deleting user: user not found".into());
    assert_eq!(world.error("DELETE", "/user/99", Value::Null).await, missing);
    let busy = (400, "deleting user: user not empty: node(s) found".into());
    assert_eq!(world.error("DELETE", "/user/1", Value::Null).await, busy);
    let no_number = (400, "invalid user id: strconv.ParseUint: parsing \"x\": invalid syntax".into());
    assert_eq!(world.error("DELETE", "/user/x", Value::Null).await, no_number);
}

#[tokio::test]
async fn a_name_that_no_policy_could_use_is_refused() {
    let world = World::new();
    let (status, text) = world.error("POST", "/user", json!({"name": "alice@"})).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("creating user: invalid user name \"alice@\""), "{text}");
    assert_eq!(world.error("POST", "/user", json!({})).await.0, 400);
    let (status, text) = world.error("POST", "/user", json!({"name": "tagged-devices"})).await;
    assert_eq!(status, 400, "{text}");
    assert_eq!(world.ok("GET", "/user", Value::Null).await, json!({"users": []}));
}
