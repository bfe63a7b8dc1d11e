//! The policy that is in force, compiled once for each version.

use super::Policy;
use crate::state::State;
use arc_swap::ArcSwapOption;
use std::sync::Arc;

/// The compiled form of whatever policy is in force, kept as long as its version is.
#[derive(Default)]
pub struct Policies {
    kept: ArcSwapOption<Kept>,
}

/// What was made of one version.
struct Kept {
    version: u64,
    policy: Arc<Policy>,
}

impl Policies {
    /// The policy that `state` has in force. A stored text that this release cannot
    /// read leaves the last good one in force (with a log line); when there is none,
    /// nobody sees anybody: it may be a text that forbids, written by a newer release.
    pub fn in_force(&self, state: &State) -> Arc<Policy> {
        let version = state.policy_version();
        let kept = self.kept.load_full();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.version == version) {
            return kept.policy.clone();
        }
        let text = state.policy().map_or("", |policy| &policy.text);
        let policy = match (Policy::parse(text), kept) {
            (Ok(policy), _) => Arc::new(policy),
            (Err(error), Some(last_good)) => {
                tracing::error!(version, %error, "the policy in force cannot be read: the last good one stays");
                last_good.policy.clone()
            }
            (Err(error), None) => {
                tracing::error!(version, %error, "the policy in force cannot be read: nodes do not see each other");
                Arc::new(Policy::closed())
            }
        };
        self.kept.store(Some(Arc::new(Kept { version, policy: policy.clone() })));
        policy
    }
}
