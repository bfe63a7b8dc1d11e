//! The members of one object, each to be asked for by its name.

use super::super::PolicyError;
use super::super::hujson::Document;
use jsonc_parser::ast::{Array, Object, Value};

/// Members that were not asked for are unknown fields.
pub(super) struct Fields<'d, 'v, 'a> {
    document: &'d Document<'a>,
    members: Vec<(String, &'v Value<'a>)>,
}

impl<'d, 'v, 'a> Fields<'d, 'v, 'a> {
    /// A value that must be an object; `what` names it in the error. What web
    /// consoles keep for themselves under `#` names is left out.
    pub fn of(document: &'d Document<'a>, value: &'v Value<'a>, what: &str) -> Result<Self, PolicyError> {
        let mut members = document.fields(object(document, value, what)?)?;
        members.retain(|(name, _)| !name.starts_with('#'));
        Ok(Self { document, members })
    }

    /// The member of this name, whatever its case; `null` is none.
    pub fn take(&mut self, name: &str) -> Option<&'v Value<'a>> {
        let at = self.members.iter().position(|(other, _)| other.eq_ignore_ascii_case(name))?;
        let (_, value) = self.members.remove(at);
        (!matches!(value, Value::NullKeyword(_))).then_some(value)
    }

    /// A text, with its place.
    pub fn text(&mut self, name: &str) -> Result<Option<(&'v str, &'v Value<'a>)>, PolicyError> {
        match self.take(name) {
            None => Ok(None),
            Some(value @ Value::StringLit(text)) => Ok(Some((text.value.as_ref(), value))),
            Some(other) => Err(self.document.error(other, format!("{name:?} must be a text"))),
        }
    }

    /// A list of texts, with their places; none is the empty list.
    pub fn texts(&mut self, name: &str) -> Result<Vec<(&'v str, &'v Value<'a>)>, PolicyError> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(value) => self.document.strings(value, &format!("{name:?}")),
        }
    }

    /// As [`Fields::texts`], for a list that has an old name too. Both at once are refused.
    pub fn either(&mut self, name: &str, old: &str) -> Result<Vec<(&'v str, &'v Value<'a>)>, PolicyError> {
        let is_there = |name: &str| self.members.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        match (is_there(name), is_there(old)) {
            (Some(_), Some((_, value))) => {
                Err(self.document.error(*value, format!("{old:?} is the old name of {name:?}: write one of them")))
            }
            (None, Some(_)) => self.texts(old),
            _ => self.texts(name),
        }
    }

    /// Refuses what is left.
    pub fn finish(self) -> Result<(), PolicyError> {
        match self.members.first() {
            None => Ok(()),
            Some((name, value)) => Err(self.document.error(*value, format!("unknown field: {name:?}"))),
        }
    }
}

/// A value that must be a list; `what` names it in the error.
pub(super) fn list<'v, 'a>(
    document: &Document<'a>,
    value: &'v Value<'a>,
    what: &str,
) -> Result<&'v Array<'a>, PolicyError> {
    match value {
        Value::Array(list) => Ok(list),
        other => Err(document.error(other, format!("{what} must be a list, [ … ]"))),
    }
}

/// A value that must be an object; `what` names it in the error.
pub(super) fn object<'v, 'a>(
    document: &Document<'a>,
    value: &'v Value<'a>,
    what: &str,
) -> Result<&'v Object<'a>, PolicyError> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(document.error(other, format!("{what} must be an object, {{ … }}"))),
    }
}
