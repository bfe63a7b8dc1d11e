//! What was measured. Names have their units in them, and stay as they are: scripts read them.

use super::quantiles::Quantiles;
use serde::{Deserialize, Serialize};

/// All phases that were run.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Report {
    pub nodes: usize,
    /// The servers before anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<Phase<Join>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Phase<Restart>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Phase<Connect>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected_idle: Option<Phase<Idle>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fanout: Option<Phase<Fanout>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flap: Option<Phase<Flap>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm: Option<Phase<Storm>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leave: Option<Phase<Leave>>,
    /// The driver's own processor time, which the servers did not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_cpu_s: Option<f64>,
    /// What went wrong, the first of it.
    #[serde(default)]
    pub complaints: Vec<String>,
}

/// The servers' processes together.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Usage {
    pub cpu_s: f64,
    pub rss_mib: f64,
}

/// A phase, and what it cost.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Phase<T> {
    pub wall_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_s: Option<f64>,
    /// At its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_rss_mib: Option<f64>,
    #[serde(flatten)]
    pub result: T,
}

/// Registrations.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Join {
    pub per_s: f64,
    pub failed: usize,
    #[serde(flatten)]
    pub latency: Quantiles,
}

/// All servers were restarted, with all nodes in their state.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Restart {
    pub command_said: String,
    /// Since the command was started, until all servers were well; absent: not within the
    /// patience.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving_s: Option<f64>,
}

/// Streams; the latencies are those of first maps.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Connect {
    pub all_streams_s: f64,
    /// Until everyone knew everyone.
    pub all_peers_s: f64,
    pub nodes_with_all_peers: usize,
    pub received_mib: f64,
    #[serde(flatten)]
    pub latency: Quantiles,
}

/// Streams on which nothing happens.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Idle {
    pub seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent_of_a_core_per_server: Option<f64>,
    /// Over all servers, more than when the nodes were registered and not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kib_per_node: Option<f64>,
}

/// One change at a time, by kind.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Fanout {
    #[serde(flatten)]
    pub endpoint: Kind,
    /// Of map messages, for each reader and change.
    pub bytes_per_message: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bare: Option<Bare>,
    /// How many times as long as the bare fan-out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_p99: Option<f64>,
    pub relay: Kind,
    pub online: Kind,
}

/// Changes of one kind. Latencies are from the request to each reader's message.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Kind {
    pub deliveries: usize,
    pub missing: usize,
    pub errors: usize,
    /// Of the last reader of each change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_p99_ms: Option<f64>,
    #[serde(flatten)]
    pub latency: Quantiles,
}

/// TCP without anything.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Bare {
    pub bytes: usize,
    pub readers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_p99_ms: Option<f64>,
    #[serde(flatten)]
    pub latency: Quantiles,
}

/// Nodes that went and came back.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Flap {
    pub returned: usize,
    #[serde(flatten)]
    pub latency: Quantiles,
}

/// Seconds since the command was started; absent: not within the patience.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Storm {
    pub command_said: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_write_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_streams_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_know_s: Option<f64>,
    pub streams_dropped: usize,
    /// Times that a node was told of a peer that it is offline.
    pub offline_marks: u64,
}

/// Nodes that logged out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Leave {
    pub failed: usize,
}
