//! What clients and administrators ask for, one thing at a time each.

use super::machine::{Edges, Machine};
use super::net::MS;
use crate::cluster::{Asked, Unavailable, WriteError};
use crate::netmap::StreamOptions;
use crate::state::{Command, Done, NodeId, NodeUpdate, Owner, Refused, Registration, SecretHash, State, UserId};
use crate::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};
use futures::StreamExt;
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub type ClientId = usize;

/// What somebody asks a replica.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are few, and most are the large one")]
pub enum Ask {
    Write {
        key: Option<String>,
        command: Command,
    },
    Read,
    /// Opens a node's stream and holds it for that long.
    Stream {
        node: NodeId,
        node_key: NodeKey,
        hold: Duration,
    },
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Answer {
    Done(Done),
    Refused(Refused),
    /// Nothing was written, it says.
    Never,
    /// Nobody knows.
    Unknown,
    Read(Arc<State>),
    /// The stream ended; whether it had begun.
    Streamed(bool),
}

/// Answers on their way to the clients.
pub type Answers = Arc<Mutex<Vec<(ClientId, u64, Answer)>>>;

/// Asks a replica; the answer comes with the client's number for the request.
pub async fn ask(edges: Edges, ask: Ask, client: ClientId, request: u64, answers: Answers) {
    let answer = match ask {
        Ask::Write { key, command } => {
            match edges.cluster.write_once(Asked { idempotency_key: key, origin: None }, command).await {
                Ok(done) => Answer::Done(done),
                Err(WriteError::Refused(refused)) => Answer::Refused(refused),
                Err(WriteError::Unavailable(Unavailable::Timeout(_) | Unavailable::Stopping)) => Answer::Unknown,
                // Each of the others says that nothing was written.
                Err(WriteError::Unavailable(_)) => Answer::Never,
            }
        }
        Ask::Read => edges.cluster.linearizable().await.map_or(Answer::Never, Answer::Read),
        Ask::Stream { node, node_key, hold } => stream(&edges, node, node_key, hold).await,
    };
    answers.lock().unwrap_or_else(PoisonError::into_inner).push((client, request, answer));
}

async fn stream(edges: &Edges, node: NodeId, node_key: NodeKey, hold: Duration) -> Answer {
    let update = NodeUpdate { node, node_key, cap_ver: CapVer(142), disco_key: None, endpoints: None, hostinfo: None };
    let options = StreamOptions { cap_ver: CapVer(142), zstd: false, keep_alive: true, omit_peers: false };
    let Ok(mut stream) = edges.hub.open(update, options).await else { return Answer::Streamed(false) };
    let read_on = async { while stream.next().await.is_some() {} };
    // It may end earlier.
    let _ = tokio::time::timeout(hold, read_on).await;
    Answer::Streamed(true)
}

/// A machine of the tailnet that has registered.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    pub node: NodeId,
    pub node_key: NodeKey,
}

/// What all clients know.
#[derive(Default)]
pub struct Knowledge {
    count: u64,
    users: Vec<UserId>,
    /// Keys that may still be good, with what they are made of.
    keys: Vec<(String, SecretHash)>,
    /// By client.
    pub devices: BTreeMap<ClientId, Device>,
    policy: u64,
}

impl Knowledge {
    /// Something that this client may ask.
    pub fn choose(&mut self, client: ClientId, rng: &mut StdRng) -> Ask {
        self.count += 1;
        let n = self.count;
        let key = rng.random_bool(0.6).then(|| format!("request-{n}"));
        let write = |command| Ask::Write { key, command };
        let user = (!self.users.is_empty()).then(|| self.users[rng.random_range(0..self.users.len())]);
        match (rng.random_range(0..100), user) {
            (0..25, _) | (_, None) => write(crate::cluster::tests::user(&format!("user{n}"))),
            (25..40, Some(user)) => {
                let (prefix, hash) = (format!("{n:012x}"), SecretHash::of(&format!("secret{n}")));
                let reusable = rng.random_bool(0.3);
                let owner = Owner::User(user);
                write(Command::CreatePreAuthKey { prefix, hash, owner, reusable, ephemeral: false, expiration: None })
            }
            (40..60, _) if !self.keys.is_empty() => {
                // The newest few: everybody wants the same.
                let from = self.keys.len().saturating_sub(3);
                let (prefix, hash) = self.keys[rng.random_range(from..self.keys.len())].clone();
                write(Command::RegisterWithKey { prefix, hash, registration: registration(n) })
            }
            (60..68, Some(id)) => write(Command::RenameUser { id, name: format!("renamed{n}") }),
            (68..78, _) => {
                let text = format!(r#"{{"hosts":{{"h{n}":"100.64.0.1"}},"acls":[]}}"#);
                let expected_version = rng.random_bool(0.5).then_some(self.policy);
                write(Command::SetPolicy { text, author: "socket".into(), expected_version })
            }
            (78..88, _) if self.devices.contains_key(&client) => {
                let Device { node, node_key } = self.devices[&client];
                let hold = Duration::from_millis(rng.random_range(50..4000));
                Ask::Stream { node, node_key, hold }
            }
            _ => Ask::Read,
        }
    }

    /// Learns from an answer.
    pub fn learn(&mut self, client: ClientId, ask: &Ask, answer: &Answer) {
        match (ask, answer) {
            (_, Answer::Done(Done::User(user))) => self.users.push(user.id),
            (Ask::Write { command: Command::CreatePreAuthKey { prefix, hash, .. }, .. }, Answer::Done(_)) => {
                self.keys.push((prefix.clone(), *hash));
            }
            (
                Ask::Write { command: Command::RegisterWithKey { registration, .. }, .. },
                Answer::Done(Done::Node(node)),
            ) => {
                self.devices.insert(client, Device { node: *node, node_key: registration.node_key });
            }
            (_, Answer::Done(Done::PolicyVersion(version))) => self.policy = self.policy.max(*version),
            _ => {}
        }
    }
}

fn registration(n: u64) -> Registration {
    let bytes = |kind: u8| {
        let mut bytes = [kind; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        bytes
    };
    Registration {
        machine_key: MachineKey(bytes(1)),
        node_key: NodeKey(bytes(2)),
        hostinfo: Hostinfo { hostname: format!("host{}", n % 7), ..Hostinfo::default() },
        cap_ver: CapVer(142),
        expiry: None,
        seed: n,
        v4_pools: Vec::new(),
    }
}

/// A client.
#[derive(Default)]
pub struct Client {
    pub busy: Option<Busy>,
    /// When it asks next.
    pub next: u64,
    /// What it will ask again, of somebody else.
    pub again: Option<Ask>,
}

/// A request under way.
pub struct Busy {
    pub request: u64,
    pub ask: Ask,
    pub machine: super::net::MachineId,
    pub start: u64,
    pub since: u64,
}

/// The machines that serve clients.
pub fn serving(machines: &BTreeMap<u64, Machine>) -> Vec<u64> {
    let serves = |machine: &&Machine| !machine.frozen && machine.up().edges.is_some();
    machines.values().filter(serves).map(|machine| machine.id).collect()
}

/// How long a client thinks.
pub fn pause(rng: &mut StdRng) -> u64 {
    rng.random_range(2 * MS..250 * MS)
}
