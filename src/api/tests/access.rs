//! Who may do what over the network, and the record of what was done.

use super::super::access::{Access, OPERATIONS};
use super::*;
use axum::http::Method;
use std::collections::BTreeSet;

/// Operations as the sources declare them: method and path.
fn declared() -> BTreeSet<(String, String)> {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    let mut found = BTreeSet::new();
    let mut directories = vec![directory];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests") {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.extend(routes_in(&std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    found
}

/// Of each `.route("path", get(…).post(…))`.
fn routes_in(source: &str) -> Vec<(String, String)> {
    let mut routes = Vec::new();
    for declaration in source.split(".route(").skip(1) {
        let Some(rest) = declaration.trim_start().strip_prefix('"') else { continue };
        let (path, rest) = rest.split_once('"').unwrap();
        let end = rest.find(['\n', ';']).unwrap_or(rest.len());
        for method in ["get", "post", "put", "delete", "patch", "any", "head", "options"] {
            let call = format!("{method}(");
            if rest[..end].split(|c: char| !c.is_ascii_alphanumeric() && c != '(').any(|word| word.contains(&call)) {
                routes.push((method.to_uppercase(), path.to_owned()));
            }
        }
    }
    routes
}

/// A path of this template that names something.
fn example(template: &str) -> String {
    template.replace("{id}", "1").replace("{name}", "x").replace("{prefix}", "abc").replace("{version}", "1")
}

/// The API as the network gets it, and a key with each role.
struct Network {
    world: World,
    api: Router,
    admin: String,
    read_only: String,
}

impl Network {
    async fn new() -> Self {
        let world = World::new();
        let admin = key(&world, json!({"owner": "alice"})).await;
        let read_only = key(&world, json!({"role": "read-only", "owner": "grafana"})).await;
        Self { api: world.network(), world, admin, read_only }
    }

    async fn ask(&self, key: &str, method: &str, path: &str, body: Value) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = request(method, path)
            .header("authorization", format!("Bearer {key}"))
            .extension(axum::extract::ConnectInfo(std::net::SocketAddr::from(([192, 0, 2, 9], 4242))));
        send(&self.api, request.body(text.into()).unwrap()).await
    }
}

async fn key(world: &World, body: Value) -> String {
    world.ok("POST", "/apikey", body).await["apiKey"].as_str().unwrap().to_owned()
}

#[test]
fn every_operation_says_what_it_needs_of_a_key() {
    let listed: BTreeSet<(String, String)> =
        OPERATIONS.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(listed.len(), OPERATIONS.len(), "each once");
    assert_eq!(listed, declared(), "src/api/access.rs is to name every operation, and what it needs");
    let reads_by_get = OPERATIONS.iter().filter(|(method, ..)| *method == "GET");
    assert!(reads_by_get.clone().all(|(_, _, access)| *access != Access::Write), "GET never changes anything");
}

#[tokio::test]
async fn a_read_only_key_may_look_at_everything_and_change_nothing() {
    let network = Network::new().await;
    let before = network.world.cluster.view().tally().clone();
    for (method, template, access) in OPERATIONS {
        let path = example(template);
        let answer = network.ask(&network.read_only, method, &path, Value::Null).await;
        if *access == Access::Read {
            assert_ne!(answer.status, StatusCode::FORBIDDEN, "{method} {path}: {}", answer.text);
            assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}: {}", answer.text);
        } else {
            let (status, text) = answer.problem();
            assert_eq!(status, 403, "{method} {path}");
            assert!(text.contains("role read-only") && text.contains("--role admin"), "{method} {path}: {text}");
        }
    }
    let after = network.world.cluster.view();
    let differences: Vec<_> = before.differences(after.tally()).into_iter().collect();
    assert!(differences.is_empty(), "{differences:?}");
}

#[tokio::test]
async fn an_operation_that_nobody_thought_of_needs_an_admin_key() {
    let needs = |method: &Method, path| super::super::access::needed(method, path);
    assert_eq!(needs(&Method::POST, Some("/api/v1/new")), Some(Access::Write));
    assert_eq!(needs(&Method::GET, Some("/api/v1/new")), Some(Access::Write));
    assert_eq!(needs(&Method::HEAD, Some("/api/v1/user")), Some(Access::Read));
    let network = Network::new().await;
    let (status, text) = network.ask(&network.read_only, "GET", "/nothing", Value::Null).await.problem();
    assert_eq!((status, text.as_str()), (404, "no such operation: GET /api/v1/nothing"));
    let (status, _) = network.ask(&network.read_only, "PATCH", "/user", Value::Null).await.problem();
    assert!([403, 405].contains(&status), "{status}");
}

#[tokio::test]
async fn a_key_of_an_older_release_is_an_admins() {
    let old = json!({"id": 1, "prefix": "0123456789ab", "hash": "00".repeat(32), "expiration": null, "created": 7});
    let key: crate::state::ApiKey = serde_json::from_value(old.clone()).unwrap();
    assert_eq!((key.role, key.owner.as_str(), key.last_used), (crate::state::ApiKeyRole::Admin, "", None));
    assert_eq!(serde_json::to_value(&key).unwrap(), old, "and is stored as that release wrote it");
}

#[tokio::test]
async fn a_key_shows_its_role_its_owner_and_when_it_was_used_last() {
    let network = Network::new().await;
    let listed = async || network.world.ok("GET", "/apikey", Value::Null).await["apiKeys"].clone();
    let keys = listed().await;
    assert_eq!((&keys[0]["role"], &keys[0]["owner"]), (&"admin".into(), &"alice".into()));
    assert_eq!((&keys[1]["role"], &keys[1]["owner"]), (&"read-only".into(), &"grafana".into()));
    assert_eq!((&keys[0]["lastSeen"], &keys[1]["lastSeen"]), (&Value::Null, &Value::Null));
    let before = network.world.cluster.view().index();
    for _ in 0..20 {
        assert_eq!(network.ask(&network.read_only, "GET", "/user", Value::Null).await.status, 200);
    }
    let recorded = async {
        while network.world.cluster.view().api_keys().all(|key| key.last_used.is_none()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), recorded).await.expect("it is recorded");
    assert!(network.world.cluster.view().index() <= before + 2, "many uses are one write, or two at a minute's end");
    let keys = listed().await;
    assert_eq!(keys[0]["lastSeen"], Value::Null);
    let used: jiff::Timestamp = keys[1]["lastSeen"].as_str().unwrap().parse().unwrap();
    assert_eq!(used.as_second() % 60, 0, "to the minute");
    assert!((0..=120).contains(&(jiff::Timestamp::now().as_second() - used.as_second())));
}

#[tokio::test]
async fn roles_and_owners_that_make_no_sense_are_refused_by_name() {
    let world = World::new();
    let (status, text) = world.error("POST", "/apikey", json!({"role": "root"})).await;
    assert_eq!(status, 422);
    assert!(text.contains("\"root\" is no role: it must be admin or read-only"), "{text}");
    for owner in ["x".repeat(65), "a\nb".into()] {
        let (status, text) = world.error("POST", "/apikey", json!({"owner": owner})).await;
        assert!(status == 422 && text.contains("owner: expected at most 64 characters"), "{text}");
    }
    assert_eq!(world.cluster.view().api_keys().count(), 0);
}

#[tokio::test]
async fn checking_a_key_costs_microseconds_and_no_bcrypt() {
    const CHECKS: u32 = 500;
    let network = Network::new().await;
    network.ask(&network.admin, "GET", "/health", Value::Null).await;
    let begun = std::time::Instant::now();
    for _ in 0..CHECKS {
        assert_eq!(network.ask(&network.admin, "GET", "/health", Value::Null).await.status, 200);
    }
    // The whole request, unoptimised; bcrypt alone would be 50 to 100 ms.
    let each = begun.elapsed() / CHECKS;
    assert!(each < Duration::from_millis(10), "{each:?}");
}

#[tokio::test]
async fn a_replica_without_a_quorum_accepts_no_key() {
    let network = Network::new().await;
    assert_eq!(network.ask(&network.admin, "GET", "/user?stale=true", Value::Null).await.status, 200);
    network.world.cluster.set_quorum(false);
    for path in ["/user?stale=true", "/health", "/cluster"] {
        let answer = network.ask(&network.admin, "GET", path, Value::Null).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {}", answer.text);
        assert!(answer.headers.contains_key("retry-after"));
    }
    let at_socket = network.world.call("GET", "/user?stale=true", Value::Null).await;
    assert_eq!(at_socket.status, 200, "whoever may use the socket needs no key");
}

#[tokio::test]
async fn a_revoked_key_is_refused_from_the_answer_on() {
    let network = Network::new().await;
    for (key, revoke) in [(&network.read_only, "POST /apikey/expire"), (&network.admin, "DELETE /apikey/?id=1")] {
        assert_eq!(network.ask(key, "GET", "/user", Value::Null).await.status, 200);
        let (method, path) = revoke.split_once(' ').unwrap();
        let body = if method == "POST" { json!({"id": "2"}) } else { Value::Null };
        network.world.ok(method, path, body).await;
        assert_eq!(network.ask(key, "GET", "/user", Value::Null).await.status, 401);
    }
}
