//! The policy that is in force, applied once to each version of what it is about.

use super::tailnet::{Device, Person, Tailnet};
use super::{Policy, PolicyView};
use crate::state::State;
use arc_swap::ArcSwapOption;
use std::sync::{Arc, Mutex, PoisonError};

/// The compiled form of whatever policy is in force, kept up with users and nodes.
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
    /// What was made of the policy before: readers of a state that is a little older ask for it.
    before: Option<Arc<Kept>>,
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
        let has_policy = |kept: &Arc<Kept>| kept.state.policy_version() == state.policy_version();
        if let Some(kept) = kept.as_ref().filter(|kept| has_policy(kept)) {
            let view = kept.at(state);
            self.keep(state, &view, Some(kept), kept.before.clone());
            return view;
        }
        if let Some(before) = kept.as_ref().and_then(|kept| kept.before.as_ref()).filter(|before| has_policy(before)) {
            return before.at(state);
        }
        let policy = read(state, kept.as_ref().map(|kept| &kept.view.policy));
        let tailnet = Tailnet::of(state, &policy);
        let view = Arc::new(PolicyView::new(policy, tailnet));
        let before = kept
            .as_deref()
            .map(|kept| Arc::new(Kept { state: kept.state.clone(), view: kept.view.clone(), before: None }));
        self.keep(state, &view, kept.as_ref(), before);
        view
    }

    /// A reader with an older view must not take the newer one from the others.
    fn keep(&self, state: &State, view: &Arc<PolicyView>, kept: Option<&Arc<Kept>>, before: Option<Arc<Kept>>) {
        if kept.is_none_or(|kept| kept.state.index() <= state.index()) {
            self.kept.store(Some(Arc::new(Kept { state: state.clone(), view: view.clone(), before })));
        }
    }
}

impl Kept {
    /// Where users and nodes became others. The work follows what changed between the
    /// two states, whichever of them is newer.
    fn at(&self, state: &State) -> Arc<PolicyView> {
        let people = self.state.differing_users(state).filter_map(|(old, new)| {
            let person = new.map(Person::of);
            let id = old.or(new)?.id;
            (old.map(Person::of) != person).then_some((id, person))
        });
        let devices = self.state.differing_nodes(state).filter_map(|(old, new)| {
            let id = old.or(new)?.id;
            Some((id, new.map(|node| Device::of(state, node, &self.view.policy))))
        });
        match self.view.updated(people, devices) {
            None => self.view.clone(),
            Some(view) if view.classes.is_sparse() => {
                let tailnet = Tailnet::of(state, &view.policy);
                Arc::new(PolicyView::new(view.policy, tailnet))
            }
            Some(view) => Arc::new(view),
        }
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
