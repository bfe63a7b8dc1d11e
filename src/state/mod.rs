//! What the cluster replicates, and how commands change it.
//!
//! Pure: no clock, no randomness, no I/O. [`State::apply`] is the only way to
//! change a [`State`]; time and randomness come in the command. Two replicas
//! that applied the same log are equal, which [`State::hash`] proves. The maps
//! share structure, so a clone is a few pointer copies: that is what a view is.
//!
//! Where things are: `record` has what is kept, `table` how (one map for each
//! kind, one stored row for each record), `index` what is derived from it;
//! `apply/` has one file for each kind of thing that commands do; `view` has what
//! everyone else reads.

mod addresses;
mod apply;
mod audit;
mod bookkeeping;
mod change;
mod command;
mod id;
mod import;
mod index;
mod key_hash;
mod names;
mod outcome;
mod provider;
mod record;
mod ssh_check;
mod table;
mod tally;
#[cfg(test)]
mod tests;
mod time;
mod touched;
mod view;

pub use apply::{LOGINS_BOUND, LOGINS_PER_SOURCE_BOUND, MAX_LOGINS, MAX_LOGINS_PER_SOURCE};
pub use audit::{AuditRecord, Deed, Origin};
pub use bookkeeping::LEADER_PULSE;
pub use change::{Batch, Change, NodeChange};
pub use command::{
    COMMAND_FORMAT, Command, Expiry, NodeUpdate, Proposal, Registration, Report, RequestId, login_source,
};
pub use id::{ApiKeyId, AuthId, AuthIdError, AuthKeyId, NodeId, ReplicaId, UserId};
pub use import::{AdoptedKey, Import, Imported, LastNumbers, given_name_fault, label_of, user_name_fault};
pub use key_hash::{BcryptHash, KeyHash, KeyHashError};
pub use outcome::{Done, Outcome, Refused, tagged_devices};
pub use provider::ProviderUser;
pub use record::{
    Allocation, ApiKey, ApiKeyRole, Endpoint, Node, Owner, PendingLogin, PolicyText, PreAuthKey, RegisterMethod, Relay,
    Replica, RoleError, SecretHash, ServerKeys, SessionId, Settings, Standing, Tag, TagError, User, Verdict,
};
pub use ssh_check::{SshApproval, SshCheck, SshVerdict};
pub use tally::{KindTally, Tally};
pub use time::Time;
pub use view::{Applied, LoadError, Row, State};
