//! The API as its clients meet it: requests in, statuses and texts out.

mod access;
mod audit;
mod edges;
mod import;
mod keys;
mod logins;
mod nodes;
mod policy;
mod users;

use super::types::Problem;
use super::{Options, PolicyMode, authenticated, router};
use crate::cluster::Cluster;
use crate::policy::Policies;
use crate::state::{
    Allocation, AuthId, Command, Done, NodeId, NodeUpdate, Owner, PendingLogin, Registration, Replica, ReplicaId,
    Report, SecretHash, SessionId, Settings, Time, UserId, Verdict,
};
use crate::tailcfg::{CapVer, DiscoKey, Hostinfo, MachineKey, NodeKey};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// A cluster in memory, and its API as the socket serves it.
pub struct World {
    pub cluster: Cluster,
    pub api: Router,
}

/// A response.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The status, and what Headscale's command line prints of the problem.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        let problem: Problem = serde_json::from_str(&self.text).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        let parts = std::iter::once(&problem.detail).chain(problem.errors.iter().map(|error| &error.message));
        let text = parts.map(String::as_str).collect::<Vec<_>>().join(": ");
        assert_eq!(problem.message, text, "clients of 0.29 read the same");
        (problem.status, text)
    }
}

impl World {
    pub fn new() -> Self {
        Self::with(PolicyMode::Database)
    }

    pub fn with(policy_mode: PolicyMode) -> Self {
        let cluster = Cluster::in_memory(Settings {
            prefix_v4: Some("100.64.0.0/10".parse().unwrap()),
            prefix_v6: Some("fd7a:115c:a1e0::/48".parse().unwrap()),
            allocation: Allocation::Sequential,
            base_domain: "example.com".into(),
            node_expiry: Duration::ZERO,
            ephemeral_timeout: Duration::from_secs(120),
        });
        let options = Options { cluster: cluster.clone(), policies: Arc::new(Policies::default()), policy_mode };
        Self { cluster, api: router(options) }
    }

    /// The API as the network gets it.
    pub fn network(&self) -> Router {
        authenticated(Options {
            cluster: self.cluster.clone(),
            policies: Arc::new(Policies::default()),
            policy_mode: PolicyMode::Database,
        })
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        send(&self.api, request(method, path).body(text.into()).unwrap()).await
    }

    /// A call that succeeds.
    pub async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.call(method, path, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{method} {path}: {}", answer.text);
        answer.json()
    }

    /// A call that fails: its status and text.
    pub async fn error(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        self.call(method, path, body).await.problem()
    }

    pub async fn user(&self, name: &str) -> UserId {
        let answer = self.ok("POST", "/user", json!({"name": name})).await;
        answer["user"]["id"].as_str().unwrap().parse().unwrap()
    }

    /// Puts a policy in force that lets alice give `tag:web` and `tag:server`.
    pub async fn policy(&self) {
        let text = r#"{"tagOwners": {"tag:web": ["alice@"], "tag:server": ["alice@"]}}"#;
        self.ok("PUT", "/policy", json!({"policy": text})).await;
    }

    /// A machine joins with a key of this owner.
    pub async fn join(&self, hostname: &str, owner: Owner) -> NodeId {
        let (prefix, hash) = (hex::encode(rand::random::<[u8; 6]>()), SecretHash::of(hostname));
        let create = Command::CreatePreAuthKey {
            prefix: prefix.clone(),
            hash,
            owner,
            reusable: false,
            ephemeral: false,
            expiration: None,
        };
        self.cluster.write(create).await.unwrap();
        let registration = Registration {
            machine_key: MachineKey(rand::random()),
            node_key: NodeKey(rand::random()),
            hostinfo: hostinfo(hostname),
            cap_ver: CapVer::MIN,
            expiry: None,
            seed: 0,
            v4_pools: Vec::new(),
        };
        match self.cluster.write(Command::RegisterWithKey { prefix, hash, registration }).await {
            Ok(Done::Node(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    /// The node opens a stream, and announces these routes.
    pub async fn come_online(&self, node: NodeId, routes: &[&str]) {
        let incarnation = 7;
        let replica = Replica {
            id: ReplicaId(1),
            incarnation,
            since: Time::now(),
            version: "test".into(),
            command_format: crate::state::COMMAND_FORMAT,
            client_addresses: Vec::new(),
            relay: None,
            config_differs: Vec::new(),
            standing: crate::state::Standing::Serving,
        };
        self.cluster.write(Command::ReplicaUp(replica)).await.unwrap();
        let record = self.cluster.view().node(node).unwrap().clone();
        let routable_ips = routes.iter().map(|route| route.parse().unwrap()).collect();
        let update = NodeUpdate {
            node,
            node_key: record.node_key,
            cap_ver: CapVer::MIN,
            disco_key: Some(DiscoKey([9; 32])),
            endpoints: None,
            hostinfo: Some(Hostinfo { routable_ips, ..hostinfo(&record.hostinfo.hostname) }),
        };
        let session = SessionId { node, replica: ReplicaId(1), incarnation, number: node.0 };
        let reported = self.cluster.write(Command::Report(vec![Report::Open { session, update }])).await.unwrap();
        assert_eq!(reported, Done::Reports(vec![Ok(())]));
    }

    /// A machine asks to join, and waits.
    pub async fn login(&self, hostname: &str, request_tags: &[&str]) -> AuthId {
        let id = AuthId::generate();
        let now = Time::now();
        let login = PendingLogin {
            id: id.clone(),
            machine_key: MachineKey(rand::random()),
            node_key: NodeKey(rand::random()),
            hostinfo: Hostinfo {
                request_tags: request_tags.iter().map(|tag| tag.to_string()).collect(),
                ..hostinfo(hostname)
            },
            cap_ver: CapVer::MIN,
            expiry: None,
            source: "192.0.2.1".parse().unwrap(),
            created: now,
            deadline: now + Duration::from_secs(900),
            verdict: Verdict::Waiting,
        };
        self.cluster.write(Command::StartLogin(login)).await.unwrap();
        id
    }
}

pub fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(format!("/api/v1{path}"))
}

pub async fn send(api: &Router, request: Request<Body>) -> Answer {
    let response = api.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

fn hostinfo(hostname: &str) -> Hostinfo {
    Hostinfo {
        hostname: hostname.into(),
        os: "linux".into(),
        json: json!({"Hostname": hostname, "OS": "linux"}).to_string(),
        ..Hostinfo::default()
    }
}
