//! Writes: through the log, wherever the leader is, at most once.

use super::contact;
use super::gathering::Gathering;
use super::meters::METERS;
use super::replica::{Replica, Stopped};
use super::types::{Logged, Raft, TypeConfig};
use super::wire;
use super::{Asked, Unavailable, WriteError};
use crate::state::{Command, Done, Outcome, Proposal, ReplicaId, RequestId, Time};
use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Writes that are under way at one time on one replica; more wait. It bounds the
/// outcomes that state has to remember for this replica.
pub const IN_FLIGHT: usize = 4096;
/// How long a write is tried before its caller is told that nobody knows.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// How long one attempt may take before the next: its leader may be gone.
pub const ATTEMPT_PATIENCE: Duration = Duration::from_secs(3);
/// How long a leader that takes no writes may need to find another one.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);
/// The longest proposal: one that peers could not be sent would stop replication for good.
pub const PROPOSAL_LIMIT: usize = 32 << 20;

/// Batches of writes that a leader has under way: the next has all that came meanwhile, so
/// that the busier it is, the more go to the disks with one sync.
pub const BATCHES: usize = 1;

/// The commands that a leader puts into its log.
pub type Writes = Gathering<Logged, Result<ClientWriteResult<TypeConfig>, Stopped>>;

/// What became of one attempt.
pub enum Attempt {
    Answer {
        index: u64,
        outcome: Outcome,
    },
    /// Nothing was written: another one leads, or none.
    NotLeader(Option<ReplicaId>),
    /// Nothing was written: this leader takes no writes now, and this is why.
    Refused(String),
    /// It may have been written, or may yet be: only the same request may be tried again.
    InDoubt,
    /// Nothing was written: some member could not apply it, as this says.
    Unknown(wire::Mixed),
}

impl Replica {
    /// Makes a change. It is carried on when the caller goes away.
    pub async fn write(self: &Arc<Self>, asked: Asked, command: Command) -> Result<Done, WriteError> {
        let replica = self.clone();
        let task = async move {
            tokio::select! {
                () = replica.stopping.cancelled() => Err(Unavailable::Stopping.into()),
                done = replica.write_now(asked, command) => done,
            }
        };
        if self.stopping.is_cancelled() {
            return Err(Unavailable::Stopping.into());
        }
        self.handle.spawn(task).await.unwrap_or_else(|_| Err(Unavailable::Stopping.into()))
    }

    async fn write_now(&self, asked: Asked, command: Command) -> Result<Done, WriteError> {
        let _measured = METERS.write();
        let begun = Instant::now();
        let deadline = begun + WRITE_PATIENCE;
        let permit = tokio::time::timeout_at(deadline, self.in_flight.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            let lost = self.contact.is_lost();
            return Err(if lost { Unavailable::NoQuorum } else { timed_out() }.into());
        };
        if self.contact.is_removed() {
            return Err(Unavailable::Removed(self.id).into());
        }
        self.check_known(&command)?;
        let request = self.requests.begin();
        // The leader sets time and deadline.
        let (time, format) = (Time::default(), command.format());
        let Asked { idempotency_key, origin } = asked;
        let mut proposal =
            Proposal { format, request: request.id, deadline: time, time, idempotency_key, origin, command };
        self.settle_origin(&mut proposal);
        let bytes = encode(&proposal);
        if bytes.len() > PROPOSAL_LIMIT {
            return Err(Unavailable::TooLarge(bytes.len()).into());
        }
        self.settle(&proposal, &bytes, begun).await
    }

    /// Tries until there is an answer, or no hope.
    async fn settle(&self, proposal: &Proposal, bytes: &[u8], begun: Instant) -> Result<Done, WriteError> {
        let deadline = begun + WRITE_PATIENCE;
        let mut in_doubt = false;
        let mut hint = None;
        let mut backoff = Backoff::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(if in_doubt { timed_out() } else { Unavailable::NoQuorum }.into());
            }
            let attempt = match hint.take().or_else(|| self.leader()) {
                None => Attempt::NotLeader(None),
                Some(leader) if leader == self.id => {
                    self.propose_here(proposal.clone(), left).await.map_err(|Stopped| Unavailable::Stopping)?
                }
                Some(leader) => self.forward(leader, bytes, left).await,
            };
            match attempt {
                Attempt::Answer { index, outcome } => {
                    self.applied_here(index, deadline).await.map_err(|()| timed_out())?;
                    return Ok(outcome?);
                }
                Attempt::NotLeader(other) => hint = other.filter(|other| *other != self.id),
                // Another one may be about to take the lead, and the write.
                Attempt::Refused(reason) if !in_doubt && begun.elapsed() >= REFUSAL_PATIENCE => {
                    return Err(Unavailable::Refused(reason).into());
                }
                Attempt::Refused(_) => {}
                Attempt::InDoubt => in_doubt = true,
                // An earlier attempt may have been written, and only its outcome would tell.
                Attempt::Unknown(_) if in_doubt => {}
                Attempt::Unknown(mixed) => return Err(Unavailable::from(mixed).into()),
            }
            if !in_doubt && self.contact.is_hopeless(begun) {
                return Err(Unavailable::NoQuorum.into());
            }
            backoff.pause().await;
        }
    }

    /// One attempt, if this replica leads. `patience` is what the request has left.
    pub async fn propose_here(&self, mut proposal: Proposal, patience: Duration) -> Result<Attempt, Stopped> {
        if let Some(reason) = self.refusal(&proposal.command) {
            return Ok(self.refused_here(reason));
        }
        if let Err(Unavailable::Mixed { replica, release, command }) = self.check_known(&proposal.command) {
            return Ok(Attempt::Unknown(wire::Mixed { replica: replica.0, release, command }));
        }
        self.settle_origin(&mut proposal);
        proposal.time = self.stamp();
        proposal.deadline = proposal.time + patience;
        let logged = Logged(encode(&proposal).into());
        let bytes = logged.0.len();
        // What comes while a batch is on its way to the disks goes there together.
        let write = self.writes.add(&self.handle, logged, bytes, |batch| write_raft(self.raft.clone(), batch));
        let error = match tokio::time::timeout(patience.min(ATTEMPT_PATIENCE), write).await {
            Err(_) | Ok(None) => return Ok(Attempt::InDoubt),
            Ok(Some(Err(Stopped))) => return Err(Stopped),
            Ok(Some(Ok(Ok(response)))) => {
                let index = response.log_id.index;
                let outcome = response.data.0.expect("a command's entry has a command's answer");
                return Ok(Attempt::Answer { index, outcome });
            }
            Ok(Some(Ok(Err(error)))) => error,
        };
        match error {
            ClientWriteError::ForwardToLeader(to) => {
                Ok(Attempt::NotLeader(to.leader_id.map(ReplicaId).filter(|leader| *leader != self.id)))
            }
            // It was in our log and was cut off; it may be in another's.
            _ => Ok(Attempt::InDoubt),
        }
    }

    /// Only the one who leads may say no.
    fn refused_here(&self, reason: String) -> Attempt {
        match self.leader() {
            Some(leader) if leader == self.id => Attempt::Refused(reason),
            other => Attempt::NotLeader(other),
        }
    }

    /// Returns when this replica hears of a new leader that is not this one.
    pub async fn replaced(&self, leader: ReplicaId) {
        let before = self.leader();
        let mut changes = self.raft.server_metrics();
        loop {
            let now = self.leader();
            if now.is_some_and(|now| now != leader) && now != before {
                return;
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits until this replica has applied the log up to `index`.
    pub async fn applied_here(&self, index: u64, deadline: Instant) -> Result<(), ()> {
        let mut applied = self.feed.applied();
        let wait = applied.wait_for(|applied| *applied >= index);
        match tokio::time::timeout_at(deadline, wait).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(()),
        }
    }
}

/// Writes through the log, in this order; notes when a quorum has each.
async fn write_raft(raft: Raft, batch: Vec<Logged>) -> Vec<Result<ClientWriteResult<TypeConfig>, Stopped>> {
    let mut answers = Vec::with_capacity(batch.len());
    for logged in batch {
        let (responder, committed, answer) = ProgressResponder::new();
        let proposed = Instant::now();
        let write = raft.client_write_ff(logged, Some(responder)).await;
        answers.push(async move {
            write.map_err(|_| Stopped)?;
            if committed.await.is_ok() {
                METERS.commit.record(proposed.elapsed());
            }
            answer.await.map_err(|_| Stopped)
        });
    }
    // Later nobody waits for an answer any more, and what comes next must not wait for this.
    tokio::time::timeout(ATTEMPT_PATIENCE, join_all(answers)).await.unwrap_or_default()
}

fn timed_out() -> Unavailable {
    Unavailable::Timeout(WRITE_PATIENCE.as_secs())
}

fn encode(proposal: &Proposal) -> Vec<u8> {
    serde_json::to_vec(proposal).expect("a proposal has only what JSON can express")
}

impl From<Attempt> for wire::ForwardResponse {
    fn from(attempt: Attempt) -> Self {
        use wire::forward_response::{Answer, InDoubt, Result};
        let result = match attempt {
            Attempt::Answer { index, outcome } => {
                let outcome = serde_json::to_vec(&outcome).expect("an outcome has only what JSON can express");
                Result::Answer(Answer { index, outcome })
            }
            Attempt::NotLeader(leader) => Result::NotLeader(wire::NotLeader::new(leader)),
            Attempt::Refused(reason) => Result::Refused(reason),
            Attempt::InDoubt => Result::InDoubt(InDoubt {}),
            Attempt::Unknown(mixed) => Result::Unknown(mixed),
        };
        Self { result: Some(result) }
    }
}

impl TryFrom<wire::ForwardResponse> for Attempt {
    type Error = serde_json::Error;
    fn try_from(response: wire::ForwardResponse) -> Result<Self, serde_json::Error> {
        use wire::forward_response::Result;
        Ok(match response.result {
            Some(Result::Answer(answer)) => {
                Attempt::Answer { index: answer.index, outcome: serde_json::from_slice(&answer.outcome)? }
            }
            Some(Result::NotLeader(other)) => Attempt::NotLeader(other.hint()),
            Some(Result::Refused(reason)) => Attempt::Refused(reason),
            Some(Result::Unknown(mixed)) => Attempt::Unknown(mixed),
            Some(Result::InDoubt(_)) | None => Attempt::InDoubt,
        })
    }
}

impl From<wire::Mixed> for Unavailable {
    fn from(mixed: wire::Mixed) -> Self {
        Self::Mixed { replica: ReplicaId(mixed.replica), release: mixed.release, command: mixed.command }
    }
}

/// The names of this process's requests, and which of them have their answer.
pub struct Requests {
    incarnation: u64,
    open: Mutex<Open>,
}

struct Open {
    last: u64,
    sequences: BTreeSet<u64>,
}

/// A request under way; dropped when its caller has the answer.
pub struct Request<'a> {
    pub id: RequestId,
    requests: &'a Requests,
}

impl Requests {
    pub fn new(incarnation: u64) -> Self {
        Self { incarnation, open: Mutex::new(Open { last: 0, sequences: BTreeSet::new() }) }
    }

    /// Names a new request. Everything before the oldest one under way is acknowledged.
    pub fn begin(&self) -> Request<'_> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.last += 1;
        let sequence = open.last;
        open.sequences.insert(sequence);
        let acknowledged = open.sequences.first().map_or(0, |first| first - 1);
        Request { id: RequestId { incarnation: self.incarnation, sequence, acknowledged }, requests: self }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let mut open = self.requests.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.sequences.remove(&self.id.sequence);
    }
}

/// Growing pauses between attempts, of random length, so that many who wait for a
/// new leader do not come back at one moment.
pub struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_millis(200);

    pub fn new() -> Self {
        const { assert!(Self::LONGEST.as_millis() * 10 < contact::PATIENCE.as_millis()) };
        Self(Self::FIRST)
    }

    pub async fn pause(&mut self) {
        tokio::time::sleep(self.0.mul_f64(rand::random_range(0.5..1.0))).await;
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_acknowledged_when_all_before_it_have_their_answers() {
        let requests = Requests::new(7);
        let first = requests.begin();
        let second = requests.begin();
        assert_eq!((first.id.sequence, first.id.acknowledged), (1, 0));
        drop(second);
        assert_eq!(requests.begin().id.acknowledged, 0, "the first has no answer yet");
        drop(first);
        let fourth = requests.begin();
        assert_eq!((fourth.id.sequence, fourth.id.acknowledged), (4, 3));
    }
}
