//! What a command wrote to, as far as somebody wants to know: the places to
//! look at for [`Change`](super::Change)s.

use super::{AuthId, NodeId, ReplicaId, SessionId, UserId};
use std::collections::BTreeSet;

/// Keys of written records. A written record need not differ.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched {
    pub nodes: BTreeSet<NodeId>,
    pub sessions: BTreeSet<SessionId>,
    pub users: BTreeSet<UserId>,
    pub logins: BTreeSet<AuthId>,
    pub ssh_checks: BTreeSet<AuthId>,
    pub replicas: BTreeSet<ReplicaId>,
    pub policy: bool,
    pub settings: bool,
}

/// For tables whose records nobody is told about.
pub(super) fn none<K>(_: &mut Touched, _: &K) {}

pub(super) fn settings(touched: &mut Touched, _: &()) {
    touched.settings = true;
}

pub(super) fn policy(touched: &mut Touched, _: &()) {
    touched.policy = true;
}

pub(super) fn replica(touched: &mut Touched, id: &ReplicaId) {
    touched.replicas.insert(*id);
}

pub(super) fn user(touched: &mut Touched, id: &UserId) {
    touched.users.insert(*id);
}

pub(super) fn node(touched: &mut Touched, id: &NodeId) {
    touched.nodes.insert(*id);
}

pub(super) fn session(touched: &mut Touched, id: &SessionId) {
    touched.sessions.insert(*id);
    touched.nodes.insert(id.node);
}

pub(super) fn login(touched: &mut Touched, id: &AuthId) {
    touched.logins.insert(id.clone());
}

pub(super) fn ssh_check(touched: &mut Touched, id: &AuthId) {
    touched.ssh_checks.insert(id.clone());
}
