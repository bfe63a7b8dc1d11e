//! Everything that was tried, and what its caller was told.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What a caller knows of an operation in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged: it must be there, once.
    Done,
    /// It was refused, by every replica that was asked: it must not be there.
    Refused,
    /// No answer, or "may or may not": both are right.
    Unknown,
}

/// A user or a pre-authenticated key, created with an `Idempotency-Key`.
#[derive(Clone, Debug)]
pub struct Created {
    pub kind: Kind,
    /// The user's name, or the key's only tag: no other operation has it.
    pub name: String,
    pub idempotency_key: String,
    pub outcome: Outcome,
    /// The id in the answer.
    pub id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    User,
    AuthKey,
}

/// A machine that tried to become a node.
#[derive(Clone, Debug)]
pub struct Joined {
    pub machine_key: String,
    pub outcome: Outcome,
    /// It was told that another machine has used the key.
    pub outrun: bool,
}

/// What has happened; shared by all that make it happen.
#[derive(Default)]
pub struct History(Mutex<Events>);

#[derive(Default)]
pub struct Events {
    pub created: Vec<Created>,
    /// With a key that any number of machines may use.
    pub joined: Vec<Joined>,
    /// Machines that raced for one single-use key.
    pub races: Vec<Vec<Joined>>,
    /// Names of users, or of keys' tags, that are checked elsewhere.
    pub others: HashSet<String>,
    /// Nodes that only hold streams.
    pub watchers: usize,
    /// When writes were acknowledged, in order.
    pub acknowledged: Vec<Instant>,
    /// How long a write without a quorum took to be refused.
    pub slowest_refusal: Duration,
    /// What contradicts a promise at once.
    pub wrong: Vec<String>,
}

impl History {
    pub fn events(&self) -> MutexGuard<'_, Events> {
        self.0.lock().expect("nobody panics while it is held")
    }

    pub fn acknowledge(&self) {
        let mut events = self.events();
        // Under the lock, so that they are in order.
        events.acknowledged.push(Instant::now());
    }

    pub fn wrong(&self, what: String) {
        println!("  WRONG: {what}");
        self.events().wrong.push(what);
    }

    /// The longest time without an acknowledged write that touches this one.
    pub fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let events = self.events();
        let gaps = events.acknowledged.windows(2).map(|pair| (pair[0], pair[1]));
        let touching = gaps.filter(|(before, after)| *after > from && *before < to);
        touching.map(|(before, after)| after - before).max().unwrap_or(to - from)
    }
}

impl Events {
    /// How many operations ended like this.
    pub fn count(&self, outcome: Outcome) -> usize {
        let created = self.created.iter().map(|created| created.outcome);
        let joined = self.joined.iter().chain(self.races.iter().flatten()).map(|joined| joined.outcome);
        created.chain(joined).filter(|o| *o == outcome).count()
    }
}
