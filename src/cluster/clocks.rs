//! Clocks that jump. The leader stamps the time on each command, and time in state never
//! goes back: a leader whose clock ran ahead would expire everything for good. So replicas
//! know each other's clocks, and a stamp stays near the middle of them.

use crate::state::{ReplicaId, Time};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How far a stamp may be from the middle of the replicas' clocks, and how far a clock may be
/// off before it shows: more than NTP leaves, less than anything in a tailnet expires in.
pub const TOLERATED: Duration = Duration::from_secs(5);
/// A clock that was heard of longer ago says nothing: an oscillator may be off by a lot.
const RECENT: Duration = Duration::from_secs(60);

/// The other replicas' clocks, as they were heard of.
#[derive(Default)]
pub struct Clocks {
    peers: Mutex<BTreeMap<ReplicaId, Heard>>,
    /// What a test adds to this machine's clock, in milliseconds.
    #[cfg(test)]
    pub off: std::sync::atomic::AtomicI64,
}

/// A clock's time, and when that was by this process's steady clock.
#[derive(Clone, Copy)]
struct Heard {
    time: Time,
    at: Instant,
}

impl Clocks {
    /// Remembers a replica's time; 0: an older release, which does not say.
    pub fn note(&self, peer: ReplicaId, time_ms: u64) {
        if let Some(time) = i64::try_from(time_ms).ok().filter(|time| *time != 0) {
            self.peers().insert(peer, Heard { time: Time(time), at: Instant::now() });
        }
    }

    #[cfg(test)]
    pub fn knows(&self, peer: ReplicaId) -> bool {
        self.peers().contains_key(&peer)
    }

    /// This machine's clock.
    pub fn own(&self) -> Time {
        #[cfg(test)]
        return Time(Time::now().0 + self.off.load(std::sync::atomic::Ordering::Relaxed));
        #[cfg(not(test))]
        Time::now()
    }

    /// This machine's time, as far as the others' clocks bear it out.
    pub fn now(&self) -> Time {
        let own = self.own();
        match self.middle(own) {
            Some(middle) => own.max(middle - TOLERATED).min(middle + TOLERATED),
            None => own,
        }
    }

    /// In words, for people: how far this machine's clock is off, if it is.
    pub fn problem(&self) -> Option<String> {
        let own = self.own();
        let off = own.0 - self.middle(own)?.0;
        metrics::gauge!("quorumscale_clock_off_seconds").set(off as f64 / 1000.0);
        let seconds = Duration::from_millis(off.unsigned_abs()).as_secs();
        let direction = if off > 0 { "ahead of" } else { "behind" };
        (off.unsigned_abs() > TOLERATED.as_millis() as u64).then(|| {
            format!("its clock is {seconds} s {direction} the other replicas': set it, and look at its time service")
        })
    }

    /// The middle one of all clocks that are known, the lower of two; `None`: only this one is.
    fn middle(&self, own: Time) -> Option<Time> {
        let now = Instant::now();
        let recent = |heard: &&Heard| now.saturating_duration_since(heard.at) < RECENT;
        let estimate = |heard: &Heard| heard.time + now.saturating_duration_since(heard.at);
        let mut all: Vec<Time> = self.peers().values().filter(recent).map(estimate).collect();
        if all.is_empty() {
            return None;
        }
        all.push(own);
        all.sort_unstable();
        all.get((all.len() - 1) / 2).copied()
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, BTreeMap<ReplicaId, Heard>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    const HOUR: i64 = 3_600_000;

    /// A replica whose clock is off by `own`, and others' by `peers`, in milliseconds.
    fn clocks(own: i64, peers: &[i64]) -> Clocks {
        let clocks = Clocks::default();
        clocks.off.store(own, Ordering::Relaxed);
        for (n, off) in peers.iter().enumerate() {
            clocks.note(ReplicaId(n as u64 + 2), u64::try_from(Time::now().0 + off).unwrap());
        }
        clocks
    }

    /// How far a stamp is from the right time, in whole seconds.
    fn error(clocks: &Clocks) -> i64 {
        (clocks.now().0 - Time::now().0) / 1000
    }

    #[tokio::test]
    async fn a_clock_that_jumps_is_held_near_the_middle_of_the_replicas_clocks() {
        assert_eq!(error(&clocks(HOUR, &[0, 0])), 5, "a jump forward");
        assert!(matches!(error(&clocks(-HOUR, &[0, 0])), -5 | -4), "a jump back");
        assert_eq!(error(&clocks(0, &[HOUR, 0])), 0, "somebody else's jump");
        assert_eq!(error(&clocks(HOUR, &[0])), 5, "of two, the slower one is believed");
        assert_eq!(error(&clocks(1000, &[0, 0])), 1, "what NTP leaves is not touched");
    }

    #[tokio::test]
    async fn a_clock_that_is_off_is_reported_by_how_much() {
        let problem = clocks(HOUR, &[0, 0]).problem().unwrap();
        assert!(problem.contains("3600 s ahead of") || problem.contains("3599 s ahead of"), "{problem}");
        assert!(clocks(-HOUR, &[0, 0]).problem().unwrap().contains("s behind"));
        assert_eq!(clocks(0, &[HOUR, 0]).problem(), None, "not this one's");
        assert_eq!(clocks(HOUR, &[]).problem(), None, "nobody to compare with");
    }

    #[tokio::test]
    async fn what_was_heard_long_ago_says_nothing() {
        let clocks = clocks(HOUR, &[0, 0]);
        clocks.peers().values_mut().for_each(|heard| heard.at = heard.at.checked_sub(RECENT).unwrap());
        assert_eq!(error(&clocks), HOUR / 1000);
    }
}
