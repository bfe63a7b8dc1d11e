//! openraft's types with our parameters. They do not leave the cluster module,
//! and are neither stored nor sent: see [`super::wire`].

use crate::state::Outcome;
use openraft::alias;
use std::fmt;
use std::sync::Arc;

openraft::declare_raft_types!(
    /// The parameters.
    pub TypeConfig:
        D = Logged,
        R = Answer,
        NodeId = u64,
        Node = openraft::BasicNode,
);

pub type Entry = alias::EntryOf<TypeConfig>;
pub type LogId = alias::LogIdOf<TypeConfig>;
pub type Vote = alias::VoteOf<TypeConfig>;
pub type Membership = openraft::Membership<u64, openraft::BasicNode>;
pub type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
pub type Raft = openraft::Raft<TypeConfig, super::store::Machine>;

/// A proposal on its way through the log, as JSON. It is decoded where it is applied.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Logged(pub Arc<[u8]>);

/// Logs show a command's size, never its content.
impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl fmt::Debug for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Logged({self})")
    }
}

/// What applying a log entry gave; `None` for an entry that is no command.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Answer(pub Option<Outcome>);

/// A moment as Raft's metrics have it.
pub type Moment = openraft::alias::SerdeInstantOf<TypeConfig>;

/// How long ago that was.
pub fn age(moment: Moment) -> std::time::Duration {
    openraft::Instant::elapsed(&moment.into_inner())
}

/// The same moment as the standard library's type.
pub fn instant(moment: Moment) -> std::time::Instant {
    let now = std::time::Instant::now();
    now.checked_sub(age(moment)).unwrap_or(now)
}
