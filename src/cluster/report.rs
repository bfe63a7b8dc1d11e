//! What this replica says of itself, and what it sees of all.

use super::membership::members;
use super::peer::Purpose;
use super::replica::Replica;
use super::types::{Moment, age};
use super::wire;
use super::{ClusterStatus, MemberStatus};
use super::{Problem, ProblemKind};
use crate::state::{COMMAND_FORMAT, ReplicaId};
use futures::future::join_all;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long each member may take to answer.
const ASK_PATIENCE: Duration = Duration::from_secs(1);
/// Log entries that a healthy member may be behind.
const HEALTHY_LAG: u64 = 1000;

/// A member's answer, or why there is none.
pub type Answer = Result<wire::StatusResponse, String>;

impl Replica {
    /// How this replica is.
    pub async fn own_status(&self, caller: ReplicaId) -> wire::StatusResponse {
        let metrics = self.metrics();
        let view = self.feed.view();
        let role = match metrics.state {
            ServerState::Leader => "leader",
            ServerState::Candidate => "candidate",
            ServerState::Follower => "follower",
            ServerState::Learner | ServerState::Shutdown => "learner",
        };
        let quorum_heard = self.quorum_heard(&metrics);
        let heartbeats = metrics.heartbeat.as_ref().filter(|_| metrics.state == ServerState::Leader);
        let caller_age = heartbeats.and_then(|h| h.get(&caller.0).copied().flatten());
        let peers = self.options.peers.iter();
        wire::StatusResponse {
            id: self.id.0,
            version: env!("CARGO_PKG_VERSION").into(),
            cluster_id: self.feed.cluster_id().unwrap_or_default(),
            role: role.into(),
            term: metrics.current_term,
            leader: metrics.current_leader.unwrap_or(0),
            applied: metrics.last_applied.map(|id| id.index),
            committed: metrics.local_committed.map(|id| id.index),
            clients: self.clients.load(Ordering::Relaxed),
            initialized: self.raft.is_initialized().await.unwrap_or(true),
            command_format: COMMAND_FORMAT,
            caller_removed: self.feed.removed().contains(&caller),
            knows_caller: view.replica(caller).is_some() || self.feed.removed().contains(&caller),
            quorum_age_ms: quorum_heard.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
            caller_age_ms: caller_age.map(age_ms),
            membership: Some(metrics.membership_config.membership().into()),
            secret: self.secrets.get(self.tls.presented()).fingerprint(),
            secrets: self.secrets.all().map(|(_, secret)| secret.fingerprint()).collect(),
            last_log: self.last_log(),
            notes: self.note.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect(),
            configured_peers: peers.map(|(id, a)| wire::membership::Member { id: id.0, address: a.clone() }).collect(),
            problems: self.problems().into_iter().map(Into::into).collect(),
            time_ms: self.time_ms(),
        }
    }

    /// The end of this replica's log.
    fn last_log(&self) -> Option<wire::LogId> {
        wire::to_wire(self.raft.data_metrics().borrow_watched().last_log.as_ref())
    }

    /// Every replica, asked just now. On the runtime of the connections.
    pub async fn status(self: &Arc<Self>) -> ClusterStatus {
        let replica = self.clone();
        let task = self.handle.spawn(async move { replica.ask_all().await });
        match task.await {
            Ok(answers) => self.summarize(&answers),
            // This replica is stopping, and knows only that.
            Err(_) => self.summarize(&BTreeMap::new()),
        }
    }

    /// Every member's answer, or why there is none.
    pub async fn ask_all(&self) -> BTreeMap<ReplicaId, Answer> {
        let members = members(self.metrics().membership_config.membership());
        let answers = members.into_iter().map(async |(id, (address, _))| (id, self.ask_member(id, &address).await));
        join_all(answers).await.into_iter().collect()
    }

    /// What a member says of itself, or why it says nothing.
    pub async fn ask_member(&self, id: ReplicaId, address: &str) -> Answer {
        if id == self.id {
            return Ok(self.own_status(id).await);
        }
        let mut client = self.links.client(id, address, Purpose::Calls);
        let call = client.status(self.status_request());
        match tokio::time::timeout(ASK_PATIENCE, call).await {
            Ok(Ok(response)) => {
                let answer = response.into_inner();
                self.note_clock(id, answer.time_ms);
                Ok(answer)
            }
            Ok(Err(status)) => {
                let explained = self.links.explain(id, address);
                Err(explained.unwrap_or_else(|| format!("replica {id} at {address}: {}", status.message())))
            }
            Err(_) => {
                let explained = self.links.explain(id, address);
                Err(explained.unwrap_or_else(|| format!("replica {id} at {address} does not answer")))
            }
        }
    }

    fn summarize(&self, answers: &BTreeMap<ReplicaId, Answer>) -> ClusterStatus {
        let metrics = self.metrics();
        let has_quorum = self.contact.has_quorum();
        let leader = metrics.current_leader.filter(|_| has_quorum);
        let members = members(metrics.membership_config.membership());
        let committed = answers.values().flatten().filter_map(|answer| answer.committed).max();
        let mut list = Vec::new();
        let (mut voters, mut healthy_voters) = (0, 0);
        for (id, (address, voter)) in &members {
            let mut member = describe(*id, address, *voter, leader, committed, answers.get(id));
            member.problems.extend(self.known_problems(*id, address));
            voters += usize::from(*voter);
            healthy_voters += usize::from(*voter && member.healthy);
            list.push(member);
        }
        let spare = healthy_voters.checked_sub(voters / 2 + 1).filter(|_| has_quorum);
        let leads = answers.get(&ReplicaId(leader.unwrap_or(0))).and_then(|answer| answer.as_ref().ok());
        ClusterStatus {
            writes_refused: leads.and_then(refusal),
            cluster_id: self.feed.cluster_id().unwrap_or_default(),
            answered_by: self.id.0,
            leader,
            has_quorum,
            failures_tolerated: spare.unwrap_or(0),
            warnings: self.warnings(&list, answers, members.contains_key(&self.id)),
            members: list,
        }
    }

    /// What this replica knows of another one that it cannot say itself.
    fn known_problems(&self, id: ReplicaId, address: &str) -> Vec<Problem> {
        let differs = self.integrity.wrong().remove(&id).map(|kinds| Problem {
            kind: ProblemKind::Differs,
            text: format!(
                "its records of kind {} are not those of the other replicas: look at its log, and replace it",
                kinds.join(", ")
            ),
        });
        let secret = (self.links.problem(id, address) == Some(super::peer::Problem::OtherSecret)).then(|| Problem {
            kind: ProblemKind::OtherSecret,
            text: "its secret is not the one of this replica: give both the same file (cluster.secret_path)".into(),
        });
        [differs, secret].into_iter().flatten().collect()
    }

    fn warnings(
        &self,
        members: &[MemberStatus],
        answers: &BTreeMap<ReplicaId, Answer>,
        is_member: bool,
    ) -> Vec<String> {
        let mut warnings: Vec<String> = answers.values().filter_map(|answer| answer.as_ref().err()).cloned().collect();
        if self.contact.is_removed() {
            warnings.push(self.removal_notice());
        } else if members.is_empty() {
            warnings.push(format!("replica {} is in no cluster yet", self.id));
        } else if !is_member {
            warnings.push(format!("replica {} is no member of the cluster (any more)", self.id));
        }
        warnings.extend(two_secrets(answers));
        warnings.extend(mixed_releases(members));
        for member in members {
            warnings.extend(member.problems.iter().map(|problem| format!("replica {}: {}", member.id, problem.text)));
        }
        for (id, answer) in answers.iter().filter_map(|(id, answer)| Some((id, answer.as_ref().ok()?))) {
            warnings.extend(answer.notes.iter().map(|note| format!("replica {id}: {note}")));
        }
        for replica in self.feed.view().replicas() {
            warnings.extend(replica.config_differs.iter().map(|d| format!("replica {}: {d}", replica.id)));
        }
        warnings
    }
}

/// Why a leader takes no writes, if it says so.
fn refusal(leader: &wire::StatusResponse) -> Option<String> {
    let refuses = |kind: &str| matches!(ProblemKind::named(kind), ProblemKind::NoMajority | ProblemKind::DiskLow);
    leader.problems.iter().find(|problem| refuses(&problem.kind)).map(|problem| problem.text.clone())
}

/// Replicas that accept two secrets, and what to do about it.
fn two_secrets(answers: &BTreeMap<ReplicaId, Answer>) -> Option<String> {
    let two: Vec<&wire::StatusResponse> = answers.values().flatten().filter(|a| a.secrets.len() > 1).collect();
    let ids: Vec<String> = two.iter().map(|answer| answer.id.to_string()).collect();
    let (subject, they) = match ids.as_slice() {
        [] => return None,
        [one] => (format!("replica {one} accepts"), "it uses"),
        _ => (format!("replicas {} accept", ids.join(", ")), "they use"),
    };
    let what = match two.iter().all(|answer| Some(&answer.secret) == answer.secrets.first()) {
        true => format!("{they} the new one: remove cluster.previous_secret_path there, and restart"),
        false => "the old one is in use: when all replicas accept both, run \"cluster rotate-secret\"".into(),
    };
    Some(format!("{subject} two secrets; {what}"))
}

/// Who runs which release, if they differ.
fn mixed_releases(members: &[MemberStatus]) -> Option<String> {
    let mut releases = BTreeMap::<&str, Vec<String>>::new();
    for member in members.iter().filter(|member| !member.version.is_empty()) {
        releases.entry(&member.version).or_default().push(member.id.to_string());
    }
    if releases.len() < 2 {
        return None;
    }
    let list: Vec<String> =
        releases.iter().map(|(release, ids)| format!("{release} (replica {})", ids.join(", "))).collect();
    Some(format!(
        "the replicas run different releases: {}; what only the newer ones know is refused until all are upgraded",
        list.join(", ")
    ))
}

fn age_ms(moment: Moment) -> u64 {
    u64::try_from(age(moment).as_millis()).unwrap_or(u64::MAX)
}

fn describe(
    id: ReplicaId,
    address: &str,
    voter: bool,
    leader: Option<u64>,
    committed: Option<u64>,
    answer: Option<&Answer>,
) -> MemberStatus {
    let answer = answer.and_then(|answer| answer.as_ref().ok());
    let applied = answer.and_then(|answer| answer.applied);
    let lag = applied.zip(committed).map(|(applied, committed)| committed.saturating_sub(applied));
    let role = match (leader == Some(id.0), voter) {
        (true, _) => "leader",
        (false, true) => "follower",
        (false, false) => "learner",
    };
    // Without a quorum nobody keeps up with anything.
    let follows = answer.is_some_and(|answer| leader.is_none_or(|leader| answer.leader == leader));
    MemberStatus {
        id: id.0,
        address: address.to_owned(),
        role: role.into(),
        term: answer.map(|answer| answer.term),
        applied,
        lag,
        clients: answer.map(|answer| answer.clients),
        version: answer.map(|answer| answer.version.clone()).unwrap_or_default(),
        secret: answer.map(|answer| answer.secret.clone()).unwrap_or_default(),
        healthy: follows && lag.is_some_and(|lag| lag <= HEALTHY_LAG),
        problems: answer.iter().flat_map(|answer| &answer.problems).map(super::machine_watch::problem).collect(),
    }
}
