//! Connections of strangers: as many as there is room for, and when there is none, the
//! source that has the most makes room.

use super::Source;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Everybody who is in. Cloning gives the same crowd.
#[derive(Clone)]
pub struct Crowd {
    most: usize,
    members: Arc<Mutex<Members>>,
}

#[derive(Default)]
struct Members {
    entered: u64,
    count: usize,
    /// The guests of each source, the oldest first. No source without guests is in it.
    of_source: HashMap<Source, BTreeMap<u64, CancellationToken>>,
    /// How many guests a source has.
    by_count: BTreeSet<(usize, Source)>,
}

/// Somebody who is in, until this is dropped.
pub struct Guest {
    crowd: Crowd,
    source: Source,
    number: u64,
    shown_out: CancellationToken,
}

impl Crowd {
    /// A crowd of `most` guests.
    pub fn new(most: usize) -> Self {
        Self { most, members: Arc::default() }
    }

    /// Lets one more in. If that is one too many, the oldest guest of the source that has
    /// the most has to go, so that whoever comes with many connections pushes out his own.
    pub fn enter(&self, source: Source) -> Guest {
        let shown_out = CancellationToken::new();
        let mut members = self.members();
        members.entered += 1;
        let number = members.entered;
        members.insert(source, number, shown_out.clone());
        let too_many = members.count > self.most;
        let leaves = too_many.then(|| members.remove_one()).flatten();
        drop(members);
        if let Some(leaves) = leaves {
            metrics::counter!("quorumscale_strangers_closed_total").increment(1);
            leaves.cancel();
        }
        Guest { crowd: self.clone(), source, number, shown_out }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    /// Returns when this guest has to make room.
    pub async fn shown_out(&self) {
        self.shown_out.cancelled().await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.crowd.members().remove(self.source, self.number);
    }
}

impl Members {
    fn insert(&mut self, source: Source, number: u64, guest: CancellationToken) {
        let guests = self.of_source.entry(source).or_default();
        self.by_count.remove(&(guests.len(), source));
        guests.insert(number, guest);
        self.by_count.insert((guests.len(), source));
        self.count += 1;
    }

    /// Does nothing about a guest who has gone.
    fn remove(&mut self, source: Source, number: u64) -> Option<CancellationToken> {
        let guests = self.of_source.get_mut(&source)?;
        let before = guests.len();
        let guest = guests.remove(&number)?;
        self.by_count.remove(&(before, source));
        match guests.len() {
            0 => drop(self.of_source.remove(&source)),
            left => drop(self.by_count.insert((left, source))),
        }
        self.count -= 1;
        Some(guest)
    }

    fn remove_one(&mut self) -> Option<CancellationToken> {
        let (_, source) = *self.by_count.last()?;
        let oldest = *self.of_source.get(&source)?.keys().next()?;
        self.remove(source, oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        Source::of([192, 0, 2, last].into())
    }

    fn is_in(guest: &Guest) -> bool {
        !guest.shown_out.is_cancelled()
    }

    #[test]
    fn who_brings_many_pushes_out_his_own_and_nobody_else() {
        let crowd = Crowd::new(10);
        let client = crowd.enter(source(1));
        let flood: Vec<Guest> = (0..100).map(|_| crowd.enter(source(2))).collect();
        assert!(is_in(&client), "the only connection of its address stays");
        assert_eq!(flood.iter().filter(|guest| is_in(guest)).count(), 9);
        assert!(flood[91..].iter().all(is_in), "the oldest go first");
        let late = crowd.enter(source(3));
        assert!(is_in(&late) && is_in(&client), "a newcomer from elsewhere is let in");
        assert_eq!(flood.iter().filter(|guest| is_in(guest)).count(), 8);
    }

    #[test]
    fn who_leaves_makes_room() {
        let crowd = Crowd::new(2);
        let first = crowd.enter(source(1));
        drop(crowd.enter(source(1)));
        let third = crowd.enter(source(1));
        assert!(is_in(&first) && is_in(&third));
        let fourth = crowd.enter(source(1));
        assert!(!is_in(&first) && is_in(&third) && is_in(&fourth));
        drop((first, third, fourth));
        let members = crowd.members();
        assert!(members.count == 0 && members.of_source.is_empty() && members.by_count.is_empty());
    }
}
