//! What one stream has told its client so far.

use super::Json;
use super::node::Shown;
use crate::netmap::idset::IdSet;
use crate::policy::RulesId;
use crate::policy::Told;
use crate::tailcfg::ControlDialPlan;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
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
    /// Of what it was told of peers of which not everybody is told the same.
    pub told: HashMap<u64, u64>,
}

impl Sent {
    /// The fingerprint of what it was told of a peer; 0: what everybody is told.
    pub fn told(&self, id: u64) -> u64 {
        self.told.get(&id).copied().unwrap_or_default()
    }

    pub fn set_told(&mut self, id: u64, fingerprint: u64) {
        match fingerprint {
            0 => self.told.remove(&id),
            other => self.told.insert(id, other),
        };
    }
}

/// A number that differs where what a viewer is told of a peer does; 0: nothing in particular.
pub fn told_fingerprint(told: &Told) -> u64 {
    if *told == Told::default() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    told.hash(&mut hasher);
    hasher.finish().max(1)
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
