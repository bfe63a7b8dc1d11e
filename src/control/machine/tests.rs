use super::testing::{Answer, machine_router, post};
use crate::cluster::Cluster;
use crate::control::testing::cluster;
use crate::state::{
    AuthId, Command, Done, Expiry, Node, NodeId, Owner, RegisterMethod, SecretHash, Tag, Time, UserId, Verdict,
};
use crate::tailcfg::{MachineKey, NodeKey};
use axum::Router;
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const MACHINE: MachineKey = MachineKey([1; 32]);
const OTHER_MACHINE: MachineKey = MachineKey([2; 32]);
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two replicas of one cluster, and what an administrator does to it.
struct World {
    cluster: Cluster,
    one: Router,
    two: Router,
}

impl World {
    fn new() -> Self {
        Self::with_patience(PATIENCE)
    }

    /// Followups wait for so long.
    fn with_patience(patience: Duration) -> Self {
        let cluster = cluster();
        let one = machine_router(&cluster, "http://127.0.0.1:8080", patience);
        let two = machine_router(&cluster, "http://127.0.0.2:8080/", patience);
        Self { cluster, one, two }
    }

    async fn write(&self, command: Command) -> Done {
        self.cluster.write(command).await.unwrap()
    }

    async fn user(&self, name: &str) -> UserId {
        let command = Command::CreateUser {
            name: name.into(),
            display_name: String::new(),
            email: String::new(),
            profile_pic_url: String::new(),
        };
        match self.write(command).await {
            Done::User(user) => user.id,
            other => panic!("{other:?}"),
        }
    }

    async fn key(&self, owner: Owner, reusable: bool, ephemeral: bool) -> String {
        let (prefix, secret) = (hex::encode(rand::random::<[u8; 6]>()), hex::encode(rand::random::<[u8; 32]>()));
        let hash = SecretHash::of(&secret);
        let expiration = Some(Time::now() + Duration::from_secs(3600));
        self.write(Command::CreatePreAuthKey { prefix: prefix.clone(), hash, owner, reusable, ephemeral, expiration })
            .await;
        format!("hskey-auth-{prefix}-{secret}")
    }

    async fn approve(&self, id: &AuthId, user: UserId, owner: Owner) {
        let policy_version = self.cluster.view().policy_version();
        let method = RegisterMethod::Cli;
        self.write(Command::ApproveLogin {
            auth_id: id.clone(),
            user,
            owner,
            method,
            policy_version,
            seed: 1,
            v4_pools: Vec::new(),
            provider_expiry: None,
        })
        .await;
    }

    fn node(&self, key: NodeKey) -> Option<Arc<Node>> {
        self.cluster.view().node_by_key(&key).cloned()
    }

    fn only_node(&self) -> Arc<Node> {
        let view = self.cluster.view();
        assert_eq!(view.node_count(), 1);
        view.nodes().next().unwrap().clone()
    }
}

fn node_key(byte: u8) -> NodeKey {
    NodeKey([byte; 32])
}

fn tags(names: &[&str]) -> Owner {
    Owner::Tags(names.iter().map(|name| name.parse::<Tag>().unwrap()).collect::<BTreeSet<_>>())
}

/// As a Go client sends it; `more` replaces fields.
fn request(key: NodeKey, more: Value) -> String {
    let mut request = json!({
        "Version": 142, "NodeKey": key, "OldNodeKey": NodeKey([0; 32]), "Expiry": "0001-01-01T00:00:00Z",
        "Followup": "", "Hostinfo": {"OS": "linux", "Hostname": "web1"}, "NodeKeySignature": null
    });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request.to_string()
}

async fn register(router: &Router, machine: MachineKey, key: NodeKey, more: Value) -> Value {
    post(router, machine, "/machine/register", request(key, more)).await.json()
}

fn with_key(text: &str) -> Value {
    json!({"Auth": {"AuthKey": text}})
}

fn login_id(answer: &Value) -> AuthId {
    let url = answer["AuthURL"].as_str().unwrap();
    url.rsplit('/').next().unwrap().parse().unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn assert_in(answer: &Value, user: &str) {
    assert_eq!(answer["Error"], "");
    assert_eq!(answer["AuthURL"], "");
    assert_eq!(answer["MachineAuthorized"], true);
    assert_eq!(answer["NodeKeyExpired"], false);
    assert_eq!(answer["Login"]["LoginName"], user);
}

/// Waits until the followup of `id` has begun to wait.
async fn until_it_waits() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_personal_node_joins_with_a_key() {
    let world = World::new();
    let alice = world.user("alice").await;
    let key = world.key(Owner::User(alice), false, false).await;
    let answer = register(&world.one, MACHINE, node_key(1), with_key(&key)).await;
    assert_in(&answer, "alice");
    assert_eq!(answer["User"]["ID"], alice.0);
    let node = world.only_node();
    assert_eq!((node.owner.clone(), node.machine_key, node.node_key), (Owner::User(alice), MACHINE, node_key(1)));
    assert_eq!(node.given_name, "web1");
}

#[tokio::test]
async fn a_tagged_node_joins_with_a_key() {
    let world = World::new();
    let key = world.key(tags(&["tag:web"]), true, false).await;
    let answer = register(&world.one, MACHINE, node_key(1), with_key(&key)).await;
    assert_in(&answer, "tagged-devices");
    assert_eq!(answer["Login"]["DisplayName"], "Tagged Devices");
    assert_eq!(world.only_node().owner, tags(&["tag:web"]));
}

#[tokio::test]
async fn a_personal_node_joins_when_another_replica_approves_while_it_waits() {
    let world = World::new();
    let alice = world.user("alice").await;
    let asked = register(&world.one, MACHINE, node_key(1), json!({})).await;
    assert_eq!(asked["MachineAuthorized"], false);
    let id = login_id(&asked);
    assert_eq!(asked["AuthURL"], format!("http://127.0.0.1:8080/register/{id}"));
    assert_eq!(world.cluster.view().node_count(), 0);

    let followup = register(&world.two, MACHINE, node_key(1), json!({"Followup": asked["AuthURL"]}));
    let approval = async {
        until_it_waits().await;
        world.approve(&id, alice, Owner::User(alice)).await;
    };
    let (answer, ()) = timeout(PATIENCE / 2, async { tokio::join!(followup, approval) }).await.unwrap();
    assert_in(&answer, "alice");
    assert_eq!(world.only_node().register_method, RegisterMethod::Cli);
}

#[tokio::test]
async fn a_tagged_node_joins_by_the_web() {
    let world = World::new();
    let alice = world.user("alice").await;
    let hostinfo = json!({"Hostinfo": {"Hostname": "srv", "RequestTags": ["tag:server"]}});
    let asked = register(&world.one, MACHINE, node_key(1), hostinfo).await;
    let id = login_id(&asked);
    assert_eq!(world.cluster.view().login(&id).unwrap().hostinfo.request_tags, ["tag:server"]);
    world.approve(&id, alice, tags(&["tag:server"])).await;
    let answer = register(&world.one, MACHINE, node_key(1), json!({"Followup": asked["AuthURL"]})).await;
    assert_in(&answer, "tagged-devices");
    assert_eq!(world.only_node().owner, tags(&["tag:server"]));
}

#[tokio::test]
async fn a_client_that_asks_after_the_approval_on_another_replica_gets_in() {
    let world = World::new();
    let alice = world.user("alice").await;
    let asked = register(&world.one, MACHINE, node_key(1), json!({})).await;
    world.approve(&login_id(&asked), alice, Owner::User(alice)).await;
    for router in [&world.two, &world.one, &world.two] {
        let answer = register(router, MACHINE, node_key(1), json!({"Followup": asked["AuthURL"]})).await;
        assert_in(&answer, "alice");
    }
    world.only_node();
}

#[tokio::test]
async fn a_followup_without_a_verdict_is_held_and_then_gets_the_same_login() {
    let patience = Duration::from_millis(200);
    let world = World::with_patience(patience);
    let asked = register(&world.one, MACHINE, node_key(1), json!({})).await;
    let began = tokio::time::Instant::now();
    let again = register(&world.two, MACHINE, node_key(1), json!({"Followup": asked["AuthURL"]})).await;
    assert!(began.elapsed() >= patience, "held");
    assert_eq!(login_id(&again), login_id(&asked));
    assert!(again["AuthURL"].as_str().unwrap().starts_with("http://127.0.0.2:8080/register/"), "{again}");
}

#[tokio::test]
async fn a_followup_that_nobody_knows_gets_a_new_login_at_once() {
    let world = World::new();
    let unknown = AuthId::generate();
    for url in [format!("http://127.0.0.1:8080/register/{unknown}"), "nonsense".into(), "/".into()] {
        let answer = register(&world.one, MACHINE, node_key(1), json!({"Followup": url})).await;
        assert_ne!(login_id(&answer), unknown);
        assert!(world.cluster.view().login(&login_id(&answer)).is_some());
    }
}

#[tokio::test]
async fn a_followup_from_another_machine_learns_nothing_of_the_login() {
    let world = World::new();
    let alice = world.user("alice").await;
    let asked = register(&world.one, MACHINE, node_key(1), json!({})).await;
    let followup = json!({"Followup": asked["AuthURL"]});
    let stranger = register(&world.one, OTHER_MACHINE, node_key(2), followup.clone()).await;
    assert_ne!(login_id(&stranger), login_id(&asked));
    world.approve(&login_id(&asked), alice, Owner::User(alice)).await;
    let stranger = register(&world.one, OTHER_MACHINE, node_key(2), followup.clone()).await;
    assert_eq!(stranger["MachineAuthorized"], false);
    let stranger = register(&world.one, OTHER_MACHINE, node_key(1), followup).await;
    assert_eq!(stranger["Error"], "machine key does not match");
}

#[tokio::test]
async fn a_rejected_login_says_so() {
    let world = World::new();
    let asked = register(&world.one, MACHINE, node_key(1), json!({})).await;
    let id = login_id(&asked);
    let followup = register(&world.two, MACHINE, node_key(1), json!({"Followup": asked["AuthURL"]}));
    let rejection = async {
        until_it_waits().await;
        world.write(Command::DecideLogin { auth_id: id.clone(), approve: false }).await;
    };
    let (answer, ()) = timeout(PATIENCE / 2, async { tokio::join!(followup, rejection) }).await.unwrap();
    assert_eq!(answer["Error"], "this login was rejected by an administrator");
    assert_eq!(world.cluster.view().login(&id).unwrap().verdict, Verdict::Rejected);
}

#[tokio::test]
async fn a_login_that_was_approved_without_a_node_starts_again() {
    let world = World::new();
    let asked = register(&world.one, MACHINE, node_key(1), json!({})).await;
    world.write(Command::DecideLogin { auth_id: login_id(&asked), approve: true }).await;
    let again = register(&world.one, MACHINE, node_key(1), json!({"Followup": asked["AuthURL"]})).await;
    assert_ne!(login_id(&again), login_id(&asked));
}

#[tokio::test]
async fn a_single_use_key_registers_exactly_one_node() {
    let world = World::new();
    let alice = world.user("alice").await;
    let key = world.key(Owner::User(alice), false, false).await;
    assert_in(&register(&world.one, MACHINE, node_key(1), with_key(&key)).await, "alice");
    let refused = register(&world.two, OTHER_MACHINE, node_key(2), with_key(&key)).await;
    assert_eq!(refused["Error"], "authkey already used");
    assert_eq!(refused["MachineAuthorized"], false);
    world.only_node();
}

#[tokio::test]
async fn of_many_machines_that_use_a_single_use_key_at_once_one_gets_in() {
    let world = World::new();
    let alice = world.user("alice").await;
    let key = world.key(Owner::User(alice), false, false).await;
    let attempts = (1..=200).map(|i| {
        let router = if i % 2 == 0 { &world.one } else { &world.two };
        register(router, MachineKey([i; 32]), node_key(i), with_key(&key))
    });
    let answers = futures::future::join_all(attempts).await;
    assert_eq!(answers.iter().filter(|answer| answer["MachineAuthorized"] == true).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer["Error"] == "authkey already used").count(), 199);
    world.only_node();
}

#[tokio::test]
async fn a_registration_that_is_repeated_registers_once() {
    let world = World::new();
    let alice = world.user("alice").await;
    let key = world.key(Owner::User(alice), false, false).await;
    for router in [&world.one, &world.two, &world.one] {
        assert_in(&register(router, MACHINE, node_key(1), with_key(&key)).await, "alice");
    }
    assert_eq!(world.only_node().id, NodeId(1));
}

#[tokio::test]
async fn a_client_that_comes_back_is_let_in_unchanged() {
    let world = World::new();
    let alice = world.user("alice").await;
    let key = world.key(Owner::User(alice), false, false).await;
    register(&world.one, MACHINE, node_key(1), with_key(&key)).await;
    let before = world.only_node();
    assert_in(&register(&world.two, MACHINE, node_key(1), json!({})).await, "alice");
    assert_eq!(world.only_node(), before);
}

#[tokio::test]
async fn keys_that_do_not_let_in_say_why() {
    let world = World::new();
    let alice = world.user("alice").await;
    let malformed = "invalid pre auth key: expected \"hskey-auth-\", 12 hex digits, \"-\" and 64 hex digits";
    for text in ["x", "hskey-auth-", "hskey-auth-0123456789ab", "hskey-auth-0123456789ab-00", "tskey-auth-a-b"] {
        let answer = register(&world.one, MACHINE, node_key(1), with_key(text)).await;
        assert_eq!(answer["Error"], malformed, "{text}");
    }
    let index = world.cluster.view().index();
    let unknown = format!("hskey-auth-0123456789ab-{}", "0".repeat(64));
    let answer = register(&world.one, MACHINE, node_key(1), with_key(&unknown)).await;
    assert_eq!(answer["Error"], "invalid pre auth key");
    assert_eq!(world.cluster.view().index(), index, "nothing was written");
    let key = world.key(Owner::User(alice), true, false).await;
    let id = world.cluster.view().pre_auth_keys().next().unwrap().id;
    world.write(Command::ExpirePreAuthKey { id }).await;
    let answer = register(&world.one, MACHINE, node_key(1), with_key(&key)).await;
    assert_eq!(answer["Error"], "authkey expired");
    assert_eq!(world.cluster.view().node_count(), 0);
}

#[tokio::test]
async fn a_secret_that_does_not_match_its_prefix_is_an_invalid_key() {
    let world = World::new();
    let alice = world.user("alice").await;
    let key = world.key(Owner::User(alice), true, false).await;
    let forged = format!("{}{}", &key[..key.len() - 64], "0".repeat(64));
    let answer = register(&world.one, MACHINE, node_key(1), with_key(&forged)).await;
    assert_eq!(answer["Error"], "invalid pre auth key");
}

#[tokio::test]
async fn a_tagged_key_with_requested_tags_is_refused() {
    let world = World::new();
    let key = world.key(tags(&["tag:web"]), true, false).await;
    let mut more = with_key(&key);
    more["Hostinfo"] = json!({"Hostname": "h", "RequestTags": ["tag:db"]});
    let answer = register(&world.one, MACHINE, node_key(1), more).await;
    assert!(answer["Error"].as_str().unwrap().contains("invalid or not permitted"), "{answer}");
    assert_eq!(world.cluster.view().node_count(), 0);
}

#[tokio::test]
async fn a_tag_that_cannot_be_one_is_refused_before_anybody_is_asked() {
    let world = World::new();
    for (tag, reason) in [("server", "tag must start with the string 'tag:'"), ("tag:UP", "tag should be lowercase")] {
        let more = json!({"Hostinfo": {"Hostname": "h", "RequestTags": ["tag:good", tag]}});
        let answer = register(&world.one, MACHINE, node_key(1), more).await;
        assert_eq!(answer["Error"], format!("requested tags [{tag}] are invalid or not permitted: {reason}"));
        assert_eq!(answer["AuthURL"], "");
    }
}

#[tokio::test]
async fn logging_out_expires_the_key_and_may_be_repeated() {
    let world = World::new();
    let alice = world.user("alice").await;
    let key = world.key(Owner::User(alice), true, false).await;
    register(&world.one, MACHINE, node_key(1), with_key(&key)).await;
    // Clients send their auth key along.
    let mut more = with_key(&key);
    more["Expiry"] = json!("1970-01-01T00:02:03Z");
    for router in [&world.one, &world.two] {
        let answer = register(router, MACHINE, node_key(1), more.clone()).await;
        assert_eq!((&answer["Error"], &answer["NodeKeyExpired"]), (&json!(""), &json!(true)), "{answer}");
    }
    let node = world.only_node();
    assert!(node.expiry.is_some_and(|expiry| expiry <= Time::now() && expiry > Time::now() - PATIENCE), "{node:?}");
    // The next start learns that it needs a new key, and gets in with one.
    let answer = register(&world.one, MACHINE, node_key(1), json!({})).await;
    assert_eq!(answer["NodeKeyExpired"], true);
    assert_in(&register(&world.one, MACHINE, node_key(2), with_key(&key)).await, "alice");
    assert_eq!(world.only_node().id, node.id);
}

#[tokio::test]
async fn an_ephemeral_node_that_logs_out_is_gone_and_a_repetition_does_not_bring_it_back() {
    let world = World::new();
    let alice = world.user("alice").await;
    let key = world.key(Owner::User(alice), true, true).await;
    register(&world.one, MACHINE, node_key(1), with_key(&key)).await;
    let mut more = with_key(&key);
    more["Expiry"] = json!("1970-01-01T01:02:03+01:00");
    for _ in 0..2 {
        let answer = register(&world.one, MACHINE, node_key(1), more.clone()).await;
        assert_eq!((&answer["Error"], &answer["NodeKeyExpired"]), (&json!(""), &json!(true)), "{answer}");
        assert_eq!(world.cluster.view().node_count(), 0);
    }
}

#[tokio::test]
async fn nobody_logs_out_or_takes_over_another_machines_node() {
    let world = World::new();
    let alice = world.user("alice").await;
    let key = world.key(Owner::User(alice), true, false).await;
    register(&world.one, MACHINE, node_key(1), with_key(&key)).await;
    let before = world.only_node();
    let logout = json!({"Expiry": "1970-01-01T00:02:03Z"});
    let answer = register(&world.one, OTHER_MACHINE, node_key(1), logout).await;
    assert_eq!(answer["Error"], "machine key does not match");
    let answer = register(&world.one, OTHER_MACHINE, node_key(1), json!({})).await;
    assert_eq!(answer["Error"], "machine key does not match");
    let answer = register(&world.one, OTHER_MACHINE, node_key(1), with_key(&key)).await;
    assert_eq!(answer["Error"], "node key already in use by another machine");
    assert_eq!(world.only_node(), before);
}

#[tokio::test]
async fn an_expired_node_logs_in_anew_and_stays_the_same_node() {
    let world = World::new();
    let alice = world.user("alice").await;
    let key = world.key(Owner::User(alice), false, false).await;
    register(&world.one, MACHINE, node_key(1), with_key(&key)).await;
    let node = world.only_node();
    world.write(Command::SetNodeExpiry { id: node.id, expiry: Expiry::Now }).await;

    let expired = register(&world.two, MACHINE, node_key(1), json!({})).await;
    assert_eq!((&expired["NodeKeyExpired"], &expired["AuthURL"]), (&json!(true), &json!("")), "{expired}");
    let asked = register(&world.two, MACHINE, node_key(2), json!({"OldNodeKey": node_key(1)})).await;
    // The old key stays until somebody approves.
    assert!(world.node(node_key(1)).is_some());
    world.approve(&login_id(&asked), alice, Owner::User(alice)).await;
    let answer = register(&world.one, MACHINE, node_key(2), json!({"Followup": asked["AuthURL"]})).await;
    assert_in(&answer, "alice");
    let renewed = world.only_node();
    assert_eq!((renewed.id, renewed.node_key, renewed.ipv4), (node.id, node_key(2), node.ipv4));
    assert!(world.node(node_key(1)).is_none());
}

#[tokio::test]
async fn a_client_may_shorten_its_keys_life_and_never_lengthen_it() {
    let world = World::new();
    let alice = world.user("alice").await;
    let key = world.key(Owner::User(alice), false, false).await;
    register(&world.one, MACHINE, node_key(1), with_key(&key)).await;
    let id = world.only_node().id;
    let in_a_day = Time::now() + Duration::from_secs(86_400);
    world.write(Command::SetNodeExpiry { id, expiry: Expiry::At(in_a_day) }).await;
    let in_two_days = (in_a_day + Duration::from_secs(86_400)).to_string();
    let answer = register(&world.one, MACHINE, node_key(1), json!({"Expiry": in_two_days})).await;
    assert_eq!(answer["Error"], "extending key is not allowed");
    let in_an_hour = Time::now() + Duration::from_secs(3600);
    assert_in(&register(&world.one, MACHINE, node_key(1), json!({"Expiry": in_an_hour.to_string()})).await, "alice");
    assert_eq!(world.only_node().expiry, Some(in_an_hour));
}

#[tokio::test]
async fn a_flood_of_logins_from_one_address_is_told_to_wait() {
    let world = World::new();
    let mut answers: Vec<Answer> = Vec::new();
    for i in 0..2000_u16 {
        let key = NodeKey([[i as u8; 16], [(i >> 8) as u8 + 1; 16]].concat().try_into().unwrap());
        let answer = post(&world.one, MACHINE, "/machine/register", request(key, json!({}))).await;
        let refused = answer.status != StatusCode::OK;
        answers.push(answer);
        if refused {
            break;
        }
    }
    let last = answers.last().unwrap();
    assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS, "refused within 2000 logins");
    let seconds: u64 = last.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3600).contains(&seconds), "{seconds}");
    // Others still come in, and older clients get words that they understand.
    assert_ne!(register(&world.one, OTHER_MACHINE, node_key(9), json!({})).await["AuthURL"], "");
    let answer = register(&world.one, MACHINE, node_key(250), json!({"Version": 136})).await;
    assert!(answer["Error"].as_str().unwrap().starts_with("too many logins"), "{answer}");
}

#[tokio::test]
async fn every_answer_has_all_seven_keys_and_nothing_to_escape() {
    let world = World::new();
    let command = Command::CreateUser {
        name: "alice".into(),
        display_name: "Alice \"A\" \\ Liddell\n".into(),
        email: "alice@example.org".into(),
        profile_pic_url: String::new(),
    };
    let Done::User(alice) = world.write(command).await else { panic!("a user") };
    let key = world.key(Owner::User(alice.id), false, false).await;
    let asked = post(&world.one, MACHINE, "/machine/register", request(node_key(1), json!({}))).await;
    let refused = post(&world.one, MACHINE, "/machine/register", request(node_key(1), with_key("x"))).await;
    let joined = post(&world.one, MACHINE, "/machine/register", request(node_key(1), with_key(&key))).await;
    for answer in [&asked, &refused, &joined] {
        let answer = answer.json();
        let keys: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        let all = ["AuthURL", "Error", "Login", "MachineAuthorized", "NodeKeyExpired", "NodeKeySignature", "User"];
        assert_eq!(keys, all);
        assert!(answer["Login"]["Provider"].is_string() && answer["Login"]["ID"].is_u64(), "{answer}");
    }
    assert!(!joined.text.contains('\\'), "{}", joined.text);
    assert_eq!(joined.json()["Login"]["LoginName"], "alice@example.org");
    assert_eq!(joined.json()["User"]["DisplayName"], "Alice 'A' / Liddell ");
}

#[tokio::test]
async fn requests_that_cannot_be_read_are_refused_and_change_nothing() {
    let world = World::new();
    let index = world.cluster.view().index();
    let old = request(node_key(1), json!({"Version": 112}));
    let answer = post(&world.one, MACHINE, "/machine/register", old).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.text, "unsupported client version 112: Tailscale 1.80 or newer is needed");
    for body in ["", "{", "[]", "{\"Version\":142}", "{\"Version\":142,\"NodeKey\":\"nodekey:00\"}"] {
        let answer = post(&world.one, MACHINE, "/machine/register", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
    }
    assert_eq!(world.cluster.view().index(), index);
}

#[tokio::test]
async fn a_new_nodes_address_is_from_its_policys_pool() {
    let world = World::new();
    let alice = world.user("alice").await;
    let text = r#"{"nodeAttrs": [{"target": ["alice@"], "ipPool": ["100.81.0.0/16"]}]}"#.to_owned();
    world.write(Command::SetPolicy { text, author: String::new(), expected_version: None }).await;
    let key = world.key(Owner::User(alice), false, false).await;
    register(&world.one, MACHINE, node_key(1), with_key(&key)).await;
    assert_eq!(world.only_node().ipv4, Some("100.81.0.1".parse().unwrap()));
}
