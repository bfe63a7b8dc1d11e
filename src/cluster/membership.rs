//! Adding, promoting and removing replicas, and handing over leadership: done by
//! the leader, asked for anywhere.

use super::Asked;
use super::peer::{Problem, Purpose, never_sent};
use super::propose::Backoff;
use super::replica::{Metrics, Replica};
use super::types::{self, TypeConfig};
use super::wire;
use super::{MembershipError, Unavailable};
use crate::state::{Command, ReplicaId};
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers, ServerState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a leader is looked for.
const LEADER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a new replica may take to catch up before the command says so.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(60);
/// How long another replica may take to say how it is.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);
/// How long a leader may take for a change.
const CHANGE_PATIENCE: Duration = Duration::from_secs(75);
/// How long a change may take to be committed.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);
/// How long another one may take to become leader.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(3);
/// How often a new address is announced until it is known.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);
/// A member that answered the leader within this time is alive.
const ALIVE: Duration = Duration::from_secs(2);
/// Log entries that a learner may be behind when it becomes a voter.
const PROMOTE_LAG: u64 = 1000;

/// A change that somebody wants.
#[derive(Clone, Debug)]
pub enum Change {
    Add(ReplicaId, String),
    Promote(ReplicaId),
    Remove(ReplicaId),
    Transfer(Option<ReplicaId>),
    /// A member says that its peers reach it elsewhere now.
    Readdress(ReplicaId, String),
}

/// The replica that it was about, or who leads instead of this one; or why it is refused.
type Changed = Result<Result<ReplicaId, Option<ReplicaId>>, String>;

impl Replica {
    /// Makes a change, wherever the leader is.
    pub async fn change(self: &Arc<Self>, change: Change) -> Result<ReplicaId, MembershipError> {
        if self.stopping.is_cancelled() {
            return Err(Unavailable::Stopping.into());
        }
        let replica = self.clone();
        let task = async move {
            tokio::select! {
                () = replica.stopping.cancelled() => Err(Unavailable::Stopping.into()),
                changed = replica.change_somewhere(change) => changed,
            }
        };
        self.handle.spawn(task).await.unwrap_or_else(|_| Err(Unavailable::Stopping.into()))
    }

    async fn change_somewhere(self: &Arc<Self>, change: Change) -> Result<ReplicaId, MembershipError> {
        let begun = Instant::now();
        let mut backoff = Backoff::new();
        while begun.elapsed() < LEADER_PATIENCE {
            if let Some(leader) = self.leader() {
                // A leader that removes itself would leave the cluster without one for a while.
                let leaving = matches!(change, Change::Remove(id) if id == leader);
                if leaving && self.metrics().membership_config.membership().voter_ids().count() == 1 {
                    return Err(MembershipError::Refused(format!(
                        "replica {leader} is the only voter, and a cluster needs one: add and promote another first"
                    )));
                }
                let step = if leaving { Change::Transfer(None) } else { change.clone() };
                let changed = match leader == self.id {
                    true => self.change_here(step).await,
                    false => self.change_at(leader, step).await,
                };
                match changed.map_err(MembershipError::Refused)? {
                    Ok(id) if !leaving => return Ok(id),
                    Ok(_) | Err(_) => {}
                }
            }
            if self.contact.is_hopeless(begun) {
                break;
            }
            backoff.pause().await;
        }
        Err(Unavailable::NoQuorum.into())
    }

    async fn change_at(&self, leader: ReplicaId, change: Change) -> Changed {
        use wire::membership_response::Result;
        let Some(address) = self.address(leader) else { return Ok(Err(None)) };
        let mut client = self.links.client(leader, &address, Purpose::Calls);
        let call = client.membership(wire::MembershipRequest { change: Some(change.into()) });
        let unknown = |reason: &str| {
            format!("replica {leader} did not say what became of it ({reason}): look at \"cluster status\"")
        };
        match tokio::time::timeout(CHANGE_PATIENCE, call).await {
            Ok(Ok(response)) => match response.into_inner().result {
                Some(Result::Done(id)) => Ok(Ok(ReplicaId(id))),
                Some(Result::Refused(reason)) => Err(reason),
                Some(Result::NotLeader(other)) => Ok(Err(other.hint())),
                None => Err(unknown("an empty answer")),
            },
            Ok(Err(status)) if never_sent(&status) => Ok(Err(None)),
            Ok(Err(status)) => Err(unknown(status.message())),
            Err(_) => Err(unknown("no answer in time")),
        }
    }

    /// Makes a change, if this replica leads.
    pub async fn change_here(self: &Arc<Self>, change: Change) -> Changed {
        let metrics = self.metrics();
        if metrics.state != ServerState::Leader {
            return Ok(Err(metrics.current_leader.map(ReplicaId)));
        }
        match change {
            Change::Add(id, address) => self.add_here(&metrics, id, address).await,
            Change::Promote(id) => self.promote_here(&metrics, id).await,
            Change::Remove(id) => self.remove_here(&metrics, id).await,
            Change::Transfer(to) => self.transfer(to).await,
            Change::Readdress(id, address) => self.readdress_here(&metrics, id, address).await,
        }
    }

    /// Safe for an address that another one had: every call names the replica that it is for.
    async fn readdress_here(&self, metrics: &Metrics, id: ReplicaId, address: String) -> Changed {
        let membership = metrics.membership_config.membership();
        if membership.get_node(&id.0).is_none() {
            return Err(format!("replica {id} is no member"));
        }
        let nodes = BTreeMap::from([(id.0, BasicNode::new(&address))]);
        let change = self.raft.change_membership(ChangeMembers::SetNodes(nodes), true);
        Ok(committed(change).await?.map(|_| id))
    }

    /// Tells the others where this replica is, if its configuration has another
    /// address than the membership. All are asked: the leader does not reach this
    /// replica, so this one may not know who leads.
    pub async fn announce_address(self: Arc<Self>) {
        let address = &self.options.advertise_addr;
        loop {
            let members = members(self.metrics().membership_config.membership());
            match members.get(&self.id) {
                Some((known, _)) if known == address => return,
                Some(_) => self.announce(&members).await,
                // It may be added later, with whatever address is right then.
                None => {}
            }
            tokio::time::sleep(ANNOUNCE_EVERY).await;
        }
    }

    async fn announce(self: &Arc<Self>, members: &BTreeMap<ReplicaId, (String, bool)>) {
        let change = Change::Readdress(self.id, self.options.advertise_addr.clone());
        if let Ok(Ok(_)) = self.change_here(change.clone()).await {
            return;
        }
        for id in members.keys().filter(|id| **id != self.id) {
            if let Ok(Ok(_)) = self.change_at(*id, change.clone()).await {
                tracing::info!("the peers of replica {} know its new address", self.id);
                return;
            }
        }
    }

    async fn add_here(&self, metrics: &Metrics, id: ReplicaId, address: String) -> Changed {
        let membership = metrics.membership_config.membership();
        if self.feed.removed().contains(&id) {
            return Err(format!("number {id} belonged to a replica that was removed: choose one that was never used"));
        }
        if membership.voter_ids().any(|voter| voter == id.0) {
            return Err(format!("replica {id} is a voter already"));
        }
        if let Some(node) = membership.get_node(&id.0).filter(|node| node.addr != address) {
            return Err(format!("replica {id} is a learner already, at {}: remove it, or use that address", node.addr));
        }
        if let Some((other, _)) = membership.nodes().find(|(other, node)| **other != id.0 && node.addr == address) {
            return Err(format!("{address} is replica {other}'s address"));
        }
        self.probe(id, &address).await?;
        let added = self.raft.add_learner(id.0, BasicNode::new(&address), false);
        let index = match committed(added).await? {
            Ok(response) => response.log_id.index,
            Err(leader) => return Ok(Err(leader)),
        };
        let caught_up = |m: &Metrics| matched(m, id) >= Some(index);
        match self.raft.wait(Some(CATCH_UP_PATIENCE)).metrics(caught_up, "a new replica catches up").await {
            Ok(_) => Ok(Ok(id)),
            Err(_) => Err(format!(
                "replica {id} was added, but has not caught up within {CATCH_UP_PATIENCE:?}: {}; it goes on, and \
                 \"cluster status\" shows how far it is",
                self.links.explain(id, &address).unwrap_or_else(|| "it is still receiving".into())
            )),
        }
    }

    /// Whether a replica that is to be added is there, and has no other cluster's data.
    async fn probe(&self, id: ReplicaId, address: &str) -> Result<(), String> {
        let mut client = self.links.client(id, address, Purpose::Calls);
        let call = client.status(self.status_request());
        let status = match tokio::time::timeout(PROBE_PATIENCE, call).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => {
                let reason = self.links.explain(id, address).unwrap_or_else(|| status.message().to_owned());
                return Err(match self.links.problem(id, address) {
                    // It answered, and says itself what is wrong.
                    None | Some(Problem::OtherReplica) => reason,
                    Some(Problem::OtherSecret) => {
                        format!("{reason}; give it this cluster's secret, and an empty data_dir, then start it again")
                    }
                    Some(_) => format!("{reason}; start it first, with cluster.id {id} and this cluster's secret"),
                });
            }
            Err(_) => return Err(format!("replica {id} does not answer at {address}: start it first")),
        };
        self.check_release(id, &status.version, status.command_format)?;
        if status.initialized && Some(status.cluster_id) != self.feed.cluster_id() {
            return Err(format!(
                "replica {id} has begun a cluster of its own: set its cluster.peers, and remove its data"
            ));
        }
        Ok(())
    }

    async fn promote_here(&self, metrics: &Metrics, id: ReplicaId) -> Changed {
        let membership = metrics.membership_config.membership();
        if membership.get_node(&id.0).is_none() {
            return Err(format!("replica {id} is no member: run \"cluster add {id} HOST:PORT\" first"));
        }
        if membership.voter_ids().any(|voter| voter == id.0) {
            return Ok(Ok(id));
        }
        if !self.answering().await.contains(&id) {
            return Err(format!("replica {id} does not answer: as a voter it would be missing"));
        }
        let behind = metrics.last_log_index.unwrap_or(0).saturating_sub(matched(metrics, id).unwrap_or(0));
        if behind > PROMOTE_LAG {
            return Err(format!("replica {id} is {behind} log entries behind: wait until it has caught up"));
        }
        let change = self.raft.change_membership(ChangeMembers::AddVoterIds(BTreeSet::from([id.0])), true);
        Ok(committed(change).await?.map(|_| id))
    }

    async fn remove_here(self: &Arc<Self>, metrics: &Metrics, id: ReplicaId) -> Changed {
        if id == self.id {
            return Err(format!("replica {id} leads: hand leadership over first"));
        }
        let membership = metrics.membership_config.membership();
        if membership.get_node(&id.0).is_none() {
            // Removed before, but perhaps not recorded.
            if !self.feed.removed().contains(&id) && self.feed.view().replica(id).is_some() {
                return self.record_removed(id).await;
            }
            return Err(format!("replica {id} is no member"));
        }
        let change = match membership.voter_ids().any(|voter| voter == id.0) {
            true => {
                self.check_quorum_without(metrics, id).await?;
                self.raft.change_membership(ChangeMembers::RemoveVoters(BTreeSet::from([id.0])), false)
            }
            false => self.raft.change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([id.0])), false),
        };
        match committed(change).await? {
            Ok(_) => self.record_removed(id).await,
            Err(leader) => Ok(Err(leader)),
        }
    }

    async fn record_removed(self: &Arc<Self>, id: ReplicaId) -> Changed {
        match self.write(Asked::default(), Command::ReplicaRemoved(id)).await {
            Ok(_) => Ok(Ok(id)),
            Err(error) => {
                Err(format!("replica {id} was removed, but that is not recorded yet ({error}): run it again"))
            }
        }
    }

    async fn check_quorum_without(&self, metrics: &Metrics, id: ReplicaId) -> Result<(), String> {
        let left: Vec<u64> =
            metrics.membership_config.membership().voter_ids().filter(|voter| *voter != id.0).collect();
        // Asked now: a change that its own majority cannot commit would leave the cluster stuck.
        let answering = self.answering().await;
        let alive = left.iter().filter(|voter| answering.contains(&ReplicaId(**voter))).count();
        let needed = left.len() / 2 + 1;
        if left.is_empty() {
            return Err(format!("replica {id} is the last voter"));
        }
        if alive < needed {
            return Err(format!(
                "without replica {id} the voters would be {left:?}, of which {alive} answer and {needed} must: start \
                 the others first, or add one"
            ));
        }
        Ok(())
    }

    /// Hands leadership over, if this replica leads.
    pub async fn transfer(&self, to: Option<ReplicaId>) -> Changed {
        let metrics = self.metrics();
        if metrics.state != ServerState::Leader {
            return Ok(Err(metrics.current_leader.map(ReplicaId)));
        }
        let to = self.successor(&metrics, to)?;
        if to == self.id {
            return Ok(Ok(to));
        }
        if self.raft.trigger().transfer_leader(to.0).await.is_err() {
            return Err("this replica is stopping".into());
        }
        let took_over = |m: &Metrics| m.current_leader == Some(to.0);
        match self.raft.wait(Some(TRANSFER_PATIENCE)).metrics(took_over, "another replica leads").await {
            Ok(_) => Ok(Ok(to)),
            Err(_) => Err(format!("replica {to} did not take over within {TRANSFER_PATIENCE:?}: try again")),
        }
    }

    fn successor(&self, metrics: &Metrics, to: Option<ReplicaId>) -> Result<ReplicaId, String> {
        let voters: Vec<ReplicaId> = metrics.membership_config.membership().voter_ids().map(ReplicaId).collect();
        match to {
            Some(to) if !voters.contains(&to) => Err(format!("replica {to} is no voter")),
            Some(to) if !self.is_alive(metrics, to) => Err(format!("replica {to} does not answer")),
            Some(to) => Ok(to),
            None => {
                let others = voters.into_iter().filter(|voter| *voter != self.id && self.is_alive(metrics, *voter));
                let best = others.max_by_key(|voter| matched(metrics, *voter));
                best.ok_or_else(|| "no other voter answers".into())
            }
        }
    }

    /// The members that answer now.
    async fn answering(&self) -> BTreeSet<ReplicaId> {
        self.ask_all().await.into_iter().filter(|(_, answer)| answer.is_ok()).map(|(id, _)| id).collect()
    }

    /// Whether enough voters answer this leader for another one to be elected.
    pub fn majority_answers(&self, metrics: &Metrics) -> bool {
        let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
        voters.iter().filter(|voter| self.is_alive(metrics, ReplicaId(**voter))).count() * 2 > voters.len()
    }

    /// Whether a member answered this leader lately, and its port does not refuse since.
    fn is_alive(&self, metrics: &Metrics, id: ReplicaId) -> bool {
        let heartbeat = metrics.heartbeat.as_ref().and_then(|h| h.get(&id.0).copied().flatten());
        let node = metrics.membership_config.membership().get_node(&id.0);
        let refuses =
            node.is_some_and(|node| self.links.problem(id, &node.addr) == Some(super::peer::Problem::Refused));
        id == self.id || (!refuses && heartbeat.is_some_and(|at| types::age(at) < ALIVE))
    }
}

/// How far a member's log agrees with this leader's.
fn matched(metrics: &Metrics, id: ReplicaId) -> Option<u64> {
    metrics.replication.as_ref()?.get(&id.0)?.as_ref().map(|log_id| log_id.index)
}

type Written<T> = Result<T, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

/// Waits for a change to be committed: what it gave, or who leads instead; or why not.
async fn committed<T>(change: impl Future<Output = Written<T>>) -> Result<Result<T, Option<ReplicaId>>, String> {
    match tokio::time::timeout(COMMIT_PATIENCE, change).await {
        Ok(Ok(response)) => Ok(Ok(response)),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => Ok(Err(to.leader_id.map(ReplicaId))),
        Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
            Err(format!("{error}: wait a moment, then try again"))
        }
        Ok(Err(error)) => Err(format!("it is not known what became of it ({error}): look at \"cluster status\"")),
        Err(_) => Err(format!("it is not committed after {COMMIT_PATIENCE:?}: look at \"cluster status\"")),
    }
}

impl From<wire::membership_request::Change> for Change {
    fn from(change: wire::membership_request::Change) -> Self {
        use wire::membership_request::Change as Wire;
        match change {
            Wire::Add(add) => Change::Add(ReplicaId(add.id), add.address),
            Wire::Promote(id) => Change::Promote(ReplicaId(id)),
            Wire::Remove(id) => Change::Remove(ReplicaId(id)),
            Wire::Readdress(at) => Change::Readdress(ReplicaId(at.id), at.address),
            Wire::TransferTo(id) => Change::Transfer((id != 0).then_some(ReplicaId(id))),
        }
    }
}

impl From<Change> for wire::membership_request::Change {
    fn from(change: Change) -> Self {
        use wire::membership_request::Add;
        match change {
            Change::Add(id, address) => Self::Add(Add { id: id.0, address }),
            Change::Readdress(id, address) => Self::Readdress(Add { id: id.0, address }),
            Change::Promote(id) => Self::Promote(id.0),
            Change::Remove(id) => Self::Remove(id.0),
            Change::Transfer(to) => Self::TransferTo(to.map_or(0, |id| id.0)),
        }
    }
}

/// Members with their addresses, voters or not.
pub fn members(membership: &types::Membership) -> BTreeMap<ReplicaId, (String, bool)> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let member = |(id, node): (&u64, &BasicNode)| (ReplicaId(*id), (node.addr.clone(), voters.contains(id)));
    membership.nodes().map(member).collect()
}
