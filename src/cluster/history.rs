//! The tallies of the last log entries: replicas are never at one index at one moment,
//! so each remembers what it was at those just passed.

use crate::state::Tally;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Entries that are remembered: some hundred bytes each, and enough for what a loaded
/// cluster applies while a message is on its way.
const KEPT: usize = 2048;

/// What the records' tally was at each of the last indexes.
pub struct History(Mutex<VecDeque<(u64, Tally)>>);

impl History {
    /// Begins where a replica starts, or with an installed snapshot.
    pub fn new(index: u64, tally: Tally) -> Self {
        Self(Mutex::new(VecDeque::from([(index, tally)])))
    }

    /// Adds the next index.
    pub fn push(&self, index: u64, tally: &Tally) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((index, tally.clone()));
    }

    /// Forgets everything: a snapshot took its place.
    pub fn restart(&self, index: u64, tally: Tally) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        kept.push_back((index, tally));
    }

    /// The tally at exactly this index; `None`: it is forgotten, was skipped, or is to come.
    pub fn at(&self, index: u64) -> Option<Tally> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        kept.get(at).map(|(_, tally)| tally.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_indexes_are_remembered_and_a_snapshot_begins_anew() {
        let history = History::new(5, Tally::default());
        let mut tally = Tally::default();
        for index in 6..6 + KEPT as u64 {
            tally.add(&[1], &index.to_be_bytes());
            history.push(index, &tally);
        }
        assert_eq!(history.at(5 + KEPT as u64), Some(tally.clone()));
        assert!(history.at(5).is_none() && history.at(6).is_some(), "the oldest is forgotten");
        history.restart(9000, tally.clone());
        assert!(history.at(5 + KEPT as u64).is_none() && history.at(9001).is_none());
        assert_eq!(history.at(9000), Some(tally));
    }
}
