use super::maps;
use super::testing::{Answer, post, request};
use crate::cluster::Cluster;
use crate::control::testing::cluster;
use crate::dns::DnsSettings;
use crate::netmap::{Environment, Hub};
use crate::policy::Policies;
use crate::state::{Command, Done, Node, Owner, Registration, SecretHash, Time};
use crate::tailcfg::{CapVer, DerpMap, DiscoKey, Hostinfo, MachineKey, NodeKey};
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const MACHINE: MachineKey = MachineKey([1; 32]);
const OTHER_MACHINE: MachineKey = MachineKey([2; 32]);
const KEY: NodeKey = NodeKey([1; 32]);
const DISCO: DiscoKey = DiscoKey([5; 32]);
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A replica with one node, `web1`.
struct World {
    cluster: Cluster,
    hub: Hub,
    router: Router,
}

impl World {
    async fn new() -> Self {
        let cluster = cluster();
        let hub = Hub::start(Environment {
            cluster: cluster.clone(),
            policies: Arc::new(Policies::default()),
            derp_map: watch::channel(Arc::new(DerpMap::default())).1,
            dns: watch::channel(Arc::new(DnsSettings::default())).1,
            domain: "127.0.0.1".into(),
            taildrop: true,
            logtail: false,
            auto_update: false,
            offline_grace: Duration::ZERO,
        });
        let world = Self { router: maps(&cluster, &hub, Default::default()), cluster, hub };
        world.join().await;
        world
    }

    async fn join(&self) {
        let user = Command::CreateUser {
            name: "alice".into(),
            display_name: String::new(),
            email: String::new(),
            profile_pic_url: String::new(),
        };
        let Ok(Done::User(user)) = self.cluster.write(user).await else { panic!("a user") };
        let (prefix, hash) = ("0123456789ab".to_owned(), SecretHash::of("secret"));
        let expiration = Some(Time::now() + Duration::from_secs(3600));
        let owner = Owner::User(user.id);
        let (reusable, ephemeral) = (false, false);
        let key = Command::CreatePreAuthKey { prefix: prefix.clone(), hash, owner, reusable, ephemeral, expiration };
        self.cluster.write(key).await.unwrap();
        let hostinfo =
            Hostinfo { hostname: "web1".into(), json: r#"{"Hostname":"web1"}"#.into(), ..Hostinfo::default() };
        let (machine_key, node_key, cap_ver) = (MACHINE, KEY, CapVer(142));
        let registration =
            Registration { machine_key, node_key, hostinfo, cap_ver, expiry: None, seed: 1, v4_pools: Vec::new() };
        self.cluster.write(Command::RegisterWithKey { prefix, hash, registration }).await.unwrap();
    }

    fn node(&self) -> Arc<Node> {
        self.cluster.view().node_by_key(&KEY).unwrap().clone()
    }

    async fn map(&self, machine: MachineKey, more: Value) -> Answer {
        post(&self.router, machine, "/machine/map", ask(more)).await
    }

    /// A stream's body.
    async fn stream(&self, more: Value) -> Frames {
        let mut all = json!({"Stream": true, "KeepAlive": true});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let response = request(&self.router, MACHINE, "/machine/map", ask(all)).await;
        assert_eq!(response.status(), StatusCode::OK);
        Frames { body: response.into_body(), read: Vec::new() }
    }

    /// Waits until the hub has so many streams.
    async fn until_streams(&self, count: usize) {
        let wait = async {
            while self.hub.streams() != count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{} streams, not {count}", self.hub.streams()));
    }
}

fn ask(more: Value) -> String {
    let mut request = json!({"Version": 142, "NodeKey": KEY, "DiscoKey": DISCO, "Hostinfo": {"Hostname": "web1"}});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request.to_string()
}

/// The messages of a response, as a client takes them apart.
struct Frames {
    body: Body,
    read: Vec<u8>,
}

impl Frames {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some((length, rest)) = self.read.split_first_chunk::<4>() {
                let length = u32::from_le_bytes(*length) as usize;
                if rest.len() >= length {
                    let frame = Bytes::copy_from_slice(&rest[..length]);
                    self.read.drain(..4 + length);
                    return Some(frame);
                }
            }
            let next = timeout(PATIENCE, self.body.frame()).await.unwrap()?;
            self.read.extend_from_slice(&next.unwrap().into_data().unwrap());
        }
    }
}

fn only_frame(answer: &Answer) -> Value {
    let (length, json) = answer.bytes.split_first_chunk::<4>().unwrap();
    assert_eq!(u32::from_le_bytes(*length) as usize, json.len(), "one message, and then the end");
    serde_json::from_slice(json).unwrap()
}

#[tokio::test]
async fn a_stream_starts_with_the_node_itself_and_ends_when_the_client_goes() {
    let world = World::new().await;
    let mut frames = world.stream(json!({})).await;
    let first: Value = serde_json::from_slice(&frames.next().await.unwrap()).unwrap();
    assert_eq!(first["Node"]["Key"], KEY.to_string());
    assert_eq!(first["Node"]["DiscoKey"], DISCO.to_string());
    assert_eq!(world.hub.streams(), 1);
    assert!(world.cluster.view().is_online(world.node().id));
    drop(frames);
    world.until_streams(0).await;
}

#[tokio::test]
async fn a_stream_is_compressed_if_the_client_wants() {
    let world = World::new().await;
    let mut frames = world.stream(json!({"Compress": "zstd"})).await;
    let json = zstd::decode_all(&*frames.next().await.unwrap()).unwrap();
    let first: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(first["Node"]["Key"], KEY.to_string());
}

#[tokio::test]
async fn a_lite_update_is_applied_when_it_is_answered_and_disturbs_no_stream() {
    let world = World::new().await;
    let _frames = world.stream(json!({})).await;
    let lite = json!({
        "OmitPeers": true, "Endpoints": ["192.0.2.7:41641"], "EndpointTypes": [2],
        "Hostinfo": {"Hostname": "web1", "OS": "linux", "NetInfo": {"PreferredDERP": 901}}
    });
    let answer = world.map(MACHINE, lite).await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, ""));
    let node = world.node();
    assert_eq!(node.endpoints.len(), 1);
    assert_eq!((node.endpoints[0].addr, node.endpoints[0].kind), ("192.0.2.7:41641".parse().unwrap(), 2));
    assert_eq!(node.hostinfo.os, "linux");
    assert_eq!(node.hostinfo.preferred_derp, Some(901));
    assert_eq!(world.hub.streams(), 1);
}

#[tokio::test]
async fn a_stream_that_knows_less_does_not_wipe_what_is_known() {
    let world = World::new().await;
    let lite = json!({"OmitPeers": true, "Endpoints": ["192.0.2.7:41641"],
        "Hostinfo": {"Hostname": "web1", "NetInfo": {"PreferredDERP": 901}}});
    world.map(MACHINE, lite).await;
    let _frames = world.stream(json!({"DiscoKey": DiscoKey([0; 32])})).await;
    let node = world.node();
    assert_eq!(node.disco_key, Some(DISCO));
    assert_eq!(node.endpoints.len(), 1);
    assert_eq!(node.hostinfo.preferred_derp, Some(901));
}

#[tokio::test]
async fn an_update_of_nothing_but_the_relay_keeps_the_hosts_name() {
    let world = World::new().await;
    let lite = json!({"Version": 130, "OmitPeers": true, "Hostinfo": null,
        "HostInfo": {"Hostname": null, "NetInfo": {"PreferredDerp": 902}}});
    assert_eq!(world.map(MACHINE, lite).await.status, StatusCode::OK);
    let node = world.node();
    assert_eq!((node.hostinfo.hostname.as_str(), node.given_name.as_str()), ("web1", "web1"));
    assert_eq!(node.hostinfo.preferred_derp, Some(902));
}

#[tokio::test]
async fn a_request_without_a_stream_gets_one_whole_map() {
    let world = World::new().await;
    let answer = world.map(MACHINE, json!({"Endpoints": ["192.0.2.7:41641"]})).await;
    assert_eq!(only_frame(&answer)["Node"]["Key"], KEY.to_string());
    assert_eq!(world.node().endpoints.len(), 1);
    assert_eq!(world.hub.streams(), 0);
}

#[tokio::test]
async fn a_request_that_only_reads_stores_nothing() {
    let world = World::new().await;
    let before = world.node();
    for omit_peers in [false, true] {
        let more = json!({"ReadOnly": true, "OmitPeers": omit_peers, "Endpoints": ["192.0.2.7:41641"],
            "Hostinfo": {"Hostname": "other"}});
        let answer = world.map(MACHINE, more).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(only_frame(&answer)["Node"]["Key"], KEY.to_string());
    }
    assert_eq!(world.node(), before);
}

#[tokio::test]
async fn a_node_that_nobody_knows_is_not_found_in_any_mode() {
    let world = World::new().await;
    for mode in [json!({"Stream": true}), json!({"OmitPeers": true}), json!({}), json!({"ReadOnly": true})] {
        let mut unknown = mode.clone();
        unknown["NodeKey"] = json!(NodeKey([9; 32]));
        for answer in [world.map(MACHINE, unknown).await, world.map(OTHER_MACHINE, mode).await] {
            assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NOT_FOUND, "node not found"));
        }
    }
    assert_eq!(world.hub.streams(), 0);
    assert_eq!(world.node().endpoints.len(), 0);
}

#[tokio::test]
async fn map_requests_that_cannot_be_read_are_refused() {
    let world = World::new().await;
    let answer = world.map(MACHINE, json!({"Version": 112, "Stream": true})).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.text, "unsupported client version 112: Tailscale 1.80 or newer is needed");
    for body in ["", "{", "[]", "{\"Version\":142}"] {
        assert_eq!(post(&world.router, MACHINE, "/machine/map", body).await.status, StatusCode::BAD_REQUEST, "{body}");
    }
    let answer = world.map(MACHINE, json!({"OmitPeers": true, "Hostinfo": {"OS": 5}})).await;
    assert_eq!(answer.text, "field Hostinfo.OS: expected a string");
}

#[tokio::test]
async fn one_machine_cannot_hold_streams_without_bound() {
    let world = World::new().await;
    let mut held = Vec::new();
    for _ in 0..super::streams::MAX_STREAMS {
        let response = request(&world.router, MACHINE, "/machine/map", ask(json!({"Stream": true}))).await;
        assert_eq!(response.status(), StatusCode::OK);
        held.push(response);
    }
    let answer = world.map(MACHINE, json!({"Stream": true})).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    held.pop();
    let response = request(&world.router, MACHINE, "/machine/map", ask(json!({"Stream": true}))).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn maps_of_nodes_that_are_not_there_are_limited_by_address_and_a_nodes_are_not() {
    let limits = crate::limits::Limits { lookups_per_minute: 5, ..Default::default() };
    let mut world = World::new().await;
    world.router = maps(&world.cluster, &world.hub, limits);
    let (stranger, elsewhere) = (MachineKey([77; 32]), MachineKey([78; 32]));
    for _ in 0..5 {
        assert_eq!(world.map(stranger, json!({})).await.status, StatusCode::NOT_FOUND);
    }
    let answer = world.map(stranger, json!({})).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{}", answer.text);
    let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(world.map(elsewhere, json!({})).await.status, StatusCode::NOT_FOUND);
    // A node's own maps, and its mistakes, are in no such bound.
    for _ in 0..10 {
        assert_eq!(world.map(MACHINE, json!({})).await.status, StatusCode::OK);
        let other_key = json!({"NodeKey": NodeKey([99; 32])});
        assert_eq!(world.map(MACHINE, other_key).await.status, StatusCode::NOT_FOUND);
    }
}
