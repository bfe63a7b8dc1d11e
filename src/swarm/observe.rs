//! What nodes see in what they are sent. JSON is searched, not decoded, so that the
//! driver is cheap beside the server that it measures.

use super::Swarm;
use super::node::Node;
use memchr::memmem::{Finder, find, find_iter};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

static PEERS: LazyLock<Finder> = LazyLock::new(|| Finder::new(b"\"Peers\":["));
static CHANGED: LazyLock<Finder> = LazyLock::new(|| Finder::new(b"\"PeersChanged\":["));
static PEER: LazyLock<Finder> = LazyLock::new(|| Finder::new(b"\"StableID\":"));
static ITSELF: LazyLock<Finder> = LazyLock::new(|| Finder::new(b"\"Node\":{\"ID\":"));

/// Reads one message for a node.
pub(super) fn observe(swarm: &Swarm, node: &Node, json: &[u8]) {
    if let Some(at) = PEERS.find(json) {
        node.peers.store(PEER.find_iter(&json[at..]).count(), Ordering::Relaxed);
    } else if let Some(at) = CHANGED.find(json) {
        node.peers.fetch_add(PEER.find_iter(&json[at..]).count(), Ordering::Relaxed);
    }
    if node.id.load(Ordering::Relaxed) == 0 {
        node.id.store(own_id(json).unwrap_or(0), Ordering::Relaxed);
    }
    if swarm.counting.load(Ordering::Relaxed) {
        swarm.offline.fetch_add(offline_marks(json), Ordering::Relaxed);
    }
    if let Some(watch) = &*swarm.watch.load() {
        watch.look(node.number, json);
    }
}

/// The id of the node that a message is for.
fn own_id(json: &[u8]) -> Option<u64> {
    let digits = &json[ITSELF.find(json)? + ITSELF.needle().len()..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// How many peers a message says are offline.
fn offline_marks(json: &[u8]) -> u64 {
    let mut marks = find_iter(json, b"\"Online\":false").count();
    if let Some(at) = find(json, b"\"OnlineChange\":{") {
        let rest = &json[at..];
        let end = rest.iter().position(|byte| *byte == b'}').unwrap_or(rest.len());
        marks += find_iter(&rest[..end], b":false").count();
    }
    marks as u64
}

/// Waits until each node has seen one of some tokens.
pub(super) struct Watch {
    tokens: Vec<Finder<'static>>,
    begun: Instant,
    /// By the nodes' numbers: microseconds after the beginning; 0: not yet.
    seen: Vec<AtomicU64>,
    left: AtomicUsize,
    done: Notify,
}

/// For a node that need not see anything.
const SPARED: u64 = u64::MAX;

impl Watch {
    /// Begins now, with all nodes that are live but the one with the number `but`.
    pub fn new(swarm: &Swarm, tokens: &[String], but: usize) -> Self {
        let nodes = swarm.nodes();
        let must = |node: &Node| node.number != but && node.live.load(Ordering::Relaxed);
        let left = nodes.iter().filter(|node| must(node)).count();
        let watch = Self {
            tokens: tokens.iter().map(|token| Finder::new(token).into_owned()).collect(),
            begun: Instant::now(),
            seen: nodes.iter().map(|node| AtomicU64::new(if must(node) { 0 } else { SPARED })).collect(),
            left: AtomicUsize::new(left),
            done: Notify::new(),
        };
        if left == 0 {
            watch.done.notify_one();
        }
        watch
    }

    fn look(&self, number: usize, json: &[u8]) {
        let Some(seen) = self.seen.get(number).filter(|seen| seen.load(Ordering::Relaxed) == 0) else { return };
        if !self.tokens.iter().any(|token| token.find(json).is_some()) {
            return;
        }
        let now = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(SPARED - 1).max(1);
        let is_first = seen.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_first && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.notify_one();
        }
    }

    /// Returns when all have seen it, or after `patience`.
    pub async fn wait(&self, patience: Duration) {
        // What is still missing is counted afterwards.
        let _ = tokio::time::timeout(patience, self.done.notified()).await;
    }

    /// How many have not seen it.
    pub fn missing(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// How long each took that has.
    pub fn latencies(&self) -> Vec<Duration> {
        let seen = self.seen.iter().map(|seen| seen.load(Ordering::Relaxed));
        seen.filter(|micros| *micros != 0 && *micros != SPARED).map(Duration::from_micros).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_whose_it_is_and_who_is_offline() {
        let json = br#"{"Node":{"ID":42,"StableID":"42"},"PeersChangedPatch":[{"NodeID":7,"Online":false}],
            "OnlineChange":{"3":false,"4":true},"Peers":[{"ID":1,"Online":false}]}"#;
        assert_eq!(own_id(json), Some(42));
        assert_eq!(offline_marks(json), 3);
        assert_eq!((own_id(b"{}"), offline_marks(b"{\"Online\":true}")), (None, 0));
    }
}
