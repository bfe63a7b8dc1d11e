//! `dns`.

use crate::config::reader::Reader;
use crate::config::tree::Value;
use crate::config::{Dns, ServerUrl};
use crate::dns::ExtraRecord;
use std::net::IpAddr;

pub(super) fn dns(reader: &mut Reader, server_url: &ServerUrl) -> Dns {
    let magic_dns = reader.boolean("dns.magic_dns").unwrap_or(true);
    let base_domain = base_domain(reader, server_url, magic_dns);
    let nameservers = servers(reader, "dns.nameservers.global", reader_list);
    let override_local_dns = override_local_dns(reader, &nameservers);
    let extra_records = extra_records(reader);
    let extra_records_path = reader.path("dns.extra_records_path");
    if extra_records_path.is_some() && reader.is_set("dns.extra_records") {
        let path = extra_records_path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        reader.problem("dns.extra_records_path", &path, "must not be set together with dns.extra_records: remove one");
    }
    let search_domains = reader.list("dns.search_domains").iter().map(|domain| plain_domain(domain)).collect();
    Dns {
        magic_dns,
        base_domain,
        override_local_dns,
        nameservers,
        split: split(reader),
        search_domains,
        extra_records,
        extra_records_path,
    }
}

fn base_domain(reader: &mut Reader, server_url: &ServerUrl, magic_dns: bool) -> String {
    const KEY: &str = "dns.base_domain";
    let domain = plain_domain(&reader.text(KEY).unwrap_or_else(|| "tailnet.internal".into()));
    if domain.is_empty() {
        if magic_dns {
            reader.problem(KEY, "", "must be set when dns.magic_dns is true, such as tailnet.internal");
        }
        return domain;
    }
    let is_label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        plain && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    if !domain.split('.').all(is_label) {
        reader.problem(KEY, &domain, "must be a domain name, such as tailnet.internal");
    }
    let host = server_url.host();
    if host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.')) {
        let why = format!(
            "server_url's host {host:?} lies within it, so clients would look for the server inside the tailnet and \
             not reach it: choose another domain"
        );
        reader.problem(KEY, &domain, why);
    }
    domain
}

/// Without name servers of the tailnet there is nothing to override with.
fn override_local_dns(reader: &mut Reader, nameservers: &[String]) -> bool {
    const KEY: &str = "dns.override_local_dns";
    let wanted = reader.boolean(KEY).unwrap_or(!nameservers.is_empty());
    if wanted && nameservers.is_empty() {
        let why = "needs at least one name server in dns.nameservers.global; or set it to false";
        reader.problem(KEY, "true", why);
    }
    wanted
}

fn reader_list(reader: &mut Reader, key: &str) -> Vec<String> {
    reader.list(key)
}

/// Name servers: what is none is left out with a warning, as Headscale does.
fn servers(reader: &mut Reader, key: &str, list: impl Fn(&mut Reader, &str) -> Vec<String>) -> Vec<String> {
    let (good, bad): (Vec<_>, Vec<_>) = list(reader, key).into_iter().partition(|server| is_server(server));
    for server in bad {
        reader.warn(format!("{key} {server:?} is neither an IP address nor an https:// URL, and is left out"));
    }
    good
}

fn is_server(text: &str) -> bool {
    let https = text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    let http = text.strip_prefix("http://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    text.parse::<IpAddr>().is_ok() || https || http
}

fn split(reader: &mut Reader) -> Vec<(String, Vec<String>)> {
    const KEY: &str = "dns.nameservers.split";
    let entries = match reader.any(KEY) {
        None => return Vec::new(),
        Some(Value::Map(entries)) => entries,
        Some(other) => {
            reader.problem(KEY, &other.display(), "must be a map from domains to lists of name servers");
            return Vec::new();
        }
    };
    let mut split = Vec::new();
    for (domain, value) in entries {
        let texts = match value {
            Value::Nothing => Vec::new(),
            Value::List(items) => items.iter().map(Value::display).collect(),
            other => other.display().split_whitespace().map(String::from).collect(),
        };
        let servers = servers(reader, KEY, move |_, _| texts.clone());
        split.push((plain_domain(&domain), servers));
    }
    split
}

fn extra_records(reader: &mut Reader) -> Vec<ExtraRecord> {
    const KEY: &str = "dns.extra_records";
    let items = match reader.any(KEY) {
        None => return Vec::new(),
        Some(Value::List(items)) => items,
        Some(other) => {
            reader.problem(KEY, &other.display(), "must be a list of records, each with name, type and value");
            return Vec::new();
        }
    };
    items.iter().filter_map(|item| extra_record(reader, KEY, item)).collect()
}

fn extra_record(reader: &mut Reader, key: &str, item: &Value) -> Option<ExtraRecord> {
    let get = |name: &str| match item {
        Value::Map(entries) => {
            entries.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.display())
        }
        _ => None,
    };
    let (Some(name), Some(value)) = (get("name"), get("value")) else {
        reader.problem(key, &item.display(), "a record needs name and value");
        return None;
    };
    let kind = get("type").unwrap_or_default().to_ascii_uppercase();
    let fits = match (kind.as_str(), value.parse::<IpAddr>()) {
        ("", Ok(_)) => true,
        ("A", Ok(ip)) => ip.is_ipv4(),
        ("AAAA", Ok(ip)) => ip.is_ipv6(),
        _ => false,
    };
    if !fits {
        reader.problem(
            key,
            &item.display(),
            "a record must be an A with an IPv4 address or an AAAA with an IPv6 address",
        );
        return None;
    }
    Some(ExtraRecord { name, kind, value })
}

/// In lower case, without the root's dot.
fn plain_domain(text: &str) -> String {
    text.trim().trim_end_matches('.').to_ascii_lowercase()
}
