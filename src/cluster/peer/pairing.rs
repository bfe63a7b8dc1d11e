//! Which request on a stream of appends an answer is for.
//!
//! Raft notes when it sent each request, and takes an answer as a sign that its leader was one
//! then: reads and leases hang on it. But it takes an answer for all requests that end at the
//! answer's log id or before (openraft 0.10.0-alpha.37, `InflightAppendQueue::drain_acked`),
//! also for one that it sent later, which says nothing new but what is committed. On a link
//! that was held up for seconds an early answer would confirm a leader that is none any more.
//!
//! Answers come in the order of their requests, one for each. So here an answer that would be
//! taken for a later request too is left out: the later one's answer says the same. And no
//! request is taken from Raft while it looks at an answer.

use crate::cluster::types::{LogId, TypeConfig};
use futures::Stream;
use openraft::raft::AppendEntriesRequest;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The requests of one stream that have no answer yet. Cloning gives another handle.
#[derive(Clone, Default)]
pub struct Pairing(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    owed: VecDeque<Span>,
    /// Whether Raft has an answer in its hands.
    is_looking: bool,
    held: Option<Waker>,
}

/// What a request is about: the log after `from`, up to `to`.
struct Span {
    from: Option<LogId>,
    to: Option<LogId>,
}

impl Pairing {
    /// The same requests, each of which owes an answer once it is taken.
    pub fn requests<S>(&self, input: S) -> Requests<S> {
        Requests { input, pairing: self.clone() }
    }

    /// Whether there is a request without an answer.
    pub fn owes(&self) -> bool {
        !self.lock().owed.is_empty()
    }

    /// The next answer came, which says that the logs agree up to `matching`, or nothing of that.
    /// Whether Raft is to have it; no request is taken then until [`Pairing::go_on`].
    pub fn answer(&self, matching: Option<&Option<LogId>>) -> bool {
        let mut state = self.lock();
        state.owed.pop_front();
        let is_for_more = |next: &Span| matching.is_some_and(|matching| *matching >= next.to || *matching > next.from);
        state.is_looking = !state.owed.front().is_some_and(is_for_more);
        state.is_looking
    }

    /// Raft asks for the next answer: it is done with the last one.
    pub fn go_on(&self) {
        let held = {
            let mut state = self.lock();
            state.is_looking = false;
            state.held.take()
        };
        held.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Pairing::requests`].
pub struct Requests<S> {
    input: S,
    pairing: Pairing,
}

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> Stream for Requests<S> {
    type Item = AppendEntriesRequest<TypeConfig>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // Locked while Raft makes the request, which is when it notes the time.
        let mut state = this.pairing.lock();
        if state.is_looking {
            state.held = Some(context.waker().clone());
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.input).poll_next(context);
        if let Poll::Ready(Some(request)) = &polled {
            let from = request.prev_log_id;
            let to = request.entries.last().map(|entry| entry.log_id).or(from);
            state.owed.push_back(Span { from, to });
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::types::{Entry, Vote};
    use futures::{FutureExt, StreamExt};
    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;

    fn id(index: u64) -> LogId {
        let vote = Vote::new(1, 1);
        LogId::new(vote.leader_id, index)
    }

    /// The entries after `from` up to `to`.
    fn request(from: u64, to: u64) -> AppendEntriesRequest<TypeConfig> {
        let entries = (from + 1..=to).map(|index| Entry::new(id(index), EntryPayload::Blank)).collect();
        AppendEntriesRequest { vote: Vote::new(1, 1), prev_log_id: Some(id(from)), leader_commit: None, entries }
    }

    #[test]
    fn an_early_answer_is_none_for_a_later_request_that_ends_at_the_same_place() {
        let pairing = Pairing::default();
        let input = [request(4, 5), request(5, 5), request(5, 5), request(5, 6)];
        let mut requests = pairing.requests(futures::stream::iter(input));
        let mut take = |count: usize| (0..count).for_each(|_| assert!(requests.next().now_or_never().is_some()));
        take(3);
        assert!(!pairing.answer(Some(&Some(id(5)))), "two more that end there are under way");
        assert!(!pairing.answer(Some(&Some(id(5)))));
        take(1);
        assert!(pairing.answer(Some(&Some(id(5)))), "the next one ends elsewhere");
        pairing.go_on();
        assert!(pairing.owes());
        assert!(pairing.answer(None), "a refusal is always handed over");
        assert!(!pairing.owes());
    }

    #[test]
    fn no_request_is_made_while_raft_looks_at_an_answer() {
        let pairing = Pairing::default();
        let mut requests = pairing.requests(futures::stream::iter([request(4, 5), request(5, 5)]));
        assert!(requests.next().now_or_never().is_some());
        assert!(pairing.answer(Some(&Some(id(5)))));
        assert!(requests.next().now_or_never().is_none());
        pairing.go_on();
        assert!(requests.next().now_or_never().is_some());
    }
}
