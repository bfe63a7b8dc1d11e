//! Records that clients answer by themselves: `dns.extra_records`, or a file of
//! them that may change at any time.

use super::DnsSettings;
use serde_json::Value;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

/// How often the file is looked at. Looking is cheap, and works with every file
/// system and every way of replacing a file.
const INTERVAL: Duration = Duration::from_secs(3);
/// The largest file: every client gets all of it with each map.
const MAX_FILE: u64 = 1024 * 1024;

/// A record that clients answer by themselves.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExtraRecord {
    #[serde(rename = "Name", alias = "name")]
    pub name: String,
    /// `A`, `AAAA`, or empty (the value decides).
    #[serde(rename = "Type", alias = "type", default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(rename = "Value", alias = "value")]
    pub value: String,
}

/// Why a record, or a file of them, is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("it is not JSON: {0}")]
    Json(String),
    #[error("it must be a list of records, [{{\"name\": …, \"type\": \"A\", \"value\": …}}]")]
    NotAList,
    #[error("record {0} must be an object with the texts \"name\" and \"value\"")]
    NotARecord(usize),
    #[error("{0:?} is not a DNS name")]
    Name(String),
    #[error("{name:?} has the type {kind:?}: clients answer \"A\" and \"AAAA\" only")]
    Kind { name: String, kind: String },
    #[error("{name:?} has the value {value:?}, which is not an address of its type")]
    Value { name: String, value: String },
}

impl ExtraRecord {
    /// Refuses what clients would not answer, or could not even read.
    pub fn check(&self) -> Result<(), RecordError> {
        let is_label = |label: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(plain)
        };
        let name = self.name.strip_suffix('.').unwrap_or(&self.name);
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(RecordError::Name(self.name.clone()));
        }
        let ip = self.value.parse::<IpAddr>();
        let fits = match self.kind.as_str() {
            "" => ip.is_ok(),
            "A" => ip.is_ok_and(|ip| ip.is_ipv4()),
            "AAAA" => ip.is_ok_and(|ip| ip.is_ipv6()),
            _ => return Err(RecordError::Kind { name: self.name.clone(), kind: self.kind.clone() }),
        };
        if fits { Ok(()) } else { Err(RecordError::Value { name: self.name.clone(), value: self.value.clone() }) }
    }
}

/// Reads a JSON list of records. The case of the members' names does not matter.
pub fn parse_extra_records(text: &str) -> Result<Vec<ExtraRecord>, RecordError> {
    let json: Value = serde_json::from_str(text).map_err(|e| RecordError::Json(e.to_string()))?;
    let Value::Array(items) = json else { return Err(RecordError::NotAList) };
    let record = |(number, item): (usize, &Value)| {
        let get = |name: &str| {
            let members = item.as_object().into_iter().flatten();
            members.filter(|(key, _)| key.eq_ignore_ascii_case(name)).find_map(|(_, value)| value.as_str())
        };
        let (Some(name), Some(value)) = (get("name"), get("value")) else {
            return Err(RecordError::NotARecord(number + 1));
        };
        let kind = get("type").unwrap_or_default().to_ascii_uppercase();
        let record = ExtraRecord { name: name.into(), kind, value: value.into() };
        record.check().map(|()| record)
    };
    items.iter().enumerate().map(record).collect()
}

/// Keeps `settings` up to date with the records in a file, until nobody listens
/// any more. An empty, bad or missing file leaves the last good records in force, with
/// a log line.
pub async fn watch_extra_records(path: PathBuf, settings: watch::Sender<Arc<DnsSettings>>) {
    watch_every(INTERVAL, path, settings).await;
}

async fn watch_every(interval: Duration, path: PathBuf, settings: watch::Sender<Arc<DnsSettings>>) {
    let mut last = None;
    loop {
        let content = read(&path).await;
        if last.as_ref() != Some(&content) {
            match &content {
                Ok(text) => take_over(&path, text, &settings),
                Err(fault) => complain(&path, fault),
            }
            last = Some(content);
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = settings.closed() => return,
        }
    }
}

fn take_over(path: &Path, text: &str, settings: &watch::Sender<Arc<DnsSettings>>) {
    if text.trim().is_empty() {
        // Somebody is just writing it.
        return;
    }
    match parse_extra_records(text) {
        Ok(extra_records) => {
            let count = extra_records.len();
            let changed = settings.send_if_modified(|settings| {
                let differs = settings.extra_records != extra_records;
                if differs {
                    *settings = Arc::new(DnsSettings { extra_records, ..DnsSettings::clone(settings) });
                }
                differs
            });
            if changed {
                tracing::info!(path = %path.display(), count, "read the extra DNS records");
            }
        }
        Err(fault) => complain(path, &fault.to_string()),
    }
}

fn complain(path: &Path, fault: &str) {
    tracing::error!(path = %path.display(), "the extra DNS records stay as they were: {fault}");
}

/// The file's text; the error is for the log.
async fn read(path: &Path) -> Result<String, String> {
    let file = tokio::fs::File::open(path).await.map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).await.map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("the file is larger than {MAX_FILE} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_whatever_the_case_of_their_members() {
        let text = r#"[{"name": "a.example.net", "type": "a", "value": "100.64.0.1", "comment": 1},
                       {"Name": "b.example.net.", "VALUE": "fd7a::1"}]"#;
        let records = parse_extra_records(text).expect("good records");
        let record = |name: &str, kind: &str, value: &str| ExtraRecord {
            name: name.into(),
            kind: kind.into(),
            value: value.into(),
        };
        assert_eq!(records, [record("a.example.net", "A", "100.64.0.1"), record("b.example.net.", "", "fd7a::1")]);
        assert_eq!(parse_extra_records("[]"), Ok(Vec::new()));
    }

    #[test]
    fn bad_records_are_refused_with_the_reason() {
        for (text, reason) in [
            ("{", "not JSON"),
            ("{}", "must be a list"),
            (r#"[{"name": "a"}]"#, "record 1 must be an object"),
            (r#"[7]"#, "record 1 must be an object"),
            (r#"[{"name": "a b", "value": "1.2.3.4"}]"#, "not a DNS name"),
            (r#"[{"name": "a\"b", "value": "1.2.3.4"}]"#, "not a DNS name"),
            (r#"[{"name": "", "value": "1.2.3.4"}]"#, "not a DNS name"),
            (r#"[{"name": "a", "type": "TXT", "value": "x"}]"#, "\"A\" and \"AAAA\" only"),
            (r#"[{"name": "a", "type": "A", "value": "::1"}]"#, "not an address of its type"),
        ] {
            let error = parse_extra_records(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    /// Waits until the records have this value; panics after a time that says it never will.
    async fn value_becomes(settings: &mut watch::Receiver<Arc<DnsSettings>>, value: &str) {
        let found = settings.wait_for(|s| s.extra_records.first().is_some_and(|record| record.value == value));
        tokio::time::timeout(Duration::from_secs(15), found).await.expect("in time").expect("still watched");
    }

    fn file(value: &str) -> String {
        format!(r#"[{{"name": "a", "type": "A", "value": "{value}"}}]"#)
    }

    #[test]
    fn bad_content_keeps_the_last_good_records() {
        let (sender, settings) = watch::channel(Arc::new(DnsSettings { magic_dns: true, ..Default::default() }));
        take_over(Path::new("f"), &file("10.0.0.1"), &sender);
        let good = settings.borrow().clone();
        assert_eq!((good.extra_records.len(), good.magic_dns), (1, true));
        for bad in ["", " \n", "[{", "[{\"name\": 1}]"] {
            take_over(Path::new("f"), bad, &sender);
            assert_eq!(*settings.borrow(), good, "{bad:?}");
        }
        take_over(Path::new("f"), "[]", &sender);
        assert!(settings.borrow().extra_records.is_empty());
    }

    #[tokio::test]
    async fn the_file_is_followed_through_replacement_until_nobody_listens() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, new) = (directory.path().join("records.json"), directory.path().join("new"));
        let (sender, mut settings) = watch::channel(Arc::new(DnsSettings::default()));
        let task = tokio::spawn(watch_every(Duration::from_millis(5), path.clone(), sender));
        for value in ["10.0.0.1", "10.0.0.2"] {
            std::fs::write(&new, file(value)).expect("written");
            std::fs::rename(&new, &path).expect("renamed");
            value_becomes(&mut settings, value).await;
        }
        drop(settings);
        tokio::time::timeout(Duration::from_secs(15), task)
            .await
            .expect("it ends with its listeners")
            .expect("no panic");
    }
}
