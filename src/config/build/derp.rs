//! `derp`: the relays.

use crate::config::reader::Reader;
use crate::config::{Derp, RelayConfig, RelayListener, ServerUrl, duration};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Region ids below this are Tailscale's own; 900 to 999 are left to others.
const FIRST_REGION: u64 = 900;

/// Asking for maps more often than this would only load whoever serves them.
const SHORTEST_UPDATE: Duration = Duration::from_secs(60);

/// What the relay's defaults depend on.
pub(super) struct Around<'a> {
    pub(super) data_dir: &'a Path,
    pub(super) listen_addr: SocketAddr,
    pub(super) server_url: &'a ServerUrl,
    /// Whether the main listener speaks TLS.
    pub(super) tls: bool,
    pub(super) replica: u64,
    /// Whether the file names no other replica.
    pub(super) alone: bool,
}

pub(super) fn derp(reader: &mut Reader, around: &Around<'_>) -> Derp {
    let urls = urls(reader);
    let paths: Vec<_> = reader.list("derp.paths").iter().map(|path| reader.absolute(path)).collect();
    // Clients reach "Running" only with a relay, so there is one unless the file names others.
    let other_relays = !urls.is_empty() || !paths.is_empty();
    let enabled = reader.boolean("derp.server.enabled").unwrap_or(!other_relays);
    if !enabled && !other_relays {
        reader.warn(
            "derp.server.enabled is false, and derp.urls and derp.paths name no relay: clients do not come up without one"
                .into(),
        );
    }
    let every = reader.duration("derp.update_frequency").unwrap_or(Duration::from_secs(3 * 3600));
    if every < SHORTEST_UPDATE {
        let why = format!("must be at least {}", duration::display(SHORTEST_UPDATE));
        reader.problem("derp.update_frequency", &duration::display(every), why);
    }
    let update = reader.boolean("derp.auto_update_enabled").unwrap_or(false);
    let server = enabled.then(|| server(reader, around));
    if server.as_ref().is_some_and(|server| !server.in_map) && paths.is_empty() {
        let why = "needs derp.paths with the embedded relay's region in it";
        reader.problem("derp.server.automatically_add_embedded_derp_region", "false", why);
    }
    Derp { server, urls, paths, update_every: update.then_some(every) }
}

fn urls(reader: &mut Reader) -> Vec<String> {
    let all = reader.list("derp.urls");
    let (good, bad): (Vec<_>, Vec<_>) = all.into_iter().partition(|url| {
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(' '))
    });
    // Headscale leaves such a URL out and starts, so this does too.
    bad.iter().for_each(|url| reader.warn(format!("derp.urls {url:?} is not a URL, and is left out")));
    good
}

fn server(reader: &mut Reader, around: &Around<'_>) -> RelayConfig {
    let listener = listener(reader, around);
    let ipv4 = reader.parsed("derp.server.ipv4", "must be an IPv4 address");
    let ipv6 = reader.parsed("derp.server.ipv6", "must be an IPv6 address");
    let host_name = host_name(reader, around, listener, ipv4);
    let (region_id, region_code, region_name) = region(reader, around);
    RelayConfig {
        region_id,
        region_code,
        region_name,
        ipv4: ipv4.or_else(|| host_name.parse().ok()),
        ipv6: ipv6.or_else(|| host_name.parse().ok()),
        host_name,
        listener,
        stun_listen_addr: stun(reader, listener),
        verify_clients: reader.boolean("derp.server.verify_clients").unwrap_or(true),
        private_key_path: private_key_path(reader, around.data_dir),
        in_map: reader.boolean("derp.server.automatically_add_embedded_derp_region").unwrap_or(true),
        insecure_for_tests: insecure_for_tests(reader),
    }
}

/// Where there is TLS already, the relay is on the main listener; else it brings its own.
fn listener(reader: &mut Reader, around: &Around<'_>) -> RelayListener {
    const KEY: &str = "derp.server.listen_addr";
    let tls_in_front = around.tls || around.server_url.is_https();
    match reader.listen_addr(KEY) {
        Some(Some(addr)) if addr == around.listen_addr => {
            reader.problem(KEY, &addr.to_string(), "is listen_addr: choose another port, or leave it empty");
            RelayListener::Main
        }
        Some(Some(addr)) => RelayListener::Own(addr),
        Some(None) if !tls_in_front => {
            let why = "must be set, because a relay needs TLS and server_url has none, such as 0.0.0.0:8443";
            reader.problem(KEY, "", why);
            RelayListener::Main
        }
        _ if tls_in_front => RelayListener::Main,
        _ => RelayListener::Own(SocketAddr::new(around.listen_addr.ip(), 8443)),
    }
}

fn host_name(reader: &mut Reader, around: &Around<'_>, listener: RelayListener, ipv4: Option<Ipv4Addr>) -> String {
    const KEY: &str = "derp.server.hostname";
    if let Some(name) = reader.non_empty(KEY) {
        if name.contains(['/', ' ', '[']) || (name.contains(':') && name.parse::<IpAddr>().is_err()) {
            reader.problem(KEY, &name, "must be a host name or an IP address, without a port");
        }
        return name;
    }
    let RelayListener::Own(addr) = listener else { return around.server_url.host().into() };
    if let Some(ipv4) = ipv4 {
        return ipv4.to_string();
    }
    if !addr.ip().is_unspecified() {
        return addr.ip().to_string();
    }
    if !around.alone && around.server_url.ip().is_none() {
        reader.warn(
            "derp.server.hostname and derp.server.ipv4 are not set: all replicas' relays would have server_url's name, \
             and clients would meet the wrong one. Set derp.server.ipv4 to this replica's own address"
                .into(),
        );
    }
    around.server_url.host().into()
}

fn region(reader: &mut Reader, around: &Around<'_>) -> (u32, String, String) {
    const KEY: &str = "derp.server.region_id";
    let region_id = match reader.parsed::<u32>(KEY, "must be a number from 1 on") {
        Some(0) | None => u32::try_from(FIRST_REGION + around.replica).unwrap_or(u32::MAX),
        Some(id) => {
            if !around.alone {
                reader.info(format!("{KEY} is {id}: it must differ on each replica, as it does when it is not set"));
            }
            id
        }
    };
    let code = reader.non_empty("derp.server.region_code").unwrap_or_else(|| format!("replica-{}", around.replica));
    let name = reader.non_empty("derp.server.region_name").unwrap_or_else(|| format!("Replica {}", around.replica));
    (region_id, code, name)
}

fn stun(reader: &mut Reader, listener: RelayListener) -> Option<SocketAddr> {
    let ip = match listener {
        RelayListener::Own(addr) => addr.ip(),
        RelayListener::Main => IpAddr::from([0, 0, 0, 0]),
    };
    reader.listen_addr("derp.server.stun_listen_addr").unwrap_or(Some(SocketAddr::new(ip, 3478)))
}

fn private_key_path(reader: &mut Reader, data_dir: &Path) -> std::path::PathBuf {
    const KEY: &str = "derp.server.private_key_path";
    let path = reader.path(KEY).unwrap_or_else(|| data_dir.join("derp_server_private.key"));
    if reader.path("noise.private_key_path").as_ref() == Some(&path) {
        reader.problem(KEY, &path.display().to_string(), "must not be noise.private_key_path");
    }
    path
}

fn insecure_for_tests(reader: &mut Reader) -> bool {
    let insecure = reader.boolean("derp.server.insecure_for_tests").unwrap_or(false);
    if insecure {
        reader.warn("derp.server.insecure_for_tests tells clients not to check the relay's certificate".into());
    }
    insecure
}
