//! How applied changes reach everyone on this replica: the current view, the
//! batches, and the wake-up of those who wait for an index.

use crate::state::{Batch, Change, State};
use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// Batches that a slow subscriber may be behind before it has to look at the
/// whole view again. A batch is a few changes and shares its view's structure,
/// so this is some megabytes at most.
const BATCHES_KEPT: usize = 4096;

/// The latest view, and news of newer ones. One writer, any number of readers.
pub(super) struct Feed {
    view: ArcSwap<State>,
    batches: broadcast::Sender<Arc<Batch>>,
    applied: watch::Sender<u64>,
}

impl Feed {
    /// A feed that starts with `state`, in which everything up to `applied` is applied.
    pub fn new(state: State, applied: u64) -> Self {
        Self {
            view: ArcSwap::from_pointee(state),
            batches: broadcast::Sender::new(BATCHES_KEPT),
            applied: watch::Sender::new(applied),
        }
    }

    /// The latest view.
    pub fn view(&self) -> Arc<State> {
        self.view.load_full()
    }

    /// The batches from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.batches.subscribe()
    }

    /// The log index up to which the view has everything.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Shows everyone that the log is applied up to `index`. The view goes first,
    /// so that whoever hears of an index finds it there.
    pub fn publish(&self, index: u64, view: Arc<State>, changes: Vec<Change>) {
        self.view.store(view.clone());
        if !changes.is_empty() {
            // An error means that nobody listens, which is fine.
            let _ = self.batches.send(Arc::new(Batch { index, view, changes }));
        }
        self.applied.send_replace(index);
    }

    /// A snapshot replaced everything: subscribers are made to lag, which tells
    /// them to look at the whole view again.
    pub fn replace(&self, index: u64, view: Arc<State>) {
        self.view.store(view.clone());
        let nothing = Arc::new(Batch { index, view, changes: Vec::new() });
        for _ in 0..=BATCHES_KEPT {
            let _ = self.batches.send(nothing.clone());
        }
        self.applied.send_replace(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::broadcast::error::TryRecvError;

    #[test]
    fn a_replaced_view_makes_every_subscriber_look_again() {
        let feed = Feed::new(State::default(), 0);
        let mut receiver = feed.subscribe();
        feed.publish(1, Arc::default(), vec![Change::SettingsChanged]);
        feed.replace(9, Arc::default());
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Lagged(_))));
        assert_eq!(*feed.applied().borrow(), 9);
    }

    #[test]
    fn what_changes_nothing_is_applied_without_a_batch() {
        let feed = Feed::new(State::default(), 3);
        let mut receiver = feed.subscribe();
        feed.publish(4, Arc::default(), Vec::new());
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
        assert_eq!(*feed.applied().borrow(), 4);
    }
}
