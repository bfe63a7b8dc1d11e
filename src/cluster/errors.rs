//! What can go wrong between an edge and the cluster.

use crate::state::{Refused, ReplicaId};
use std::path::PathBuf;

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
    /// The change is larger than what replicas send each other; nothing was written.
    #[error("the change is {0} bytes long, and the limit is {limit}: make it smaller", limit = super::propose::PROPOSAL_LIMIT)]
    TooLarge(usize),
    /// There is a leader, and it takes no writes: nothing was written. Says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// A member runs a release that cannot apply this change; nothing was written.
    #[error("replica {replica} runs {release}, which does not know {command}: upgrade it first")]
    Mixed {
        replica: ReplicaId,
        release: String,
        /// The command's name.
        command: String,
    },
    /// This replica belongs to the cluster no more.
    #[error("replica {0} was removed from the cluster: ask another one, and stop this one")]
    Removed(ReplicaId),
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

/// Why this replica did not start. Each text names the file or value and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file with the shared secret.
    #[error(transparent)]
    Secret(#[from] super::secret::SecretError),
    /// The server's keys, in state or in a file to import.
    #[error(transparent)]
    Keys(#[from] super::keys::KeysError),
    /// The store in the data directory.
    #[error(transparent)]
    Store(#[from] super::store::StoreError),
    /// The peer port is taken, or the address is not this machine's.
    #[error("cluster.listen_addr: cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    /// The configuration and the store, or the configuration and the peers, do not fit.
    #[error("{0}")]
    Config(String),
    /// The machine gave no thread, directory or socket.
    #[error("cannot start the cluster's part of this replica ({what}): {source}")]
    System { what: String, source: std::io::Error },
    /// The state machine or the log found itself wrong.
    #[error("raft did not start: {0}; the data is in {1}")]
    Raft(String, PathBuf),
}
