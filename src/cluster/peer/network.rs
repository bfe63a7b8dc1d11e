//! What Raft sends with.

use super::identity::is_given_up;
use super::links::{Client, Links, Purpose};
use super::pairing::Pairing;
use crate::cluster::blocking::blocking;
use crate::cluster::fatal::die;
use crate::cluster::store::SnapshotFile;
use crate::cluster::types::{TypeConfig, Vote};
use crate::cluster::wire::{self, Appended, Transferred, WireError};
use crate::state::ReplicaId;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::alias::SnapshotOf;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};

/// The least time for the first answer on a stream: a connection may have to be made.
const SETUP_PATIENCE: Duration = Duration::from_millis(500);
/// How long a follower may owe an answer to an append. Its disk may stall for a
/// second; to send everything again would make that worse.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a snapshot in one message.
const CHUNK: usize = 256 << 10;
/// Messages of a snapshot that wait for the network.
const CHUNKS_AHEAD: usize = 4;

type Error = RPCError<TypeConfig>;

/// Makes a [`Peer`] for each replica and purpose.
pub struct Network {
    pub links: Arc<Links>,
    pub own: u64,
}

impl Network {
    fn peer(&self, target: u64, node: &BasicNode, purpose: Purpose) -> Peer {
        Peer { links: self.links.clone(), purpose, address: node.addr.clone(), own: self.own, target }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        self.peer(target, node, Purpose::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        self.peer(target, node, Purpose::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        self.peer(target, node, Purpose::Snapshot)
    }
}

/// One other replica.
pub struct Peer {
    links: Arc<Links>,
    purpose: Purpose,
    /// Where it was when Raft began with it.
    address: String,
    own: u64,
    target: u64,
}

impl Peer {
    /// Raft does not begin anew with a member that has moved, so each call looks for it.
    fn client(&self) -> Client {
        let target = ReplicaId(self.target);
        let moved = self.links.member_address(target);
        self.links.client(target, moved.as_deref().unwrap_or(&self.address), self.purpose)
    }

    /// Waits for an answer no longer than Raft wants it.
    async fn bounded<T>(
        &self,
        action: RPCTypes,
        patience: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(error(&status)),
            Err(_) => Err(Timeout { action, id: self.own, target: self.target, timeout: patience }.into()),
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Error> {
        let mut answers = self.stream_append(futures::stream::iter([request]), option).await?;
        let answer = answers.next().await.unwrap_or_else(|| Err(network("the stream ended without an answer")));
        answer.map(AppendEntriesResponse::from)
    }

    /// One stream for as long as Raft has something to send; requests do not wait for
    /// the answers to those before.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Error>>, Error>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // Raft's back-off is in its stream of requests, which a connection that is
            // refused would never get to: the first request is taken before it is made.
            let pairing = Pairing::default();
            let mut requests = pairing.requests(input);
            let Some(first) = requests.next().await else { return Ok(futures::stream::empty().boxed()) };
            let requests = futures::stream::iter([first]).chain(requests);
            let patience = option.soft_ttl().max(SETUP_PATIENCE);
            let requests = requests.map(|request| wire::AppendRequest::from(&request));
            let mut client = self.client();
            let answers = self.bounded(RPCTypes::AppendEntries, patience, client.append(requests)).await?;
            let state = Some((answers, pairing));
            let (own, target) = (self.own, self.target);
            let answers = futures::stream::unfold(state, move |state| async move {
                let (mut answers, pairing) = state?;
                pairing.go_on();
                match next_answer(&mut answers, &pairing, own, target).await? {
                    Ok(Ok(matching)) => Some((Ok(Ok(matching)), Some((answers, pairing)))),
                    // What follows a refusal or a failure means nothing.
                    end => Some((end, None)),
                }
            });
            Ok(answers.boxed())
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        let mut client = self.client();
        let call = client.vote(wire::VoteRequest::from(&request));
        let answer = self.bounded(RPCTypes::Vote, option.soft_ttl(), call).await?;
        VoteResponse::try_from(&answer).map_err(malformed)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        let mut client = self.client();
        let call = client.pre_vote(wire::VoteRequest::from(&request));
        let answer = self.bounded(RPCTypes::Vote, option.soft_ttl(), call).await?;
        VoteResponse::try_from(&answer).map_err(malformed)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let (chunks, receiver) = tokio::sync::mpsc::channel(CHUNKS_AHEAD);
        let file = snapshot.snapshot;
        let start = wire::snapshot_chunk::Start { vote: Some((&vote).into()), size: file.size() };
        // It ends when the receiver is gone, or at the end of the file; a file that cannot
        // be read ends it early, and the other end misses the rest.
        tokio::spawn(send_chunks(file, start, chunks));
        let mut client = self.client();
        let call = client.install_snapshot(tokio_stream::wrappers::ReceiverStream::new(receiver));
        let answer = tokio::select! {
            answer = self.bounded(RPCTypes::InstallSnapshot, option.soft_ttl(), call) => answer?,
            closed = cancel => return Err(closed.into()),
        };
        let vote = wire::vote(answer.vote.as_ref()).map_err(malformed)?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Error> {
        let mut client = self.client();
        let call = client.transfer_leader(wire::TransferRequest::from(&request));
        let answer = self.bounded(RPCTypes::TransferLeader, option.soft_ttl(), call).await?;
        Transferred::try_from(&answer).map_err(malformed)
    }
}

/// The next answer on a stream. Without a limit while none is owed: a stream is idle
/// while there is nothing to replicate.
async fn next_answer(
    answers: &mut tonic::Streaming<wire::AppendResponse>,
    pairing: &Pairing,
    own: u64,
    target: u64,
) -> Option<Result<Appended, Error>> {
    loop {
        match tokio::time::timeout(ANSWER_PATIENCE, answers.message()).await {
            Ok(Ok(Some(message))) => {
                let answer = Appended::try_from(&message).map_err(malformed);
                let matching = answer.as_ref().ok().and_then(|appended| appended.as_ref().ok());
                if pairing.answer(matching) {
                    return Some(answer);
                }
            }
            Ok(Ok(None)) => return None,
            Ok(Err(status)) => return Some(Err(error(&status))),
            Err(_) if !pairing.owes() => {}
            Err(_) => {
                let action = RPCTypes::AppendEntries;
                return Some(Err(Timeout { action, id: own, target, timeout: ANSWER_PATIENCE }.into()));
            }
        }
    }
}

async fn send_chunks(
    file: SnapshotFile,
    start: wire::snapshot_chunk::Start,
    chunks: tokio::sync::mpsc::Sender<wire::SnapshotChunk>,
) {
    use wire::snapshot_chunk::Part;
    let send = async |part| chunks.send(wire::SnapshotChunk { part: Some(part) }).await.is_ok();
    let mut offset = 0;
    let mut open = send(Part::Start(start)).await;
    while open {
        let from = file.clone();
        match blocking(move || from.read_at(offset, CHUNK)).await {
            Ok(bytes) if bytes.is_empty() => return,
            Ok(bytes) => {
                offset += bytes.len() as u64;
                open = send(Part::Data(bytes)).await;
            }
            Err(error) => {
                tracing::error!("cannot read snapshot {}: {error}", file.path().display());
                return;
            }
        }
    }
}

/// A replica that cannot be connected to, or is not the one that was meant, is left
/// alone for a while; other failures are tried again soon.
fn error(status: &Status) -> Error {
    if is_given_up(status) {
        // With others like it, it could be a second cluster for the same clients.
        die(
            "this replica's cluster was given up",
            status.message(),
            "move its data directory away, give it a cluster.id that was never used, and add it to the new cluster",
        );
    }
    match status.code() {
        Code::Unavailable | Code::FailedPrecondition | Code::PermissionDenied => {
            Unreachable::from_string(status.message()).into()
        }
        _ => network(status.message()),
    }
}

fn network(reason: impl ToString) -> Error {
    NetworkError::from_string(reason).into()
}

fn malformed(error: WireError) -> Error {
    network(format!("malformed answer: {error}"))
}
