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
/// So many complete maps, in a [`WINDOW`] or the one before, are a storm: a client or two
/// that come back are none.
const STORM: u32 = 16;
const WINDOW: Duration = Duration::from_millis(500);
/// Where there are so many streams that a round takes so long, few clients are one, too: the
/// more nodes there are, the longer their maps take, and the fewer are made in a window.
const LONG_ROUND: Duration = Duration::from_millis(20);
const STORM_OF_LONG_ROUNDS: u32 = 2;
/// How many times as long as the last round took nothing is told in a storm, and how long at
/// least: so three quarters of the time are left for those who wait for their map.
const REST: u32 = 3;
const LEAST_REST: Duration = Duration::from_millis(150);

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
    /// The number of the latest [`WINDOW`] in which complete maps were made, how many, and
    /// how many in the one before.
    window: u128,
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
        let window = self.started.elapsed().as_micros() / WINDOW.as_micros();
        lock(&self.rounds).count_map(window);
    }

    /// When the next round is to begin, as far as is known now.
    fn next(&self, now: Duration) -> Duration {
        let rounds = lock(&self.rounds);
        let at = rounds.earliest(now).max(now + LEAST);
        // In a storm, the longer rounds are, the further apart are the moments that are waited for.
        let grid = if rounds.is_storm(now) { LEAST.max(rounds.took() / 8).min(MOST) } else { LEAST };
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
        if rounds.earliest(at) > at {
            return false;
        }
        (rounds.begun, rounds.ended) = (at, at);
        true
    }
}

impl Rounds {
    fn took(&self) -> Duration {
        self.ended.saturating_sub(self.begun)
    }

    fn count_map(&mut self, window: u128) {
        if window != self.window {
            self.maps_before = if window == self.window + 1 { self.maps } else { 0 };
            (self.window, self.maps) = (window, 0);
        }
        self.maps = self.maps.saturating_add(1);
    }

    fn is_storm(&self, now: Duration) -> bool {
        let is_recent = now.as_micros() / WINDOW.as_micros() <= self.window + 1;
        let storm = if self.took() >= LONG_ROUND { STORM_OF_LONG_ROUNDS } else { STORM };
        is_recent && self.maps.max(self.maps_before) >= storm
    }

    fn earliest(&self, now: Duration) -> Duration {
        self.ended + if self.is_storm(now) { (REST * self.took()).clamp(LEAST_REST, MOST) } else { Duration::ZERO }
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
            lock(&pace.rounds).count_map(2);
        }
        lock(&pace.rounds).ended = 1100 * MS;
        pace
    }

    #[test]
    fn a_change_on_an_idle_machine_waits_the_least() {
        for pace in [Pace::new(), after_a_round(0), after_a_round(1), after_a_round(STORM)] {
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
        lock(&pace.rounds).ended = 1110 * MS;
        assert!(!pace.begin(at));
        let at = pace.next(1111 * MS);
        assert!(at >= 1440 * MS && at < 1490 * MS, "{at:?}");
        assert!(pace.begin(at));
        // A short round is followed by a rest too.
        lock(&pace.rounds).ended = at + MS;
        let next = pace.next(at + MS);
        assert!(next >= at + LEAST_REST && next < at + LEAST_REST + 5 * MS, "{next:?}");
    }

    #[test]
    fn a_storm_is_over_soon_after_its_last_map() {
        let mut rounds = Rounds::default();
        (0..STORM).for_each(|_| rounds.count_map(2));
        assert!(rounds.is_storm(1200 * MS) && rounds.is_storm(1900 * MS) && !rounds.is_storm(2000 * MS));
        rounds.count_map(3);
        assert!(rounds.is_storm(1900 * MS), "the window before counts");
        rounds.count_map(4);
        assert!(!rounds.is_storm(2000 * MS));
    }

    #[test]
    fn where_rounds_are_long_few_maps_are_a_storm() {
        let mut rounds = Rounds { ended: 15 * MS, ..Rounds::default() };
        (0..STORM_OF_LONG_ROUNDS).for_each(|_| rounds.count_map(0));
        assert!(!rounds.is_storm(100 * MS));
        rounds.ended = LONG_ROUND;
        assert!(rounds.is_storm(100 * MS));
    }

    #[test]
    fn no_wait_is_longer_than_the_longest() {
        let pace = after_a_round(STORM);
        lock(&pace.rounds).ended = 1300 * MS + 2 * MOST;
        let at = pace.next(1300 * MS);
        assert!(at <= 1400 * MS + 4 * MOST, "{at:?}");
    }
}
