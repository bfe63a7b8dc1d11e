//! Who did what: records that the cluster keeps of changes that people make.

use super::Time;
use serde::{Deserialize, Serialize};

/// On whose behalf something is written, and where they are. For the record alone:
/// nothing that is decided depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// An API key by its prefix, an operating system's user on a replica, a
    /// pre-authenticated key by its prefix, a machine by its key.
    pub by: String,
    /// An IP address, or a socket.
    pub from: String,
}

/// Something that was done without a command of its own, as a change of the membership is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// As [`AuditRecord::action`].
    pub action: String,
    /// As [`AuditRecord::subject`].
    pub subject: String,
    /// As [`AuditRecord::detail`].
    pub detail: String,
}

/// One change that somebody made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// The log index of the command: unique, and ascending with time.
    pub id: u64,
    pub time: Time,
    /// As [`Origin::by`].
    pub by: String,
    /// As [`Origin::from`].
    pub from: String,
    /// A kind of thing and what was done to it, as in `user.create`.
    pub action: String,
    /// What it was done to, by id and name: `node 7 (web-1)`.
    pub subject: String,
    /// What it was before or is now; may be empty. Never a secret.
    pub detail: String,
}

/// Records are kept in two lists with a bound for each, so that machines that come and go
/// cannot push out what administrators did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AuditList {
    /// What people change: users, keys, nodes, policy, the cluster; and what they decide.
    Administration = 1,
    /// Machines that register by themselves, or log out.
    Machines = 2,
}

impl AuditList {
    pub const ALL: [Self; 2] = [Self::Administration, Self::Machines];

    /// How many records are kept; the oldest go first. At some 300 bytes each they are a few
    /// megabytes, in memory and in each snapshot.
    pub fn bound(self) -> u64 {
        match self {
            Self::Administration => 10_000,
            Self::Machines => 5_000,
        }
    }
}
