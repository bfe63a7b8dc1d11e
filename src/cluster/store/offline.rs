//! A store that no server has open: what is in it, and how all of it is replaced.

use super::machine::{Applied, Machine};
use super::{Store, StoreError};
use crate::cluster::feed::Feed;
use crate::cluster::types::{LogId, Membership, StoredMembership};
use crate::cluster::wire;
use crate::state::{ReplicaId, State};
use openraft::BasicNode;
use openraft::storage::{RaftLogReader, RaftLogStorage};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open store that belongs to nobody else. [`Offline::close`] closes it.
pub struct Offline {
    data_dir: PathBuf,
    id: ReplicaId,
    store: Store,
    machine: Machine,
    feed: Arc<Feed>,
}

/// What a replica has.
#[derive(Clone, Debug)]
pub struct Held {
    /// Of the last log entry.
    pub last: Option<LogId>,
    /// The index up to which it knew the log to be committed.
    pub committed: u64,
    pub applied: u64,
    /// The highest term that it has heard of.
    pub term: u64,
    /// By the newest entry, committed or not.
    pub membership: Membership,
    pub removed: BTreeSet<ReplicaId>,
}

/// What a store begins with when it is made, not grown.
pub struct Seed {
    pub state: State,
    /// The log begins after this index.
    pub index: u64,
    /// Above every term that was used.
    pub term: u64,
    /// The only voter's address; its number is the store's.
    pub address: String,
    /// Numbers that are never used again.
    pub removed: BTreeSet<ReplicaId>,
}

impl Offline {
    /// Opens or creates the store in `data_dir` for replica `id`.
    pub fn open(data_dir: &Path, id: ReplicaId) -> Result<Self, StoreError> {
        let (store, machine, feed) = Store::open(data_dir, id)?;
        Ok(Self { data_dir: data_dir.to_owned(), id, store, machine, feed })
    }

    /// The view of what is applied.
    pub fn feed(&self) -> Arc<Feed> {
        self.feed.clone()
    }

    /// What the replica has, with its log applied to the end.
    pub async fn read(&self) -> Result<(Held, State), StoreError> {
        self.read_all().await.map_err(|error| self.damaged(&error))
    }

    async fn read_all(&self) -> io::Result<(Held, State)> {
        let mut log = self.store.log();
        let (mut state, mut applied) = self.machine.contents();
        let committed = log.read_committed().await?.map_or(0, |id| id.index).max(applied.index());
        let at = applied.index();
        let mut reader = log.get_log_reader().await;
        loop {
            let from = applied.last.map_or(0, |id| id.index + 1);
            let entries = reader.limited_get_log_entries(from, u64::MAX).await?;
            if entries.is_empty() {
                break;
            }
            self.machine.replay(&mut state, &mut applied, entries)?;
        }
        let term = reader.read_vote().await?.map_or(0, |vote| wire::Vote::from(&vote).term);
        let held = Held {
            last: applied.last,
            committed,
            applied: at,
            term: term.max(applied.last.map_or(0, |id| id.leader_id.term)),
            membership: applied.membership.membership().clone(),
            removed: applied.removed,
        };
        Ok((held, state))
    }

    /// Replaces everything: the replica is the only voter of a cluster with this state.
    pub async fn replace(&self, seed: Seed) -> Result<(), StoreError> {
        self.replace_all(seed).await.map_err(|error| self.damaged(&error))
    }

    /// A snapshot is installed, which is finished at the next start if it is cut short;
    /// from its first step on, the log before it counts no more.
    async fn replace_all(&self, seed: Seed) -> io::Result<()> {
        let vote = wire::Vote { term: seed.term, replica: self.id.0, committed: false };
        let last = LogId::from(&wire::LogId { term: seed.term, replica: self.id.0, index: seed.index });
        let nodes = BTreeMap::from([(self.id.0, BasicNode::new(&seed.address))]);
        let voters = vec![BTreeSet::from([self.id.0])];
        let membership = Membership::new(voters, nodes).map_err(io::Error::other)?;
        let applied = Applied {
            last: Some(last),
            membership: StoredMembership::new(Some(last), membership),
            removed: seed.removed,
        };
        self.machine.reset(&seed.state, &applied)?;
        let mut log = self.store.log();
        log.truncate_after(None).await?;
        log.purge(last).await?;
        log.save_vote(&(&vote).into()).await?;
        log.save_committed(Some(last)).await
    }

    pub fn close(self) {
        drop(self.machine);
        self.store.close();
    }

    fn damaged(&self, error: &io::Error) -> StoreError {
        StoreError::Damaged { path: self.data_dir.clone(), reason: error.to_string() }
    }
}
