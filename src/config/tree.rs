//! A YAML (or JSON) document, before anybody knows what its values mean.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Scalars stay text: what they mean depends on the key, and the environment
/// has nothing but text either.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A key with nothing behind it: as if it were not there.
    Nothing,
    Text(String),
    List(Vec<Value>),
    /// In the document's order.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Parses a whole document.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // A file of comments alone has no document to parse.
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Value::Map(Vec::new()));
        }
        let options = serde_saphyr::options! {
            leading_zero_numbers_as_strings: true,
            strict_booleans: true,
            with_snippet: false,
        };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
    }

    /// The value on one line, for messages; lists as the environment writes them.
    pub(super) fn display(&self) -> String {
        match self {
            Value::Nothing => String::new(),
            Value::Text(text) => text.clone(),
            Value::List(items) => items.iter().map(Value::display).collect::<Vec<_>>().join(" "),
            Value::Map(entries) => {
                entries.iter().map(|(k, v)| format!("{k}: {}", v.display())).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Value>()? {
            map.push((key.display(), entries.next_value()?));
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.into())
    }

    #[test]
    fn scalars_keep_their_spelling() {
        let parsed = Value::parse("a: 0770\nb: true\nc: \"x\"\nd: 5s\ne:\nf: yes\n1: [1, two]\n").unwrap();
        let expected = [
            ("a", text("0770")),
            ("b", text("true")),
            ("c", text("x")),
            ("d", text("5s")),
            ("e", Value::Nothing),
            ("f", text("yes")),
            ("1", Value::List(vec![text("1"), text("two")])),
        ];
        assert_eq!(parsed, Value::Map(expected.map(|(k, v)| (k.to_string(), v)).to_vec()));
    }

    #[test]
    fn json_is_read_too() {
        let parsed = Value::parse(r#"{"dns": {"magic_dns": false}}"#).unwrap();
        let dns = Value::Map(vec![("magic_dns".into(), text("false"))]);
        assert_eq!(parsed, Value::Map(vec![("dns".into(), dns)]));
    }

    #[test]
    fn a_file_of_comments_is_empty() {
        assert_eq!(Value::parse("# nothing\n\n"), Ok(Value::Map(Vec::new())));
    }

    #[test]
    fn a_key_that_is_given_twice_is_an_error_with_its_place() {
        let error = Value::parse("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert!(error.contains("line 3"), "{error}");
    }
}
