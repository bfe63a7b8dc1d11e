//! HuJSON: JSON with comments and trailing commas, and nothing looser.

use super::PolicyError;
use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use std::collections::HashSet;

/// A text that was read, for messages with line and column.
pub(super) struct Document<'a> {
    text: &'a str,
    /// `None`: nothing but space and comments.
    pub root: Option<Object<'a>>,
}

/// As strict as the Go implementation that administrators know.
fn strict() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

impl<'a> Document<'a> {
    /// Reads a document whose top is an object, or empty.
    pub fn read(text: &'a str) -> Result<Self, PolicyError> {
        let syntax = |e: jsonc_parser::errors::ParseError| {
            let (line, column) = (e.line_display(), e.column_display());
            PolicyError::new(format!("parsing HuJSON: hujson: line {line}, column {column}: {}", e.kind()))
        };
        let parsed = parse_to_ast(text, &CollectOptions::default(), &strict()).map_err(syntax)?;
        let document = Self { text, root: None };
        match parsed.value {
            None => Ok(document),
            Some(Value::Object(root)) => Ok(Self { root: Some(root), ..document }),
            Some(other) => Err(document.error(&other, "a policy must be an object, { … }")),
        }
    }

    /// An error at this place of the text.
    pub fn error(&self, place: &impl Ranged, what: impl std::fmt::Display) -> PolicyError {
        let before = self.text.get(..place.range().start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        PolicyError::new(format!("{what} (line {line}, column {column})"))
    }

    /// The object's members, where the document chooses the names: each at most once.
    pub fn members<'o>(&self, object: &'o Object<'a>) -> Result<Vec<(String, &'o Value<'a>)>, PolicyError> {
        self.unique(object, str::to_owned)
    }

    /// The object's members, where the language has the names: each at most once,
    /// whatever its case.
    pub fn fields<'o>(&self, object: &'o Object<'a>) -> Result<Vec<(String, &'o Value<'a>)>, PolicyError> {
        self.unique(object, str::to_ascii_lowercase)
    }

    fn unique<'o>(
        &self,
        object: &'o Object<'a>,
        same: fn(&str) -> String,
    ) -> Result<Vec<(String, &'o Value<'a>)>, PolicyError> {
        let mut members: Vec<(String, &Value)> = Vec::with_capacity(object.properties.len());
        let mut seen = HashSet::new();
        for property in &object.properties {
            let name = property.name.as_str();
            if !seen.insert(same(name)) {
                return Err(self.error(property, format!("duplicate field: {name:?}")));
            }
            members.push((name.to_owned(), &property.value));
        }
        Ok(members)
    }

    /// A value that must be a list of texts; `what` names it in the error.
    pub fn strings<'v>(&self, value: &'v Value<'a>, what: &str) -> Result<Vec<(&'v str, &'v Value<'a>)>, PolicyError> {
        let not_texts = |place: &Value| self.error(place, format!("{what} must be a list of texts, [\"…\"]"));
        let Value::Array(array) = value else { return Err(not_texts(value)) };
        let text = |element: &'v Value<'a>| match element {
            Value::StringLit(text) => Ok((text.value.as_ref(), element)),
            other => Err(not_texts(other)),
        };
        array.elements.iter().map(text).collect()
    }
}
