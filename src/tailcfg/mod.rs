//! The client protocol's types: what travels between a Tailscale client and
//! its control server. Data only; no I/O and no knowledge of the rest.

mod derpmap;
mod dialplan;
mod hostinfo;
mod key;
mod mapresponse;
mod node;
mod peerchange;
mod userprofile;

// What clients send, and what a registration answers.
mod fold;
mod hostinfo_parse;
mod register;
mod request;

pub use derpmap::{DerpMap, DerpNode, DerpRegion};
pub use dialplan::{ControlDialPlan, ControlIpCandidate};
pub use hostinfo::Hostinfo;
pub use key::{DiscoKey, KeyParseError, MachineKey, NodeKey, PrivateKey};
pub use mapresponse::{Debug, MapResponse};
pub use node::Node;
pub use peerchange::{KeyExpiry, PeerChange};
pub use userprofile::{UserProfile, plain};

pub use hostinfo_parse::{MAX_ANNOUNCED, MAX_HOSTINFO};
pub use register::{Login, RegisterResponse, RegisteredUser};
pub use request::{AuthKeyText, MAX_ENDPOINTS, MapRequest, RegisterRequest, RequestError};

/// A client's capability version: what it understands grows with the number.
/// (`tailcfg.CapabilityVersion` in the Go client.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct CapVer(pub u32);

impl CapVer {
    /// The oldest client that is served: Tailscale 1.80.
    pub const MIN: CapVer = CapVer(113);
}

#[cfg(test)]
mod fuzz_tests;
