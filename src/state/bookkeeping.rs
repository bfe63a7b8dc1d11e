//! Records that state keeps about itself: its clock, its counters, and what it
//! remembers of requests so that none is applied twice.

use super::{Done, SecretHash, Time};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// How often at least a leader writes something while somebody's inactivity counts.
pub const LEADER_PULSE: Duration = Duration::from_secs(5);

/// A longer pause between two commands was, but for one pulse, time without a leader.
const LEADERLESS: Duration = LEADER_PULSE.saturating_mul(2);

/// How far state has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clock {
    /// The log index of the last command.
    pub index: u64,
    /// The latest time that a command brought.
    pub time: Time,
    /// How much of it passed without a leader, in milliseconds. Pauses in which nothing
    /// had to be written count as well: nobody's inactivity counted in them.
    #[serde(default)]
    pub leaderless: i64,
    /// The highest format of all commands so far; 0: 1. A replica that does not know it
    /// could not apply the log.
    #[serde(default)]
    pub format: u32,
}

impl Clock {
    /// At the next command. Time never goes back.
    pub fn next(self, index: u64, time: Time, format: u32) -> Self {
        let time = self.time.max(time);
        let pause = time.0.saturating_sub(self.time.0);
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let is_first = self.index == 0;
        let leaderless = if is_first || pause <= millis(LEADERLESS) { 0 } else { pause - millis(LEADER_PULSE) };
        let leaderless = self.leaderless.saturating_add(leaderless);
        Self { index, time, leaderless, format: self.format.max(format) }
    }

    /// The clock that stands still while there is no leader.
    pub fn led(self) -> Time {
        Time(self.time.0.saturating_sub(self.leaderless))
    }

    /// When the clock that stands still will show `led`, if there is a leader all the time.
    pub fn wall(self, led: Time) -> Time {
        Time(led.0.saturating_add(self.leaderless))
    }
}

/// The last number of each kind that was given out, so that none is used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counters {
    pub users: u64,
    pub nodes: u64,
    pub pre_auth_keys: u64,
    pub api_keys: u64,
    /// Where the sequential search for a free address goes on.
    pub last_v4: Option<Ipv4Addr>,
    pub last_v6: Option<Ipv6Addr>,
}

/// One process of a replica, as far as its requests are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Incarnation {
    /// Outcomes up to this sequence number are forgotten; such a request is refused.
    pub acknowledged: u64,
    /// When all of it may be forgotten.
    pub forget_at: Time,
}

/// A request from outside that carried an `Idempotency-Key`, and what it gave.
/// Refusals are not remembered: they changed nothing, so asking again is safe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RememberedRequest {
    /// Of the command.
    pub fingerprint: SecretHash,
    pub done: Done,
    pub at: Time,
}
