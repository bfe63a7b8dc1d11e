//! What happened, in order, and a hash of it: two runs of one seed have the same.

use blake2::{Blake2s256, Digest};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The last events that a failure shows.
const SHOWN: usize = 60;

/// A run's trace. Cloning gives another handle.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    hash: Blake2s256,
    events: u64,
    last: VecDeque<String>,
    print: bool,
}

impl Trace {
    /// `print`: shows each event as it happens.
    pub fn new(print: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner { hash: Blake2s256::new(), events: 0, last: VecDeque::new(), print })))
    }

    /// Adds an event at a time in nanoseconds.
    pub fn event(&self, now: u64, what: impl FnOnce() -> String) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{:>10}.{:06} {}", now / 1_000_000, now % 1_000_000, what());
        inner.hash.update(line.as_bytes());
        inner.events += 1;
        if inner.print {
            println!("{line}");
        }
        if inner.last.len() == SHOWN {
            inner.last.pop_front();
        }
        inner.last.push_back(line);
    }

    /// The hash of all events so far, and how many there were.
    pub fn hash(&self) -> (String, u64) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (hex::encode(&inner.hash.clone().finalize()[..8]), inner.events)
    }

    /// The last events.
    pub fn last(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last.iter().cloned().collect()
    }
}
