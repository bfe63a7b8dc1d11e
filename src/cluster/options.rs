//! What the cluster's part of a replica is started with.

use crate::state::{ReplicaId, Settings};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// What the cluster needs to know to start on this replica.
#[derive(Clone, Debug)]
pub struct Options {
    pub id: ReplicaId,
    pub data_dir: PathBuf,
    /// `None`: a cluster of one that nobody can join yet.
    pub listen_addr: Option<SocketAddr>,
    /// What peers dial: `host:port`.
    pub advertise_addr: String,
    /// All first voters, this one included, as id and address; used only while the store is empty.
    pub peers: Vec<(ReplicaId, String)>,
    pub secret_path: PathBuf,
    /// While the secret is changed: the one that is on its way out.
    pub previous_secret_path: Option<PathBuf>,
    /// Used at bootstrap only.
    pub settings: Settings,
    /// `noise.private_key_path`: becomes the cluster's key at bootstrap if the file exists.
    pub noise_key_path: Option<PathBuf>,
    pub heartbeat_interval: Duration,
    /// Whether the leader removes replicas that are dead.
    pub autopilot: super::Autopilot,
    /// The lower bound has to be well above `heartbeat_interval`.
    pub election_timeout: Range<Duration>,
    /// Log entries between two snapshots.
    pub snapshot_every: u64,
    /// Log entries before a snapshot that are kept for followers that are slow.
    pub keep_log: u64,
    /// How often the leader compares the replicas.
    pub compare_every: Duration,
    /// How often all records are read, on disk and in memory; zero: never.
    pub scrub_interval: Duration,
    /// Bytes that stay free on the disk: below, this replica takes no writes; 0: none.
    pub disk_reserve: u64,
    /// A sync that takes longer is slow; zero: none is.
    pub slow_sync: Duration,
    /// Handshakes at the port for peers at one time: a bound on what strangers can make this
    /// replica do. With more, the address that has the most loses its oldest, so that no
    /// stranger keeps a peer out.
    pub peer_handshakes: usize,
}

impl Options {
    /// The usual number of log entries between two snapshots.
    pub const SNAPSHOT_EVERY: u64 = 50_000;
    /// The usual number of log entries that are kept before a snapshot.
    pub const KEEP_LOG: u64 = 10_000;
    /// The usual interval between two comparisons of the replicas.
    pub const COMPARE_EVERY: Duration = Duration::from_secs(5);
    /// The usual interval between a leader's heartbeats.
    pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
    /// The usual time after which a follower that hears nothing stands for election,
    /// on top of the lease that it gave its leader (which is the upper bound here).
    pub const ELECTION_TIMEOUT: Range<Duration> = Duration::from_millis(250)..Duration::from_millis(400);
}
