//! Configuration: Headscale's keys, and this server's own beside them.
//!
//! [`load()`] finds the file, lays the environment over it, checks everything
//! and gives a [`Config`] in which every value is parsed and every default is
//! filled in; all problems are reported together. [`load_client`] reads the
//! few keys that the command line needs to reach a server, and checks no other.
//!
//! A value comes from, in this order: `QUORUMSCALE_KEY` in the environment,
//! `HEADSCALE_KEY` (the key in upper case, dots as `_`, lists separated by
//! white space), the file, the default. Relative paths are relative to the
//! file. Every known key is in the table in `keys.rs`.
//!
//! Nothing here does more than read files: no socket, no key, no directory is made.

mod build;
mod files;
mod headscale;
mod keys;
mod load;
pub(crate) mod nearest;
mod oidc;
mod reader;
mod tree;

pub mod duration;
mod server_url;

#[cfg(test)]
mod tests;

pub use files::missing_files;
pub use headscale::{HeadscaleConfig, HeadscaleDatabase, HeadscalePolicy, load_headscale};
pub use load::{ClientConfig, LoadError, Loaded, Note, Surroundings, load, load_client};
pub use oidc::{ClientSecret, Oidc, Pkce, WhenUnavailable};
pub use server_url::{ServerUrl, ServerUrlError};

use crate::dns::ExtraRecord;
use crate::limits::Limits;
use crate::sensitive::Sensitive;
use crate::state::Allocation;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that a replica reads from its file and environment: plain data, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file that was read; `None`: there is none, and defaults apply.
    pub file: Option<PathBuf>,
    /// The URL that clients are given.
    pub server_url: ServerUrl,
    /// The main listener: clients and the API.
    pub listen_addr: SocketAddr,
    /// Metrics and debugging; `None`: no such listener.
    pub metrics_listen_addr: Option<SocketAddr>,
    /// Peers whose `X-Forwarded-For` and the like are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// More names under which browsers may see pages and metrics, and change something.
    pub trusted_hosts: Vec<String>,
    /// What strangers may make the replica do.
    pub limits: Limits,
    /// The main listener's certificate; `None`: it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Where the replica keeps everything that it writes.
    pub data_dir: PathBuf,
    /// The administrators' socket.
    pub unix_socket: PathBuf,
    /// Its mode, such as `0o770`.
    pub unix_socket_permission: u32,
    /// A key file that becomes the cluster's Noise key when the cluster is made.
    pub noise_private_key_path: Option<PathBuf>,
    pub prefixes: Prefixes,
    pub node: NodeRules,
    /// How long a node whose stream ended still counts as online.
    pub offline_grace: Duration,
    pub dns: Dns,
    pub derp: Derp,
    pub policy: PolicySource,
    /// How people log in by themselves; `None`: an administrator lets their machines in.
    pub oidc: Option<Oidc>,
    pub log: Log,
    /// Whether clients may send their logs to Tailscale.
    pub logtail_enabled: bool,
    /// Whether clients may send each other files.
    pub taildrop_enabled: bool,
    pub cluster: ClusterConfig,
    /// What this machine's command line uses to reach a server.
    pub cli: CliConfig,
}

/// `tls_cert_path` and `tls_key_path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// `prefixes`: what nodes get their addresses from. At least one is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes {
    pub v4: Option<Ipv4Net>,
    pub v6: Option<Ipv6Net>,
    pub allocation: Allocation,
}

/// `node`: what becomes of nodes as time passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRules {
    /// How long a personal node's key is valid; zero: for ever.
    pub expiry: Duration,
    /// How long an ephemeral node may be away before it is deleted.
    pub ephemeral_inactivity_timeout: Duration,
}

/// `dns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    pub magic_dns: bool,
    /// Without a trailing dot.
    pub base_domain: String,
    pub override_local_dns: bool,
    /// IP addresses, and URLs of DNS over HTTPS.
    pub nameservers: Vec<String>,
    /// A domain and its name servers, in the file's order.
    pub split: Vec<(String, Vec<String>)>,
    /// Without the base domain, which always comes first.
    pub search_domains: Vec<String>,
    pub extra_records: Vec<ExtraRecord>,
    /// A file with such records in JSON, watched; not together with `extra_records`.
    pub extra_records_path: Option<PathBuf>,
}

/// `derp`: the relays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derp {
    /// The replica's own; `None`: it has none.
    pub server: Option<RelayConfig>,
    /// DERP maps in JSON.
    pub urls: Vec<String>,
    /// DERP maps in YAML.
    pub paths: Vec<PathBuf>,
    /// How often `urls` are read again; `None`: only at the start.
    pub update_every: Option<Duration>,
}

/// `derp.server`: the relay that the replica embeds, a region of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// 900 and the replica's id unless set.
    pub region_id: u32,
    pub region_code: String,
    pub region_name: String,
    /// What clients dial, and what the certificate names.
    pub host_name: String,
    /// Saves clients the lookup of `host_name`.
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub listener: RelayListener,
    /// `None`: no STUN.
    pub stun_listen_addr: Option<SocketAddr>,
    /// Whether only this tailnet's nodes may use it.
    pub verify_clients: bool,
    pub private_key_path: PathBuf,
    /// Whether the region is in the DERP map by itself, or by `derp.paths`.
    pub in_map: bool,
    /// Tells clients not to check the certificate. For tests alone.
    pub insecure_for_tests: bool,
}

/// Where the relay is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayListener {
    /// On the main listener, at the host and port of `server_url`, whose TLS
    /// (its own, or a proxy's) clients check as usual.
    Main,
    /// On a TLS listener of its own, whose self-signed certificate is pinned in the DERP map.
    Own(SocketAddr),
}

/// `policy`: where the policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySource {
    /// Administrators set it with `policy set`.
    Database,
    /// A file, read at the start and on SIGHUP; `None`: everything is allowed.
    File(Option<PathBuf>),
}

/// `log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    /// One JSON object a line, instead of text.
    pub json: bool,
}

/// `log.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As `tracing`'s filters write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `cluster`: the replica among the others. The default is a cluster of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// At least 1.
    pub id: u64,
    /// Where peers are listened to; `None`: nobody can join yet.
    pub listen_addr: Option<SocketAddr>,
    /// Where peers reach this replica: `HOST:PORT`.
    pub advertise_addr: String,
    /// The replicas that make the cluster, used only by a replica that has no
    /// data yet. Without this replica in it, this replica makes no cluster and
    /// waits until `cluster add` names it.
    pub peers: Vec<Peer>,
    /// The secret that the replicas share, 64 hex digits.
    pub secret_path: PathBuf,
    /// While the secret is changed: the one before.
    pub previous_secret_path: Option<PathBuf>,
    /// IP addresses at which clients reach this replica; may be empty.
    pub client_addresses: Vec<IpAddr>,
    pub heartbeat_interval: Duration,
    /// Log entries between two snapshots.
    pub snapshot_every: u64,
    /// Log entries before a snapshot that are kept for followers that are slow.
    pub keep_log: u64,
    /// How often all records are read, on disk and in memory; zero: never.
    pub scrub_interval: Duration,
    /// Bytes that stay free on the disk of `data_dir`: below, this replica takes no writes; 0: none.
    pub disk_reserve: u64,
    /// A sync of the disk that takes longer is slow; zero: none is.
    pub slow_sync: Duration,
    /// Whether the leader removes replicas that are dead.
    pub autopilot: crate::cluster::Autopilot,
    /// A follower that hears nothing for a random time in this range asks for votes.
    pub election_timeout: std::ops::Range<Duration>,
}

/// A replica that makes the cluster together with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub id: u64,
    /// `HOST:PORT`.
    pub address: String,
}

/// `cli`: how the command line reaches a server.
#[derive(Clone, PartialEq, Eq)]
pub struct CliConfig {
    /// Empty: the socket. Else URLs (or `HOST:PORT`, which means HTTPS), separated by commas.
    pub address: String,
    pub api_key: Sensitive<String>,
    /// How long one server is given to answer.
    pub timeout: Duration,
    /// Whether certificates are not checked.
    pub insecure: bool,
}

impl std::fmt::Debug for CliConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CliConfig")
            .field("address", &self.address)
            .field("api_key", &if self.api_key.is_empty() { "" } else { "(redacted)" })
            .field("timeout", &self.timeout)
            .field("insecure", &self.insecure)
            .finish()
    }
}
