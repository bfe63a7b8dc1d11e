//! `cluster`: the replica among the others.

use crate::cluster::Autopilot;
use crate::config::reader::Reader;
use crate::config::tree::Value;
use crate::config::{ClusterConfig, Peer, ServerUrl, duration};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Where peers reach a replica of a cluster of one, which nobody dials.
const NOBODY_DIALS: &str = "127.0.0.1:7946";

/// A replica that the autopilot takes for dead has been away for longer than this.
const SHORTEST_DEATH: Duration = Duration::from_secs(60);

/// More voters than this make every write slower and the cluster no safer.
const MOST_PEERS: usize = 9;

pub(super) fn cluster(
    reader: &mut Reader,
    data_dir: &Path,
    main_listener: SocketAddr,
    server_url: &ServerUrl,
) -> ClusterConfig {
    let id = reader.parsed("cluster.id", "must be a number from 1 on").unwrap_or(1);
    if id == 0 {
        reader.problem("cluster.id", "0", "must be a number from 1 on");
    }
    let peers = peers(reader);
    let own = peers.iter().find(|peer| peer.id == id).map(|peer| peer.address.clone());
    let listen_addr = listen_addr(reader, &peers, own.as_deref());
    let advertise_addr = advertise_addr(reader, listen_addr, own);
    let (heartbeat_interval, election_timeout) = timing(reader);
    ClusterConfig {
        id,
        listen_addr,
        secret_path: reader.path("cluster.secret_path").unwrap_or_else(|| data_dir.join("secret")),
        previous_secret_path: reader.path("cluster.previous_secret_path"),
        client_addresses: client_addresses(reader, main_listener, server_url, peers.len() > 1),
        advertise_addr,
        peers,
        heartbeat_interval,
        election_timeout,
        snapshot_every: entries(reader, "cluster.snapshot_every", 50_000),
        autopilot: autopilot(reader),
        keep_log: entries(reader, "cluster.keep_log", 10_000),
        scrub_interval: reader.duration("cluster.scrub_interval").unwrap_or(Duration::from_secs(600)),
        disk_reserve: bytes(reader, "cluster.disk_reserve", 64 << 20),
        slow_sync: reader.duration("cluster.slow_sync").unwrap_or(Duration::from_millis(500)),
    }
}

fn autopilot(reader: &mut Reader) -> Autopilot {
    const THRESHOLD: &str = "cluster.autopilot.dead_server_last_contact_threshold";
    const MIN_QUORUM: &str = "cluster.autopilot.min_quorum";
    let default = Autopilot::default();
    let threshold = reader.duration(THRESHOLD).unwrap_or(default.dead_server_last_contact_threshold);
    if threshold < SHORTEST_DEATH {
        let why = "must be at least 1m: a replica that restarts is not dead";
        reader.problem(THRESHOLD, &duration::display(threshold), why);
    }
    let min_quorum = reader.parsed(MIN_QUORUM, "must be a number from 3 on").unwrap_or(default.min_quorum);
    if min_quorum < default.min_quorum {
        let why = "must be at least 3: fewer voters tolerate no failure";
        reader.problem(MIN_QUORUM, &min_quorum.to_string(), why);
    }
    Autopilot {
        cleanup_dead_servers: reader
            .boolean("cluster.autopilot.cleanup_dead_servers")
            .unwrap_or(default.cleanup_dead_servers),
        dead_server_last_contact_threshold: threshold,
        min_quorum,
    }
}

/// A number of log entries.
fn entries(reader: &mut Reader, key: &'static str, default: u64) -> u64 {
    let count = reader.parsed(key, "must be a number from 1 on").unwrap_or(default);
    if count == 0 {
        reader.problem(key, "0", "must be a number from 1 on");
    }
    count
}

/// A number of bytes, with or without a unit.
fn bytes(reader: &mut Reader, key: &'static str, default: u64) -> u64 {
    let Some(text) = reader.non_empty(key) else { return default };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => Some(0),
        "KiB" | "K" => Some(10),
        "MiB" | "M" => Some(20),
        "GiB" | "G" => Some(30),
        _ => None,
    };
    let bytes = shift.and_then(|shift| number.parse::<u64>().ok()?.checked_mul(1 << shift));
    bytes.unwrap_or_else(|| {
        reader.problem(key, &text, "must be a number of bytes, or of KiB, MiB or GiB, such as 256MiB");
        default
    })
}

/// A list of `{id, address}` or of `ID=ADDRESS`, or a map from id to address.
fn peers(reader: &mut Reader) -> Vec<Peer> {
    const KEY: &str = "cluster.peers";
    let pairs: Vec<Option<(String, String)>> = match reader.any(KEY) {
        None => Vec::new(),
        Some(Value::Map(entries)) => {
            entries.iter().map(|(id, address)| Some((id.clone(), address.display()))).collect()
        }
        Some(Value::List(items)) => items.iter().map(pair).collect(),
        Some(text) => text.display().split_whitespace().map(|text| pair(&Value::Text(text.into()))).collect(),
    };
    let mut peers: Vec<Peer> = Vec::new();
    for pair in pairs {
        let Some((id, address)) = pair else {
            reader.problem(KEY, "", "each must have an id and an address, as {id: 1, address: \"192.0.2.1:7946\"}");
            continue;
        };
        match id.parse() {
            Ok(id) if id > 0 => peers.push(Peer { id, address: address.clone() }),
            _ => reader.problem(KEY, &id, "an id must be a number from 1 on"),
        }
        if !is_host_port(&address) {
            reader.problem(KEY, &address, "an address must be HOST:PORT");
        }
    }
    let ids: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let addresses: BTreeSet<_> = peers.iter().map(|peer| &peer.address).collect();
    if ids.len() < peers.len() || addresses.len() < peers.len() {
        let all: Vec<_> = peers.iter().map(|peer| format!("{}={}", peer.id, peer.address)).collect();
        reader.problem(KEY, &all.join(" "), "ids and addresses must differ");
    }
    if peers.len() > MOST_PEERS {
        let why = format!("more than {MOST_PEERS} voters make a cluster slower and no safer");
        reader.problem(KEY, &peers.len().to_string(), why);
    }
    if peers.len() > 1 && peers.len().is_multiple_of(2) {
        reader.warn(format!(
            "cluster.peers has {} replicas: that many tolerate no more failures than {}",
            peers.len(),
            peers.len() - 1
        ));
    }
    peers
}

fn pair(value: &Value) -> Option<(String, String)> {
    match value {
        Value::Text(text) => text.split_once('=').map(|(id, address)| (id.trim().into(), address.trim().into())),
        Value::Map(entries) => {
            let get = |key| entries.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, v)| v.display());
            Some((get("id")?, get("address")?))
        }
        _ => None,
    }
}

/// Where it is not set: the address in `peers` if that is an IP, else every address on its port.
fn listen_addr(reader: &mut Reader, peers: &[Peer], own: Option<&str>) -> Option<SocketAddr> {
    if let Some(given) = reader.listen_addr("cluster.listen_addr") {
        if given.is_none() && !peers.is_empty() {
            reader.problem("cluster.listen_addr", "", "must be set when cluster.peers is, such as 0.0.0.0:7946");
        }
        return given;
    }
    if peers.is_empty() {
        return None;
    }
    let from_own = own.and_then(|own| {
        own.parse().ok().or_else(|| Some(SocketAddr::from(([0, 0, 0, 0], own.rsplit_once(':')?.1.parse().ok()?))))
    });
    Some(from_own.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 7946))))
}

/// Where it is not set: the address in `peers`, else `cluster.listen_addr` if that names one address.
fn advertise_addr(reader: &mut Reader, listen_addr: Option<SocketAddr>, own: Option<String>) -> String {
    const KEY: &str = "cluster.advertise_addr";
    let given = reader.non_empty(KEY);
    if let Some(text) = &given
        && !is_host_port(text)
    {
        reader.problem(KEY, text, "must be HOST:PORT, as the other replicas reach this one");
    }
    if let (Some(given), Some(own)) = (&given, &own)
        && given != own
    {
        reader.problem(KEY, given, format_args!("must be what cluster.peers says of this replica: {own:?}"));
    }
    match (given.or(own), listen_addr) {
        (Some(address), _) => address,
        (None, None) => NOBODY_DIALS.into(),
        (None, Some(listen)) if listen.ip().is_unspecified() => {
            let why = "must be set to HOST:PORT, as the other replicas reach this one, because cluster.listen_addr \
                       names no single address";
            reader.problem(KEY, "", why);
            NOBODY_DIALS.into()
        }
        (None, Some(listen)) => listen.to_string(),
    }
}

/// Where it is not set: the address in `server_url`, or the one that is listened on.
fn client_addresses(
    reader: &mut Reader,
    main_listener: SocketAddr,
    server_url: &ServerUrl,
    several: bool,
) -> Vec<IpAddr> {
    const KEY: &str = "cluster.client_addresses";
    let mut addresses = Vec::new();
    for text in reader.list(KEY) {
        match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => reader.problem(KEY, &text, "must be an IP address at which clients reach this replica"),
        }
    }
    if !reader.is_set(KEY) {
        addresses.extend(server_url.ip().or((!main_listener.ip().is_unspecified()).then_some(main_listener.ip())));
        if several && addresses.is_empty() {
            reader.warn(
                "cluster.client_addresses is not set: clients are not told where else this replica is reached, and \
                 come back to it only through server_url's name"
                    .into(),
            );
        }
    }
    addresses
}

fn timing(reader: &mut Reader) -> (Duration, std::ops::Range<Duration>) {
    let heartbeat = reader.duration("cluster.heartbeat_interval").unwrap_or(Duration::from_millis(100));
    let shortest = reader.duration("cluster.election_timeout_min").unwrap_or(heartbeat * 5 / 2);
    let longest = reader.duration("cluster.election_timeout_max").unwrap_or(shortest * 8 / 5);
    if heartbeat < Duration::from_millis(10) {
        reader.problem("cluster.heartbeat_interval", &duration::display(heartbeat), "must be at least 10ms");
    }
    if shortest < heartbeat * 2 {
        let why = "must be at least twice cluster.heartbeat_interval, so that one late message starts no election";
        reader.problem("cluster.election_timeout_min", &duration::display(shortest), why);
    }
    if longest <= shortest {
        let why = "must be more than cluster.election_timeout_min, so that replicas do not all ask at once";
        reader.problem("cluster.election_timeout_max", &duration::display(longest), why);
    }
    (heartbeat, shortest..longest)
}

fn is_host_port(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok()
        || text.split_once(':').is_some_and(|(host, port)| {
            let host_is_plain =
                !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
            host_is_plain && port.parse::<u16>().is_ok_and(|port| port != 0)
        })
}
