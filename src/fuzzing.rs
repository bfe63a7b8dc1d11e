//! What the fuzz targets have in common. A target is a test that ends in `bolero::check!()`:
//! `cargo test fuzz` gives each a thousand inputs, `make fuzz` as many as fit into its time.

use serde_json::Value;

/// One change to a good input: where, what, and with which byte.
pub type Edit = (u16, u8, u8);

/// Which of the good inputs, and what is done to it.
pub type Bent = (u8, Vec<Edit>);

/// With more, little is left of what was good.
const MAX_JSON_EDITS: usize = 6;

/// Values that have surprised somebody.
const SURPRISES: [&str; 16] = [
    "null",
    "true",
    "0",
    "-1",
    "1e308",
    "18446744073709551615",
    "-9223372036854775808",
    "9223372036854775807",
    "\"\"",
    "\"\\u0000\"",
    "\"../x\"",
    "\"0001-01-01T00:00:00Z\"",
    "\"9999-12-31T23:59:59Z\"",
    "\"nodekey:00\"",
    "[]",
    "{}",
];

/// One of the good inputs, changed; without a change it is the bytes of the edits themselves.
pub fn bent(good: &[Vec<u8>], (which, edits): &Bent) -> Vec<u8> {
    let mut bytes = good[usize::from(*which) % good.len()].clone();
    if *which == u8::MAX {
        return edits.iter().flat_map(|(_, kind, byte)| [*kind, *byte]).collect();
    }
    for (at, kind, byte) in edits {
        let at = if bytes.is_empty() { 0 } else { usize::from(*at) % bytes.len() };
        match kind % 6 {
            0 => bytes.insert(at, *byte),
            1 => bytes.truncate(at),
            2 if !bytes.is_empty() => drop(bytes.remove(at)),
            3 => bytes.extend_from_within(at..(at + usize::from(*byte)).min(bytes.len())),
            4 => bytes.splice(at..at, SURPRISES[usize::from(*byte) % SURPRISES.len()].bytes()).for_each(drop),
            _ => bytes.get_mut(at).into_iter().for_each(|place| *place = *byte),
        }
    }
    bytes
}

/// As [`bent`], for JSON that stays JSON: values are replaced, not bytes.
pub fn bent_json(good: &[Value], (which, edits): &Bent) -> Value {
    let mut value = good[usize::from(*which) % good.len()].clone();
    for (at, kind, byte) in edits.iter().take(MAX_JSON_EDITS) {
        let mut left = usize::from(*at) % leaves(&value).max(1);
        let new = match kind % 3 {
            0 => Value::from(u64::from(*byte)),
            1 => Value::from("x".repeat(usize::from(*byte))),
            _ => serde_json::from_str(SURPRISES[usize::from(*byte) % SURPRISES.len()]).unwrap(),
        };
        replace(&mut value, &mut left, &new);
    }
    value
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(leaves).sum::<usize>() + 1,
        Value::Object(fields) => fields.values().map(leaves).sum::<usize>() + 1,
        _ => 1,
    }
}

fn replace(value: &mut Value, left: &mut usize, new: &Value) {
    if *left == 0 {
        *left = usize::MAX;
        *value = new.clone();
        return;
    }
    *left -= 1;
    let inner: Box<dyn Iterator<Item = &mut Value>> = match value {
        Value::Array(items) => Box::new(items.iter_mut()),
        Value::Object(fields) => Box::new(fields.values_mut()),
        _ => return,
    };
    for item in inner {
        if *left == usize::MAX {
            return;
        }
        replace(item, left, new);
    }
}
