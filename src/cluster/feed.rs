//! How applied changes reach everyone on this replica: the current view, the
//! batches, and the wake-up of those who wait for an index.

use super::history::History;
use crate::state::{Batch, Change, ReplicaId, State, Tally};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{broadcast, oneshot, watch};

/// Batches that a slow subscriber may be behind before it has to look at the
/// whole view again. A batch is a few changes and shares its view's structure,
/// so this is some megabytes at most.
const BATCHES_KEPT: usize = 1024;

/// The latest view, and news of newer ones. One writer, any number of readers.
pub(super) struct Feed {
    view: ArcSwap<State>,
    batches: broadcast::Sender<Arc<Batch>>,
    applied: watch::Sender<u64>,
    removed: ArcSwap<BTreeSet<ReplicaId>>,
    marks: Marks,
    history: History,
    /// What a test does to the next command that is applied here.
    #[cfg(test)]
    pub mischief: Mutex<Option<Mischief>>,
}

/// What may go wrong on one replica.
#[cfg(test)]
#[derive(Clone, Debug)]
pub enum Mischief {
    /// A user's name changes in memory.
    Memory,
    /// A user is created under this name instead of the one in the log.
    Apply(String),
}

/// Indexes at which somebody wants to have the state.
struct Marks {
    /// The lowest; `u64::MAX`: none. It is looked at for each entry.
    lowest: AtomicU64,
    waiting: Mutex<BTreeMap<u64, Vec<oneshot::Sender<State>>>>,
}

impl Feed {
    /// A feed that starts with `state`, in which everything up to `applied` is
    /// applied, and the numbers of removed replicas.
    pub fn new(state: State, applied: u64, removed: BTreeSet<ReplicaId>) -> Self {
        Self {
            history: History::new(applied, state.tally().clone()),
            #[cfg(test)]
            mischief: Mutex::default(),
            view: ArcSwap::from_pointee(state),
            batches: broadcast::Sender::new(BATCHES_KEPT),
            applied: watch::Sender::new(applied),
            removed: ArcSwap::from_pointee(removed),
            marks: Marks { lowest: AtomicU64::new(u64::MAX), waiting: Mutex::default() },
        }
    }

    /// The state at exactly this index; `None`: it was passed before the call.
    pub async fn at(&self, index: u64) -> Option<State> {
        let mut state = self.marks.add(index);
        let mut applied = self.applied();
        // After that nobody will send it any more.
        applied.wait_for(|applied| *applied >= index).await.ok()?;
        state.try_recv().ok()
    }

    /// Tells those who wait for this index, before it is published.
    pub fn reached(&self, index: u64, state: &State) {
        self.history.push(index, state.tally());
        if index >= self.marks.lowest.load(Ordering::Acquire) {
            self.marks.take(index, state);
        }
    }

    /// The records' tally at exactly this index, if it is one of the last that were applied.
    pub fn tally_at(&self, index: u64) -> Option<Tally> {
        self.history.at(index)
    }

    /// The latest view.
    pub fn view(&self) -> Arc<State> {
        self.view.load_full()
    }

    /// The cluster's id; `None` before it is set up.
    pub fn cluster_id(&self) -> Option<String> {
        self.view.load().server_keys().map(|keys| keys.cluster_id.clone())
    }

    /// The batches from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.batches.subscribe()
    }

    /// The log index up to which the view has everything.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Numbers of replicas that were removed: never used again.
    pub fn removed(&self) -> Arc<BTreeSet<ReplicaId>> {
        self.removed.load_full()
    }

    /// Shows everyone that the log is applied up to `index`. The view goes first,
    /// so that whoever hears of an index finds it there.
    pub fn publish(&self, index: u64, view: Arc<State>, changes: Vec<Change>, removed: &BTreeSet<ReplicaId>) {
        self.view.store(view.clone());
        // It only grows, and seldom.
        if self.removed.load().len() != removed.len() {
            self.removed.store(Arc::new(removed.clone()));
        }
        if !changes.is_empty() {
            // An error means that nobody listens, which is fine.
            let _ = self.batches.send(Arc::new(Batch { index, view, changes }));
        }
        self.applied.send_replace(index);
    }

    /// A snapshot replaced everything: subscribers are made to lag, which tells
    /// them to look at the whole view again.
    pub fn replace(&self, index: u64, view: Arc<State>, removed: BTreeSet<ReplicaId>) {
        self.history.restart(index, view.tally().clone());
        self.view.store(view.clone());
        self.removed.store(Arc::new(removed));
        let nothing = Arc::new(Batch { index, view, changes: Vec::new() });
        for _ in 0..=BATCHES_KEPT {
            let _ = self.batches.send(nothing.clone());
        }
        self.applied.send_replace(index);
    }
}

impl Marks {
    fn add(&self, index: u64) -> oneshot::Receiver<State> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Those who gave up.
        waiting.values_mut().for_each(|senders| senders.retain(|sender| !sender.is_closed()));
        waiting.retain(|_, senders| !senders.is_empty());
        waiting.entry(index).or_default().push(sender);
        self.lowest.store(*waiting.first_entry().expect("one was added").key(), Ordering::Release);
        receiver
    }

    fn take(&self, index: u64, state: &State) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let later = waiting.split_off(&(index + 1));
        // Who waits for an earlier one waits in vain, and is told by its sender's end.
        let here = std::mem::replace(&mut *waiting, later).remove(&index).unwrap_or_default();
        here.into_iter().for_each(|sender| drop(sender.send(state.clone())));
        self.lowest.store(waiting.keys().next().copied().unwrap_or(u64::MAX), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::broadcast::error::TryRecvError;

    #[test]
    fn a_replaced_view_makes_every_subscriber_look_again() {
        let feed = Feed::new(State::default(), 0, BTreeSet::new());
        let mut receiver = feed.subscribe();
        feed.publish(1, Arc::default(), vec![Change::SettingsChanged], &BTreeSet::new());
        feed.replace(9, Arc::default(), BTreeSet::new());
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Lagged(_))));
        assert_eq!(*feed.applied().borrow(), 9);
    }

    #[tokio::test]
    async fn who_waits_for_an_index_gets_the_state_at_that_index_or_hears_that_it_is_too_late() {
        let feed = Arc::new(Feed::new(State::default(), 3, BTreeSet::new()));
        assert!(feed.at(3).await.is_none(), "it was passed");
        let waits = |index| {
            let feed = feed.clone();
            tokio::spawn(async move { feed.at(index).await.is_some() })
        };
        let (fifth, sixth) = (waits(5), waits(6));
        while feed.marks.waiting.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        feed.reached(4, &State::default());
        feed.reached(5, &State::default());
        // A snapshot took the place of the sixth.
        feed.replace(9, Arc::default(), BTreeSet::new());
        assert!(fifth.await.unwrap());
        assert!(!sixth.await.unwrap());
    }

    #[test]
    fn what_changes_nothing_is_applied_without_a_batch() {
        let feed = Feed::new(State::default(), 3, BTreeSet::new());
        let mut receiver = feed.subscribe();
        feed.publish(4, Arc::default(), Vec::new(), &BTreeSet::new());
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
        assert_eq!(*feed.applied().borrow(), 4);
    }
}
