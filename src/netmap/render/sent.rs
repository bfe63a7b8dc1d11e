//! What one stream has told its client so far.

use super::Json;
use super::node::Shown;
use crate::netmap::idset::IdSet;
use crate::policy::RulesId;
use crate::tailcfg::ControlDialPlan;
use std::sync::Arc;

/// Decides what is a change for this client. Large parts are shared with other
/// streams, or kept as a fingerprint.
#[derive(Debug)]
pub struct Sent {
    /// Peers, by node id.
    pub peers: IdSet,
    /// Those of them that were shown as expired, which no patch takes back.
    pub expired: IdSet,
    /// Owners whose profile it has.
    pub users: IdSet,
    /// The client's own node.
    pub own: Shown,
    /// Of [`super::node::Own::essence`].
    pub essence: u64,
    /// The rules by which it was told whom it sees.
    pub rules: RulesId,
    /// Of its packet filter.
    pub filter: u64,
    pub ssh: Arc<str>,
    pub derp_map: Json,
    pub dial_plan: Option<ControlDialPlan>,
    pub dns: u64,
}

/// A number that stands for a text. It never leaves this process.
pub fn fingerprint(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Whether two shared texts are the same; cheap where they are the same place.
pub fn same(a: &Arc<str>, b: &Arc<str>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
