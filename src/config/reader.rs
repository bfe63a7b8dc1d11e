//! Values by key, from the environment or the file, and the problems that are met on the way.

use super::keys::{self, Status};
use super::load::{self, LoadError, Note, Surroundings};
use super::tree::Value;
use super::{duration, nearest};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Environment variables that are read elsewhere, by name or prefix.
const OTHER_VARIABLES: [&str; 3] = ["CONFIG", "DEBUG_", "INTEGRATION_"];

pub(super) struct Reader {
    values: BTreeMap<String, Given>,
    /// Relative paths start here.
    base: PathBuf,
    pub(super) has_file: bool,
    /// What `${NAME}` stands for in paths that may have it.
    env: BTreeMap<String, String>,
    notes: Vec<Note>,
    problems: Vec<String>,
}

struct Given {
    value: Value,
    /// The environment's variable; `None`: the file.
    variable: Option<String>,
}

impl Reader {
    /// Reads the file, if there is one, and lays the environment over it.
    pub(super) fn open(file: Option<PathBuf>, surroundings: &Surroundings) -> Result<Self, LoadError> {
        let base = match file.as_deref().and_then(Path::parent) {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        // An absolute path stays right whatever directory the process is in later.
        let base = std::path::absolute(&base).unwrap_or(base);
        let has_file = file.is_some();
        let env = surroundings.env.clone();
        let mut reader = Self { values: BTreeMap::new(), base, has_file, env, notes: Vec::new(), problems: Vec::new() };
        if let Some(file) = file {
            let text = load::read(&file)?;
            let document = Value::parse(&text).map_err(|problem| LoadError::Parse { file: file.clone(), problem })?;
            match document {
                Value::Map(entries) => reader.take(String::new(), entries),
                Value::Nothing => {}
                _ => return Err(LoadError::Parse { file, problem: "it is not a map of keys to values".into() }),
            }
        }
        reader.lay_over(surroundings);
        Ok(reader)
    }

    /// Walks the document down to the known keys.
    fn take(&mut self, section: String, entries: Vec<(String, Value)>) {
        for (name, value) in entries {
            let name = name.to_lowercase();
            let path = if section.is_empty() { name } else { format!("{section}.{name}") };
            match value {
                Value::Nothing => {}
                value if keys::find(&path).is_some() => {
                    self.values.insert(path, Given { value, variable: None });
                }
                Value::Map(entries) if keys::is_section(&path) => self.take(path, entries),
                value if keys::is_section(&path) => {
                    self.problem(&path, &value.display(), "is a section: write its keys below it, indented");
                }
                _ => self.unknown(&path),
            }
        }
    }

    fn lay_over(&mut self, surroundings: &Surroundings) {
        for key in keys::KEYS {
            let name = variable(key.path);
            let names = [format!("QUORUMSCALE_{name}"), format!("HEADSCALE_{name}")];
            let set = names.into_iter().find_map(|name| Some((surroundings.var(&name)?, name)));
            let Some((text, variable)) = set else { continue };
            let value = match key.status {
                Status::WorksAsMap if text.trim_start().starts_with(['{', '[']) => match Value::parse(text) {
                    Ok(value) => value,
                    Err(problem) => {
                        self.problems.push(format!("{variable}: {problem}"));
                        continue;
                    }
                },
                _ => Value::Text(text.into()),
            };
            self.values.insert(key.path.into(), Given { value, variable: Some(variable) });
        }
        for name in surroundings.env.keys() {
            self.check_variable(name);
        }
    }

    /// Warns of a variable that looks like a slip of a key's. Other programs
    /// set variables with these prefixes too, so only what is near counts.
    fn check_variable(&mut self, full_name: &str) {
        let prefixes = ["QUORUMSCALE_", "HEADSCALE_"];
        let Some(name) = prefixes.iter().find_map(|prefix| full_name.strip_prefix(prefix)) else { return };
        if OTHER_VARIABLES.iter().any(|other| name.starts_with(other)) {
            return;
        }
        let known: Vec<String> = keys::KEYS.iter().map(|key| variable(key.path)).collect();
        if known.iter().any(|known| known == name) {
            return;
        }
        let near = known.iter().find(|known| nearest::distance(name, known) <= 2);
        if let Some(near) = near {
            self.warn(format!("unknown variable {full_name} has no effect: did you mean HEADSCALE_{near}?"));
        }
    }

    /// Says what is to be said about each key that is set but does not simply work.
    pub(super) fn sort_keys(&mut self) {
        let mut harmless: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for key in keys::KEYS {
            let Some(given) = self.values.get(key.path) else { continue };
            let (value, name) = (given.value.display(), self.name(key.path));
            match key.status {
                Status::Works | Status::WorksAsMap => {}
                Status::Harmless(why) => harmless.entry(why).or_default().push(name),
                Status::NotYet { feature, defaults } => {
                    if !defaults.contains(&value.as_str()) && !value.is_empty() {
                        let value = if key.path.contains("secret") { "(redacted)".into() } else { value };
                        self.problems.push(format!(
                            "{name} {value:?}: {feature} is not there yet: remove the key, or set it to {:?}",
                            defaults[0]
                        ));
                    }
                }
                Status::Renamed(new) if self.is_set(new) => {
                    self.warn(format!("{name} has no effect: {new} is set too, and counts; remove {}", key.path));
                }
                Status::Renamed(new) => {
                    self.problems.push(format!("{name} is now {new}: move its value there"));
                }
                Status::Alias(new) if self.is_set(new) => {
                    self.warn(format!("{name} has no effect: {new} is set too, and counts; remove {}", key.path));
                }
                Status::Alias(new) => self.warn(format!("{name} is now {new}: move its value there")),
                Status::Gone(what) => self.problems.push(format!("{name} is gone: {what}")),
            }
        }
        for (why, names) in harmless {
            self.info(format!("no effect: {}: {why}", names.join(", ")));
        }
    }

    pub(super) fn finish(self) -> (Vec<Note>, Vec<String>) {
        (self.notes, self.problems)
    }

    pub(super) fn info(&mut self, text: String) {
        self.notes.push(Note::Info(text));
    }

    pub(super) fn warn(&mut self, text: String) {
        self.notes.push(Note::Warning(text));
    }

    /// Notes that a key's value cannot be used.
    pub(super) fn problem(&mut self, key: &str, value: &str, why: impl Display) {
        let name = self.name(key);
        // Not even a secret that is wrong is shown.
        let is_secret = key.ends_with("secret") || key.ends_with("api_key");
        let value = if is_secret && !value.is_empty() { "(redacted)" } else { value };
        let shown = if value.is_empty() { name } else { format!("{name} {value:?}") };
        self.problems.push(format!("{shown}: {why}"));
    }

    pub(super) fn is_set(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        debug_assert!(keys::find(key).is_some(), "{key} is read but not in the table");
        self.values.get(key).map(|given| &given.value)
    }

    /// The key as its author wrote it.
    fn name(&self, key: &str) -> String {
        match self.values.get(key).and_then(|given| given.variable.as_ref()) {
            Some(variable) => format!("{key} (from {variable})"),
            None => key.into(),
        }
    }

    /// A scalar's text, which may be empty.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::Text(text) => Some(text.clone()),
            other => {
                let value = other.display();
                self.problem(key, &value, "must be one value, not a list or a map");
                None
            }
        }
    }

    /// A scalar's text that is not empty.
    pub(super) fn non_empty(&mut self, key: &str) -> Option<String> {
        self.text(key).filter(|text| !text.is_empty())
    }

    /// Parses a scalar that is not empty; `remedy` says what it must be.
    pub(super) fn parsed<T: FromStr>(&mut self, key: &str, remedy: &str) -> Option<T> {
        let text = self.non_empty(key)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.problem(key, &text, remedy);
        }
        parsed
    }

    pub(super) fn boolean(&mut self, key: &str) -> Option<bool> {
        let text = self.non_empty(key)?;
        match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "yes" | "on" => Some(true),
            "false" | "f" | "0" | "no" | "off" => Some(false),
            _ => {
                self.problem(key, &text, "must be true or false");
                None
            }
        }
    }

    /// A duration in Go's form.
    pub(super) fn duration(&mut self, key: &str) -> Option<Duration> {
        let text = self.non_empty(key)?;
        duration::go(&text).map_err(|error| self.problem(key, &text, error)).ok()
    }

    /// A list of texts; a scalar is split at white space.
    pub(super) fn list(&mut self, key: &str) -> Vec<String> {
        match self.value(key) {
            None | Some(Value::Nothing) => Vec::new(),
            Some(Value::Text(text)) => text.split_whitespace().map(String::from).collect(),
            Some(Value::List(items)) => items.iter().map(Value::display).collect(),
            Some(map @ Value::Map(_)) => {
                let value = map.display();
                self.problem(key, &value, "must be a list");
                Vec::new()
            }
        }
    }

    /// A value of any shape.
    pub(super) fn any(&self, key: &str) -> Option<Value> {
        self.value(key).filter(|value| **value != Value::Nothing).cloned()
    }

    /// A path, made absolute from the file's directory.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.non_empty(key).map(|text| self.absolute(&text))
    }

    /// As [`Reader::path`], with the environment's variables for `${NAME}`.
    pub(super) fn expanded_path(&mut self, key: &str) -> Option<PathBuf> {
        let text = self.non_empty(key)?;
        let (mut path, mut rest) = (String::new(), text.as_str());
        while let Some((before, after)) = rest.split_once("${") {
            let named = after.split_once('}').and_then(|(name, after)| Some((self.env.get(name)?.clone(), after)));
            let Some((value, after)) = named else {
                self.problem(key, &text, "has a ${NAME} of which the environment has no value");
                return None;
            };
            path.push_str(before);
            path.push_str(&value);
            rest = after;
        }
        path.push_str(rest);
        Some(self.absolute(&path))
    }

    pub(super) fn absolute(&self, path: &str) -> PathBuf {
        let joined = self.base.join(path);
        let mut tidy = PathBuf::new();
        for part in joined.components() {
            match part {
                std::path::Component::CurDir => {}
                // `..` after a link would lead elsewhere, so only the file's own words are tidied.
                std::path::Component::ParentDir if tidy.file_name().is_some() => {
                    tidy.pop();
                }
                part => tidy.push(part),
            }
        }
        tidy
    }

    /// An address to listen on: `None` if the key is not set, `Some(None)` if it is empty.
    pub(super) fn listen_addr(&mut self, key: &str) -> Option<Option<SocketAddr>> {
        let text = self.text(key)?;
        if text.is_empty() {
            return Some(None);
        }
        let address = parse_listen_addr(&text);
        if address.is_none() {
            self.problem(key, &text, "must be IP:PORT, such as 0.0.0.0:8080 or [::]:8080");
        }
        Some(Some(address?))
    }

    fn unknown(&mut self, path: &str) {
        let hint = keys::nearest(path).map(|near| format!(": did you mean {near}?")).unwrap_or_default();
        self.warn(format!("unknown key {path} has no effect{hint}"));
    }
}

/// The part of a variable's name that stands for a key.
fn variable(path: &str) -> String {
    path.to_uppercase().replace('.', "_")
}

/// `:8080` is every address, IPv4 too.
fn parse_listen_addr(text: &str) -> Option<SocketAddr> {
    let full = match text.split_once(':') {
        Some(("", port)) => format!("[::]:{port}"),
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        _ => text.into(),
    };
    full.parse().ok()
}
