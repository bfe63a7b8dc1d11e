//! Whether this replica is in touch with a quorum.

use super::peer::Purpose;
use super::replica::{Metrics, Replica};
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// For how long a replica that hears nothing counts as in touch: an election, or a
/// restart of the leader, takes less.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How often a follower asks its leader; a leader knows by itself.
const PULSE: Duration = Duration::from_millis(500);
/// How soon it asks again when there was no answer.
const PULSE_AGAIN: Duration = Duration::from_millis(100);
/// For how long something is tried at least, also when no quorum was heard of before.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// How long the leader may take to answer.
const PULSE_PATIENCE: Duration = Duration::from_secs(1);

/// When a quorum was last heard of.
pub struct Contact {
    heard: Mutex<Instant>,
    quorum: watch::Sender<bool>,
    /// Whether this replica was removed: then it hears of no quorum any more.
    removed: AtomicBool,
}

impl Contact {
    /// Not in touch yet, and not given up either.
    pub fn new() -> Self {
        Self { heard: Mutex::new(Instant::now()), quorum: watch::Sender::new(false), removed: AtomicBool::new(false) }
    }

    pub fn quorum(&self) -> watch::Receiver<bool> {
        self.quorum.subscribe()
    }

    pub fn has_quorum(&self) -> bool {
        *self.quorum.borrow()
    }

    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// Loses touch for good. Whether that is new.
    pub fn remove(&self) -> bool {
        let is_new = !self.removed.swap(true, Ordering::Relaxed);
        self.set(false);
        is_new
    }

    /// Whether nothing was heard of a quorum for the whole patience.
    pub fn is_lost(&self) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= PATIENCE
    }

    /// Whether what was begun then, and not done yet, is to be given up.
    pub fn is_hopeless(&self, begun: tokio::time::Instant) -> bool {
        self.is_lost() && begun.elapsed() >= LEAST_PATIENCE
    }

    fn hear(&self, at: Instant) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = (*heard).max(at);
        let in_touch = heard.elapsed() < PATIENCE;
        drop(heard);
        if in_touch && !self.is_removed() {
            self.set(true);
        }
    }

    fn set(&self, quorum: bool) {
        let changed = self.quorum.send_if_modified(|before| std::mem::replace(before, quorum) != quorum);
        match (changed, quorum) {
            (true, true) => tracing::info!("in touch with a quorum"),
            (true, false) => tracing::warn!("no quorum: nothing has been heard of one for {PATIENCE:?}"),
            (false, _) => {}
        }
    }
}

impl Replica {
    /// Keeps [`Contact`] up to date. Until what this replica had on disk when it
    /// started is known to be committed, and applied, it does not count as in touch:
    /// after a power failure it could show less than before.
    pub async fn keep_contact(self: Arc<Self>) {
        tokio::select! {
            () = self.stopping.cancelled() => return,
            () = self.recovered() => {}
        }
        let mut changes = self.raft.server_metrics();
        loop {
            let heard = tokio::select! {
                () = self.stopping.cancelled() => return,
                heard = self.pulse() => heard,
            };
            heard.into_iter().for_each(|at| self.contact.hear(at));
            if self.contact.is_lost() {
                self.contact.set(false);
            }
            // Another leader is asked at once.
            let leader = self.leader();
            let next_leader = async {
                while changes.changed().await.is_ok() {
                    if self.leader() != leader {
                        return;
                    }
                }
                // The core is gone: there is no news any more, and this replica ends soon.
                std::future::pending().await
            };
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = next_leader => {}
                () = tokio::time::sleep(if heard.is_some() { PULSE } else { PULSE_AGAIN }) => {}
            }
        }
    }

    /// Returns when this replica has applied all that it may have applied before it started.
    pub async fn recovered(&self) {
        let mut metrics = self.raft.metrics();
        let at_start = metrics.borrow_watched().last_log_index;
        loop {
            let now = metrics.borrow_watched().clone();
            // What was cut off since was not committed, and is not waited for.
            let tail = at_start.min(now.last_log_index);
            let committed = now.cluster_committed.map(|id| id.index);
            let applied = now.last_applied.map(|id| id.index);
            if committed.is_some() && committed >= tail && applied >= tail {
                return;
            }
            if metrics.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// As the leader, when a quorum was last heard; `None` if this replica does not lead.
    pub fn quorum_heard(&self, metrics: &Metrics) -> Option<Instant> {
        if metrics.state != ServerState::Leader {
            return None;
        }
        // A leader without other voters is its own quorum; Raft notes no answers then.
        if metrics.membership_config.membership().voter_ids().all(|voter| voter == self.id.0) {
            return Some(Instant::now());
        }
        metrics.last_quorum_acked.map(super::types::instant)
    }

    /// When a quorum last answered the leader, if the leader says so now.
    async fn pulse(&self) -> Option<Instant> {
        let metrics = self.metrics();
        if metrics.state == ServerState::Leader {
            return self.quorum_heard(&metrics);
        }
        let leader = crate::state::ReplicaId(metrics.current_leader?);
        let address = self.address(leader)?;
        let asked = Instant::now();
        let mut client = self.links.client(leader, &address, Purpose::Calls);
        let call = client.status(self.status_request());
        let answer = tokio::time::timeout(PULSE_PATIENCE, call).await.ok()?.ok()?.into_inner();
        self.note_clock(leader, answer.time_ms);
        if answer.caller_removed {
            self.set_removed();
            return None;
        }
        // Both: the leader hears a quorum, and this replica hears the leader. It does not
        // if it was removed, or if only one direction of the network works.
        let age = answer.quorum_age_ms?.max(answer.caller_age_ms?);
        asked.checked_sub(Duration::from_millis(age))
    }
}
