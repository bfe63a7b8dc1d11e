//! Who is connected.

use super::frame::{self, GoneReason};
use super::handshake::ClientInfo;
use super::outbox::Outbox;
use crate::tailcfg::NodeKey;
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections of one key. A node that restarts or changes its network comes back
/// before its old connection is seen to be dead, so there may be a few; the oldest
/// beyond this number is closed.
const CONNECTIONS_PER_KEY: usize = 8;
/// Peers that are remembered for one key, to tell them when it is gone. One that is
/// not told learns it from its next packet.
const REMEMBERED_PEERS: usize = 16_384;

/// One connection of an admitted client.
pub(super) struct Client {
    id: u64,
    pub(super) key: NodeKey,
    pub(super) addr: IpAddr,
    pub(super) info: ClientInfo,
    pub(super) since: Instant,
    pub(super) outbox: Outbox,
    /// Whether this relay is the client's home.
    pub(super) home: AtomicBool,
    /// Ends the connection, after what is in the outbox was written.
    pub(super) close: CancellationToken,
    /// Whether its key has, or had, other connections, so that it matters who spoke last.
    contended: AtomicBool,
}

/// The peers that a connection sent something to.
#[derive(Default)]
pub(super) struct Reached(HashSet<NodeKey>);

impl Reached {
    /// Remembers a peer.
    pub(super) fn note(&mut self, peer: NodeKey) {
        if self.0.len() < REMEMBERED_PEERS {
            self.0.insert(peer);
        }
    }
}

/// All connections, by key.
pub(super) struct Registry {
    keys: RwLock<HashMap<NodeKey, Connections>>,
    next_id: AtomicU64,
    capacity: usize,
}

/// The connections of one key; never empty.
struct Connections {
    /// By age, oldest first.
    all: Vec<Arc<Client>>,
    /// The one that gets packets: the newest, or the last that said something.
    active: Arc<Client>,
    /// What connections that are closed already reached.
    reached: Reached,
}

/// The relay has as many clients as it may have.
#[derive(Debug, thiserror::Error)]
#[error("the relay is full: it has {0} clients")]
pub(super) struct Full(usize);

impl Registry {
    /// An empty registry for so many keys.
    pub(super) fn new(capacity: usize) -> Self {
        Self { keys: RwLock::default(), next_id: AtomicU64::new(1), capacity }
    }

    /// Adds a connection, which becomes its key's active one.
    pub(super) fn add(&self, key: NodeKey, addr: IpAddr, info: ClientInfo) -> Result<Arc<Client>, Full> {
        let client = Arc::new(Client {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            key,
            addr,
            info,
            since: Instant::now(),
            outbox: Outbox::default(),
            home: AtomicBool::new(false),
            close: CancellationToken::new(),
            contended: AtomicBool::new(false),
        });
        let mut keys = self.write();
        if keys.len() >= self.capacity && !keys.contains_key(&key) {
            return Err(Full(self.capacity));
        }
        let connections = keys.entry(key).or_insert_with(|| Connections {
            all: Vec::new(),
            active: client.clone(),
            reached: Reached::default(),
        });
        if connections.all.len() >= CONNECTIONS_PER_KEY {
            connections.all.remove(0).close.cancel();
        }
        connections.all.push(client.clone());
        connections.active = client.clone();
        if connections.all.len() > 1 {
            connections.all.iter().for_each(|c| c.contended.store(true, Ordering::Relaxed));
        }
        Ok(client)
    }

    /// Forgets a connection. If it was its key's last one, the peers that the key
    /// had sent something to are told.
    pub(super) fn remove(&self, client: &Arc<Client>, reached: Reached) {
        let mut keys = self.write();
        if let Some(connections) = keys.get_mut(&client.key) {
            reached.0.into_iter().for_each(|peer| connections.reached.note(peer));
            connections.all.retain(|c| c.id != client.id);
            match connections.all.last() {
                Some(newest) if connections.active.id == client.id => connections.active = newest.clone(),
                Some(_) => {}
                None => {
                    let gone = keys.remove(&client.key).map(|c| c.reached).unwrap_or_default();
                    drop(keys);
                    self.tell_gone(&client.key, gone);
                }
            }
        }
    }

    fn tell_gone(&self, key: &NodeKey, reached: Reached) {
        let notice = frame::peer_gone(key, GoneReason::Disconnected);
        for peer in reached.0 {
            if let Some(client) = self.active(&peer) {
                client.outbox.push_notice(notice.clone());
            }
        }
    }

    /// The connection that packets for a key go to.
    pub(super) fn active(&self, key: &NodeKey) -> Option<Arc<Client>> {
        self.read().get(key).map(|connections| connections.active.clone())
    }

    /// Notes that a connection said something.
    pub(super) fn spoke(&self, client: &Arc<Client>) {
        // Nearly all keys have one connection: they need no lock.
        if !client.contended.load(Ordering::Relaxed) {
            return;
        }
        if self.active(&client.key).is_some_and(|active| active.id == client.id) {
            return;
        }
        if let Some(connections) = self.write().get_mut(&client.key)
            && connections.all.iter().any(|c| c.id == client.id)
        {
            connections.active = client.clone();
        }
    }

    /// Puts a notice into every connection's outbox.
    pub(super) fn tell_all(&self, notice: impl Fn() -> Bytes) {
        for client in self.all() {
            client.outbox.push_notice(notice());
        }
    }

    /// All connections now.
    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        self.read().values().flat_map(|connections| connections.all.iter().cloned()).collect()
    }

    /// How many keys are connected.
    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<NodeKey, Connections>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<NodeKey, Connections>> {
        self.keys.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn add(registry: &Registry, key: u8) -> Result<Arc<Client>, Full> {
        registry.add(NodeKey([key; 32]), Ipv4Addr::LOCALHOST.into(), ClientInfo::default())
    }

    #[test]
    fn the_newest_connection_of_a_key_is_active_until_another_speaks() {
        let registry = Registry::new(10);
        let first = add(&registry, 1).unwrap();
        let second = add(&registry, 1).unwrap();
        let active = || registry.active(&first.key).unwrap().id;
        assert_eq!(active(), second.id);
        registry.spoke(&first);
        assert_eq!(active(), first.id);
        registry.remove(&first, Reached::default());
        assert_eq!(active(), second.id);
        registry.spoke(&first);
        assert_eq!(active(), second.id, "a connection that is gone cannot become active");
    }

    #[test]
    fn the_oldest_of_too_many_connections_of_a_key_is_closed() {
        let registry = Registry::new(10);
        let clients: Vec<_> = (0..=CONNECTIONS_PER_KEY).map(|_| add(&registry, 1).unwrap()).collect();
        assert!(clients[0].close.is_cancelled());
        assert!(clients[1..].iter().all(|c| !c.close.is_cancelled()));
        assert_eq!(registry.all().len(), CONNECTIONS_PER_KEY);
    }

    #[test]
    fn a_full_relay_refuses_new_keys_but_not_those_that_come_back() {
        let registry = Registry::new(1);
        let first = add(&registry, 1).unwrap();
        assert!(add(&registry, 2).is_err());
        let again = add(&registry, 1).unwrap();
        registry.remove(&first, Reached::default());
        registry.remove(&again, Reached::default());
        assert!(add(&registry, 2).is_ok());
    }

    #[test]
    fn peers_are_told_when_the_last_connection_of_a_key_is_gone() {
        let registry = Registry::new(10);
        let (old, new) = (add(&registry, 1).unwrap(), add(&registry, 1).unwrap());
        let peer = add(&registry, 2).unwrap();
        let mut reached = Reached::default();
        reached.note(peer.key);
        registry.remove(&old, reached);
        assert!(peer.outbox.take_now().is_empty());
        registry.remove(&new, Reached::default());
        assert_eq!(peer.outbox.take_now(), [frame::peer_gone(&old.key, GoneReason::Disconnected)]);
    }
}
