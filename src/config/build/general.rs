//! The keys without a section of their own, and the small sections.

use crate::config::reader::Reader;
use crate::config::{CliConfig, Log, LogLevel, NodeRules, PolicySource, Prefixes, ServerUrl, TlsFiles, duration};
use crate::sensitive::Sensitive;
use crate::state::Allocation;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest path of a socket that the system takes, its final zero aside.
const LONGEST_SOCKET_PATH: usize = 107;

/// Stock clients send something at least once a minute: a node is not gone before that.
const SHORTEST_EPHEMERAL_TIMEOUT: Duration = Duration::from_secs(65);

/// A silent replica's sessions are kept for 130 s: a grace beyond that would mean nothing.
const LONGEST_GRACE: Duration = Duration::from_secs(120);

/// `data_dir`; beside the Noise key when that is set, so that a file made for
/// Headscale keeps its data where it did; else Headscale's place as root, else here.
pub(in crate::config) fn data_dir(reader: &mut Reader, root: bool) -> PathBuf {
    let beside_key = |reader: &mut Reader| {
        let key = reader.path("noise.private_key_path")?;
        key.parent().map(Path::to_owned)
    };
    reader
        .path("data_dir")
        .or_else(|| beside_key(reader))
        .unwrap_or_else(|| if root { "/var/lib/headscale".into() } else { reader.absolute("quorumscale-data") })
}

/// `unix_socket`; Headscale's place as root, else in the data directory.
pub(in crate::config) fn unix_socket(reader: &mut Reader, data_dir: &Path, root: bool) -> PathBuf {
    let default = if root { "/var/run/headscale/headscale.sock".into() } else { data_dir.join("quorumscale.sock") };
    let path = reader.path("unix_socket").unwrap_or(default);
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        let why = format!("is longer than a socket's path may be ({LONGEST_SOCKET_PATH} bytes): choose a shorter one");
        reader.problem("unix_socket", &path.display().to_string(), why);
    }
    path
}

/// `unix_socket_permission`: octal digits.
pub(super) fn unix_socket_permission(reader: &mut Reader) -> u32 {
    const DEFAULT: u32 = 0o770;
    let Some(text) = reader.non_empty("unix_socket_permission") else { return DEFAULT };
    let digits = text.trim_start_matches("0o");
    match u32::from_str_radix(digits, 8) {
        // Without these bits the server's own user could not connect: it is a decimal number.
        Ok(mode) if mode <= 0o777 && mode & 0o600 == 0o600 => mode,
        _ => {
            let why = "must be a mode in octal digits, in quotes, that its owner can use, such as \"0770\"";
            reader.problem("unix_socket_permission", &text, why);
            DEFAULT
        }
    }
}

pub(super) fn tls(reader: &mut Reader) -> Option<TlsFiles> {
    match (reader.path("tls_cert_path"), reader.path("tls_key_path")) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
        (None, None) => None,
        (Some(_), None) => {
            reader.problem("tls_key_path", "", "must be set too when tls_cert_path is");
            None
        }
        (None, Some(_)) => {
            reader.problem("tls_cert_path", "", "must be set too when tls_key_path is");
            None
        }
    }
}

pub(super) fn listen_addr(reader: &mut Reader) -> SocketAddr {
    let default = SocketAddr::from(([127, 0, 0, 1], 8080));
    reader.listen_addr("listen_addr").flatten().unwrap_or(default)
}

pub(super) fn metrics_listen_addr(reader: &mut Reader) -> Option<SocketAddr> {
    let default = (!reader.has_file).then(|| SocketAddr::from(([127, 0, 0, 1], 9090)));
    reader.listen_addr("metrics_listen_addr").unwrap_or(default)
}

/// `server_url`; what `listen_addr` says if that names one address.
pub(super) fn server_url(reader: &mut Reader, listen_addr: SocketAddr, tls: bool) -> ServerUrl {
    let scheme = if tls { "https" } else { "http" };
    let stand_in = |addr: SocketAddr| format!("{scheme}://{addr}").parse().expect("an address makes a URL");
    let url = match reader.non_empty("server_url") {
        Some(text) => match text.parse::<ServerUrl>() {
            Ok(url) => url,
            Err(error) => {
                reader.problem("server_url", &text, error);
                return stand_in(SocketAddr::from(([127, 0, 0, 1], 8080)));
            }
        },
        None if listen_addr.ip().is_unspecified() || listen_addr.port() == 0 => {
            let why = "must be set to the URL that clients reach, because listen_addr names no single address and port";
            reader.problem("server_url", "", why);
            return stand_in(SocketAddr::from(([127, 0, 0, 1], 8080)));
        }
        None => stand_in(listen_addr),
    };
    if !url.reconnects() {
        reader.warn(format!(
            "server_url {:?} is plain HTTP with a name or a public address: a stock client that reconnects within two \
             minutes dials nothing but TLS on port 443, and stays away. Use https:// with tls_cert_path and \
             tls_key_path, or a proxy that speaks TLS",
            url.as_str()
        ));
    }
    url
}

/// Names or addresses, without scheme and port.
pub(super) fn trusted_hosts(reader: &mut Reader) -> Vec<String> {
    let hosts = reader.list("trusted_hosts");
    for host in &hosts {
        let is_host = host.parse::<IpAddr>().is_ok()
            || !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !is_host {
            reader.problem(
                "trusted_hosts",
                host,
                "must be a name or an address, such as vpn.example.com: no port, no \"*\"",
            );
        }
    }
    hosts
}

pub(super) fn trusted_proxies(reader: &mut Reader) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for (i, text) in reader.list("trusted_proxies").into_iter().enumerate() {
        let why = match text.parse::<IpNet>() {
            Ok(net) if net.prefix_len() == 0 => "would believe everybody: name the proxies' own networks",
            Ok(net) => {
                nets.push(net.trunc());
                continue;
            }
            Err(_) => "must be a network, such as 10.0.0.0/8 or 192.0.2.1/32",
        };
        reader.problem("trusted_proxies", &text, format_args!("entry {i} {why}"));
    }
    nets
}

pub(in crate::config) fn prefixes(reader: &mut Reader) -> Prefixes {
    let usual_v4: Ipv4Net = "100.64.0.0/10".parse().expect("a prefix");
    let usual_v6: Ipv6Net = "fd7a:115c:a1e0::/48".parse().expect("a prefix");
    let defaults = !reader.is_set("prefixes.v4") && !reader.is_set("prefixes.v6");
    let v4 = reader.parsed::<Ipv4Net>("prefixes.v4", "must be an IPv4 network, such as 100.64.0.0/10");
    let v6 = reader.parsed::<Ipv6Net>("prefixes.v6", "must be an IPv6 network, such as fd7a:115c:a1e0::/48");
    let (v4, v6) = (v4.map(|net| net.trunc()), v6.map(|net| net.trunc()));
    let both_empty = reader.text("prefixes.v4").unwrap_or_default().is_empty()
        && reader.text("prefixes.v6").unwrap_or_default().is_empty();
    if !defaults && both_empty {
        let why = "no IPv4 or IPv6 prefix configured, minimum one prefix is required: set prefixes.v4 or prefixes.v6";
        reader.problem("prefixes", "", why);
    }
    for (key, outside, usual) in [
        ("prefixes.v4", v4.is_some_and(|net| !usual_v4.contains(&net)), usual_v4.to_string()),
        ("prefixes.v6", v6.is_some_and(|net| !usual_v6.contains(&net)), usual_v6.to_string()),
    ] {
        if outside {
            reader.warn(format!("{key} is not within {usual}: stock clients route and filter only addresses of that"));
        }
    }
    let allocation = match reader.non_empty("prefixes.allocation").as_deref() {
        None | Some("sequential") => Allocation::Sequential,
        Some("random") => Allocation::Random,
        Some(other) => {
            let why = "invalid prefix allocation strategy, allowed options: sequential, random";
            reader.problem("prefixes.allocation", other, why);
            Allocation::Sequential
        }
    };
    if defaults {
        return Prefixes { v4: Some(usual_v4), v6: Some(usual_v6), allocation };
    }
    Prefixes { v4, v6, allocation }
}

pub(in crate::config) fn node(reader: &mut Reader) -> NodeRules {
    let expiry = match reader.non_empty("node.expiry") {
        None => Duration::ZERO,
        Some(text) => duration::prometheus(&text).unwrap_or_else(|error| {
            reader.problem("node.expiry", &text, format_args!("{error}: write for example 90d, or 0 for never"));
            Duration::ZERO
        }),
    };
    const NEW: &str = "node.ephemeral.inactivity_timeout";
    let key = if reader.is_set(NEW) { NEW } else { "ephemeral_node_inactivity_timeout" };
    let timeout = reader.duration(key).unwrap_or(Duration::from_secs(120));
    if timeout <= SHORTEST_EPHEMERAL_TIMEOUT {
        let why = format!("must be more than {}", duration::display(SHORTEST_EPHEMERAL_TIMEOUT));
        reader.problem(key, &duration::display(timeout), why);
    }
    NodeRules { expiry, ephemeral_inactivity_timeout: timeout }
}

pub(super) fn offline_grace(reader: &mut Reader) -> Duration {
    let grace = reader.duration("offline_grace").unwrap_or(Duration::from_secs(15));
    if grace < Duration::from_secs(1) || grace > LONGEST_GRACE {
        let why = format!("must be from 1s to {}", duration::display(LONGEST_GRACE));
        reader.problem("offline_grace", &duration::display(grace), why);
    }
    grace
}

/// `policy.mode` decides where it is given; else a path means a file.
pub(super) fn policy(reader: &mut Reader) -> PolicySource {
    let path = reader.path("policy.path");
    match reader.non_empty("policy.mode").as_deref() {
        Some("file") => PolicySource::File(path),
        Some("database" | "db") => {
            if path.is_some() {
                reader.info("policy.path has no effect: policy.mode is database".into());
            }
            PolicySource::Database
        }
        Some(other) => {
            reader.problem("policy.mode", other, "must be database or file");
            PolicySource::Database
        }
        None if path.is_some() => PolicySource::File(path),
        None => PolicySource::Database,
    }
}

pub(super) fn log(reader: &mut Reader) -> Log {
    let level = match reader.non_empty("log.level").map(|text| text.to_lowercase()).as_deref() {
        None | Some("info") => LogLevel::Info,
        Some("trace") => LogLevel::Trace,
        Some("debug") => LogLevel::Debug,
        Some("warn" | "warning") => LogLevel::Warn,
        Some("error" | "fatal" | "panic") => LogLevel::Error,
        Some("disabled" | "off") => LogLevel::Off,
        Some(other) => {
            // Headscale starts with such a value, so this does too.
            reader.warn(format!(
                "log.level {other:?} is not one of trace, debug, info, warn, error, disabled: debug is used"
            ));
            LogLevel::Debug
        }
    };
    let json = match reader.non_empty("log.format").as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => {
            reader.problem("log.format", other, "must be text or json");
            false
        }
    };
    Log { level, json }
}

pub(in crate::config) fn cli(reader: &mut Reader) -> CliConfig {
    let timeout = reader.duration("cli.timeout").unwrap_or(Duration::from_secs(5));
    if timeout.is_zero() {
        reader.problem("cli.timeout", "0", "must be more than nothing, such as 5s");
    }
    CliConfig {
        address: reader.text("cli.address").unwrap_or_default(),
        api_key: Sensitive::new(reader.text("cli.api_key").unwrap_or_default()),
        timeout,
        insecure: reader.boolean("cli.insecure").unwrap_or(false),
    }
}
