//! What a client says about its machine.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A client's `Hostinfo`, split into what the server reads and what it only
/// keeps for the node's peers. (`tailcfg.Hostinfo`; protocol section 6.3.)
///
/// `json` and `net_info` are JSON objects with Go's key names, keys sorted,
/// unknown keys kept, so that fields newer than this server survive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hostinfo {
    /// The machine's host name as it says it, not sanitised.
    pub hostname: String,
    /// `linux`, `windows`, …
    pub os: String,
    /// The client's version, `1.102.5-…`.
    pub ipn_version: String,
    /// Routes that the node announces, exit routes included; sorted, without duplicates.
    pub routable_ips: Vec<IpNet>,
    /// `--advertise-tags`; sorted, without duplicates, as sent (not validated).
    pub request_tags: Vec<String>,
    /// The whole object, `NetInfo` excepted.
    pub json: String,
    /// `NetInfo`, if the client sent it: most requests leave it out, and the
    /// last one then stays in force.
    pub net_info: Option<String>,
    /// `NetInfo.PreferredDERP`: the home relay's region, 0 if unknown.
    pub preferred_derp: Option<i32>,
}
