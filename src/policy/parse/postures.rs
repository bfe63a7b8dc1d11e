//! `postures`, and where rules and tests refer to them.

use super::super::PolicyError;
use super::super::alias::Names;
use super::super::hujson::Document;
use super::super::posture::{ATTRIBUTES, Condition, Fact, Facts, Posture, Test};
use super::fields::{Fields, list, object};
use jsonc_parser::ast::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads `postures`.
pub(super) fn postures<'a>(
    document: &Document<'a>,
    value: &Value<'a>,
) -> Result<BTreeMap<String, Arc<Posture>>, PolicyError> {
    let mut postures = BTreeMap::new();
    for (name, value) in document.members(object(document, value, "\"postures\"")?)? {
        if name.strip_prefix("posture:").is_none_or(str::is_empty) {
            return Err(document.error(value, format!("posture must start with 'posture:', got: {name:?}")));
        }
        let mut conditions = Vec::new();
        for (text, place) in document.strings(value, &format!("postures[{name:?}]"))? {
            let fault = |fault: String| document.error(place, format!("postures[{name:?}]: {text:?}: {fault}"));
            conditions.push(condition(text).map_err(fault)?);
        }
        if conditions.is_empty() {
            return Err(document.error(value, format!("postures[{name:?}] must have a condition")));
        }
        postures.insert(name, Arc::new(conditions));
    }
    Ok(postures)
}

/// The `srcPosture` of a rule, else the default of all; empty: any machine will do.
pub(super) fn of_rule<'a>(
    fields: &mut Fields<'_, '_, 'a>,
    document: &Document<'a>,
    names: &Names,
) -> Result<Vec<Arc<Posture>>, PolicyError> {
    match fields.take("srcPosture") {
        None => Ok(names.default_postures.clone()),
        Some(value) => named(document, names, value, "srcPosture"),
    }
}

/// A list of names of postures.
pub(super) fn named<'a>(
    document: &Document<'a>,
    names: &Names,
    value: &Value<'a>,
    what: &str,
) -> Result<Vec<Arc<Posture>>, PolicyError> {
    let posture = |(text, place): (&str, &Value<'a>)| {
        let known = names.postures.get(text).cloned();
        known.ok_or_else(|| document.error(place, format!("{what}: posture not found: {text:?}")))
    };
    document.strings(value, &format!("{what:?}"))?.into_iter().map(posture).collect()
}

/// The `srcPostureAttrs` of a test: what its source is taken to be.
pub(super) fn facts<'a>(document: &Document<'a>, value: &Value<'a>) -> Result<Facts, PolicyError> {
    let mut facts = BTreeMap::new();
    for (name, value) in document.members(object(document, value, "\"srcPostureAttrs\"")?)? {
        check_attribute(&name).map_err(|fault| document.error(value, fault))?;
        let fact = match value {
            Value::StringLit(text) => Fact::Text(text.value.as_ref().into()),
            Value::NumberLit(number) => Fact::Number(number.value.into()),
            Value::BooleanLit(on) => Fact::Bool(on.value),
            other => return Err(document.error(other, format!("{name:?} must be a text, a number, true or false"))),
        };
        facts.insert(name, fact);
    }
    Ok(Facts(facts))
}

/// Refuses an attribute that no client reports.
fn check_attribute(name: &str) -> Result<(), String> {
    if ATTRIBUTES.contains(&name) {
        return Ok(());
    }
    Err(format!("posture attribute {name:?} is not supported: clients report {}", ATTRIBUTES.join(", ")))
}

fn condition(text: &str) -> Result<Condition, String> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_whitespace() || "=!<>".contains(c)).unwrap_or(text.len());
    let (attribute, rest) = text.split_at(end);
    check_attribute(attribute)?;
    let rest = rest.trim();
    let test = match rest.to_ascii_uppercase().split_whitespace().collect::<Vec<_>>().join(" ").as_str() {
        "IS SET" => Test::IsSet,
        "NOT SET" => Test::NotSet,
        upper if upper.starts_with("IN") => Test::In(values(&rest[2..])?),
        upper if upper.starts_with("NOT IN") => {
            let after = rest.to_ascii_uppercase().find("IN").map_or("", |at| &rest[at + 2..]);
            Test::NotIn(values(after)?)
        }
        _ => comparison(rest)?,
    };
    Ok(Condition { attribute: attribute.into(), test })
}

fn comparison(text: &str) -> Result<Test, String> {
    type Make = fn(Fact) -> Test;
    let operators: [(&str, Make); 6] = [
        ("==", |fact| Test::In(vec![fact])),
        ("!=", |fact| Test::NotIn(vec![fact])),
        (">=", Test::AtLeast),
        ("<=", Test::AtMost),
        (">", Test::Above),
        ("<", Test::Below),
    ];
    let found = operators.into_iter().find_map(|(sign, make)| Some((text.strip_prefix(sign)?, make)));
    let Some((rest, make)) = found else {
        return Err("an operator must follow the attribute: ==, !=, >=, <=, >, <, IN, NOT IN, IS SET or NOT SET".into());
    };
    Ok(make(fact(rest.trim())?))
}

/// `['a', 'b']`
fn values(text: &str) -> Result<Vec<Fact>, String> {
    let inner = text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.ok_or("a list of values must follow, ['…', '…']")?;
    inner.split(',').map(|part| fact(part.trim())).collect()
}

/// A value: in quotes of either kind, a number, `true` or `false`.
fn fact(text: &str) -> Result<Fact, String> {
    for quote in ['\'', '"'] {
        let inner = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| !inner.contains(quote)) {
            return Ok(Fact::Text(inner.into()));
        }
    }
    match text {
        "true" => Ok(Fact::Bool(true)),
        "false" => Ok(Fact::Bool(false)),
        _ if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') => Ok(Fact::Number(text.into())),
        _ => Err(format!("{text:?} is no value: write '…' in quotes, a number, true or false")),
    }
}

/// Reads `defaultSrcPosture`.
pub(super) fn default<'a>(
    document: &Document<'a>,
    names: &Names,
    value: &Value<'a>,
) -> Result<Vec<Arc<Posture>>, PolicyError> {
    list(document, value, "\"defaultSrcPosture\"")?;
    named(document, names, value, "defaultSrcPosture")
}
