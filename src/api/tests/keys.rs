//! Pre-authenticated keys and API keys.

use super::*;

fn is_key(text: &str, start: &str) -> bool {
    let Some((prefix, secret)) = text.strip_prefix(start).and_then(|rest| rest.split_once('-')) else { return false };
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    prefix.len() == 12 && secret.len() == 64 && hex(prefix) && hex(secret)
}

fn lives_for(expiration: &Value) -> i64 {
    let end: jiff::Timestamp = expiration.as_str().unwrap().parse().unwrap();
    (end.as_second() - jiff::Timestamp::now().as_second() + 30) / 60
}

#[tokio::test]
async fn a_key_is_shown_in_full_once_and_masked_ever_after() {
    let world = World::new();
    world.user("alice").await;
    let created = world.ok("POST", "/preauthkey", json!({"user": "1"})).await["preAuthKey"].clone();
    let text = created["key"].as_str().unwrap();
    assert!(is_key(text, "hskey-auth-"), "{text}");
    assert_eq!(lives_for(&created["expiration"]), 60, "an hour unless told otherwise");
    assert_eq!(created["id"], "1");
    assert_eq!(created["user"]["name"], "alice");
    assert_eq!(
        (&created["aclTags"], &created["reusable"], &created["used"]),
        (&json!([]), &json!(false), &json!(false))
    );
    let listed = world.ok("GET", "/preauthkey", Value::Null).await;
    let mut masked = created.clone();
    masked["key"] = format!("{}-***", text.rsplit_once('-').unwrap().0).into();
    assert_eq!(listed, json!({"preAuthKeys": [masked]}));
}

#[tokio::test]
async fn a_tagged_key_belongs_to_its_tags() {
    let world = World::new();
    let body = json!({"aclTags": ["tag:web", "tag:db"], "reusable": true, "ephemeral": true,
                      "expiration": "2099-01-02T03:04:05Z"});
    let key = world.ok("POST", "/preauthkey", body).await["preAuthKey"].clone();
    assert_eq!(key["aclTags"], json!(["tag:db", "tag:web"]));
    assert_eq!(key["user"], Value::Null);
    assert_eq!(key["expiration"], "2099-01-02T03:04:05Z");
    assert_eq!((&key["reusable"], &key["ephemeral"]), (&json!(true), &json!(true)));
}

#[tokio::test]
async fn errors_about_pre_auth_keys_are_headscales() {
    let world = World::new();
    let error = async |body: Value| world.error("POST", "/preauthkey", body).await;
    let bad_tag = (400, "invalid tag: tag must start with the string 'tag:'".into());
    assert_eq!(error(json!({"aclTags": ["web"]})).await, bad_tag);
    let nobody = (400, "creating pre-auth key: auth-key must be either tagged or owned by user".into());
    assert_eq!(error(json!({})).await, nobody);
    let unknown: (u16, String) = (404, "creating pre-auth key: user not found".into());
    assert_eq!(error(json!({"user": "99"})).await, unknown);
    assert_eq!(error(json!({"user": "99", "aclTags": ["tag:web"]})).await, unknown);
    let no_number = (400, "invalid user id: strconv.ParseUint: parsing \"alice\": invalid syntax".into());
    assert_eq!(error(json!({"user": "alice"})).await, no_number);
    let missing = (404, "expiring pre-auth key: auth-key not found: record not found".into());
    assert_eq!(world.error("POST", "/preauthkey/expire", json!({"id": "99"})).await, missing);
    let missing = (404, "deleting pre-auth key: auth-key not found: record not found".into());
    assert_eq!(world.error("DELETE", "/preauthkey?id=99", Value::Null).await, missing);
    assert_eq!(world.ok("GET", "/preauthkey", Value::Null).await, json!({"preAuthKeys": []}));
}

#[tokio::test]
async fn a_pre_auth_key_expires_and_goes() {
    let world = World::new();
    world.ok("POST", "/preauthkey", json!({"aclTags": ["tag:web"]})).await;
    assert_eq!(world.ok("POST", "/preauthkey/expire", json!({"id": "1"})).await, json!({}));
    let listed = world.ok("GET", "/preauthkey", Value::Null).await;
    assert!(lives_for(&listed["preAuthKeys"][0]["expiration"]) <= 0);
    assert_eq!(world.ok("DELETE", "/preauthkey?id=1", Value::Null).await, json!({}));
    assert_eq!(world.ok("GET", "/preauthkey", Value::Null).await, json!({"preAuthKeys": []}));
}

#[tokio::test]
async fn an_api_key_is_named_by_id_or_by_any_form_of_its_prefix() {
    let world = World::new();
    let mut texts = Vec::new();
    for _ in 0..4 {
        let text = world.ok("POST", "/apikey", json!({})).await["apiKey"].as_str().unwrap().to_owned();
        assert!(is_key(&text, "hskey-api-"), "{text}");
        texts.push(text);
    }
    let listed = world.ok("GET", "/apikey", Value::Null).await["apiKeys"].clone();
    assert_eq!(lives_for(&listed[0]["expiration"]), 90 * 24 * 60, "90 days unless told otherwise");
    assert_eq!(listed[0]["lastSeen"], Value::Null);
    let masked = listed[0]["prefix"].as_str().unwrap();
    assert_eq!(masked, format!("{}-***", texts[0].rsplit_once('-').unwrap().0));
    world.ok("POST", "/apikey/expire", json!({"id": "1"})).await;
    assert_eq!(world.ok("DELETE", &format!("/apikey/{masked}"), Value::Null).await, json!({}));
    let started = &texts[1].rsplit_once('-').unwrap().0;
    world.ok("DELETE", &format!("/apikey/{started}"), Value::Null).await;
    let bare = started.strip_prefix("hskey-api-").unwrap().to_owned();
    assert_eq!(world.error("DELETE", &format!("/apikey/{bare}"), Value::Null).await.0, 404);
    world.ok("POST", "/apikey/expire", json!({"prefix": texts[2].split('-').nth(2).unwrap()})).await;
    world.ok("DELETE", "/apikey/?id=4", Value::Null).await;
    let left = world.ok("GET", "/apikey", Value::Null).await["apiKeys"].clone();
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!(left[0]["id"], "3");
}

#[tokio::test]
async fn errors_about_api_keys_are_headscales() {
    let world = World::new();
    let error = async |body: Value| world.error("POST", "/apikey/expire", body).await;
    assert_eq!(error(json!({"id": "99"})).await, (404, "getting api key: record not found".into()));
    assert_eq!(error(json!({"prefix": "0123"})).await, (404, "getting api key: record not found".into()));
    assert_eq!(error(json!({})).await, (400, "must provide id or prefix".into()));
    let both = (400, "provide either id or prefix, not both".into());
    assert_eq!(error(json!({"id": "1", "prefix": "x"})).await, both);
}
