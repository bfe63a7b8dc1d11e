//! Replication: the one way in for changes, and the views that come out.
//!
//! Edges know [`Cluster`] alone. openraft's types stay inside this module, off
//! disk and off the wire.

use crate::state::{Batch, Command, Done, Refused, ReplicaId, State};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// A handle on the replica's part of the cluster. Cloning is cheap.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {}

/// A write did not happen, or nobody knows.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// It was looked at and refused; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no leader that a quorum follows, or it did not answer in time.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The cluster cannot answer now.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// No quorum: nothing was written.
    #[error(
        "the cluster has no leader: fewer than a majority of its replicas can reach each other; \
         start or reconnect the missing ones (see \"cluster status\" on each)"
    )]
    NoQuorum,
    /// No answer in time: whether it was written is not known.
    #[error("the cluster did not answer within {0} s: the change may or may not have been made; look, then try again")]
    Timeout(u64),
    /// This replica is stopping.
    #[error("this replica is stopping: ask another one")]
    Stopping,
}

/// A failed change of membership.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MembershipError {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Says what and why, and what to do.
    #[error("{0}")]
    Refused(String),
}

/// What `cluster status` shows. Always an answer, also without a quorum.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct ClusterStatus {
    pub cluster_id: String,
    /// The replica that answered.
    pub answered_by: u64,
    /// `None`: there is none that this replica knows of.
    pub leader: Option<u64>,
    pub has_quorum: bool,
    /// How many more voters may fail now with the rest still a quorum.
    pub failures_tolerated: usize,
    pub members: Vec<MemberStatus>,
    /// Things an operator should know, a sentence each.
    pub warnings: Vec<String>,
}

/// One replica, as the one that answered sees it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct MemberStatus {
    pub id: u64,
    /// Where its peers reach it.
    pub address: String,
    /// `leader`, `follower` or `learner`.
    pub role: String,
    pub term: Option<u64>,
    /// The log index that it has applied.
    pub applied: Option<u64>,
    /// How many log entries it is behind the leader's commit.
    pub lag: Option<u64>,
    /// Streams of clients that it serves.
    pub clients: Option<u64>,
    pub version: String,
    /// Whether it answered just now and keeps up.
    pub healthy: bool,
}

impl Cluster {
    /// This replica's number.
    pub fn id(&self) -> ReplicaId {
        unimplemented!()
    }

    /// A number that is new each time this replica starts.
    pub fn incarnation(&self) -> u64 {
        unimplemented!()
    }

    /// What this replica has applied: free, and never older than what it has shown before.
    pub fn view(&self) -> Arc<State> {
        unimplemented!()
    }

    /// A view that holds everything that was acknowledged, by any replica, before the call.
    pub async fn linearizable(&self) -> Result<Arc<State>, Unavailable> {
        unimplemented!()
    }

    /// Makes a change. When it returns, [`Cluster::view`] on this replica has it.
    /// Whatever fails underneath, it is applied at most once.
    pub async fn write(&self, command: Command) -> Result<Done, WriteError> {
        self.write_once(None, command).await
    }

    /// As [`Cluster::write`], for a request from outside that carries an `Idempotency-Key`.
    pub async fn write_once(&self, _idempotency_key: Option<String>, _command: Command) -> Result<Done, WriteError> {
        unimplemented!()
    }

    /// Everything that is applied from now on, batch by batch. A receiver that
    /// lags has to look at the whole view again.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        unimplemented!()
    }

    /// Whether this replica is in touch with a quorum (with about 5 s of patience).
    pub fn quorum(&self) -> watch::Receiver<bool> {
        unimplemented!()
    }

    /// The server's Noise key, opened with the shared secret. `None` before bootstrap.
    pub fn noise_key(&self) -> Option<Arc<crate::tailcfg::PrivateKey>> {
        unimplemented!()
    }

    /// 32 bytes that only holders of the cluster's secret can compute: the same on
    /// every replica for the same label and input, and unguessable.
    pub fn derive(&self, _label: &str, _input: &[u8]) -> [u8; 32] {
        unimplemented!()
    }

    /// Every replica as this one sees it, asked just now (within a second).
    pub async fn status(&self) -> ClusterStatus {
        unimplemented!()
    }

    /// Adds a replica as a learner; returns when it has caught up.
    pub async fn add(&self, _id: ReplicaId, _address: String) -> Result<(), MembershipError> {
        unimplemented!()
    }

    /// Makes a learner a voter.
    pub async fn promote(&self, _id: ReplicaId) -> Result<(), MembershipError> {
        unimplemented!()
    }

    /// Removes a replica, voter or learner. Its number is never used again.
    pub async fn remove(&self, _id: ReplicaId) -> Result<(), MembershipError> {
        unimplemented!()
    }

    /// Hands leadership to another voter; `None`: to the one that is most up to date.
    pub async fn transfer_leader(&self, _to: Option<ReplicaId>) -> Result<ReplicaId, MembershipError> {
        unimplemented!()
    }

    /// Tells the cluster how many streams this replica serves, for its status.
    pub fn set_clients(&self, _count: u64) {
        unimplemented!()
    }
}

/// What the cluster needs to know to start on this replica.
#[derive(Clone, Debug)]
pub struct Options {
    pub id: ReplicaId,
    pub data_dir: std::path::PathBuf,
    /// `None`: a cluster of one that nobody can join yet.
    pub listen_addr: Option<SocketAddr>,
    /// What peers dial: `host:port`.
    pub advertise_addr: String,
    /// All first voters, this one included, as id and address; used only while the store is empty.
    pub peers: Vec<(ReplicaId, String)>,
    pub secret_path: std::path::PathBuf,
    /// Used at bootstrap only.
    pub settings: crate::state::Settings,
    /// `noise.private_key_path`: becomes the cluster's key at bootstrap if the file exists.
    pub noise_key_path: Option<std::path::PathBuf>,
    pub heartbeat_interval: std::time::Duration,
    pub election_timeout: std::ops::Range<std::time::Duration>,
}
