//! Where in a document a rule is.

use super::super::hujson::Document;
use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde::{Deserialize, Serialize};

/// A rule's place, and the rule as its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// `acls[0]`, `autoApprovers.routes["10.0.0.0/8"]`.
    pub name: String,
    /// From 1, as editors count.
    pub line: usize,
    pub column: usize,
    pub text: String,
}

/// The entries of a document that can be pointed at.
pub(super) struct Places<'t> {
    text: &'t str,
    document: Option<Document<'t>>,
}

impl<'t> Places<'t> {
    /// Of a text that was read before.
    pub fn of(text: &'t str) -> Self {
        Self { text, document: Document::read(text).ok() }
    }

    /// The entry of a section's list, counted from 0.
    pub fn entry(&self, section: &str, number: usize) -> Place {
        let value = match self.member(&[section]) {
            Some(Value::Array(list)) => list.elements.get(number),
            _ => None,
        };
        self.at(format!("{section}[{number}]"), value)
    }

    /// A member of nested objects.
    pub fn path(&self, path: &[&str]) -> Place {
        let (last, first) = path.split_last().map_or(("", path), |(last, first)| (*last, first));
        self.at(format!("{}[{last:?}]", first.join(".")), self.member(path))
    }

    /// The texts of a list that a rule has, `src` or `dst`.
    pub fn texts(&self, section: &str, number: usize, field: &str) -> Vec<String> {
        let rule = match self.member(&[section]) {
            Some(Value::Array(list)) => list.elements.get(number),
            _ => None,
        };
        rule.and_then(|rule| member(rule, field)).map(strings).unwrap_or_default()
    }

    /// The texts of a list at the end of a path.
    pub fn texts_at(&self, path: &[&str]) -> Vec<String> {
        self.member(path).map(strings).unwrap_or_default()
    }

    /// The names of an object's members.
    pub fn names_at(&self, path: &[&str]) -> Vec<String> {
        match self.member(path) {
            Some(Value::Object(object)) => {
                object.properties.iter().map(|property| property.name.as_str().to_owned()).collect()
            }
            _ => Vec::new(),
        }
    }

    fn member(&self, path: &[&str]) -> Option<&Value<'t>> {
        let root = self.document.as_ref()?.root.as_ref()?;
        let (first, rest) = path.split_first()?;
        let named = |name: &str| name.eq_ignore_ascii_case(first);
        let value = root.properties.iter().find(|property| named(property.name.as_str()))?;
        rest.iter().try_fold(&value.value, |value, name| member(value, name))
    }

    fn at(&self, name: String, value: Option<&Value>) -> Place {
        let (start, end) = value.map_or((0, 0), |value| (value.range().start, value.range().end));
        let before = self.text.get(..start).unwrap_or_default();
        Place {
            name,
            line: before.matches('\n').count() + 1,
            column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
            text: self.text.get(start..end).unwrap_or_default().into(),
        }
    }
}

fn member<'v, 'a>(value: &'v Value<'a>, name: &str) -> Option<&'v Value<'a>> {
    let Value::Object(object) = value else { return None };
    let found = object.properties.iter().find(|property| property.name.as_str().eq_ignore_ascii_case(name));
    found.map(|property| &property.value)
}

fn strings(value: &Value) -> Vec<String> {
    let Value::Array(list) = value else { return Vec::new() };
    let text = |value: &Value| match value {
        Value::StringLit(text) => Some(text.value.to_string()),
        _ => None,
    };
    list.elements.iter().filter_map(text).collect()
}
