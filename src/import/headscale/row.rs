//! Values as Headscale's libraries store them: texts that are times, lists in JSON, numbers
//! that are flags.

use crate::state::Time;
use rusqlite::types::ValueRef;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::str::FromStr;

/// Before this nothing happened: Go's zero time is in the year 1.
const YEAR_1900: i64 = -2_208_988_800_000;

/// A value that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{column}: {reason}")]
pub struct ValueError {
    column: &'static str,
    reason: String,
}

impl ValueError {
    /// In this column, for this reason, which must not repeat a secret.
    pub fn new(column: &'static str, reason: impl Display) -> Self {
        Self { column, reason: reason.to_string() }
    }
}

/// One row, by the names of its columns. A column that is not there has no value.
pub struct Row<'a>(&'a rusqlite::Row<'a>);

impl<'a> Row<'a> {
    pub fn new(row: &'a rusqlite::Row<'a>) -> Self {
        Self(row)
    }

    /// Its number; 0 if it has none.
    pub fn id(&self) -> i64 {
        self.0.get::<_, i64>("id").unwrap_or(0)
    }

    /// Its number as state has them.
    pub fn number(&self) -> Result<u64, ValueError> {
        self.reference("id")?.ok_or_else(|| ValueError::new("id", "missing"))
    }

    /// The number of another record.
    pub fn reference(&self, column: &'static str) -> Result<Option<u64>, ValueError> {
        match self.value(column) {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(number) => {
                u64::try_from(number).map(Some).map_err(|_| ValueError::new(column, format!("{number} is negative")))
            }
            _ => Err(ValueError::new(column, "not a number")),
        }
    }

    /// An absent text is an empty one.
    pub fn text(&self, column: &'static str) -> Result<String, ValueError> {
        match self.value(column) {
            ValueRef::Null => Ok(String::new()),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                String::from_utf8(bytes.to_vec()).map_err(|_| ValueError::new(column, "not UTF-8"))
            }
            ValueRef::Integer(number) => Ok(number.to_string()),
            ValueRef::Real(number) => Ok(number.to_string()),
        }
    }

    pub fn flag(&self, column: &'static str) -> Result<bool, ValueError> {
        match self.value(column) {
            ValueRef::Null => Ok(false),
            ValueRef::Integer(number) => Ok(number != 0),
            _ => match self.text(column)?.as_str() {
                "" | "0" | "false" => Ok(false),
                "1" | "true" => Ok(true),
                other => Err(ValueError::new(column, format!("{other:?} is neither true nor false"))),
            },
        }
    }

    /// `None` also for Go's zero time.
    pub fn time(&self, column: &'static str) -> Result<Option<Time>, ValueError> {
        let time = match self.value(column) {
            ValueRef::Null => return Ok(None),
            ValueRef::Integer(seconds) => Time(seconds.saturating_mul(1000)),
            _ => {
                let text = self.text(column)?;
                if text.is_empty() {
                    return Ok(None);
                }
                parse_time(&text).ok_or_else(|| ValueError::new(column, format!("{text:?} is not a time")))?
            }
        };
        Ok(Some(time).filter(|time| time.0 >= YEAR_1900))
    }

    /// What [`FromStr`] reads; `None` for an absent or empty text.
    pub fn parsed<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<Option<T>, ValueError> {
        let text = self.text(column)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|error| ValueError::new(column, error))
    }

    /// A list in JSON; an absent one is empty.
    pub fn list<T: DeserializeOwned>(&self, column: &'static str) -> Result<Vec<T>, ValueError> {
        let text = self.text(column)?;
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let list: Option<Vec<T>> = serde_json::from_str(&text).map_err(|error| ValueError::new(column, error))?;
        Ok(list.unwrap_or_default())
    }

    fn value(&self, column: &str) -> ValueRef<'_> {
        self.0.get_ref(column).unwrap_or(ValueRef::Null)
    }
}

/// `2026-01-02 03:04:05.678901234+00:00`, the same with a `T`, with `Z`, with `+0000 UTC` as
/// Go prints times, or without a zone, which means UTC.
pub(super) fn parse_time(text: &str) -> Option<Time> {
    // What Go adds about its clock.
    let text = text.split(" m=").next()?.trim();
    let (date, rest) = text.split_once([' ', 'T'])?;
    let zone_at = rest.find([' ', '+', '-', 'Z', 'z']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone_at);
    let zone = zone.split_whitespace().next().unwrap_or("Z");
    let zone = match zone {
        "Z" | "z" | "UTC" => "Z".to_owned(),
        zone if zone.len() == 5 && !zone.contains(':') => format!("{}:{}", &zone[..3], &zone[3..]),
        zone => zone.to_owned(),
    };
    let timestamp: jiff::Timestamp = format!("{date}T{clock}{zone}").parse().ok()?;
    Some(Time::from_jiff(timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form_that_headscale_wrote() {
        for text in [
            "2026-01-02 03:04:05.678901234+00:00",
            "2026-01-02 05:04:05.678+02:00",
            "2026-01-02T03:04:05.678Z",
            "2026-01-02 03:04:05.678901234 +0000 UTC",
            "2026-01-02 03:04:05.678901234 +0000 UTC m=+0.012345",
            "2026-01-01 22:04:05.678 -0500 EST",
            "2026-01-02 03:04:05.678",
        ] {
            assert_eq!(parse_time(text), Some(Time(1_767_323_045_678)), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01 00:00:00", "2026-01-02", "+", "2026-01-02 \u{e9}+\u{e9}\u{e9}0"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
