//! Policy: who owns which tag, who sees whom, who may do what.
//!
//! Pure, like `state`: each replica compiles the replicated text for itself.

use crate::state::{Node, State, Tag, UserId};
use std::sync::Arc;

/// A policy that was read and found good.
#[derive(Debug, Default)]
pub struct Policy {}

/// Why a text is no policy; with line and column where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub String);

impl Policy {
    /// Reads HuJSON. What is not supported yet is refused by name.
    pub fn parse(_text: &str) -> Result<Self, PolicyError> {
        unimplemented!()
    }

    /// Whether `tagOwners` has the tag at all.
    pub fn defines_tag(&self, _tag: &Tag) -> bool {
        unimplemented!()
    }

    /// Whether `tagOwners` lets this user give the tag to a node.
    pub fn may_own(&self, _state: &State, _user: UserId, _tag: &Tag) -> bool {
        unimplemented!()
    }

    /// Whether `viewer` gets `peer` in its netmap.
    pub fn sees(&self, _viewer: &Node, _peer: &Node) -> bool {
        unimplemented!()
    }

    /// The rules of `PacketFilters["base"]` for this node, as JSON (protocol section 6.5).
    pub fn packet_filter(&self, _node: &Node) -> Arc<str> {
        unimplemented!()
    }

    /// `SSHPolicy` for this node, as JSON (protocol section 6.8).
    pub fn ssh_policy(&self, _node: &Node) -> Arc<str> {
        unimplemented!()
    }
}

/// The compiled form of whatever policy is in force, kept as long as its version is.
#[derive(Default)]
pub struct Policies {}

impl Policies {
    /// The policy that `state` has in force. A stored text that this release cannot
    /// read leaves the last good one in force (with a log line).
    pub fn in_force(&self, _state: &State) -> Arc<Policy> {
        unimplemented!()
    }
}
