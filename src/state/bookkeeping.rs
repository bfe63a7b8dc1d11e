//! Records that state keeps about itself: its clock, its counters, and what it
//! remembers of requests so that none is applied twice.

use super::{Done, SecretHash, Time};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};

/// How far state has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clock {
    /// The log index of the last command.
    pub index: u64,
    /// The latest time that a command brought.
    pub time: Time,
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
