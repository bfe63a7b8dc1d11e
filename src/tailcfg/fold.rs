//! Requests as Go's decoder reads them: keys in any case, `null` as absent
//! (protocol section 0.1). Known fields get their Go names and are checked for
//! their type, since what is stored here is replayed to peers, whose decoders
//! would otherwise drop their whole map.

use super::RequestError;
use serde_json::{Map, Value};

/// The known fields of one Go struct.
pub(super) type Schema = [(&'static str, Kind)];

/// What a known field may hold.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Texts,
    Bool,
    /// A whole number, 64 bits, signed or not.
    Int,
    Ints,
    /// A `uint16`.
    Port,
    Number,
    /// A map from any text to numbers.
    Numbers,
    Struct(&'static Schema),
    Structs(&'static Schema),
    /// Read by nobody here, and not replayed.
    Ignored,
}

/// Gives known fields their Go names, checks them, and drops what is absent.
/// Unknown fields stay as they are.
pub(super) fn fold(
    object: Map<String, Value>,
    schema: &Schema,
    path: &str,
) -> Result<Map<String, Value>, RequestError> {
    let mut folded = Map::new();
    for (key, value) in object {
        if value.is_null() {
            continue;
        }
        let Some((name, kind)) = schema.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key)) else {
            // Go folds a few letters beyond ASCII to ASCII ones, so that such a key
            // would be a known field at a peer. No field has one in its name.
            if key.is_ascii() {
                folded.insert(key, value);
            }
            continue;
        };
        // Of two spellings the exact one counts.
        if key != *name && folded.contains_key(*name) {
            continue;
        }
        let path = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
        if let Some(value) = check(value, *kind, &path)? {
            folded.insert((*name).to_owned(), value);
        }
    }
    Ok(folded)
}

/// The number under `name`, whatever its case, before anything else is looked at.
pub(super) fn peek_int(object: &Map<String, Value>, name: &str) -> Option<i64> {
    let exact = object.get(name);
    exact.or_else(|| object.iter().find(|(key, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value))?.as_i64()
}

fn check(value: Value, kind: Kind, path: &str) -> Result<Option<Value>, RequestError> {
    let wrong = |expected| Err(RequestError::Type { field: path.to_owned(), expected });
    let checked = match (kind, value) {
        (Kind::Ignored, _) => return Ok(None),
        (Kind::Text, value @ Value::String(_)) | (Kind::Bool, value @ Value::Bool(_)) => value,
        (Kind::Number, value @ Value::Number(_)) => value,
        (Kind::Int, value) if is_int(&value) => value,
        (Kind::Port, value) if value.as_u64().is_some_and(|n| u16::try_from(n).is_ok()) => value,
        (Kind::Texts, Value::Array(items)) => match list(items, Value::is_string) {
            Some(list) => list,
            None => return wrong("a list of strings"),
        },
        (Kind::Ints, Value::Array(items)) => match list(items, is_int) {
            Some(list) => list,
            None => return wrong("a list of whole numbers"),
        },
        (Kind::Numbers, Value::Object(map)) => match numbers(map) {
            Some(map) => map,
            None => return wrong("an object of numbers"),
        },
        (Kind::Struct(schema), Value::Object(map)) => Value::Object(fold(map, schema, path)?),
        (Kind::Structs(schema), Value::Array(items)) => Value::Array(structs(items, schema, path)?),
        (Kind::Text, _) => return wrong("a string"),
        (Kind::Bool, _) => return wrong("true or false"),
        (Kind::Int, _) => return wrong("a whole number"),
        (Kind::Port, _) => return wrong("a whole number from 0 to 65535"),
        (Kind::Number, _) => return wrong("a number"),
        (Kind::Texts, _) => return wrong("a list of strings"),
        (Kind::Ints, _) => return wrong("a list of whole numbers"),
        (Kind::Struct(_) | Kind::Numbers, _) => return wrong("an object"),
        (Kind::Structs(_), _) => return wrong("a list of objects"),
    };
    Ok(Some(checked))
}

fn is_int(value: &Value) -> bool {
    value.is_i64() || value.is_u64()
}

/// The items that are there, if all of them are what they should be.
fn list(mut items: Vec<Value>, is_good: impl Fn(&Value) -> bool) -> Option<Value> {
    items.retain(|item| !item.is_null());
    items.iter().all(is_good).then_some(Value::Array(items))
}

fn numbers(mut map: Map<String, Value>) -> Option<Value> {
    map.retain(|_, value| !value.is_null());
    map.values().all(Value::is_number).then_some(Value::Object(map))
}

fn structs(items: Vec<Value>, schema: &Schema, path: &str) -> Result<Vec<Value>, RequestError> {
    let objects = items.into_iter().filter(|item| !item.is_null()).map(|item| match item {
        Value::Object(map) => fold(map, schema, path).map(Value::Object),
        _ => Err(RequestError::Type { field: path.to_owned(), expected: "a list of objects" }),
    });
    objects.collect()
}
