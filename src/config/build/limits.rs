//! `limits`: what strangers may make the replica do.

use crate::config::reader::Reader;
use crate::limits::Limits;
use crate::state::{LOGINS_BOUND, LOGINS_PER_SOURCE_BOUND};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

pub(super) fn limits(reader: &mut Reader) -> Limits {
    let default = Limits::default();
    let handshakes = number(reader, "limits.handshakes", default.handshakes, 1..=100_000);
    Limits {
        connections: number(reader, "limits.connections", default.connections, 16..=1_000_000),
        strangers: number(reader, "limits.strangers", default.strangers, 16..=1_000_000),
        handshakes,
        // Whoever lowers the one need not know of the other.
        handshakes_per_address: number(
            reader,
            "limits.handshakes_per_address",
            default.handshakes_per_address.min(handshakes),
            1..=handshakes,
        ),
        failed_keys_per_minute: number(
            reader,
            "limits.failed_keys_per_minute",
            default.failed_keys_per_minute,
            1..=60_000,
        ),
        lookups_per_minute: number(reader, "limits.lookups_per_minute", default.lookups_per_minute, 1..=60_000),
        relay_handshakes: number(reader, "limits.relay_handshakes", default.relay_handshakes, 16..=1_000_000),
        peer_handshakes: number(reader, "limits.peer_handshakes", default.peer_handshakes, 16..=100_000),
        pending_logins_per_address: number(
            reader,
            "limits.pending_logins_per_address",
            default.pending_logins_per_address,
            1..=LOGINS_PER_SOURCE_BOUND,
        ),
        pending_logins: number(reader, "limits.pending_logins", default.pending_logins, 1..=LOGINS_BOUND),
    }
}

fn number<T>(reader: &mut Reader, key: &str, default: T, range: RangeInclusive<T>) -> T
where
    T: Copy + Display + FromStr + PartialOrd,
{
    let why = format!("must be a number from {} to {}", range.start(), range.end());
    let Some(number) = reader.parsed(key, &why) else { return default };
    if !range.contains(&number) {
        reader.problem(key, &number.to_string(), why);
        return default;
    }
    number
}
