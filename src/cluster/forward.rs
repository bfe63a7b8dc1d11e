//! Commands on their way to the leader, from a replica that is not.

use super::gathering::Gathering;
use super::peer::{Client, Purpose, never_sent};
use super::propose::{ATTEMPT_PATIENCE, Attempt};
use super::replica::Replica;
use super::wire;
use crate::state::ReplicaId;
use futures::future::join_all;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::{Code, Status};

/// What an answer may need on its way, on top.
const ON_THE_WAY: Duration = Duration::from_millis(500);
/// The longest that a forwarded command may wait at the leader.
const LONGEST: Duration = Duration::from_secs(30);

/// Messages to the leader under way at a time: with one alone, a command that comes
/// second would wait for two round trips.
const UNDER_WAY: usize = 2;

/// What goes to one leader together.
type ToLeader = Gathering<wire::ForwardRequest, Attempt>;

/// The way to the leader that was last forwarded to: what hangs on its way to a dead
/// one holds up nothing that goes to the next.
#[derive(Default)]
pub struct Forwards(Mutex<Option<(ReplicaId, Arc<ToLeader>)>>);

impl Forwards {
    fn to(&self, leader: ReplicaId) -> Arc<ToLeader> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((id, gathering)) if *id == leader => gathering.clone(),
            _ => current.insert((leader, Arc::new(ToLeader::new(UNDER_WAY)))).1.clone(),
        }
    }
}

impl Replica {
    /// One attempt at the leader. Commands that come at the same time go in one message.
    pub async fn forward(&self, leader: ReplicaId, proposal: &[u8], left: Duration) -> Attempt {
        let Some(address) = self.address(leader) else { return Attempt::NotLeader(None) };
        let patience_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let request = wire::ForwardRequest { proposal: proposal.to_vec(), patience_ms };
        let to_leader = self.forwards.to(leader);
        let run = |requests| send(leader, self.links.client(leader, &address, Purpose::Calls), requests);
        let call = to_leader.add(&self.handle, request, proposal.len(), run);
        let call = tokio::time::timeout(left.min(ATTEMPT_PATIENCE) + ON_THE_WAY, call);
        let answer = tokio::select! {
            answer = call => answer,
            // That one will hardly answer any more: it is frozen, say. The next one
            // finds out by the request's name whether this was written.
            () = self.replaced(leader) => return Attempt::InDoubt,
        };
        answer.ok().flatten().unwrap_or(Attempt::InDoubt)
    }

    /// The attempts that a follower asked for, made here at once, in its order.
    pub async fn forwarded(&self, requests: Vec<wire::ForwardRequest>) -> Vec<wire::ForwardResponse> {
        let attempts = requests.into_iter().map(|request| async move {
            let patience = Duration::from_millis(request.patience_ms).min(LONGEST);
            let proposal = match serde_json::from_slice(&request.proposal) {
                Ok(proposal) => proposal,
                Err(error) => {
                    tracing::warn!(%error, "turned away a command that this release does not know");
                    return Attempt::NotLeader(None);
                }
            };
            // It may have been written before the core stopped.
            self.propose_here(proposal, patience).await.unwrap_or(Attempt::InDoubt)
        });
        join_all(attempts).await.into_iter().map(Into::into).collect()
    }
}

/// Sends requests to the leader, and answers each.
async fn send(leader: ReplicaId, mut client: Client, requests: Vec<wire::ForwardRequest>) -> Vec<Attempt> {
    let count = requests.len();
    let call = async {
        if let [request] = &requests[..] {
            return client.forward(request.clone()).await.map(|response| vec![response.into_inner()]);
        }
        match client.forward_many(wire::ForwardManyRequest { requests: requests.clone() }).await {
            // A release that does not know this call yet.
            Err(status) if status.code() == Code::Unimplemented => one_by_one(&client, requests).await,
            answer => answer.map(|response| response.into_inner().responses),
        }
    };
    let all = |attempt: fn() -> Attempt| (0..count).map(|_| attempt()).collect();
    match tokio::time::timeout(ATTEMPT_PATIENCE + ON_THE_WAY, call).await {
        Ok(Ok(responses)) if responses.len() == count => {
            responses.into_iter().map(|response| read(leader, response)).collect()
        }
        Ok(Err(status)) if never_sent(&status) || was_turned_away(&status) => {
            tracing::debug!("replica {leader} did not take {count} commands: {}", status.message());
            all(|| Attempt::NotLeader(None))
        }
        Ok(_) | Err(_) => all(|| Attempt::InDoubt),
    }
}

async fn one_by_one(
    client: &Client,
    requests: Vec<wire::ForwardRequest>,
) -> Result<Vec<wire::ForwardResponse>, Status> {
    let in_doubt = |_| Attempt::InDoubt.into();
    let calls = requests.into_iter().map(|request| {
        let mut client = client.clone();
        async move { client.forward(request).await.map_or_else(in_doubt, tonic::Response::into_inner) }
    });
    Ok(join_all(calls).await)
}

fn read(leader: ReplicaId, response: wire::ForwardResponse) -> Attempt {
    response.try_into().unwrap_or_else(|error| {
        tracing::error!("malformed answer of replica {leader}: {error}");
        Attempt::InDoubt
    })
}

/// Whether the other end refused a call before it did anything.
fn was_turned_away(status: &Status) -> bool {
    matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied)
}
