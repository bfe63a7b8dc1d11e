//! Linearizable reads: the leader, once a quorum confirmed that it leads, names a
//! log index; what is applied up to it holds everything that was acknowledged.

use super::Unavailable;
use super::peer::Purpose;
use super::propose::Backoff;
use super::replica::{Replica, Stopped};
use super::wire;
use crate::state::{ReplicaId, State};
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a read is tried.
const READ_PATIENCE: Duration = Duration::from_secs(6);
/// How long the leader may take to hear a quorum and answer.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(2);

impl Replica {
    /// A view that holds everything that was acknowledged before the call.
    pub async fn linearizable(self: &Arc<Self>) -> Result<Arc<State>, Unavailable> {
        if self.stopping.is_cancelled() {
            return Err(Unavailable::Stopping);
        }
        if self.contact.is_removed() {
            return Err(Unavailable::Removed(self.id));
        }
        let replica = self.clone();
        let task = async move {
            tokio::select! {
                () = replica.stopping.cancelled() => Err(Unavailable::Stopping),
                view = replica.read() => view,
            }
        };
        self.handle.spawn(task).await.unwrap_or(Err(Unavailable::Stopping))
    }

    async fn read(&self) -> Result<Arc<State>, Unavailable> {
        let begun = Instant::now();
        let deadline = begun + READ_PATIENCE;
        let mut backoff = Backoff::new();
        loop {
            let index = match self.leader() {
                None => None,
                Some(leader) if leader == self.id => {
                    self.read_index_here().await.map_err(|Stopped| Unavailable::Stopping)?.ok()
                }
                Some(leader) => self.read_index_at(leader).await,
            };
            if let Some(index) = index {
                self.applied_here(index, deadline).await.map_err(|()| Unavailable::NoQuorum)?;
                return Ok(self.feed.view());
            }
            if self.contact.is_hopeless(begun) || Instant::now() >= deadline {
                return Err(Unavailable::NoQuorum);
            }
            backoff.pause().await;
        }
    }

    /// The index to wait for, if this replica leads; else who does.
    pub async fn read_index_here(&self) -> Result<Result<u64, Option<ReplicaId>>, Stopped> {
        let read = self.raft.get_read_linearizer(ReadPolicy::ReadIndex);
        match tokio::time::timeout(ATTEMPT_PATIENCE, read).await {
            Ok(Ok(linearizer)) => Ok(Ok(linearizer.read_log_id().index())),
            Ok(Err(RaftError::Fatal(_))) => Err(Stopped),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to)))) => {
                Ok(Err(to.leader_id.map(ReplicaId)))
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) | Err(_) => Ok(Err(None)),
        }
    }

    async fn read_index_at(&self, leader: ReplicaId) -> Option<u64> {
        let address = self.address(leader)?;
        let mut client = self.links.client(leader, &address, Purpose::Calls);
        let call = tokio::time::timeout(ATTEMPT_PATIENCE, client.read_index(wire::ReadIndexRequest {}));
        let answer = tokio::select! {
            answer = call => answer.ok()?.ok()?.into_inner(),
            () = self.replaced(leader) => return None,
        };
        match answer.result {
            Some(wire::read_index_response::Result::Index(index)) => Some(index),
            Some(wire::read_index_response::Result::NotLeader(_)) | None => None,
        }
    }
}
