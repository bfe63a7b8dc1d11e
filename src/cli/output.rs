//! The formats of results and errors.

use super::error::Error;
use super::yaml;
use serde::Serialize;
use std::ffi::OsString;

/// `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Human,
    /// Indented with tabs.
    Json,
    /// On one line.
    JsonLine,
    Yaml,
}

impl Format {
    /// The format that the arguments ask for, also when they are wrong otherwise.
    pub(super) fn in_args(args: &[OsString]) -> Self {
        let mut format = Self::Human;
        let mut args = args.iter().skip(1).map(|arg| arg.to_string_lossy());
        while let Some(arg) = args.next() {
            let value = match arg.as_ref() {
                "-o" | "--output" => args.next(),
                "--" => break,
                other => {
                    let value = other.strip_prefix("--output=");
                    let value = value.or_else(|| other.strip_prefix("-o=")).or_else(|| other.strip_prefix("-o"));
                    value.map(|value| value.to_string().into())
                }
            };
            if let Some(value) = value {
                format = Self::named(&value);
            }
        }
        format
    }

    /// What is no format is for people, as in Headscale.
    fn named(name: &str) -> Self {
        match name {
            "json" => Self::Json,
            "json-line" => Self::JsonLine,
            "yaml" => Self::Yaml,
            _ => Self::Human,
        }
    }
}

/// A payload as a program reads it. YAML ends in an empty line, as Headscale's does.
pub(super) fn payload<T: Serialize>(format: Format, payload: &T) -> Result<String, Error> {
    let failed = |error| Error::said(format!("rendering the output: {error}"));
    match format {
        Format::Human | Format::Json => Ok(indented(payload).map_err(failed)? + "\n"),
        Format::JsonLine => Ok(serde_json::to_string(payload).map_err(failed)? + "\n"),
        Format::Yaml => Ok(yaml::render(&serde_json::to_value(payload).map_err(failed)?) + "\n"),
    }
}

/// An error, without the end of its line.
pub(super) fn error(format: Format, message: &str) -> String {
    let object = serde_json::json!({ "error": message });
    match format {
        Format::Human => format!("Error: {message}"),
        Format::Json => indented(&object).unwrap_or_default(),
        Format::JsonLine => object.to_string(),
        Format::Yaml => yaml::render(&object).trim_end().into(),
    }
}

fn indented<T: Serialize>(payload: &T) -> Result<String, serde_json::Error> {
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut bytes = Vec::new();
    payload.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_found_in_every_spelling() {
        let format = |args: &[&str]| Format::in_args(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(format(&["x", "users", "list"]), Format::Human);
        assert_eq!(format(&["x", "-o", "json", "users"]), Format::Json);
        assert_eq!(format(&["x", "users", "-o=yaml"]), Format::Yaml);
        assert_eq!(format(&["x", "users", "-ojson-line"]), Format::JsonLine);
        assert_eq!(format(&["x", "users", "--output=json", "--nosuch"]), Format::Json);
        assert_eq!(format(&["x", "users", "--output", "xml"]), Format::Human);
    }

    #[test]
    fn errors_have_each_format() {
        assert_eq!(error(Format::Human, "a: b"), "Error: a: b");
        assert_eq!(error(Format::Json, "a: b"), "{\n\t\"error\": \"a: b\"\n}");
        assert_eq!(error(Format::JsonLine, "a: b"), "{\"error\":\"a: b\"}");
        assert_eq!(error(Format::Yaml, "a: b"), "error: 'a: b'");
    }
}
