//! When a stream tells what changed.

use super::lock;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long a change waits for company on an idle machine: what one command changed is
/// marked in many mailboxes, and goes into one message of each.
const LEAST: Duration = Duration::from_millis(1);
/// Between two rounds however long the last one took.
const MOST: Duration = Duration::from_secs(5);
/// Complete maps since the last round began that make the next one wait: a client or
/// two that come back are no storm.
const STORM: u32 = 16;
/// How many times as long as the last round took nothing is told in a storm: so three
/// quarters of the time are left for those who wait for their map.
const REST: u32 = 3;

/// Shared by all streams of a replica, which tell in rounds: streams that wait, wait for
/// the same moments, so that they have the same to say, which is made once.
///
/// A round begins as soon as there is something to tell, except in a storm of clients
/// that connect. Each of them is a change for all the others, and to tell thousands
/// of streams of a few clients takes as long as to give hundreds their complete maps. So
/// while complete maps are made, rounds are far enough apart that most of the time is
/// for those.
#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    rounds: Mutex<Rounds>,
}

/// Times since the start.
#[derive(Debug, Default)]
struct Rounds {
    /// When the latest round began.
    begun: Duration,
    /// When the last stream of it so far had said what it had to say.
    ended: Duration,
    /// Complete maps that were made since it began, and during the one before.
    maps: u32,
    maps_before: u32,
}

impl Pace {
    /// Nobody told anything yet.
    pub fn new() -> Self {
        Self { started: Instant::now(), rounds: Mutex::default() }
    }

    /// Waits for the next round.
    pub async fn wait(&self) {
        loop {
            let at = self.next(self.started.elapsed());
            sleep_until(self.started + at).await;
            if self.begin(at) {
                return;
            }
        }
    }

    /// A stream said what it had to say.
    pub fn told(&self) {
        let now = self.started.elapsed();
        lock(&self.rounds).ended = now;
    }

    /// A client was given its complete map.
    pub fn made_map(&self) {
        let mut rounds = lock(&self.rounds);
        rounds.maps = rounds.maps.saturating_add(1);
    }

    /// When the next round is to begin, as far as is known now.
    fn next(&self, now: Duration) -> Duration {
        let rounds = lock(&self.rounds);
        let at = rounds.earliest().max(now + LEAST);
        // In a storm, the longer rounds are, the further apart are the moments that are waited for.
        let grid = if rounds.is_storm() { LEAST.max(rounds.took() / 8).min(MOST) } else { LEAST };
        let grid = grid.as_micros().next_power_of_two();
        Duration::from_micros((at.as_micros().div_ceil(grid) * grid) as u64)
    }

    /// Whether the round that was to begin at `at` does, or has begun already.
    fn begin(&self, at: Duration) -> bool {
        let mut rounds = lock(&self.rounds);
        if at <= rounds.begun {
            return true;
        }
        // The last round may have gone on since.
        if rounds.earliest() > at {
            return false;
        }
        let (maps, maps_before) = (0, rounds.maps);
        *rounds = Rounds { begun: at, ended: at, maps, maps_before };
        true
    }
}

impl Rounds {
    fn took(&self) -> Duration {
        self.ended.saturating_sub(self.begun)
    }

    fn is_storm(&self) -> bool {
        self.maps.max(self.maps_before) >= STORM
    }

    fn earliest(&self) -> Duration {
        self.ended + if self.is_storm() { (REST * self.took()).min(MOST) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A round of 100 ms that began after a second, with so many maps made meanwhile.
    fn after_a_round(maps: u32) -> Pace {
        let pace = Pace::new();
        assert!(pace.begin(1000 * MS));
        for _ in 0..maps {
            pace.made_map();
        }
        lock(&pace.rounds).ended = 1100 * MS;
        pace
    }

    #[test]
    fn a_change_on_an_idle_machine_waits_the_least() {
        for pace in [Pace::new(), after_a_round(0), after_a_round(STORM - 1)] {
            let at = pace.next(5000 * MS);
            assert!(at > 5000 * MS && at <= 5003 * MS, "{at:?}");
            assert!(pace.begin(at));
        }
    }

    #[test]
    fn streams_wait_for_the_same_moments() {
        let pace = after_a_round(0);
        let at = pace.next(5000 * MS);
        assert_eq!(pace.next(at - LEAST), at);
        assert_eq!(pace.next(at - LEAST - LEAST / 2), at);
        assert!(pace.begin(at));
        assert!(pace.begin(at), "the second one of the same round");
        assert!(pace.begin(at - MS), "one that woke late");
    }

    #[test]
    fn while_maps_are_made_most_of_the_time_is_for_them() {
        let pace = after_a_round(STORM);
        let at = pace.next(1101 * MS);
        assert!(at >= 1400 * MS && at < 1450 * MS, "{at:?}");
        // The last round goes on until a stream that woke late is done.
        lock(&pace.rounds).ended = 1200 * MS;
        assert!(!pace.begin(at));
        let at = pace.next(at);
        assert!(at >= 1800 * MS && at < 1900 * MS, "{at:?}");
        assert!(pace.begin(at));
        // The storm is remembered for one more round.
        lock(&pace.rounds).ended = at + 100 * MS;
        assert!(pace.next(at + 101 * MS) >= at + 400 * MS);
        let at = pace.next(at + 500 * MS);
        assert!(pace.begin(at));
        lock(&pace.rounds).ended = at + 100 * MS;
        assert!(pace.next(at + 101 * MS) < at + 150 * MS);
    }

    #[test]
    fn no_wait_is_longer_than_the_longest() {
        let pace = after_a_round(STORM);
        lock(&pace.rounds).ended = Duration::from_secs(60);
        let at = pace.next(Duration::from_secs(60));
        assert!(at <= Duration::from_secs(60) + 3 * MOST);
    }
}
