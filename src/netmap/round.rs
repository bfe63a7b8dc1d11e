//! How long one change takes to reach the last stream that has to be told.

use super::meters::METERS;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One change that was applied, on its way. Every stream that is to tell it has a
/// handle until it has; when the last one is dropped, the time is recorded. A stream
/// that ends before counts for nothing.
#[derive(Debug)]
pub(super) struct Round {
    begun: Instant,
    /// When it was last handed out, in microseconds after the beginning; 0: never.
    last: AtomicU64,
}

impl Round {
    /// Of a change that was applied now.
    pub fn begin() -> Arc<Self> {
        Arc::new(Self { begun: Instant::now(), last: AtomicU64::new(0) })
    }

    /// One stream has told it.
    pub fn told(&self) {
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.fetch_max(micros.max(1), Ordering::Relaxed);
    }

    fn took(&self) -> Option<Duration> {
        Some(Duration::from_micros(self.last.load(Ordering::Relaxed))).filter(|took| !took.is_zero())
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.took().into_iter().for_each(|took| METERS.told.record(took));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_until_its_last_reader_was_told_and_not_for_those_who_went() {
        let round = Round::begin();
        let (first, gone) = (round.clone(), round.clone());
        assert_eq!(round.took(), None);
        first.told();
        let took = round.took().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        drop(gone);
        assert_eq!(round.took(), Some(took));
        round.told();
        assert!(round.took().unwrap() >= took + Duration::from_millis(2));
    }
}
