//! YAML as Headscale's commands print it: keys in lower case, and the layout
//! of Go's yaml.v3, because scripts read these.

use serde_json::Value;

/// Renders a value, with an end of line.
pub(super) fn render(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => entries(map, 0, &mut text),
        Value::Array(list) if !list.is_empty() => items(list, 0, &mut text),
        scalar => {
            text.push_str(&inline(scalar));
            text.push('\n');
        }
    }
    text
}

fn entries(map: &serde_json::Map<String, Value>, indent: usize, text: &mut String) {
    for (i, (key, value)) in map.iter().enumerate() {
        // A map in a list starts behind the dash, which is on the line already.
        if i > 0 || !text.ends_with("- ") {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str(&inline(&Value::String(key.to_lowercase())));
        text.push(':');
        below(value, next_level(indent), text);
    }
}

fn items(list: &[Value], indent: usize, text: &mut String) {
    for (i, value) in list.iter().enumerate() {
        if i > 0 || !text.ends_with("- ") {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str("- ");
        match value {
            Value::Object(map) if !map.is_empty() => entries(map, indent + 2, text),
            Value::Array(list) if !list.is_empty() => items(list, indent + 2, text),
            scalar => {
                text.push_str(&inline(scalar));
                text.push('\n');
            }
        }
    }
}

fn below(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            entries(map, indent, text);
        }
        Value::Array(list) if !list.is_empty() => {
            text.push('\n');
            items(list, indent, text);
        }
        scalar => {
            text.push(' ');
            text.push_str(&inline(scalar));
            text.push('\n');
        }
    }
}

/// yaml.v3 goes on at the next multiple of four.
fn next_level(indent: usize) -> usize {
    (indent + 4) / 4 * 4
}

fn inline(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Array(_) => "[]".into(),
        Value::Object(_) => "{}".into(),
        Value::String(text) => string(text),
        other => other.to_string(),
    }
}

/// Quotes a text that would read as something else.
fn string(text: &str) -> String {
    if is_time(text) {
        return text.into();
    }
    let control = text.chars().any(|c| c.is_control() || c == '\u{2028}' || c == '\u{2029}' || c == '\u{feff}');
    if text.is_empty() || control || is_ambiguous(text) {
        return serde_json::to_string(text).unwrap_or_default();
    }
    if needs_quotes(text) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    text.into()
}

/// Times are not strings to yaml.v3, so they are plain.
fn is_time(text: &str) -> bool {
    text.len() >= 20 && text.as_bytes()[10] == b'T' && text.parse::<jiff::Timestamp>().is_ok()
}

/// Texts that are a number, a boolean, nothing or a date to some reader.
fn is_ambiguous(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let words = ["null", "~", "true", "false", "yes", "no", "on", "off", "y", "n", ".inf", "-.inf", "+.inf", ".nan"];
    let is_number = lower.replace('_', "").parse::<f64>().is_ok() && lower.bytes().any(|b| b.is_ascii_digit());
    let has_base = ["0x", "0o", "0b", "-0x", "-0o", "-0b"].iter().any(|prefix| lower.starts_with(prefix));
    let is_date = lower.len() == 10 && lower.parse::<jiff::civil::Date>().is_ok();
    let is_merge = matches!(text, "<<" | "=");
    words.contains(&lower.as_str()) || is_number || has_base || is_date || is_merge
}

fn needs_quotes(text: &str) -> bool {
    let first = text.chars().next().unwrap_or(' ');
    let starts_badly = "!&*|>@`\"'%#{}[],".contains(first)
        || (matches!(first, '-' | '?' | ':') && text.chars().nth(1).is_none_or(|c| c == ' '))
        || text.starts_with("---")
        || text.starts_with("...");
    let spaces = text.starts_with(' ') || text.ends_with(' ');
    starts_badly || spaces || text.contains(": ") || text.ends_with(':') || text.contains(" #")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nesting_is_that_of_yaml_v3() {
        let value =
            json!([{ "aB": [], "ip": ["10.0.0.1", "::1"], "key": { "tags": ["tag:web"], "user": { "id": "1" } } }]);
        let text = "- ab: []\n  ip:\n    - 10.0.0.1\n    - ::1\n  key:\n    tags:\n        - tag:web\n    user:\n        id: \"1\"\n";
        assert_eq!(render(&value), text);
    }

    #[test]
    fn scalars_are_quoted_only_where_they_would_read_as_something_else() {
        let cases = [
            ("alice", "alice"),
            ("Bob B", "Bob B"),
            ("", "\"\""),
            ("1", "\"1\""),
            ("1.5", "\"1.5\""),
            ("true", "\"true\""),
            ("null", "\"null\""),
            ("no", "\"no\""),
            ("2026-11-24", "\"2026-11-24\""),
            ("2026-11-24T07:49:01.136778451Z", "2026-11-24T07:49:01.136778451Z"),
            ("tag:web", "tag:web"),
            ("fd7a:115c:a1e0::1", "fd7a:115c:a1e0::1"),
            ("a: b", "'a: b'"),
            ("it's: x", "'it''s: x'"),
            ("#x", "'#x'"),
            ("a #b", "'a #b'"),
            ("- a", "'- a'"),
            ("-a", "-a"),
            ("a\nb", "\"a\\nb\""),
        ];
        for (value, expected) in cases {
            assert_eq!(render(&json!(value)), format!("{expected}\n"));
        }
    }

    #[test]
    fn empty_things_are_on_one_line() {
        assert_eq!(render(&json!([])), "[]\n");
        assert_eq!(render(&json!({})), "{}\n");
        assert_eq!(
            render(&json!({ "expiry": null, "online": true, "lag": 3 })),
            "expiry: null\nlag: 3\nonline: true\n"
        );
    }
}
