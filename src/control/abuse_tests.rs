//! Floods, and the clients that come meanwhile. (Each from an address of its own.)

use super::machine::testing::limited_router;
use super::noise::Initiator;
use super::testing::{Client, Server, cluster};
use crate::cluster::Cluster;
use crate::limits::Limits;
use crate::state::{Command, Owner, SecretHash};
use crate::tailcfg::{NodeKey, PrivateKey};
use base64::Engine;
use http::StatusCode;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Where the flood comes from, and the client.
const FLOOD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);

fn limits() -> Limits {
    Limits { handshakes: 4, handshakes_per_address: 2, strangers: 20, failed_keys_per_minute: 5, ..Limits::default() }
}

struct World {
    cluster: Cluster,
    server: Server,
}

impl World {
    async fn new(limits: Limits) -> Self {
        let cluster = cluster();
        let machine = limited_router(&cluster, "http://127.0.0.1:8080", PATIENCE, limits);
        let server = Server::with_limits(cluster.clone(), machine, limits).await;
        Self { cluster, server }
    }

    /// A reusable key that lets machines in.
    async fn key(&self, prefix: &str) -> String {
        let create = Command::CreatePreAuthKey {
            prefix: prefix.into(),
            hash: SecretHash::of(SECRET),
            owner: Owner::Tags(["tag:server".parse().unwrap()].into()),
            reusable: true,
            ephemeral: false,
            expiration: None,
        };
        self.cluster.write(create).await.unwrap();
        format!("hskey-auth-{prefix}-{SECRET}")
    }

    async fn tcp(&self, from: Ipv4Addr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(self.server.addr).await.unwrap()
    }

    /// Begins a handshake, and does nothing more about it.
    async fn half_open(&self, from: Ipv4Addr) -> TcpStream {
        let initiator = Initiator::new(&PrivateKey::generate(), &self.server.key, 142);
        let mut tcp = self.tcp(from).await;
        tcp.write_all(upgrade(&initiator).as_bytes()).await.unwrap();
        tcp
    }

    async fn connect(&self, from: Ipv4Addr, machine: &PrivateKey) -> Client {
        let initiator = Initiator::new(machine, &self.server.key, 142);
        let mut tcp = self.tcp(from).await;
        tcp.write_all(upgrade(&initiator).as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        Client::over(initiator.connect(tcp).await.unwrap()).await
    }
}

fn upgrade(initiator: &Initiator) -> String {
    let handshake = base64::engine::general_purpose::STANDARD.encode(&initiator.initiation);
    format!(
        "POST /ts2021 HTTP/1.1\r\nHost: x\r\nUpgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n\
         X-Tailscale-Handshake: {handshake}\r\n\r\n"
    )
}

fn registration(key: Option<&str>) -> String {
    let mut body = json!({
        "Version": 142, "NodeKey": NodeKey(rand::random()).to_string(), "Hostinfo": {"Hostname": "laptop"},
    });
    if let Some(key) = key {
        body["Auth"] = json!({"AuthKey": key});
    }
    body.to_string()
}

async fn register(client: &Client, key: Option<&str>) -> (StatusCode, Option<u64>, Value) {
    use http_body_util::BodyExt;
    let response = client.start("POST", "/machine/register", registration(key)).await.unwrap();
    let status = response.status();
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, retry_after, serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body))))
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE / 2, work).await.expect("it is not made to wait")
}

#[tokio::test]
async fn a_flood_of_half_open_handshakes_makes_no_other_address_wait() {
    let world = World::new(limits()).await;
    let mut flood = Vec::new();
    for _ in 0..10 {
        flood.push(world.half_open(FLOOD).await);
    }
    let client = within(world.connect(CLIENT, &PrivateKey::generate())).await;
    assert_eq!(client.ask("GET", "/machine/whoami", "").await.0, StatusCode::OK);
    // Those over the limit wait, they are not refused: as soon as the first two go, the next are answered.
    let mut third = flood.remove(2);
    assert!(timeout(Duration::from_millis(50), third.read_u8()).await.is_err(), "the third waits");
    drop(flood.drain(..2));
    assert_eq!(within(third.read_u8()).await.unwrap(), b'H');
}

#[tokio::test]
async fn a_node_does_not_wait_for_strangers_behind_its_address() {
    let world = World::new(limits()).await;
    let key = world.key("0123456789ab").await;
    let machine = PrivateKey::generate();
    let (status, _, answer) = register(&world.connect(CLIENT, &machine).await, Some(&key)).await;
    assert!(status.is_success() && answer["MachineAuthorized"] == true, "{answer}");
    let mut flood = Vec::new();
    for _ in 0..10 {
        flood.push(world.half_open(CLIENT).await);
    }
    within(world.connect(CLIENT, &machine)).await;
}

#[tokio::test]
async fn a_thousand_nodes_behind_one_address_come_back_after_an_outage() {
    let world = World::new(Limits { handshakes: 8, handshakes_per_address: 1, ..limits() }).await;
    let key = world.key("0123456789ab").await;
    let machines: Vec<PrivateKey> = (0..100).map(|_| PrivateKey::generate()).collect();
    for machine in &machines {
        let client = world.connect(CLIENT, machine).await;
        let (_, _, answer) = register(&client, Some(&key)).await;
        assert_eq!(answer["MachineAuthorized"], true, "{answer}");
    }
    let all = machines.iter().cycle().take(1000);
    let back = futures::future::join_all(all.map(|machine| world.connect(CLIENT, machine)));
    let clients = timeout(PATIENCE * 6, back).await.expect("all come back");
    assert_eq!(clients.len(), 1000);
    assert!(clients.iter().all(|client| !client.closed.is_finished()), "nobody is pushed out");
}

#[tokio::test]
async fn strangers_that_stay_push_out_only_those_of_their_own_address() {
    let world = World::new(Limits { handshakes_per_address: 4, ..limits() }).await;
    let client = world.connect(CLIENT, &PrivateKey::generate()).await;
    let mut flood = Vec::new();
    for _ in 0..40 {
        flood.push(within(world.connect(FLOOD, &PrivateKey::generate())).await);
    }
    within(flood.remove(0).closed).await.unwrap();
    assert_eq!(client.ask("GET", "/machine/whoami", "").await.0, StatusCode::OK);
    assert_eq!(flood.pop().unwrap().ask("GET", "/machine/whoami", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn keys_that_open_nothing_are_limited_by_address_and_good_ones_are_not() {
    let world = World::new(limits()).await;
    let key = world.key("0123456789ab").await;
    let flood = world.connect(FLOOD, &PrivateKey::generate()).await;
    let bad = format!("hskey-auth-ba9876543210-{SECRET}");
    for _ in 0..5 {
        let (status, _, answer) = register(&flood, Some(&bad)).await;
        assert_eq!((status, &answer["Error"]), (StatusCode::OK, &json!("invalid pre auth key")));
    }
    for wrong in [bad.as_str(), "nonsense"] {
        let (status, retry_after, answer) = register(&flood, Some(wrong)).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{answer}");
        assert!((1..=60).contains(&retry_after.unwrap()), "{retry_after:?}");
    }
    // Neither another address, nor a good key of the same, nor another kind of request.
    let client = world.connect(CLIENT, &PrivateKey::generate()).await;
    assert_eq!(register(&client, Some(&bad)).await.0, StatusCode::OK);
    assert_eq!(register(&flood, Some(&key)).await.2["MachineAuthorized"], true);
    let waiting = register(&world.connect(FLOOD, &PrivateKey::generate()).await, None).await.2;
    assert!(waiting["AuthURL"].as_str().is_some_and(|url| !url.is_empty()), "{waiting}");
}

#[tokio::test]
async fn an_expired_key_costs_no_write_once_its_address_has_failed_too_often() {
    let world = World::new(limits()).await;
    let key = world.key("0123456789ab").await;
    let id = world.cluster.view().pre_auth_key_by_prefix("0123456789ab").unwrap().id;
    world.cluster.write(Command::ExpirePreAuthKey { id }).await.unwrap();
    let flood = world.connect(FLOOD, &PrivateKey::generate()).await;
    for _ in 0..5 {
        assert_eq!(register(&flood, Some(&key)).await.2["Error"], "authkey expired");
    }
    let before = world.cluster.view().index();
    assert_eq!(register(&flood, Some(&key)).await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(world.cluster.view().index(), before);
}

#[tokio::test]
async fn a_flood_of_logins_is_refused_without_a_write_and_pushes_none_out() {
    let world = World::new(Limits { pending_logins_per_address: 3, pending_logins: 5, ..limits() }).await;
    let flood = world.connect(FLOOD, &PrivateKey::generate()).await;
    let url = |answer: &Value| answer["AuthURL"].as_str().unwrap_or_default().to_owned();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(url(&register(&flood, None).await.2));
    }
    let before = world.cluster.view().index();
    let (status, retry_after, answer) = register(&flood, None).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{answer}");
    assert!((1..=900).contains(&retry_after.unwrap()), "{retry_after:?}");
    assert_eq!(world.cluster.view().index(), before, "it cost no write");
    let client = world.connect(CLIENT, &PrivateKey::generate()).await;
    waiting.push(url(&register(&client, None).await.2));
    for url in waiting {
        let id = url.rsplit('/').next().unwrap().parse().unwrap();
        assert!(world.cluster.view().login(&id).is_some(), "{url} still waits");
    }
}

#[tokio::test]
async fn logouts_of_nodes_that_are_not_there_are_limited_by_address_and_limit_nothing_else() {
    let world = World::new(Limits { lookups_per_minute: 5, ..limits() }).await;
    let key = world.key("0123456789ab").await;
    let flood = world.connect(FLOOD, &PrivateKey::generate()).await;
    let log_out = json!({
        "Version": 142, "NodeKey": NodeKey([9; 32]).to_string(), "Expiry": "2001-01-01T00:00:00Z", "Hostinfo": {},
    });
    for _ in 0..5 {
        assert_eq!(flood.ask("POST", "/machine/register", log_out.to_string()).await.0, StatusCode::OK);
    }
    let limited = flood.ask("POST", "/machine/register", log_out.to_string()).await.0;
    assert_eq!(limited, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(register(&flood, None).await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(register(&flood, Some(&key)).await.2["MachineAuthorized"], true, "a key is another kind");
    // Now it is a node.
    assert_eq!(flood.ask("POST", "/machine/register", log_out.to_string()).await.0, StatusCode::OK);
    let client = world.connect(CLIENT, &PrivateKey::generate()).await;
    assert!(register(&client, None).await.2["AuthURL"].as_str().is_some_and(|url| !url.is_empty()));
}

#[tokio::test]
async fn more_logins_may_wait_where_the_limits_say_so() {
    let world = World::new(Limits { pending_logins_per_address: 70, ..limits() }).await;
    let flood = world.connect(FLOOD, &PrivateKey::generate()).await;
    for number in 0..70 {
        let (status, _, answer) = register(&flood, None).await;
        assert_eq!(status, StatusCode::OK, "login {number}: {answer}");
    }
    assert_eq!(register(&flood, None).await.0, StatusCode::TOO_MANY_REQUESTS);
}
