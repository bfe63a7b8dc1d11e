//! One node: registers, holds its map stream and comes back, and reports changes.

use super::connection::{Connection, Trouble, post};
use super::frames::Frames;
use super::observe::observe;
use super::{Plan, Swarm, VERSION};
use crate::tailcfg::{DiscoKey, NodeKey, PrivateKey};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// The longest answer to a registration or an update that is read.
const LONGEST_ANSWER: usize = 64 << 20;
/// Regions to choose a home relay from; none of them needs to be there.
const RELAYS: u32 = 60_000;
/// How long a node whose stream broke waits before it is back: by chance up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));

pub(super) struct Node {
    pub number: usize,
    name: String,
    machine: PrivateKey,
    node_key: NodeKey,
    disco_key: DiscoKey,
    /// Which of the servers it is at.
    server: AtomicUsize,
    endpoint: Mutex<SocketAddr>,
    relay: AtomicU32,
    connection: tokio::sync::Mutex<Option<Connection>>,
    /// What holds its stream.
    running: Mutex<Option<AbortHandle>>,
    /// As the server calls it; 0: not known yet.
    pub id: AtomicU64,
    /// Peers in the last whole map, and those that came since.
    pub peers: AtomicUsize,
    /// Streams that had a first message.
    pub streams: AtomicU64,
    pub live: AtomicBool,
    /// Of map messages, as they travelled.
    pub bytes: AtomicU64,
}

impl Node {
    /// A node with new keys.
    pub fn new(number: usize, plan: &Plan) -> Arc<Self> {
        Arc::new(Self {
            number,
            name: format!("{}-{number:06}", plan.prefix),
            machine: PrivateKey::generate(),
            node_key: NodeKey(PrivateKey::generate().public()),
            disco_key: DiscoKey(PrivateKey::generate().public()),
            server: AtomicUsize::new(number % plan.servers.len()),
            endpoint: Mutex::new(some_endpoint()),
            relay: AtomicU32::new(1),
            connection: tokio::sync::Mutex::new(None),
            running: Mutex::new(None),
            id: AtomicU64::new(0),
            peers: AtomicUsize::new(0),
            streams: AtomicU64::new(0),
            live: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
        })
    }

    /// Registers with a key.
    pub async fn register(&self, swarm: &Swarm) -> Result<(), Trouble> {
        let mut request = self.registration();
        let missing = || Trouble::Answer { path: "/machine/register", what: "no single-use key is left for it".into() };
        request["Auth"] = json!({ "AuthKey": swarm.plan.keys.of(self.number).ok_or_else(missing)? });
        let answer = self.ask(swarm, "/machine/register", &request).await?;
        if answer["MachineAuthorized"] == true && answer["Error"].as_str().unwrap_or_default().is_empty() {
            return Ok(());
        }
        Err(Trouble::Answer { path: "/machine/register", what: answer.to_string() })
    }

    /// Logs out: an ephemeral node is deleted then.
    pub async fn log_out(&self, swarm: &Swarm) -> Result<(), Trouble> {
        let mut request = self.registration();
        request["Expiry"] = "1970-01-01T00:00:01Z".into();
        self.ask(swarm, "/machine/register", &request).await.map(drop)
    }

    /// Another endpoint, to be reported; gives its text.
    pub fn choose_endpoint(&self) -> String {
        let endpoint = some_endpoint();
        *self.endpoint.lock().unwrap_or_else(PoisonError::into_inner) = endpoint;
        endpoint.to_string()
    }

    /// Another home relay, to be reported.
    pub fn choose_relay(&self) -> u32 {
        let before = self.relay.load(Ordering::Relaxed);
        let relay = (before + rand::random_range(1..RELAYS)) % RELAYS + 1;
        self.relay.store(relay, Ordering::Relaxed);
        relay
    }

    /// Tells the server how things are with it now.
    pub async fn report(&self, swarm: &Swarm) -> Result<(), Trouble> {
        let body = post(self.sender(swarm).await?, "/machine/map", &self.map_request(false, true)).await?;
        Limited::new(body, LONGEST_ANSWER)
            .collect()
            .await
            .map(drop)
            .map_err(|error| Trouble::Answer { path: "/machine/map", what: error.to_string() })
    }

    /// Finds out its id, without a stream.
    pub async fn look_up(&self, swarm: &Swarm) -> Result<(), Trouble> {
        let body = post(self.sender(swarm).await?, "/machine/map", &self.map_request(false, false)).await?;
        Frames::new(body).next(|json, _| observe(swarm, self, json)).await.map(drop)
    }

    /// Holds a stream from now on, and comes back when it breaks; the receiver hears of
    /// the first message.
    pub fn go(self: &Arc<Self>, swarm: &Arc<Swarm>) -> oneshot::Receiver<()> {
        let (first, came) = oneshot::channel();
        let task = tokio::spawn(self.clone().run(swarm.clone(), first)).abort_handle();
        if let Some(before) = self.running().replace(task) {
            before.abort();
        }
        came
    }

    /// Drops its stream and its connection.
    pub fn hang_up(&self) {
        if let Some(task) = self.running().take() {
            task.abort();
        }
        self.live.store(false, Ordering::Relaxed);
        // Somebody who has it is about to drop it, or dials: that connection is a new one.
        if let Ok(mut connection) = self.connection.try_lock() {
            *connection = None;
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<AbortHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self: Arc<Self>, swarm: Arc<Swarm>, first: oneshot::Sender<()>) {
        let mut first = Some(first);
        let mut failures = 0;
        while !swarm.stopped.load(Ordering::Relaxed) {
            let ended = self.stream(&swarm, &mut first).await;
            self.live.store(false, Ordering::Relaxed);
            *self.connection.lock().await = None;
            if swarm.stopped.load(Ordering::Relaxed) {
                return;
            }
            let next = (self.server.load(Ordering::Relaxed) + 1) % swarm.plan.servers.len();
            self.server.store(next, Ordering::Relaxed);
            if let (Err(error), 0) = (ended, failures) {
                swarm.complain(format!("{}: its stream: {error}", self.name));
            }
            failures += 1;
            tokio::time::sleep(rand::random_range(PAUSE.0..PAUSE.1)).await;
        }
    }

    async fn stream(&self, swarm: &Swarm, first: &mut Option<oneshot::Sender<()>>) -> Result<(), Trouble> {
        let body = post(self.sender(swarm).await?, "/machine/map", &self.map_request(true, false)).await?;
        let mut frames = Frames::new(body);
        let mut is_first = true;
        let read = |json: &[u8], bytes: usize| {
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            observe(swarm, self, json);
        };
        while frames.next(read).await? {
            if std::mem::take(&mut is_first) {
                self.live.store(true, Ordering::Relaxed);
                self.streams.fetch_add(1, Ordering::Relaxed);
                // Who does not wait any more does not mind.
                first.take().map(|first| first.send(()));
            }
        }
        Ok(())
    }

    async fn ask(&self, swarm: &Swarm, path: &'static str, request: &Value) -> Result<Value, Trouble> {
        let body: Incoming = post(self.sender(swarm).await?, path, request).await?;
        let wrong = |what: String| Trouble::Answer { path, what };
        let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|e| wrong(e.to_string()))?.to_bytes();
        serde_json::from_slice(&body).map_err(|e| wrong(e.to_string()))
    }

    /// On the connection that it has, or a new one.
    async fn sender(
        &self,
        swarm: &Swarm,
    ) -> Result<hyper::client::conn::http2::SendRequest<http_body_util::Full<bytes::Bytes>>, Trouble> {
        let mut connection = self.connection.lock().await;
        if let Some(sender) = connection.as_ref().and_then(Connection::sender) {
            return Ok(sender);
        }
        let server = &swarm.plan.servers[self.server.load(Ordering::Relaxed)];
        let opened = connection.insert(Connection::open(server, &self.machine).await?);
        opened.sender().ok_or(Trouble::Timeout)
    }

    fn hostinfo(&self) -> Value {
        json!({
            "IPNVersion": "1.102.0-swarm", "BackendLogID": "", "OS": "linux", "GoArch": "amd64",
            "Hostname": self.name, "NetInfo": { "PreferredDERP": self.relay.load(Ordering::Relaxed) },
        })
    }

    fn registration(&self) -> Value {
        json!({ "Version": VERSION, "NodeKey": self.node_key, "Hostinfo": self.hostinfo() })
    }

    fn map_request(&self, stream: bool, omit_peers: bool) -> Value {
        let endpoint = *self.endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "Version": VERSION, "Compress": "zstd", "KeepAlive": true, "Stream": stream, "OmitPeers": omit_peers,
            "NodeKey": self.node_key, "DiscoKey": self.disco_key, "Hostinfo": self.hostinfo(),
            "Endpoints": [endpoint], "EndpointTypes": [1],
        })
    }
}

/// One of some billions, so that nobody has it twice.
fn some_endpoint() -> SocketAddr {
    let [a, b, c] = rand::random::<[u8; 3]>();
    (Ipv4Addr::new(10, a, b, c.clamp(1, 254)), rand::random_range(1024..=u16::MAX)).into()
}
