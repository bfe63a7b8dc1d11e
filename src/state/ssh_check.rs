//! SSH sessions that somebody has to let through (protocol section 5.9).

use super::{AuthId, NodeId, Owner, Time};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A session that waits for somebody's decision, on whichever replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshCheck {
    pub id: AuthId,
    /// The node that the session comes from.
    pub source: NodeId,
    /// The node that it goes to: it alone may wait for the verdict.
    pub destination: NodeId,
    /// Whom the session becomes there.
    pub local_user: String,
    /// For how long an approval lets later sessions through; zero: this session alone.
    pub period: Duration,
    /// The policy that asked for the check.
    pub policy_version: u64,
    pub created: Time,
    /// Forgotten at this time, decided or not.
    pub deadline: Time,
    pub verdict: SshVerdict,
}

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SshVerdict {
    Waiting,
    Approved,
    Rejected,
}

/// That sessions from one node to another were let through, and until when they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshApproval {
    /// Who approved, as in [`PolicyText::author`](super::PolicyText::author).
    pub by: String,
    pub approved: Time,
    /// Forgotten at this time.
    pub until: Time,
    /// Whose nodes they were: one that changed hands is asked anew.
    pub source_owner: Owner,
    pub destination_owner: Owner,
}
