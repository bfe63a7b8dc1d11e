//! Durations as people write them: Go's (`1h30m`, `1.5s`, `250ms`) and
//! Prometheus's (`90d`, `1y2w`), which Headscale uses for keys' lifetimes.

use std::time::Duration;

/// A text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Headscale's words.
    #[error("empty duration string")]
    Empty,
    /// Headscale's words.
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    /// A number without a unit, which Go would take as nanoseconds.
    #[error("duration {0:?} has no unit: write for example \"{0}s\"")]
    NoUnit(String),
    /// More than about 292 years, Go's longest.
    #[error("duration out of range")]
    Range,
}

/// Go's longest duration, in nanoseconds.
const LONGEST: u128 = i64::MAX as u128;

const DAY: u128 = 24 * 3600 * 1_000_000_000;

/// Parses `1y2w3d4h5m6s7ms`: whole numbers, units in this order, each at most once; or `0`.
/// A year has 365 days.
pub fn prometheus(text: &str) -> Result<Duration, DurationError> {
    const UNITS: [(&str, u128); 7] = [
        ("y", 365 * DAY),
        ("w", 7 * DAY),
        ("d", DAY),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
    ];
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    let invalid = || DurationError::Invalid(text.into());
    let (mut rest, mut nanos, mut next_unit) = (text, 0u128, 0);
    while !rest.is_empty() {
        let (number, after) = split_at(rest, |c| !c.is_ascii_digit());
        let (unit, after) = split_at(after, |c| c.is_ascii_digit());
        let place = UNITS.iter().position(|(name, _)| *name == unit).filter(|place| *place >= next_unit);
        let place = place.ok_or_else(invalid)?;
        if number.is_empty() {
            return Err(invalid());
        }
        let count: u64 = number.parse().map_err(|_| DurationError::Range)?;
        nanos = nanos.saturating_add(u128::from(count).saturating_mul(UNITS[place].1));
        next_unit = place + 1;
        rest = after;
    }
    from_nanos(nanos)
}

/// Parses Go's form, which is not negative here: numbers with optional fractions, each with a unit; or `0`.
pub fn go(text: &str) -> Result<Duration, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(Duration::ZERO),
        _ if text.bytes().all(|b| b.is_ascii_digit()) => return Err(DurationError::NoUnit(text.into())),
        _ => {}
    }
    let invalid = || DurationError::Invalid(text.into());
    let (mut rest, mut nanos) = (text, 0u128);
    while !rest.is_empty() {
        let (number, after) = split_at(rest, |c| !(c.is_ascii_digit() || c == '.'));
        let (unit, after) = split_at(after, |c| c.is_ascii_digit() || c == '.');
        let size: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(invalid()),
        };
        nanos = nanos.saturating_add(decimal(number, size).ok_or_else(invalid)?);
        rest = after;
    }
    from_nanos(nanos)
}

/// As Go prints it for whole seconds and milliseconds: `1h30m0s`, `250ms`.
pub fn display(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match (seconds, millis) {
        (0, 0) => "0s".into(),
        (0, ms) => format!("{ms}ms"),
        (s, ms) => {
            let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}").trim_end_matches('0').into() };
            match (s / 3600, s / 60 % 60, s % 60) {
                (0, 0, s) => format!("{s}{fraction}s"),
                (0, m, s) => format!("{m}m{s}{fraction}s"),
                (h, m, s) => format!("{h}h{m}m{s}{fraction}s"),
            }
        }
    }
}

fn split_at(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

/// `1.25` times `size`, exactly as far as `size` allows.
fn decimal(number: &str, size: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Digits beyond a billionth of an hour are below a nanosecond.
    let fraction = &fraction[..fraction.len().min(18)];
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let part = part.saturating_mul(size) / 10u128.pow(fraction.len() as u32);
    Some(whole.saturating_mul(size).saturating_add(part))
}

fn from_nanos(nanos: u128) -> Result<Duration, DurationError> {
    if nanos > LONGEST {
        return Err(DurationError::Range);
    }
    Ok(Duration::from_nanos(nanos as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_units_add_up() {
        let all = prometheus("1y2w3d4h5m6s7ms").unwrap();
        let days = 365 + 14 + 3;
        assert_eq!(all, Duration::from_millis(((days * 24 + 4) * 3600 + 5 * 60 + 6) * 1000 + 7));
        assert_eq!(prometheus("90d"), Ok(Duration::from_secs(90 * 86400)));
        assert_eq!(prometheus("0"), Ok(Duration::ZERO));
        assert_eq!(prometheus("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(prometheus("5ms"), Ok(Duration::from_millis(5)));
    }

    #[test]
    fn what_is_no_prometheus_duration_is_refused_in_headscales_words() {
        let refused = |text: &str| prometheus(text).unwrap_err().to_string();
        assert_eq!(refused("bogus"), "not a valid duration string: \"bogus\"");
        assert_eq!(refused(""), "empty duration string");
        assert_eq!(refused("99999999y"), "duration out of range");
        for text in ["1", "h", "1h1d", "1h1h", "1.5h", "-1h", "1 h", "1h ", "ms", "1x", "¼h"] {
            assert!(prometheus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn go_durations_have_fractions_and_small_units() {
        assert_eq!(go("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(go("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(go(".5s"), Ok(Duration::from_millis(500)));
        assert_eq!(go("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(go("7µs"), Ok(Duration::from_micros(7)));
        assert_eq!(go("0"), Ok(Duration::ZERO));
        assert_eq!(go("168h"), Ok(Duration::from_secs(168 * 3600)));
        assert_eq!(go("120").unwrap_err().to_string(), "duration \"120\" has no unit: write for example \"120s\"");
        for text in ["", "1d", "s", ".s", "1..5s", "-1s", "abc", "9999999h"] {
            assert!(go(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_print_as_go_prints_them() {
        for text in ["0s", "5s", "1m5s", "3h0m0s", "250ms", "1.5s", "168h0m0s"] {
            assert_eq!(display(go(text).unwrap()), text);
        }
    }
}
