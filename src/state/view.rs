//! The state itself, and how it is read.

use super::*;
use crate::tailcfg::{MachineKey, NodeKey};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that is replicated, at one index of the log. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct State {}

/// What applying one command gave.
#[derive(Debug)]
pub struct Applied {
    /// For the one who asked.
    pub outcome: Outcome,
    /// For everyone else. Empty when nothing changed.
    pub changes: Vec<Change>,
    /// The records to store, in the same batch as the applied index.
    pub rows: Vec<Row>,
}

/// One stored record: a key that starts with its table's number, and a value;
/// no value: the record is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// Stored records that this release cannot read.
#[derive(Debug, thiserror::Error)]
#[error("record {table} {key}: {reason}")]
pub struct LoadError {
    pub table: String,
    pub key: String,
    pub reason: String,
}

impl State {
    /// Applies the command at `index` of the log.
    pub fn apply(&mut self, _index: u64, _proposal: &Proposal) -> Applied {
        unimplemented!()
    }

    /// All records, in the order of their keys: what a snapshot holds.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        std::iter::empty()
    }

    /// The state that [`State::rows`] came from.
    pub fn load(_rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Self, LoadError> {
        unimplemented!()
    }

    /// BLAKE2s-256 over all records in order: equal on replicas at one index.
    pub fn hash(&self) -> [u8; 32] {
        unimplemented!()
    }

    /// The log index of the last applied command; 0 for none.
    pub fn index(&self) -> u64 {
        unimplemented!()
    }

    /// The latest time that a command brought: the cluster's clock.
    pub fn clock(&self) -> Time {
        unimplemented!()
    }

    /// When a [`Command::Tick`] next has something to do.
    pub fn next_due(&self) -> Option<Time> {
        unimplemented!()
    }

    /// `None` before bootstrap.
    pub fn settings(&self) -> Option<&Arc<Settings>> {
        unimplemented!()
    }

    /// `None` before bootstrap.
    pub fn server_keys(&self) -> Option<&Arc<ServerKeys>> {
        unimplemented!()
    }

    /// The policy in force; `None`: none was ever set.
    pub fn policy(&self) -> Option<&Arc<PolicyText>> {
        unimplemented!()
    }

    /// The version of the policy in force, 0 for none: what a decision names.
    pub fn policy_version(&self) -> u64 {
        self.policy().map_or(0, |p| p.version)
    }

    /// By id, ascending.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> + '_ {
        std::iter::empty()
    }

    pub fn user(&self, _id: UserId) -> Option<&Arc<User>> {
        unimplemented!()
    }

    pub fn user_by_name(&self, _name: &str) -> Option<&Arc<User>> {
        unimplemented!()
    }

    /// By id, ascending.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> + '_ {
        std::iter::empty()
    }

    pub fn node_count(&self) -> usize {
        unimplemented!()
    }

    pub fn node(&self, _id: NodeId) -> Option<&Arc<Node>> {
        unimplemented!()
    }

    pub fn node_by_key(&self, _key: &NodeKey) -> Option<&Arc<Node>> {
        unimplemented!()
    }

    pub fn node_by_name(&self, _given_name: &str) -> Option<&Arc<Node>> {
        unimplemented!()
    }

    pub fn node_by_ip(&self, _ip: IpAddr) -> Option<&Arc<Node>> {
        unimplemented!()
    }

    /// The nodes of one machine: one for each user that logged in on it.
    pub fn nodes_of_machine(&self, _key: &MachineKey) -> impl Iterator<Item = &Arc<Node>> + '_ {
        std::iter::empty()
    }

    /// Whether the node has a session.
    pub fn is_online(&self, _node: NodeId) -> bool {
        unimplemented!()
    }

    /// All open sessions, by node.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        std::iter::empty()
    }

    /// The open sessions of one node.
    pub fn sessions_of(&self, _node: NodeId) -> impl Iterator<Item = SessionId> + '_ {
        std::iter::empty()
    }

    /// Routes that the node announces and that are approved, exit routes included.
    pub fn effective_routes(&self, _node: &Node) -> Vec<IpNet> {
        unimplemented!()
    }

    /// The subnet routes (no exit routes) that go through this node: of several
    /// online routers of one approved prefix exactly one has it.
    pub fn primary_routes(&self, _node: NodeId) -> Vec<IpNet> {
        unimplemented!()
    }

    /// By id, ascending.
    pub fn pre_auth_keys(&self) -> impl Iterator<Item = &Arc<PreAuthKey>> + '_ {
        std::iter::empty()
    }

    pub fn pre_auth_key(&self, _id: AuthKeyId) -> Option<&Arc<PreAuthKey>> {
        unimplemented!()
    }

    pub fn pre_auth_key_by_prefix(&self, _prefix: &str) -> Option<&Arc<PreAuthKey>> {
        unimplemented!()
    }

    /// By id, ascending.
    pub fn api_keys(&self) -> impl Iterator<Item = &Arc<ApiKey>> + '_ {
        std::iter::empty()
    }

    pub fn api_key(&self, _id: ApiKeyId) -> Option<&Arc<ApiKey>> {
        unimplemented!()
    }

    pub fn api_key_by_prefix(&self, _prefix: &str) -> Option<&Arc<ApiKey>> {
        unimplemented!()
    }

    pub fn login(&self, _id: &AuthId) -> Option<&Arc<PendingLogin>> {
        unimplemented!()
    }

    /// By id, ascending.
    pub fn replicas(&self) -> impl Iterator<Item = &Arc<Replica>> + '_ {
        std::iter::empty()
    }

    pub fn replica(&self, _id: ReplicaId) -> Option<&Arc<Replica>> {
        unimplemented!()
    }
}
