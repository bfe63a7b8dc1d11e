//! What can go wrong between an edge and the cluster.

use crate::state::Refused;

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
