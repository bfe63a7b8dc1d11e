//! A slow disk: every acknowledged write waits for a sync, and the leader's is in every one.

use metrics::{gauge, histogram};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Syncs that are looked back at.
const KEPT: usize = 16;
/// Fewer say nothing.
const ENOUGH: usize = 4;
/// Older ones say nothing about now.
const RECENT: Duration = Duration::from_secs(30);
/// One sync that takes this many times as long as is slow makes a disk slow by itself, also
/// before it has ended.
const STUCK: u32 = 4;

/// How long syncs take.
pub struct Syncs {
    /// What is slow; zero: nothing is.
    slow: Duration,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Since when one is under way.
    under_way: Option<Instant>,
    /// When each of the last ones ended, and how long it took.
    last: VecDeque<(Instant, Duration)>,
    #[cfg(test)]
    pretended: Option<Duration>,
}

impl Syncs {
    pub fn new(slow: Duration) -> Self {
        Self { slow, seen: Mutex::default() }
    }

    /// Does a sync.
    pub fn time(&self, sync: impl FnOnce()) {
        let begun = Instant::now();
        self.seen().under_way = Some(begun);
        sync();
        let took = begun.elapsed();
        histogram!("quorumscale_store_sync_seconds").record(took);
        self.ended(Instant::now(), took);
    }

    /// How long a sync takes now, if that is slow: the median of the last, or the one that
    /// does not end.
    pub fn slow(&self) -> Option<Duration> {
        self.slow_at(Instant::now())
    }

    /// In words, for people.
    pub fn problem(&self) -> Option<String> {
        let slow = self.slow();
        gauge!("quorumscale_disk_slow").set(if slow.is_some() { 1.0 } else { 0.0 });
        let millis = |d: Duration| d.as_millis();
        slow.map(|took| {
            format!(
                "its disk needs {} ms for a sync, more than cluster.slow_sync ({} ms): look at the disk, and at what \
                 else uses it",
                millis(took),
                millis(self.slow)
            )
        })
    }

    /// From now on every sync seems to take this long, and no other disk's speed matters.
    #[cfg(test)]
    pub fn pretend(&self, took: Duration) {
        self.seen().pretended = Some(took);
    }

    fn ended(&self, at: Instant, took: Duration) {
        let mut seen = self.seen();
        seen.under_way = None;
        if seen.last.len() >= KEPT {
            seen.last.pop_front();
        }
        seen.last.push_back((at, took));
    }

    fn slow_at(&self, now: Instant) -> Option<Duration> {
        #[cfg(test)]
        if let Some(pretended) = self.seen().pretended {
            return Some(pretended);
        }
        if self.slow.is_zero() {
            return None;
        }
        let seen = self.seen();
        let stuck = seen.under_way.map(|since| now.saturating_duration_since(since));
        if let Some(stuck) = stuck.filter(|stuck| *stuck > self.slow * STUCK) {
            return Some(stuck);
        }
        let recent = seen.last.iter().filter(|(at, _)| now.saturating_duration_since(*at) < RECENT);
        let mut took: Vec<Duration> = recent.map(|(_, took)| *took).collect();
        took.sort_unstable();
        took.get(took.len() / 2).copied().filter(|median| took.len() >= ENOUGH && *median > self.slow)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syncs(took: &[u64]) -> (Syncs, Instant) {
        let syncs = Syncs::new(Duration::from_millis(500));
        let now = Instant::now();
        took.iter().for_each(|ms| syncs.ended(now, Duration::from_millis(*ms)));
        (syncs, now)
    }

    #[test]
    fn a_disk_is_slow_when_most_of_the_last_syncs_were_and_not_for_one_of_them() {
        let (fast, now) = syncs(&[2, 3, 1900, 2, 4]);
        assert_eq!(fast.slow_at(now), None);
        let (slow, now) = syncs(&[2, 700, 900, 800, 3, 1000]);
        assert_eq!(slow.slow_at(now), Some(Duration::from_millis(800)));
        assert_eq!(slow.slow_at(now + RECENT), None, "long ago");
        let (few, now) = syncs(&[700, 900]);
        assert_eq!(few.slow_at(now), None, "too few to say");
    }

    #[test]
    fn a_sync_that_does_not_end_shows_while_it_lasts() {
        let (syncs, now) = syncs(&[2, 3]);
        syncs.seen().under_way = Some(now);
        assert_eq!(syncs.slow_at(now + Duration::from_secs(1)), None);
        assert_eq!(syncs.slow_at(now + Duration::from_secs(3)), Some(Duration::from_secs(3)));
        syncs.time(|| {});
        assert_eq!(syncs.slow_at(Instant::now()), None);
    }
}
