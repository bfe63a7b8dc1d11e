//! What this replica does for its peers.

use super::identity::Caller;
use crate::cluster::blocking::blocking;
use crate::cluster::replica::Replica;
use crate::cluster::wire::peer_server;
use crate::cluster::wire::{self, Appended, Transferred};
use crate::state::ReplicaId;
use futures::StreamExt;
use futures::stream::BoxStream;
use openraft::alias::SnapshotOf;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

/// How long the next part of a snapshot may take.
const CHUNK_PATIENCE: Duration = Duration::from_secs(30);

/// The service. It holds the replica weakly, so that a connection that stays open
/// does not keep a stopped replica.
pub struct Server {
    replica: Weak<Replica>,
    /// One snapshot at a time: a second sender would be a deposed leader.
    installing: Arc<Semaphore>,
}

impl Server {
    pub fn new(replica: &Arc<Replica>) -> Self {
        Self { replica: Arc::downgrade(replica), installing: Arc::new(Semaphore::new(1)) }
    }

    fn replica(&self) -> Result<Arc<Replica>, Status> {
        self.replica.upgrade().ok_or_else(stopping)
    }
}

/// Who makes a call.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().copied().ok_or_else(|| Status::internal("no caller"))
}

fn stopping() -> Status {
    Status::unavailable("this replica is stopping")
}

#[tonic::async_trait]
impl peer_server::Peer for Server {
    type AppendStream = BoxStream<'static, Result<wire::AppendResponse, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let caller = caller(&request)?;
        let replica = self.replica()?;
        replica.admit(caller.id, caller.knows_us).await?;
        let requests = tokio_stream::StreamExt::map_while(request.into_inner(), |message| {
            let request = message.and_then(|m| Ok(AppendEntriesRequest::try_from(m)?));
            request.inspect_err(|status| tracing::debug!("a leader's stream ended: {}", status.message())).ok()
        });
        let answers = replica.raft.stream_append(requests).map(|answer| match answer {
            Ok(appended) => Ok(wire::AppendResponse::from(&appended as &Appended)),
            Err(_) => Err(stopping()),
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn vote(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteResponse>, Status> {
        let (caller, replica) = (caller(&request)?, self.replica()?);
        replica.admit(caller.id, caller.knows_us).await?;
        let request = VoteRequest::try_from(request.get_ref())?;
        let answer = replica.raft.vote(request).await.map_err(|_| stopping())?;
        Ok(Response::new((&answer).into()))
    }

    async fn pre_vote(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteResponse>, Status> {
        let (caller, replica) = (caller(&request)?, self.replica()?);
        replica.admit(caller.id, caller.knows_us).await?;
        let request = VoteRequest::try_from(request.get_ref())?;
        let answer = replica.raft.pre_vote(request).await.map_err(|_| stopping())?;
        Ok(Response::new((&answer).into()))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferRequest>,
    ) -> Result<Response<wire::TransferResponse>, Status> {
        let request = TransferLeaderRequest::try_from(request.get_ref())?;
        let answer = self.replica()?.raft.handle_transfer_leader(request).await.map_err(|_| stopping())?;
        Ok(Response::new(wire::TransferResponse::from(&answer as &Transferred)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotResponse>, Status> {
        let busy = |_| Status::resource_exhausted("another snapshot is being installed");
        let _permit = self.installing.clone().try_acquire_owned().map_err(busy)?;
        let (caller, replica) = (caller(&request)?, self.replica()?);
        replica.admit(caller.id, caller.knows_us).await?;
        let (vote, file) = receive(&replica, request.into_inner()).await?;
        let path = file.path().to_owned();
        let snapshot = SnapshotOf::<crate::cluster::types::TypeConfig, _>::from(file);
        let answer = replica.raft.install_full_snapshot(vote, snapshot).await;
        // It has another name if it was installed, and is of no use if it was not.
        let _ = std::fs::remove_file(path);
        let answer = answer.map_err(|_| stopping())?;
        Ok(Response::new(wire::SnapshotResponse { vote: Some((&answer.vote).into()) }))
    }

    async fn forward(&self, request: Request<wire::ForwardRequest>) -> Result<Response<wire::ForwardResponse>, Status> {
        let mut responses = self.replica()?.forwarded(vec![request.into_inner()]).await;
        let response = responses.pop().ok_or_else(|| Status::internal("no answer to a command"))?;
        Ok(Response::new(response))
    }

    async fn forward_many(
        &self,
        request: Request<wire::ForwardManyRequest>,
    ) -> Result<Response<wire::ForwardManyResponse>, Status> {
        let responses = self.replica()?.forwarded(request.into_inner().requests).await;
        Ok(Response::new(wire::ForwardManyResponse { responses }))
    }

    async fn read_index(
        &self,
        _request: Request<wire::ReadIndexRequest>,
    ) -> Result<Response<wire::ReadIndexResponse>, Status> {
        use wire::read_index_response::Result;
        let result = match self.replica()?.read_index_here().await.map_err(|_| stopping())? {
            Ok(index) => Result::Index(index),
            Err(leader) => Result::NotLeader(wire::NotLeader::new(leader)),
        };
        Ok(Response::new(wire::ReadIndexResponse { result: Some(result) }))
    }

    async fn status(&self, request: Request<wire::StatusRequest>) -> Result<Response<wire::StatusResponse>, Status> {
        let caller = caller(&request)?;
        let replica = self.replica()?;
        replica.note_clock(caller.id, request.get_ref().time_ms);
        Ok(Response::new(replica.own_status(caller.id).await))
    }

    async fn digest(&self, request: Request<wire::DigestRequest>) -> Result<Response<wire::DigestResponse>, Status> {
        Ok(Response::new(self.replica()?.digest(request.into_inner().index).await))
    }

    async fn tally(&self, request: Request<wire::TallyRequest>) -> Result<Response<wire::TallyResponse>, Status> {
        Ok(Response::new(self.replica()?.tally(request.into_inner().index).await))
    }

    async fn judge(&self, request: Request<wire::Judgement>) -> Result<Response<wire::JudgeResponse>, Status> {
        self.replica()?.take_judgement(request.into_inner()).await;
        Ok(Response::new(wire::JudgeResponse {}))
    }

    async fn membership(
        &self,
        request: Request<wire::MembershipRequest>,
    ) -> Result<Response<wire::MembershipResponse>, Status> {
        use wire::membership_response::Result;
        let change = request.into_inner().change.ok_or_else(|| Status::invalid_argument("change is missing"))?;
        let result = match self.replica()?.change_here(change.into()).await {
            Ok(Ok(id)) => Result::Done(id.0),
            Ok(Err(leader)) => Result::NotLeader(wire::NotLeader::new(leader)),
            Err(reason) => Result::Refused(reason),
        };
        Ok(Response::new(wire::MembershipResponse { result: Some(result) }))
    }
}

impl wire::NotLeader {
    /// The hint, if there is one.
    pub fn new(leader: Option<ReplicaId>) -> Self {
        Self { leader: leader.map_or(0, |id| id.0) }
    }

    /// Who leads, as far as the one who said it knows.
    pub fn hint(&self) -> Option<ReplicaId> {
        (self.leader != 0).then_some(ReplicaId(self.leader))
    }
}

/// Takes a snapshot to a file, checked and durable.
async fn receive(
    replica: &Replica,
    mut chunks: Streaming<wire::SnapshotChunk>,
) -> Result<(crate::cluster::types::Vote, crate::cluster::store::SnapshotFile), Status> {
    use wire::snapshot_chunk::Part;
    let failed = |e: std::io::Error| Status::internal(format!("cannot take the snapshot: {e}"));
    let Some(Part::Start(start)) = next_part(&mut chunks).await? else {
        return Err(Status::invalid_argument("a snapshot does not begin with its start"));
    };
    let vote = wire::vote(start.vote.as_ref())?;
    let mut incoming = replica.snapshots.receive(start.size).map_err(failed)?;
    while let Some(part) = next_part(&mut chunks).await? {
        let Part::Data(bytes) = part else {
            return Err(Status::invalid_argument("a snapshot begins twice"));
        };
        incoming = blocking(move || incoming.write(&bytes).map(|()| incoming)).await.map_err(failed)?;
    }
    let file = blocking(|| incoming.finish()).await.map_err(failed)?;
    Ok((vote, file))
}

async fn next_part(chunks: &mut Streaming<wire::SnapshotChunk>) -> Result<Option<wire::snapshot_chunk::Part>, Status> {
    let late = |_| Status::deadline_exceeded("the next part of the snapshot did not come");
    let chunk = tokio::time::timeout(CHUNK_PATIENCE, chunks.message()).await.map_err(late)??;
    let missing = || Status::invalid_argument("a part of the snapshot is empty");
    chunk.map(|chunk| chunk.part.ok_or_else(missing)).transpose()
}
