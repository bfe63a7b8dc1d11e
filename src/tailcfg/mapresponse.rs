//! One message of a map stream (protocol section 4.4).

use super::{ControlDialPlan, UserProfile};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// `tailcfg.MapResponse`, for writing only. Absent is unchanged. Parts that many
/// messages share are JSON already. `Peers`, all peers by id, is not here: a complete
/// map has it last, made of blocks that many maps share. It is never sent empty: the
/// Go client reads that as "unchanged", the Rust client as "none".
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MapResponse<'a> {
    /// The server's clock; the client judges expiries by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_time: Option<jiff::Timestamp>,
    /// The client's own node, whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<&'a RawValue>,
    #[serde(rename = "DERPMap", skip_serializing_if = "Option::is_none")]
    pub derp_map: Option<&'a RawValue>,
    /// New peers, and peers that differ in more than a patch can say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers_changed: Vec<&'a RawValue>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub peers_removed: &'a [u64],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers_changed_patch: Vec<&'a RawValue>,
    #[serde(rename = "DNSConfig", skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collect_services: Option<bool>,
    /// Rules by name; all together are the filter.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub packet_filters: BTreeMap<&'static str, &'a RawValue>,
    /// Everybody that a node in this message belongs to, unless sent before.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub user_profiles: &'a [UserProfile],
    #[serde(rename = "SSHPolicy", skip_serializing_if = "Option::is_none")]
    pub ssh_policy: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug: Option<Debug>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_dial_plan: Option<&'a ControlDialPlan>,
}

/// `tailcfg.Debug`.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Debug {
    /// The client must not send its logs to Tailscale.
    pub disable_log_tail: bool,
}
