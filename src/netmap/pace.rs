//! How long a change waits for company before a stream tells it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// On an idle machine: one message for what one command, or a few in a row, changed.
const LEAST: Duration = Duration::from_millis(5);
/// However busy the machine is.
const MOST: Duration = Duration::from_millis(500);
/// A stream that wakes later than this has others before it that take the time:
/// more than telling one change to all takes on two cores with a thousand streams.
const BUSY: Duration = Duration::from_millis(20);
/// The share of a new measurement, as a power of two.
const WEIGHT: u32 = 4;

/// Shared by all streams of a replica. When thousands of streams each want to tell
/// every change at once, as in a storm of clients that connect, telling would take
/// all the time there is. So they wait longer the later they wake: about twice as
/// long as telling takes. And they wait for the same moments, so that they have the
/// same to say, which is made once.
#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    /// How late streams woke lately, in microseconds.
    late: AtomicU64,
}

impl Pace {
    /// For streams that are all on time.
    pub fn new() -> Self {
        Self { started: Instant::now(), late: AtomicU64::new(0) }
    }

    /// Waits for company.
    pub async fn wait(&self) {
        let until = self.next(Instant::now());
        sleep_until(until).await;
        self.note(until.elapsed());
    }

    fn next(&self, now: Instant) -> Instant {
        let late = Duration::from_micros(self.late.load(Ordering::Relaxed));
        let wait = LEAST + 2 * late.saturating_sub(BUSY);
        if wait == LEAST {
            return now + LEAST;
        }
        // Waits that are not quite the same length end together.
        let wait = LEAST * (wait.min(MOST).as_micros() as u32).div_ceil(LEAST.as_micros() as u32).next_power_of_two();
        let ticks = (now - self.started).as_micros() / wait.as_micros() + 1;
        self.started + Duration::from_micros((ticks * wait.as_micros()) as u64)
    }

    /// Lost updates do no harm: there are many.
    fn note(&self, late: Duration) {
        let before = self.late.load(Ordering::Relaxed);
        let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX).min(MOST.as_micros() as u64);
        self.late.store(before - (before >> WEIGHT) + (late >> WEIGHT), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_wake_in_time_wait_the_least_and_late_ones_longer_and_together() {
        let pace = Pace::new();
        let now = pace.started + Duration::from_millis(10_001);
        assert_eq!(pace.next(now), now + LEAST);
        for _ in 0..200 {
            pace.note(Duration::from_millis(100));
        }
        let next = pace.next(now);
        assert!(next > now && next <= now + 2 * MOST);
        assert_eq!(pace.next(now + Duration::from_millis(1)), next, "a little later waits for the same moment");
        for _ in 0..200 {
            pace.note(Duration::ZERO);
        }
        assert_eq!(pace.next(now), now + LEAST, "it is over when they are in time again");
    }

    #[test]
    fn no_wait_is_longer_than_the_longest() {
        let pace = Pace::new();
        for _ in 0..1000 {
            pace.note(Duration::from_secs(100));
        }
        for ms in 0..2000 {
            let now = pace.started + Duration::from_millis(ms);
            assert!(pace.next(now) - now <= 2 * MOST);
        }
    }
}
