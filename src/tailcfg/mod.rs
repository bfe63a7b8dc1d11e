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

pub use derpmap::{DerpMap, DerpNode, DerpRegion};
pub use dialplan::{ControlDialPlan, ControlIpCandidate};
pub use hostinfo::Hostinfo;
pub use key::{DiscoKey, KeyParseError, MachineKey, NodeKey, PrivateKey};
pub use mapresponse::{Debug, MapResponse};
pub use node::Node;
pub use peerchange::{KeyExpiry, PeerChange};
pub use userprofile::{UserProfile, plain};

/// A client's capability version: what it understands grows with the number.
/// (`tailcfg.CapabilityVersion` in the Go client.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct CapVer(pub u32);

impl CapVer {
    /// The oldest client that is served: Tailscale 1.80.
    pub const MIN: CapVer = CapVer(113);
}
