//! Work in flight, shared fairly between those who ask for it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// A number of slots, of which one source (an address, a machine) may hold a part. Who
/// finds none waits, and the sources take turns: many waiters of one source wait for each
/// other and for nobody else. Cloning gives the same queue.
///
/// It has no bound of its own: whoever waits has a connection, and those are bounded.
pub struct FairQueue<S: Asker> {
    per_source: usize,
    inner: Arc<Mutex<Inner<S>>>,
}

/// What can be told apart.
pub trait Asker: Copy + Eq + Hash {}

impl<S: Copy + Eq + Hash> Asker for S {}

struct Inner<S: Asker> {
    free: usize,
    lines: HashMap<S, Line<S>>,
    /// The sources that have waiters and may hold more, each once.
    turns: VecDeque<S>,
    numbers: u64,
}

struct Line<S: Asker> {
    held: usize,
    waiting: BTreeMap<u64, oneshot::Sender<Slot<S>>>,
    has_turn: bool,
}

/// The right to work, until this is dropped.
pub struct Slot<S: Asker> {
    /// `None`: it was given to nobody.
    queue: Option<FairQueue<S>>,
    source: S,
}

impl<S: Asker> Clone for FairQueue<S> {
    fn clone(&self) -> Self {
        Self { per_source: self.per_source, inner: self.inner.clone() }
    }
}

impl<S: Asker> Default for Line<S> {
    fn default() -> Self {
        Self { held: 0, waiting: BTreeMap::new(), has_turn: false }
    }
}

impl<S: Asker> FairQueue<S> {
    /// `slots` in all, `per_source` of them for one source; at least one each.
    pub fn new(slots: usize, per_source: usize) -> Self {
        let inner = Inner { free: slots.max(1), lines: HashMap::new(), turns: VecDeque::new(), numbers: 0 };
        Self { per_source: per_source.max(1), inner: Arc::new(Mutex::new(inner)) }
    }

    /// Waits for a slot. Dropping the future leaves the queue.
    pub async fn enter(&self, source: S) -> Slot<S> {
        let (number, slot) = match self.ask(source) {
            Ok(slot) => return slot,
            Err(waiting) => waiting,
        };
        metrics::counter!("quorumscale_handshakes_waited_total").increment(1);
        let place = Place { queue: self, source, number };
        let slot = slot.await.expect("a queue drops no waiter whose place is kept");
        drop(place);
        slot
    }

    /// A slot, or a place in the line.
    fn ask(&self, source: S) -> Result<Slot<S>, (u64, oneshot::Receiver<Slot<S>>)> {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let line = inner.lines.entry(source).or_default();
        if inner.free > 0 && line.held < self.per_source && line.waiting.is_empty() {
            line.held += 1;
            inner.free -= 1;
            return Ok(Slot { queue: Some(self.clone()), source });
        }
        inner.numbers += 1;
        let number = inner.numbers;
        let (sender, receiver) = oneshot::channel();
        line.waiting.insert(number, sender);
        inner.give_turn(source, self.per_source);
        Err((number, receiver))
    }

    fn inner(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, source: S) {
        let mut inner = self.inner();
        inner.free += 1;
        if let Some(line) = inner.lines.get_mut(&source) {
            line.held -= 1;
        }
        inner.give_turn(source, self.per_source);
        inner.serve(self);
        inner.tidy(source);
    }
}

impl<S: Asker> Inner<S> {
    /// Puts a source at the end of the round, if it waits for one and has none.
    fn give_turn(&mut self, source: S, per_source: usize) {
        let Some(line) = self.lines.get_mut(&source) else { return };
        if !line.has_turn && !line.waiting.is_empty() && line.held < per_source {
            line.has_turn = true;
            self.turns.push_back(source);
        }
    }

    /// Gives free slots to whose turn it is.
    fn serve(&mut self, queue: &FairQueue<S>) {
        while self.free > 0 {
            let Some(source) = self.turns.pop_front() else { return };
            let Some(line) = self.lines.get_mut(&source) else { continue };
            line.has_turn = false;
            let Some((_, waiter)) = line.waiting.pop_first() else { continue };
            line.held += 1;
            self.free -= 1;
            if let Err(mut slot) = waiter.send(Slot { queue: Some(queue.clone()), source }) {
                // The waiter has just gone; dropping the slot here would lock what is locked.
                slot.queue = None;
                line.held -= 1;
                self.free += 1;
            }
            self.give_turn(source, queue.per_source);
            self.tidy(source);
        }
    }

    fn tidy(&mut self, source: S) {
        if self.lines.get(&source).is_some_and(|line| line.held == 0 && line.waiting.is_empty()) {
            self.lines.remove(&source);
        }
    }
}

/// A waiter's place, left when it is dropped.
struct Place<'a, S: Asker> {
    queue: &'a FairQueue<S>,
    source: S,
    number: u64,
}

impl<S: Asker> Drop for Place<'_, S> {
    fn drop(&mut self) {
        let mut inner = self.queue.inner();
        if let Some(line) = inner.lines.get_mut(&self.source) {
            line.waiting.remove(&self.number);
        }
        inner.tidy(self.source);
    }
}

impl<S: Asker> Drop for Slot<S> {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.give_back(self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;
    use futures::FutureExt;
    use std::pin::Pin;

    type Waiter<'a> = Pin<Box<dyn Future<Output = Slot<Source>> + Send + 'a>>;

    fn source(last: u8) -> Source {
        Source::of([192, 0, 2, last].into())
    }

    fn enter(queue: &FairQueue<Source>, last: u8) -> Waiter<'_> {
        Box::pin(queue.enter(source(last)))
    }

    fn waiters(queue: &FairQueue<Source>, last: u8, count: usize) -> Vec<Waiter<'_>> {
        let mut waiters: Vec<_> = (0..count).map(|_| enter(queue, last)).collect();
        waiters.iter_mut().for_each(|waiter| assert!(waiter.now_or_never().is_none()));
        waiters
    }

    #[test]
    fn one_address_holds_its_part_and_leaves_the_rest_to_others() {
        let queue = FairQueue::new(10, 4);
        let mine: Vec<Slot<Source>> = (0..4).map(|_| enter(&queue, 1).now_or_never().unwrap()).collect();
        let mut fifth = enter(&queue, 1);
        assert!((&mut fifth).now_or_never().is_none());
        let theirs = enter(&queue, 2).now_or_never();
        assert!(theirs.is_some(), "another address is served at once");
        drop(mine);
        assert!(fifth.now_or_never().is_some());
    }

    #[test]
    fn a_newcomer_waits_for_one_turn_and_not_for_a_flood() {
        let queue = FairQueue::new(1, 1);
        let slot = enter(&queue, 1).now_or_never().unwrap();
        let mut flood = waiters(&queue, 1, 1000);
        let mut client = waiters(&queue, 2, 1);
        drop(slot);
        // Whose turn it was, and then the client: not after a thousand others.
        let mut served = 0;
        while client[0].as_mut().now_or_never().is_none() {
            let slot = flood[0].as_mut().now_or_never();
            drop(flood.remove(0));
            drop(slot.expect("somebody is served"));
            served += 1;
            assert!(served <= 1, "the client had to wait for {served} of the flood");
        }
    }

    #[test]
    fn who_leaves_the_queue_is_not_waited_for() {
        let queue = FairQueue::new(1, 1);
        let slot = enter(&queue, 1).now_or_never().unwrap();
        drop(waiters(&queue, 2, 100));
        let mut last = waiters(&queue, 3, 1);
        drop(slot);
        assert!(last.remove(0).now_or_never().is_some());
        let inner = queue.inner();
        assert!(inner.lines.is_empty() && inner.free == 1, "nothing is left behind");
    }

    #[test]
    fn a_slot_that_was_given_to_who_left_goes_to_the_next() {
        let queue = FairQueue::new(1, 1);
        let slot = enter(&queue, 1).now_or_never().unwrap();
        let first = waiters(&queue, 2, 1);
        let mut second = waiters(&queue, 3, 1);
        drop(slot);
        drop(first);
        assert!(second.remove(0).now_or_never().is_some());
    }
}
