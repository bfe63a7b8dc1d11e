//! A cluster without disk, network or Raft, for the tests of other modules.

use super::feed::Feed;
use super::keys::Keyring;
use super::secret::Secret;
use super::{Asked, ClusterStatus, MemberStatus, MembershipError, Unavailable, Verification, VerifiedReplica};
use crate::state::{Command, Done, Outcome, Proposal, Refused, ReplicaId, RequestId, Settings, State, Time};
use crate::tailcfg::PrivateKey;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a proposal may take: here nothing does.
const DEADLINE: Duration = Duration::from_secs(10);

/// One state under a lock: a write is applied where it is made.
pub(super) struct Memory {
    pub id: ReplicaId,
    pub incarnation: u64,
    pub feed: Feed,
    pub keys: Keyring,
    pub quorum: watch::Sender<bool>,
    pub leads: watch::Sender<bool>,
    pub clients: AtomicU64,
    pub note: Mutex<Option<String>>,
    pub leaving: CancellationToken,
    applied: Mutex<Applied>,
}

struct Applied {
    state: State,
    index: u64,
    sequence: u64,
}

impl Memory {
    /// A cluster of one that is set up with `settings`.
    pub fn new(settings: Settings) -> Self {
        let (ring, keys) = Keyring::generate(&Secret::random_for_tests(), None);
        let memory = Self {
            id: ReplicaId(1),
            incarnation: rand::random(),
            feed: Feed::new(State::default(), 0, BTreeSet::new()),
            keys: ring,
            quorum: watch::Sender::new(true),
            leads: watch::Sender::new(true),
            clients: AtomicU64::new(0),
            note: Mutex::default(),
            leaving: CancellationToken::new(),
            applied: Mutex::new(Applied { state: State::default(), index: 0, sequence: 0 }),
        };
        let bootstrapped = memory.write(Asked::default(), Command::Bootstrap { settings, keys });
        assert!(bootstrapped.is_ok(), "an empty state can be set up: {bootstrapped:?}");
        memory
    }

    /// The Noise key that is in state: an import replaces the first one.
    pub fn noise_key(&self) -> Option<Arc<PrivateKey>> {
        let view = self.feed.view();
        Some(Keyring::with_data_key(self.keys.data_key(), view.server_keys()?).ok()?.noise())
    }

    /// Whether reads and writes are answered: tests can take the quorum away.
    pub fn connected(&self) -> Result<(), Unavailable> {
        if *self.quorum.borrow() { Ok(()) } else { Err(Unavailable::NoQuorum) }
    }

    /// Applies a command at once.
    pub fn write(&self, asked: Asked, command: Command) -> Result<Done, Refused> {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied.index += 1;
        applied.sequence += 1;
        // Time never goes back: the state's own clock is at least what it showed last.
        let time = if applied.index == 1 { Time::now() } else { Time::now().max(applied.state.clock()) };
        let proposal = Proposal {
            format: Proposal::format_of(&command, asked.origin.as_ref()),
            request: RequestId {
                incarnation: self.incarnation,
                sequence: applied.sequence,
                acknowledged: applied.sequence - 1,
            },
            deadline: time + DEADLINE,
            time,
            idempotency_key: asked.idempotency_key,
            origin: asked.origin,
            command,
        };
        let index = applied.index;
        let outcome: Outcome = {
            let result = applied.state.apply(index, &proposal);
            self.feed.publish(index, Arc::new(applied.state.clone()), result.changes, &BTreeSet::new());
            result.outcome
        };
        outcome
    }

    /// A healthy cluster of one.
    pub fn status(&self) -> ClusterStatus {
        let applied = *self.feed.applied().borrow();
        let member = MemberStatus {
            id: self.id.0,
            address: "(in memory)".into(),
            role: "leader".into(),
            term: Some(1),
            applied: Some(applied),
            lag: Some(0),
            clients: Some(self.clients.load(Ordering::Relaxed)),
            version: env!("CARGO_PKG_VERSION").into(),
            secret: String::new(),
            healthy: true,
            problems: Vec::new(),
        };
        ClusterStatus {
            cluster_id: self.feed.view().server_keys().map(|k| k.cluster_id.clone()).unwrap_or_default(),
            answered_by: self.id.0,
            leader: self.connected().is_ok().then_some(self.id.0),
            has_quorum: self.connected().is_ok(),
            failures_tolerated: 0,
            members: vec![member],
            warnings: self.note.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect(),
            writes_refused: None,
        }
    }
}

impl Memory {
    /// One replica without a disk is equal to itself.
    pub fn verify(&self) -> Verification {
        let view = self.feed.view();
        let replica = VerifiedReplica {
            id: self.id.0,
            records: Some(view.rows().count() as u64),
            hash: hex::encode(view.hash()),
            ..VerifiedReplica::default()
        };
        Verification { index: *self.feed.applied().borrow(), equal: true, majority: true, replicas: vec![replica] }
    }
}

/// A cluster in memory has nobody to add, remove or hand over to.
pub(super) fn no_members() -> MembershipError {
    MembershipError::Refused("a cluster in memory has one member for good".into())
}

#[cfg(test)]
impl super::Cluster {
    /// Takes the quorum away from a cluster in memory, or gives it back.
    pub fn set_quorum(&self, connected: bool) {
        match &self.inner {
            super::Inner::Memory(memory) => drop(memory.quorum.send_replace(connected)),
            super::Inner::Replica(_) => unreachable!("only a cluster in memory has a quorum to take away"),
        }
    }
}
