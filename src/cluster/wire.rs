//! Messages between replicas and records on disk, and how openraft's types
//! become them and come back. What a peer or the disk says is checked here.

use super::types::{self, Logged};
use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderError, TransferLeaderRequest};
use openraft::vote::RaftVote;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

#[allow(clippy::all, clippy::pedantic, missing_docs)]
mod generated {
    tonic::include_proto!("quorumscale.peer.v1");
}
pub use generated::*;

type LeaderId = openraft::alias::LeaderIdOf<types::TypeConfig>;

/// A message or record lacks something, or has something that this release does not know.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WireError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("log entry {index} is of kind {kind}, which this release does not know")]
    Kind { index: u64, kind: i32 },
    #[error("{0}")]
    Membership(String),
    #[error("{0}")]
    Decode(#[from] prost::DecodeError),
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        tonic::Status::invalid_argument(error.to_string())
    }
}

impl From<WireError> for std::io::Error {
    fn from(error: WireError) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

impl From<&types::Vote> for Vote {
    fn from(vote: &types::Vote) -> Self {
        let leader = vote.leader_id();
        Self { term: leader.term, replica: leader.node_id, committed: vote.is_committed() }
    }
}

impl From<&Vote> for types::Vote {
    fn from(vote: &Vote) -> Self {
        let leader = LeaderId { term: vote.term, node_id: vote.replica };
        types::Vote::from_leader_id(leader, vote.committed)
    }
}

impl From<&types::LogId> for LogId {
    fn from(id: &types::LogId) -> Self {
        Self { term: id.leader_id.term, replica: id.leader_id.node_id, index: id.index }
    }
}

impl From<&LogId> for types::LogId {
    fn from(id: &LogId) -> Self {
        types::LogId::new(LeaderId { term: id.term, node_id: id.replica }, id.index)
    }
}

/// An optional log id, to the wire.
pub fn to_wire(id: Option<&types::LogId>) -> Option<LogId> {
    id.map(LogId::from)
}

/// An optional log id, from the wire.
pub fn from_wire(id: Option<&LogId>) -> Option<types::LogId> {
    id.map(types::LogId::from)
}

/// The vote that a message must have.
pub fn vote(vote: Option<&Vote>) -> Result<types::Vote, WireError> {
    vote.map(types::Vote::from).ok_or(WireError::Missing("vote"))
}

impl From<&types::Membership> for Membership {
    fn from(membership: &types::Membership) -> Self {
        let config = |voters: &BTreeSet<u64>| membership::Config { voters: voters.iter().copied().collect() };
        let member =
            |(id, node): (&u64, &openraft::BasicNode)| membership::Member { id: *id, address: node.addr.clone() };
        Self {
            configs: membership.get_joint_config().iter().map(config).collect(),
            members: membership.nodes().map(member).collect(),
        }
    }
}

impl TryFrom<&Membership> for types::Membership {
    type Error = WireError;
    fn try_from(message: &Membership) -> Result<Self, WireError> {
        let configs: Vec<BTreeSet<u64>> =
            message.configs.iter().map(|config| config.voters.iter().copied().collect()).collect();
        let nodes: BTreeMap<u64, openraft::BasicNode> =
            message.members.iter().map(|m| (m.id, openraft::BasicNode::new(&m.address))).collect();
        if configs.is_empty() && nodes.is_empty() {
            return Ok(Self::default());
        }
        Self::new(configs, nodes).map_err(|e| WireError::Membership(e.to_string()))
    }
}

impl From<&types::Entry> for Entry {
    fn from(entry: &types::Entry) -> Self {
        let (kind, payload) = match &entry.payload {
            EntryPayload::Blank => (entry::Kind::Blank, Vec::new()),
            EntryPayload::Normal(Logged(bytes)) => (entry::Kind::Command, bytes.to_vec()),
            EntryPayload::Membership(membership) => {
                (entry::Kind::Membership, Membership::from(membership).encode_to_vec())
            }
        };
        Self { id: Some(LogId::from(&entry.log_id)), kind: kind.into(), payload }
    }
}

impl Entry {
    /// The log entry that this is.
    pub fn decode_entry(self) -> Result<types::Entry, WireError> {
        let message = self;
        let log_id = from_wire(message.id.as_ref()).ok_or(WireError::Missing("log entry's id"))?;
        let payload = match entry::Kind::try_from(message.kind) {
            Ok(entry::Kind::Blank) => EntryPayload::Blank,
            Ok(entry::Kind::Command) => EntryPayload::Normal(Logged(message.payload.into())),
            Ok(entry::Kind::Membership) => {
                EntryPayload::Membership((&Membership::decode(message.payload.as_slice())?).try_into()?)
            }
            Ok(entry::Kind::Unspecified) | Err(_) => {
                return Err(WireError::Kind { index: log_id.index, kind: message.kind });
            }
        };
        Ok(types::Entry { log_id, payload })
    }
}

impl From<&AppendEntriesRequest<types::TypeConfig>> for AppendRequest {
    fn from(request: &AppendEntriesRequest<types::TypeConfig>) -> Self {
        Self {
            vote: Some(Vote::from(&request.vote)),
            previous: to_wire(request.prev_log_id.as_ref()),
            entries: request.entries.iter().map(Entry::from).collect(),
            leader_commit: to_wire(request.leader_commit.as_ref()),
        }
    }
}

impl TryFrom<AppendRequest> for AppendEntriesRequest<types::TypeConfig> {
    type Error = WireError;
    fn try_from(message: AppendRequest) -> Result<Self, WireError> {
        Ok(Self {
            vote: vote(message.vote.as_ref())?,
            prev_log_id: from_wire(message.previous.as_ref()),
            entries: message.entries.into_iter().map(Entry::decode_entry).collect::<Result<_, _>>()?,
            leader_commit: from_wire(message.leader_commit.as_ref()),
        })
    }
}

/// What a follower said to an append: how far its log agrees, or why not.
pub type Appended = Result<Option<types::LogId>, StreamAppendError<types::TypeConfig>>;

impl From<&Appended> for AppendResponse {
    fn from(appended: &Appended) -> Self {
        use append_response::{Matching, Result};
        let result = match appended {
            Ok(id) => Result::Matching(Matching { id: to_wire(id.as_ref()) }),
            Err(StreamAppendError::Conflict(id)) => Result::Conflict(id.into()),
            Err(StreamAppendError::HigherVote(vote)) => Result::HigherVote(vote.into()),
        };
        Self { result: Some(result) }
    }
}

impl TryFrom<&AppendResponse> for Appended {
    type Error = WireError;
    fn try_from(message: &AppendResponse) -> Result<Self, WireError> {
        use append_response::Result;
        Ok(match message.result.as_ref().ok_or(WireError::Missing("result"))? {
            Result::Matching(matching) => Ok(from_wire(matching.id.as_ref())),
            Result::Conflict(id) => Err(StreamAppendError::Conflict(id.into())),
            Result::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
        })
    }
}

impl From<&openraft::raft::VoteRequest<types::TypeConfig>> for VoteRequest {
    fn from(request: &openraft::raft::VoteRequest<types::TypeConfig>) -> Self {
        Self {
            vote: Some(Vote::from(&request.vote)),
            last_log: to_wire(request.last_log_id.as_ref()),
            leadership_transfer: request.leadership_transfer,
        }
    }
}

impl TryFrom<&VoteRequest> for openraft::raft::VoteRequest<types::TypeConfig> {
    type Error = WireError;
    fn try_from(message: &VoteRequest) -> Result<Self, WireError> {
        let mut request = Self::new(vote(message.vote.as_ref())?, from_wire(message.last_log.as_ref()));
        request.leadership_transfer = message.leadership_transfer;
        Ok(request)
    }
}

impl From<&openraft::raft::VoteResponse<types::TypeConfig>> for VoteResponse {
    fn from(response: &openraft::raft::VoteResponse<types::TypeConfig>) -> Self {
        Self {
            vote: Some(Vote::from(&response.vote)),
            granted: response.vote_granted,
            last_log: to_wire(response.last_log_id.as_ref()),
        }
    }
}

impl TryFrom<&VoteResponse> for openraft::raft::VoteResponse<types::TypeConfig> {
    type Error = WireError;
    fn try_from(message: &VoteResponse) -> Result<Self, WireError> {
        let vote = vote(message.vote.as_ref())?;
        Ok(Self::new(vote, from_wire(message.last_log.as_ref()), message.granted))
    }
}

impl From<&TransferLeaderRequest<types::TypeConfig>> for TransferRequest {
    fn from(request: &TransferLeaderRequest<types::TypeConfig>) -> Self {
        Self {
            from: Some(Vote::from(request.from_leader())),
            to: *request.to_node_id(),
            last_log: to_wire(request.last_log_id()),
        }
    }
}

impl TryFrom<&TransferRequest> for TransferLeaderRequest<types::TypeConfig> {
    type Error = WireError;
    fn try_from(message: &TransferRequest) -> Result<Self, WireError> {
        Ok(Self::new(vote(message.from.as_ref())?, message.to, from_wire(message.last_log.as_ref())))
    }
}

/// What the target of a transfer of leadership said.
pub type Transferred = Result<(), TransferLeaderError<types::TypeConfig>>;

impl From<&Transferred> for TransferResponse {
    fn from(transferred: &Transferred) -> Self {
        use transfer_response::{Logs, Refused, Votes};
        let refused = match transferred {
            Ok(()) => None,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                Some(Refused::VoteChanged(Votes { expected: Some(expected.into()), actual: Some(actual.into()) }))
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => Some(Refused::LogNotFlushed(Logs {
                expected: to_wire(expected.as_ref()),
                actual: to_wire(actual.as_ref()),
            })),
        };
        Self { refused }
    }
}

impl TryFrom<&TransferResponse> for Transferred {
    type Error = WireError;
    fn try_from(message: &TransferResponse) -> Result<Self, WireError> {
        use transfer_response::Refused;
        Ok(match &message.refused {
            None => Ok(()),
            Some(Refused::VoteChanged(votes)) => Err(TransferLeaderError::VoteChanged {
                expected: vote(votes.expected.as_ref())?,
                actual: vote(votes.actual.as_ref())?,
            }),
            Some(Refused::LogNotFlushed(logs)) => Err(TransferLeaderError::LogNotFlushed {
                expected: from_wire(logs.expected.as_ref()),
                actual: from_wire(logs.actual.as_ref()),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> types::LogId {
        types::LogId::new(LeaderId { term: 3, node_id: 2 }, index)
    }

    #[test]
    fn every_kind_of_entry_comes_back_as_it_was() {
        let nodes = BTreeMap::from([(1, openraft::BasicNode::new("a:1")), (2, openraft::BasicNode::new("b:2"))]);
        let membership = types::Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Logged(b"{}".to_vec().into())),
            EntryPayload::Membership(membership),
        ];
        for payload in payloads {
            let entry = types::Entry { log_id: id(7), payload };
            let bytes = Entry::from(&entry).encode_to_vec();
            let back = Entry::decode(bytes.as_slice()).unwrap().decode_entry().unwrap();
            assert_eq!(back, entry);
        }
    }

    #[test]
    fn an_entry_of_an_unknown_kind_is_refused_and_not_skipped() {
        let entry = Entry { id: to_wire(Some(&id(7))), kind: 99, payload: Vec::new() };
        let error = entry.decode_entry().unwrap_err().to_string();
        assert!(error.contains("log entry 7") && error.contains("kind 99"), "{error}");
    }

    #[test]
    fn a_matching_of_nothing_is_not_an_absent_answer() {
        let appended: Appended = Ok(None);
        let message = AppendResponse::decode(AppendResponse::from(&appended).encode_to_vec().as_slice()).unwrap();
        assert_eq!(Appended::try_from(&message).unwrap(), Ok(None));
        assert!(Appended::try_from(&AppendResponse::default()).is_err());
    }

    #[test]
    fn a_message_without_its_vote_is_refused() {
        assert!(openraft::raft::VoteRequest::try_from(&VoteRequest::default()).is_err());
        assert!(AppendEntriesRequest::try_from(AppendRequest::default()).is_err());
    }
}
