//! The policy that is in force, applied once to each version of what it is about.

use super::tailnet::{Device, Person, Tailnet};
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
            Some(kept) => follow(kept, state),
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

/// What was kept, where users and nodes became others. The work follows what changed
/// between the two states.
fn follow(kept: &Kept, state: &State) -> Arc<PolicyView> {
    let people = kept.state.differing_users(state).filter_map(|(old, new)| {
        let person = new.map(Person::of);
        (old.map(Person::of) != person).then(|| (old.or(new).map(|user| user.id), person))
    });
    let people = people.filter_map(|(id, person)| Some((id?, person)));
    let devices = kept.state.differing_nodes(state).filter_map(|(old, new)| {
        let id = old.or(new)?.id;
        Some((id, new.map(|node| Device::of(state, node))))
    });
    match kept.view.updated(people, devices) {
        None => kept.view.clone(),
        Some(view) if view.classes.is_sparse() => Arc::new(PolicyView::new(view.policy, Tailnet::of(state))),
        Some(view) => Arc::new(view),
    }
}
