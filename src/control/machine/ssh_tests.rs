use super::super::testing::{get, machine_router};
use super::*;
use crate::control::testing::cluster;
use crate::state::{Done, Owner, Registration, SecretHash};
use crate::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};
use axum::Router;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const SOURCE: MachineKey = MachineKey([1; 32]);
const DESTINATION: MachineKey = MachineKey([2; 32]);
/// Far more than anything here takes.
const ENOUGH: Duration = Duration::from_secs(10);

/// Two replicas of one cluster, with the laptop of alice and a tagged server.
struct World {
    cluster: Cluster,
    one: Router,
    two: Router,
    laptop: NodeId,
    server: NodeId,
}

impl World {
    async fn new(patience: Duration, rule: &str) -> Self {
        let cluster = cluster();
        let one = machine_router(&cluster, "http://127.0.0.1:8080", patience);
        let two = machine_router(&cluster, "http://127.0.0.2:8080", patience);
        let create = Command::CreateUser {
            name: "alice".into(),
            display_name: String::new(),
            email: String::new(),
            profile_pic_url: String::new(),
        };
        let Done::User(alice) = cluster.write(create).await.unwrap() else { panic!("not a user") };
        let laptop = join(&cluster, SOURCE, Owner::User(alice.id)).await;
        let tags = BTreeSet::from(["tag:server".parse().unwrap()]);
        let server = join(&cluster, DESTINATION, Owner::Tags(tags)).await;
        let world = Self { cluster, one, two, laptop, server };
        world.policy(rule).await;
        world
    }

    async fn policy(&self, rule: &str) {
        let text = format!(
            r#"{{"tagOwners": {{"tag:server": ["alice@"]}},
                 "ssh": [{{{rule}, "src": ["alice@"], "dst": ["tag:server"], "users": ["deploy"]}}]}}"#
        );
        let put = Command::PutPolicy { text, author: String::new(), expected_version: None, restores: None };
        self.cluster.write(put).await.unwrap();
    }

    fn path(&self, user: &str) -> String {
        format!("/machine/ssh/action/{}/to/{}?local_user={user}", self.laptop, self.server)
    }

    async fn ask(&self, router: &Router, path: &str) -> Value {
        get(router, DESTINATION, path).await.json()
    }

    /// Asks for a session, which has to be approved: the way to its verdict.
    async fn hold(&self, router: &Router) -> Hold {
        let action = self.ask(router, &self.path("deploy")).await;
        let url = action["holdAndDelegate"].as_str().unwrap_or_else(|| panic!("no hold: {action}"));
        let path = url.strip_prefix("https://unused").expect("a path of this server").to_owned();
        let id = path.rsplit_once("auth_id=").expect("an id").1.parse().expect("an id");
        Hold { message: action["message"].as_str().unwrap_or_default().to_owned(), path, id }
    }

    async fn decide(&self, hold: &Hold, approve: bool) {
        let command = Command::DecideSshCheck { auth_id: hold.id.clone(), approve, by: "carol".into() };
        self.cluster.write(command).await.unwrap();
    }
}

struct Hold {
    message: String,
    path: String,
    id: AuthId,
}

async fn join(cluster: &Cluster, machine_key: MachineKey, owner: Owner) -> NodeId {
    let (prefix, hash) = (hex::encode(machine_key.0), SecretHash::of("secret"));
    let create = Command::CreatePreAuthKey {
        prefix: prefix.clone(),
        hash,
        owner,
        reusable: false,
        ephemeral: false,
        expiration: None,
    };
    cluster.write(create).await.unwrap();
    let registration = Registration {
        machine_key,
        node_key: NodeKey(machine_key.0),
        hostinfo: Hostinfo::default(),
        cap_ver: CapVer(142),
        expiry: None,
        seed: 1,
        v4_pools: Vec::new(),
    };
    match cluster.write(Command::RegisterWithKey { prefix, hash, registration }).await {
        Ok(Done::Node(id)) => id,
        other => panic!("{other:?}"),
    }
}

const CHECK: &str = r#""action": "check", "checkPeriod": "1h""#;

fn accepted() -> Value {
    json!({
        "accept": true, "allowAgentForwarding": true,
        "allowLocalPortForwarding": true, "allowRemotePortForwarding": true,
    })
}

#[tokio::test]
async fn a_session_waits_on_one_replica_for_an_approval_on_another_which_is_remembered() {
    let world = World::new(ENOUGH, CHECK).await;
    let hold = world.hold(&world.one).await;
    assert!(hold.message.contains(&format!("http://127.0.0.1:8080/auth/{}", hold.id)), "{}", hold.message);
    // The client comes back to the other replica, as after the death of the first.
    let waits = world.ask(&world.two, &hold.path);
    let (action, ()) = tokio::join!(waits, world.decide(&hold, true));
    assert_eq!(action, accepted());
    assert_eq!(world.ask(&world.one, &world.path("deploy")).await, accepted(), "it is remembered");
    assert_eq!(world.ask(&world.two, &hold.path).await, accepted(), "asking again changes nothing");
    world.policy(r#""action": "check", "checkPeriod": "2h""#).await;
    world.hold(&world.two).await;
}

#[tokio::test]
async fn a_rejected_session_is_refused_and_the_next_one_is_asked_about_again() {
    let world = World::new(ENOUGH, CHECK).await;
    let hold = world.hold(&world.one).await;
    let (action, ()) = tokio::join!(world.ask(&world.one, &hold.path), world.decide(&hold, false));
    assert_eq!(action, json!({"reject": true, "message": "# This session was rejected by an administrator.\r\n"}));
    assert_ne!(world.hold(&world.one).await.id, hold.id);
}

#[tokio::test]
async fn a_session_that_nobody_decides_about_is_sent_to_ask_again_without_a_message() {
    let world = World::new(Duration::from_millis(20), CHECK).await;
    let hold = world.hold(&world.one).await;
    let again = world.ask(&world.two, &hold.path).await;
    assert_eq!(again, json!({"holdAndDelegate": format!("https://unused{}", hold.path)}));
}

#[tokio::test]
async fn with_always_each_session_needs_its_own_approval() {
    let world = World::new(ENOUGH, r#""action": "check", "checkPeriod": "always""#).await;
    let hold = world.hold(&world.one).await;
    world.decide(&hold, true).await;
    assert_eq!(world.ask(&world.one, &hold.path).await, accepted());
    assert_ne!(world.hold(&world.one).await.id, hold.id);
}

#[tokio::test]
async fn only_the_destination_may_ask_and_it_cannot_use_the_check_of_others() {
    let world = World::new(ENOUGH, CHECK).await;
    let status = async |machine, path: &str| get(&world.one, machine, path).await.status;
    assert_eq!(status(SOURCE, &world.path("deploy")).await, StatusCode::UNAUTHORIZED);
    let nobody = format!("/machine/ssh/action/{}/to/99?local_user=deploy", world.laptop);
    assert_eq!(status(DESTINATION, &nobody).await, StatusCode::NOT_FOUND);
    assert_eq!(status(DESTINATION, "/machine/ssh/action/x/to/2").await, StatusCode::BAD_REQUEST);

    // An approved check of this session is none for another one.
    let hold = world.hold(&world.one).await;
    world.decide(&hold, true).await;
    world.policy(r#""action": "check""#).await;
    let other = format!("{}&auth_id={}", world.path("root"), hold.id);
    let action = world.ask(&world.one, &other).await;
    assert_eq!(action["reject"], true, "the policy names deploy alone: {action}");
    let unknown = format!("{}&auth_id={}", world.path("deploy"), AuthId::generate());
    let action = world.ask(&world.one, &unknown).await;
    assert!(action["holdAndDelegate"].is_string(), "an unknown check is a new one: {action}");
}

#[tokio::test]
async fn the_policy_of_the_moment_decides_not_the_one_that_the_client_saw() {
    let world = World::new(ENOUGH, CHECK).await;
    let hold = world.hold(&world.one).await;
    world.decide(&hold, true).await;
    world.policy(r#""action": "accept""#).await;
    assert_eq!(world.ask(&world.one, &hold.path).await, accepted());
    assert_eq!(world.ask(&world.one, &world.path("root")).await["reject"], true);
    let put = Command::PutPolicy { text: "{}".into(), author: String::new(), expected_version: None, restores: None };
    world.cluster.write(put).await.unwrap();
    let action = world.ask(&world.one, &hold.path).await;
    assert_eq!(action["message"], "# The policy does not allow this session.\r\n", "{action}");
}

#[test]
fn an_account_cannot_break_out_of_the_url() {
    let session = Session { source: NodeId(1), destination: NodeId(2), local_user: "a&auth_id=$DST_NODE_ID é" };
    let id: AuthId = "hskey-authreq-000000000000000000000001".parse().unwrap();
    let url = "https://unused/machine/ssh/action/1/to/2?local_user=a%26auth_id%3D%24DST_NODE_ID%20%C3%A9&auth_id=";
    assert_eq!(session.url(&id), format!("{url}{id}"));
}
