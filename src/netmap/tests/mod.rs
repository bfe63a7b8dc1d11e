//! What streams promise to clients, each against a cluster in memory.

mod sessions;
mod shapes;
mod streams;
mod strict;
mod views;

use super::{Environment, Hub, MapStream, StreamOptions};
use crate::cluster::Cluster;
use crate::dns::DnsSettings;
use crate::state::*;
use crate::tailcfg::{CapVer, DerpMap, DiscoKey, Hostinfo, MachineKey, NodeKey};
use futures::StreamExt;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// A grace that no test waits for.
const LONG: Duration = Duration::from_secs(3600);

/// A tailnet with one replica, whose hub is under test.
struct Tailnet {
    cluster: Cluster,
    hub: Hub,
    derp_map: watch::Sender<Arc<DerpMap>>,
    dns: watch::Sender<Arc<DnsSettings>>,
}

impl Tailnet {
    /// With the user `alice`, and the given grace.
    async fn new(offline_grace: Duration) -> Self {
        Self::with_keep_alive(offline_grace, LONG).await
    }

    async fn with_keep_alive(offline_grace: Duration, keep_alive: Duration) -> Self {
        Self::on(cluster(), offline_grace, keep_alive).await
    }

    async fn on(cluster: Cluster, offline_grace: Duration, keep_alive: Duration) -> Self {
        let derp_map = watch::Sender::new(Arc::default());
        let dns = watch::Sender::new(Arc::new(DnsSettings { magic_dns: true, ..DnsSettings::default() }));
        let environment = Environment {
            cluster: cluster.clone(),
            policies: Arc::default(),
            derp_map: derp_map.subscribe(),
            dns: dns.subscribe(),
            domain: "login.example.net".into(),
            taildrop: true,
            logtail: false,
            auto_update: false,
            offline_grace,
        };
        let hub = Hub::start_with(environment, keep_alive);
        let tailnet = Self { cluster, hub, derp_map, dns };
        tailnet.user("alice").await;
        tailnet
    }

    async fn write(&self, command: Command) -> Done {
        self.cluster.write(command).await.expect("the command is good")
    }

    async fn user(&self, name: &str) -> UserId {
        let (name, empty) = (name.to_owned(), String::new);
        let command = Command::CreateUser { name, display_name: empty(), email: empty(), profile_pic_url: empty() };
        let Done::User(user) = self.write(command).await else { panic!("no user") };
        user.id
    }

    /// A node of alice's.
    async fn node(&self, name: &str) -> NodeId {
        self.node_of(Owner::User(UserId(1)), name).await
    }

    async fn node_of(&self, owner: Owner, name: &str) -> NodeId {
        let number = self.cluster.view().node_count() as u64 + 1;
        let prefix = format!("{number:012x}");
        let hash = SecretHash::of(&prefix);
        let key = Command::CreatePreAuthKey {
            prefix: prefix.clone(),
            hash,
            owner,
            reusable: false,
            ephemeral: false,
            expiration: None,
        };
        self.write(key).await;
        let registration = Registration {
            machine_key: MachineKey(bytes(1, number)),
            node_key: NodeKey(bytes(2, number)),
            hostinfo: hostinfo(name),
            cap_ver: CapVer(142),
            expiry: None,
            seed: number,
            v4_pools: Vec::new(),
        };
        let Done::Node(id) = self.write(Command::RegisterWithKey { prefix, hash, registration }).await else {
            panic!("no node")
        };
        id
    }

    /// What a client sends that has nothing new to say.
    fn update(&self, id: NodeId) -> NodeUpdate {
        let node_key = self.cluster.view().node(id).expect("there is such a node").node_key;
        NodeUpdate { node: id, node_key, cap_ver: CapVer(142), disco_key: None, endpoints: None, hostinfo: None }
    }

    /// A stream, its first message not yet read.
    async fn open(&self, id: NodeId) -> Client {
        let options = StreamOptions { cap_ver: CapVer(142), zstd: true, keep_alive: true, omit_peers: false };
        self.open_with(id, options).await
    }

    async fn open_with(&self, id: NodeId, options: StreamOptions) -> Client {
        let stream = self.hub.open(self.update(id), options).await.expect("the node can poll");
        Client { stream, zstd: options.zstd }
    }

    /// A stream, and its first message.
    async fn join(&self, id: NodeId) -> (Client, Value) {
        let mut client = self.open(id).await;
        let first = client.next().await;
        (client, first)
    }

    async fn rename(&self, id: NodeId, given_name: &str) {
        self.write(Command::RenameNode { id, given_name: given_name.into() }).await;
    }

    /// Waits until the open sessions of a node are as wanted.
    async fn wait_for_sessions(&self, id: NodeId, wanted: impl Fn(&[SessionId]) -> bool) -> Vec<SessionId> {
        let wait = async {
            loop {
                let sessions: Vec<_> = self.cluster.view().sessions_of(id).collect();
                if wanted(&sessions) {
                    return sessions;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the sessions become as wanted")
    }
}

/// One stream's reader. Every message that it reads is checked against the Rust client's rules.
struct Client {
    stream: MapStream,
    zstd: bool,
}

impl Client {
    /// The next message. `None`: the stream ended.
    async fn try_next(&mut self) -> Option<Value> {
        let mut frame = Vec::new();
        while !is_whole(&frame) {
            let part = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("a message comes");
            match part {
                Some(part) => frame.extend_from_slice(&part),
                None => {
                    assert!(frame.is_empty(), "the stream ended within a message");
                    return None;
                }
            }
        }
        let json = decode(&frame, self.zstd);
        strict::check(&json);
        let mut message: Value = serde_json::from_slice(&json).unwrap();
        let time = message.as_object_mut().unwrap().remove("ControlTime");
        assert!(time.is_some(), "each message has the time: {message}");
        Some(message)
    }

    async fn next(&mut self) -> Value {
        self.try_next().await.expect("the stream goes on")
    }

    /// Proves that nothing else is under way: what comes next is the DERP map that is
    /// changed now. For tests whose clients read all other DERP maps.
    async fn nothing_before(&mut self, tailnet: &Tailnet) {
        tailnet.derp_map.send_modify(|map| {
            let mut new = DerpMap::clone(map);
            new.regions.insert(new.regions.len() as u32 + 1, Default::default());
            *map = Arc::new(new);
        });
        let message = self.next().await;
        assert_eq!(keys(&message), ["DERPMap"], "{message}");
    }
}

/// A cluster that is set up.
fn cluster() -> Cluster {
    Cluster::in_memory(Settings {
        prefix_v4: Some("100.64.0.0/10".parse().unwrap()),
        prefix_v6: Some("fd7a:115c:a1e0::/48".parse().unwrap()),
        allocation: Allocation::Sequential,
        base_domain: "example.net".into(),
        node_expiry: Duration::ZERO,
        ephemeral_timeout: Duration::from_secs(120),
    })
}

/// Whether all of a message was read.
fn is_whole(frame: &[u8]) -> bool {
    frame.first_chunk::<4>().is_some_and(|length| frame.len() >= 4 + u32::from_le_bytes(*length) as usize)
}

/// A message's JSON.
fn decode(frame: &[u8], zstd: bool) -> Vec<u8> {
    let (length, body) = frame.split_at(4);
    assert_eq!(u32::from_le_bytes(length.try_into().unwrap()) as usize, body.len());
    if zstd { zstd::decode_all(body).expect("zstd frames") } else { body.to_vec() }
}

/// A message's parts.
fn keys(message: &Value) -> Vec<&str> {
    message.as_object().unwrap().keys().map(String::as_str).collect()
}

fn bytes(kind: u8, number: u64) -> [u8; 32] {
    let mut bytes = [kind; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn disco(number: u64) -> DiscoKey {
    DiscoKey(bytes(3, number))
}

fn hostinfo(name: &str) -> Hostinfo {
    Hostinfo {
        hostname: name.into(),
        os: "linux".into(),
        json: format!(r#"{{"Hostname":"{name}","OS":"linux"}}"#),
        ..Hostinfo::default()
    }
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint { addr: ([192, 0, 2, 1], port).into(), kind: 1 }
}

/// A replica as it announces itself, with an address and a relay.
fn replica(id: u64, cluster: &Cluster) -> Replica {
    let ip = std::net::Ipv4Addr::new(127, 0, 0, id as u8);
    Replica {
        id: ReplicaId(id),
        incarnation: if id == cluster.id().0 { cluster.incarnation() } else { id },
        since: Time::now(),
        version: "test".into(),
        command_format: COMMAND_FORMAT,
        client_addresses: vec![ip.into()],
        relay: Some(Relay {
            region_id: 900 + id as u32,
            region_code: format!("r{id}"),
            region_name: format!("Replica {id}"),
            host_name: ip.to_string(),
            ipv4: Some(ip),
            ipv6: None,
            derp_port: 8443,
            stun_port: 3478,
            cert_sha256: None,
            insecure_for_tests: false,
        }),
        config_differs: Vec::new(),
        standing: Standing::Serving,
    }
}
