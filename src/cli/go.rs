//! Go's words for things, which scripts and people know from Headscale.

use std::io;

/// Parses an unsigned number of a flag.
pub(super) fn uint(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| number_error("ParseUint", text, &error))
}

/// Parses a number of a flag.
pub(super) fn int(text: &str) -> Result<i64, String> {
    text.parse().map_err(|error| number_error("ParseInt", text, &error))
}

/// Parses a truth value of a flag.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

fn number_error(function: &str, text: &str, error: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let why = match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {text:?}: {why}")
}

/// Values of a flag that may be given several times, and several at a time with commas.
pub(super) fn strings(values: &[String]) -> Vec<String> {
    values.iter().filter(|value| !value.is_empty()).flat_map(|value| value.split(',')).map(String::from).collect()
}

/// `open PATH: no such file or directory`.
pub(super) fn open_error(path: &std::path::Path, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::IsADirectory => "is a directory".into(),
        _ => error.to_string(),
    };
    format!("open {}: {why}", path.display())
}

/// Parses a time by RFC 3339.
pub(super) fn time(text: &str) -> Result<jiff::Timestamp, String> {
    let year_is_digits = text.len() >= 4 && text.bytes().take(4).all(|b| b.is_ascii_digit());
    let has_both_parts = text.as_bytes().get(10).is_some_and(|b| matches!(b, b'T' | b't'));
    match text.parse() {
        Ok(time) if has_both_parts => Ok(time),
        _ => {
            let why =
                if year_is_digits { "it is not like 2027-01-02T03:04:05Z".into() } else { cannot_parse_year(text) };
            Err(format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": {why}"))
        }
    }
}

fn cannot_parse_year(text: &str) -> String {
    format!("cannot parse {text:?} as \"2006\"")
}

/// A time of the API as tables show it; what is no time is shown as it is.
pub(super) fn table_time(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_refused_in_gos_words() {
        assert_eq!(uint("alice"), Err("strconv.ParseUint: parsing \"alice\": invalid syntax".into()));
        assert_eq!(uint("-1"), Err("strconv.ParseUint: parsing \"-1\": invalid syntax".into()));
        assert_eq!(
            uint("99999999999999999999"),
            Err("strconv.ParseUint: parsing \"99999999999999999999\": value out of range".into())
        );
        assert_eq!(int("-1"), Ok(-1));
    }

    #[test]
    fn lists_are_split_at_commas() {
        assert_eq!(strings(&["a,b".into(), "c".into(), String::new()]), ["a", "b", "c"]);
    }

    #[test]
    fn times_are_by_rfc_3339() {
        assert!(time("2027-01-02T03:04:05Z").is_ok());
        assert!(time("2027-01-02T03:04:05+02:00").is_ok());
        let error = "parsing time \"bogus\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"bogus\" as \"2006\"";
        assert_eq!(time("bogus").unwrap_err(), error);
        assert!(time("2027-01-02").is_err());
    }

    #[test]
    fn tables_show_seconds_in_utc() {
        assert_eq!(table_time("2026-11-24T07:48:59.306159467Z"), "2026-11-24 07:48:59");
        assert_eq!(table_time("2026-11-24T09:48:59+02:00"), "2026-11-24 07:48:59");
        assert_eq!(table_time(crate::api::types::ZERO_TIME), "0001-01-01 00:00:00");
    }
}
