//! A node as clients are told of it (protocol section 6.1).

use super::{CapVer, DiscoKey, MachineKey, NodeKey};
use ipnet::IpNet;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// `tailcfg.Node`, for writing only. What is absent is left out, never `null`:
/// Tailscale's Rust client takes a `null` list or string as a broken message.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node<'a> {
    #[serde(rename = "ID")]
    pub id: u64,
    /// The id in decimal.
    #[serde(rename = "StableID")]
    pub stable_id: String,
    /// The full name with a trailing dot.
    pub name: &'a str,
    /// Whose it is; for tagged nodes a synthetic user.
    pub user: u64,
    pub key: NodeKey,
    /// Absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_expiry: Option<jiff::Timestamp>,
    pub machine: MachineKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disco_key: Option<DiscoKey>,
    /// An IPv4 and an IPv6 address in this order: the Rust client reads a pair.
    pub addresses: Vec<IpNet>,
    /// The addresses, and the routes that go through the node.
    #[serde(rename = "AllowedIPs")]
    pub allowed_ips: Vec<IpNet>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<SocketAddr>,
    /// The home relay's region; 0, left out, is unknown.
    #[serde(rename = "HomeDERP", skip_serializing_if = "is_zero")]
    pub home_derp: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostinfo: Option<&'a RawValue>,
    pub created: jiff::Timestamp,
    /// What the node itself understands, not the client that reads this.
    #[serde(skip_serializing_if = "is_zero_version")]
    pub cap: CapVer,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<&'a str>,
    /// Subnet routes that the node was chosen for; in `allowed_ips` too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub primary_routes: Vec<IpNet>,
    /// Only for nodes that are offline: beside `Online: true` some clients show offline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    pub machine_authorized: bool,
    /// Feature flags of the client itself; empty for peers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cap_map: BTreeMap<&'a str, Vec<serde_json::Value>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn is_zero_version(v: &CapVer) -> bool {
    v.0 == 0
}
