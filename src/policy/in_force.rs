//! The policy that is in force, applied once to each version of what it is about.

use super::tailnet::{Device, Tailnet};
use super::{Policy, PolicyView};
use crate::state::State;
use arc_swap::ArcSwapOption;
use std::sync::{Arc, Mutex, PoisonError};

/// The compiled form of whatever policy is in force, kept as long as nothing changes
/// that it depends on.
#[derive(Default)]
pub struct Policies {
    kept: ArcSwapOption<Kept>,
    making: Mutex<()>,
}

/// What was made of one state.
struct Kept {
    /// The newest state that it is known to be right for.
    state: State,
    view: Arc<PolicyView>,
}

impl Policies {
    /// The policy that `state` has in force, applied to it. A stored text that this
    /// release cannot read leaves the last good one in force (with a log line); when
    /// there is none, nobody sees anybody: it may be a text that forbids, written by
    /// a newer release.
    pub fn in_force(&self, state: &State) -> Arc<PolicyView> {
        if let Some(kept) = self.kept.load().as_ref().filter(|kept| kept.state.index() == state.index()) {
            return kept.view.clone();
        }
        // Many streams ask at once: one makes it, the others find it.
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = self.kept.load_full();
        let same = |kept: &&Arc<Kept>| kept.state.policy_version() == state.policy_version();
        let view = match kept.as_ref().filter(same) {
            Some(kept) if kept.state.index() == state.index() => return kept.view.clone(),
            Some(kept) if !has_changed(&kept.state, state) => kept.view.clone(),
            Some(kept) => Arc::new(PolicyView::new(kept.view.policy.clone(), Tailnet::of(state))),
            None => {
                let policy = read(state, kept.as_ref().map(|kept| &kept.view.policy));
                Arc::new(PolicyView::new(policy, Tailnet::of(state)))
            }
        };
        // A reader with an older view must not take the newer one from the others.
        if kept.is_none_or(|kept| kept.state.index() <= state.index()) {
            self.kept.store(Some(Arc::new(Kept { state: state.clone(), view: view.clone() })));
        }
        view
    }
}

fn read(state: &State, last_good: Option<&Arc<Policy>>) -> Arc<Policy> {
    let version = state.policy_version();
    let text = state.policy().map_or("", |policy| &policy.text);
    match (Policy::parse(text), last_good) {
        (Ok(policy), _) => Arc::new(policy),
        (Err(error), Some(last_good)) => {
            tracing::error!(version, %error, "the policy in force cannot be read: the last good one stays");
            last_good.clone()
        }
        (Err(error), None) => {
            tracing::error!(version, %error, "the policy in force cannot be read: nodes do not see each other");
            Arc::new(Policy::closed())
        }
    }
}

/// Whether users or nodes differ in what a policy can tell apart. The work follows
/// what changed between the two states.
fn has_changed(old: &State, new: &State) -> bool {
    let device = |state: &State, node: Option<&crate::state::Node>| node.map(|node| Device::of(state, node));
    old.differing_users(new).next().is_some()
        || old.differing_nodes(new).any(|(before, after)| device(old, before) != device(new, after))
}
