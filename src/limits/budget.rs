//! How often a source may fail.

use super::Source;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Sources that are remembered: some megabytes. Beyond it somebody is forgotten, and has
/// all of its budget again.
const MAX_SOURCES: usize = 65_536;

/// So many failures for each source, which come back one by one within a minute.
pub struct Budget {
    most: u32,
    /// What one failure takes to be forgiven.
    each: Duration,
    /// When all failures of a source will be forgiven.
    free_at: Mutex<HashMap<Source, Instant>>,
}

impl Budget {
    /// `per_minute` is at least 1.
    pub fn new(per_minute: u32) -> Self {
        let most = per_minute.max(1);
        Self { most, each: Duration::from_secs(60) / most, free_at: Mutex::default() }
    }

    /// How long this source has to wait until it may fail again; `None`: it may.
    pub fn wait(&self, source: Source) -> Option<Duration> {
        self.wait_at(source, Instant::now())
    }

    /// It failed.
    pub fn spend(&self, source: Source) {
        self.spend_at(source, Instant::now());
    }

    fn wait_at(&self, source: Source, now: Instant) -> Option<Duration> {
        let free_at = *self.sources().get(&source)?;
        let debt = free_at.saturating_duration_since(now);
        let allowed = self.each * (self.most - 1);
        (debt > allowed).then(|| debt - allowed)
    }

    fn spend_at(&self, source: Source, now: Instant) {
        let mut sources = self.sources();
        if sources.len() >= MAX_SOURCES && !sources.contains_key(&source) {
            make_room(&mut sources, now);
        }
        let most = now + self.each * self.most;
        match sources.entry(source) {
            Entry::Occupied(mut known) => {
                let free_at = (*known.get()).max(now) + self.each;
                known.insert(free_at.min(most));
            }
            Entry::Vacant(new) => {
                new.insert(now + self.each);
            }
        }
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<Source, Instant>> {
        self.free_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets who is forgiven, or else anybody: a map's order is random.
fn make_room(sources: &mut HashMap<Source, Instant>, now: Instant) {
    sources.retain(|_, free_at| *free_at > now);
    if sources.len() >= MAX_SOURCES {
        let some: Vec<Source> = sources.keys().take(MAX_SOURCES / 16).copied().collect();
        for source in some {
            sources.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        Source::of([192, 0, 2, last].into())
    }

    #[test]
    fn a_source_that_failed_too_often_waits_and_no_other_does() {
        let budget = Budget::new(60);
        let now = Instant::now();
        for _ in 0..60 {
            assert_eq!(budget.wait_at(source(1), now), None);
            budget.spend_at(source(1), now);
        }
        let wait = budget.wait_at(source(1), now).expect("the budget is spent");
        assert_eq!(wait, Duration::from_secs(1));
        assert_eq!(budget.wait_at(source(2), now), None);
        let later = now + wait;
        assert_eq!(budget.wait_at(source(1), later), None, "one failure is forgiven each second");
        budget.spend_at(source(1), later);
        assert!(budget.wait_at(source(1), later).is_some());
        assert_eq!(budget.wait_at(source(1), later + Duration::from_secs(60)), None);
    }

    #[test]
    fn failing_while_one_has_to_wait_makes_no_wait_longer() {
        let (budget, now) = (Budget::new(10), Instant::now());
        (0..1000).for_each(|_| budget.spend_at(source(1), now));
        assert_eq!(budget.wait_at(source(1), now), Some(Duration::from_secs(6)));
    }

    #[test]
    fn a_flood_from_everywhere_is_not_remembered_without_bound() {
        let budget = Budget::new(10);
        for number in 0..(MAX_SOURCES as u32 + 1000) {
            budget.spend(Source::of(std::net::IpAddr::V4(number.into())));
        }
        assert!(budget.sources().len() <= MAX_SOURCES);
    }
}
