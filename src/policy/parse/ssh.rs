//! `ssh`.

use super::super::PolicyError;
use super::super::alias::{Alias, AliasError, Names};
use super::super::hujson::Document;
use super::super::rule::{CheckPeriod, SshRule, SshUser};
use super::fields::{Fields, list};
use super::postures;
use jsonc_parser::ast::Value;
use std::time::Duration;

const LONGEST_CHECK_PERIOD: i128 = 168 * HOUR;
const DEFAULT_CHECK_PERIOD: Duration = Duration::from_secs(12 * 3600);
/// In nanoseconds.
const SECOND: i128 = 1_000_000_000;
const HOUR: i128 = 3600 * SECOND;

/// Reads `ssh`.
pub(super) fn ssh<'a>(document: &Document<'a>, names: &Names, value: &Value<'a>) -> Result<Vec<SshRule>, PolicyError> {
    list(document, value, "\"ssh\"")?.elements.iter().map(|value| rule(document, names, value)).collect()
}

fn rule<'a>(document: &Document<'a>, names: &Names, value: &Value<'a>) -> Result<SshRule, PolicyError> {
    let mut fields = Fields::of(document, value, "a rule in \"ssh\"")?;
    let action = fields.text("action")?;
    let period = fields.text("checkPeriod")?;
    let check = match action {
        None => return Err(document.error(value, "action must be specified")),
        Some(("accept", _)) => None,
        Some(("check", _)) => Some(CheckPeriod::For(DEFAULT_CHECK_PERIOD)),
        Some((other, place)) => return Err(document.error(place, format!("{other:?} is not a valid action"))),
    };
    let check = match (check, period) {
        (check, None) => check,
        (None, Some((_, place))) => {
            return Err(document.error(place, "checkPeriod is only valid with action \"check\""));
        }
        (Some(_), Some((text, place))) => Some(check_period(text).map_err(|fault| document.error(place, fault))?),
    };
    let mut users = Vec::new();
    for (text, place) in fields.texts("users")? {
        users.push(user(text).map_err(|fault| document.error(place, fault))?);
    }
    if users.is_empty() {
        return Err(document.error(value, "users must be specified"));
    }
    let mut accept_env = Vec::new();
    for (text, place) in fields.texts("acceptEnv")? {
        if text.is_empty() {
            return Err(document.error(place, "acceptEnv values cannot be empty"));
        }
        accept_env.push(text.to_owned());
    }
    let (mut sources, mut destinations) = (Vec::new(), Vec::new());
    for (text, place) in fields.texts("src")? {
        sources.push(source(names, text.trim()).map_err(|fault| document.error(place, fault))?);
    }
    for (text, place) in fields.texts("dst")? {
        destinations.push(destination(names, text.trim()).map_err(|fault| document.error(place, fault))?);
    }
    // The default of the other rules is not that of these: their packets had to pass it already.
    let postures = match fields.take("srcPosture") {
        Some(value) => postures::named(document, names, value, "srcPosture")?,
        None => Vec::new(),
    };
    fields.finish()?;
    check_direction(&sources, &destinations).map_err(|fault| document.error(value, fault))?;
    Ok(SshRule { check, sources, destinations, users, accept_env, postures })
}

fn source(names: &Names, text: &str) -> Result<Alias, String> {
    match names.alias(text) {
        Ok(
            alias @ (Alias::User(_)
            | Alias::Group(_)
            | Alias::Tag(_)
            | Alias::UsersOf(_)
            | Alias::Role(_)
            | Alias::Member
            | Alias::Tagged),
        ) => Ok(alias),
        Err(AliasError::NotFound(kind @ ("tag" | "group"))) => Err(format!("src={kind} not found: {text:?}")),
        Err(AliasError::Unknown(fault)) => Err(fault),
        _ => Err(format!("invalid src {text:?}")),
    }
}

pub(super) fn destination(names: &Names, text: &str) -> Result<Alias, String> {
    match names.alias(text) {
        Ok(alias @ (Alias::User(_) | Alias::Tag(_) | Alias::Member | Alias::Tagged | Alias::SelfOwned)) => Ok(alias),
        Err(AliasError::NotFound(kind @ ("tag" | "group"))) => Err(format!("dst={text:?}: {kind} not found: {text:?}")),
        Err(AliasError::Unknown(fault)) => Err(fault),
        _ => Err(format!("invalid dst {text:?}")),
    }
}

/// A personal node is for its own user alone.
fn check_direction(sources: &[Alias], destinations: &[Alias]) -> Result<(), String> {
    let from_tags = sources.iter().any(|alias| matches!(alias, Alias::Tag(_) | Alias::Tagged));
    for destination in destinations {
        match destination {
            Alias::SelfOwned | Alias::User(_) | Alias::Member if from_tags => {
                return Err("tags in SSH source cannot access user-owned devices".into());
            }
            Alias::User(_) if sources.iter().any(|source| source != destination) => {
                return Err("user destination requires source to contain only that same user".into());
            }
            _ => {}
        }
    }
    Ok(())
}

fn user(text: &str) -> Result<SshUser, String> {
    if text.is_empty() || text == "*" {
        return Err(format!("user {text:?} is not valid"));
    }
    if text == "autogroup:nonroot" {
        return Ok(SshUser::NonRoot);
    }
    match text.strip_prefix("localpart:*@") {
        Some(domain) if !domain.is_empty() => Ok(SshUser::LocalPart(domain.into())),
        _ => Ok(SshUser::Literal(text.into())),
    }
}

fn check_period(text: &str) -> Result<CheckPeriod, String> {
    if text == "always" {
        return Ok(CheckPeriod::Always);
    }
    let fault = |fault: String| format!("checkPeriod: {fault}; write \"12h\", \"30m\" or \"always\"");
    let nanoseconds = duration(text).map_err(fault)?;
    if nanoseconds < 0 {
        return Err(format!("checkPeriod {} must be a positive duration", in_go(nanoseconds)));
    }
    if nanoseconds > LONGEST_CHECK_PERIOD {
        return Err(format!("checkPeriod {} is above the max (168h)", in_go(nanoseconds)));
    }
    let nanoseconds = u64::try_from(nanoseconds).unwrap_or_default();
    Ok(CheckPeriod::For(if nanoseconds == 0 { DEFAULT_CHECK_PERIOD } else { Duration::from_nanos(nanoseconds) }))
}

/// Nanoseconds of a duration in Go's form, `1h30m`, `-1m`, `1.5s`; what is wrong with it, in Go's words.
fn duration(text: &str) -> Result<i128, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        // More digits than any duration has.
        let number =
            rest.get(..digits).filter(|digits| digits.len() <= 18).and_then(|digits| digits.parse::<f64>().ok());
        let number = number.ok_or_else(invalid)?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (unit, after) = rest.split_at(end);
        let length = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => HOUR,
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        rest = after;
        total += (number * length as f64) as i128;
    }
    Ok(if negative { -total } else { total })
}

/// As Go prints a duration of whole seconds or more.
fn in_go(nanoseconds: i128) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let n = nanoseconds.abs();
    let (hours, minutes, seconds) = (n / HOUR, n / (60 * SECOND) % 60, n % (60 * SECOND));
    let seconds = seconds as f64 / SECOND as f64;
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}
