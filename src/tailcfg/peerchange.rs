//! A small change of one peer (protocol section 6.2).

use super::{DiscoKey, NodeKey};
use serde::Serialize;
use std::net::SocketAddr;

/// `tailcfg.PeerChange`, for writing only. Absent is unchanged.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PeerChange {
    #[serde(rename = "NodeID")]
    pub node_id: u64,
    /// The home relay's region. 0 cannot be said: it reads as unchanged.
    #[serde(rename = "DERPRegion", skip_serializing_if = "Option::is_none")]
    pub derp_region: Option<u32>,
    /// An empty list is a new value too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<SocketAddr>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<NodeKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disco_key: Option<DiscoKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_expiry: Option<KeyExpiry>,
}

/// When a patched node's key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyExpiry {
    /// Go's zero time, which clears what the client knew.
    Never,
    At(jiff::Timestamp),
}

impl Serialize for KeyExpiry {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            KeyExpiry::Never => s.serialize_str("0001-01-01T00:00:00Z"),
            KeyExpiry::At(time) => time.serialize(s),
        }
    }
}
