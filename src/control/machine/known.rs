//! Finding the node that a client speaks for.

use crate::cluster::{Cluster, Unavailable};
use crate::state::{Node, State, Time};
use crate::tailcfg::{MachineKey, NodeKey};
use std::sync::Arc;

/// The node with this key, as this replica knows it if that is good enough for
/// `good`, else as the whole cluster does: a client may have registered, or
/// logged in again, on another replica a millisecond ago. So a good answer is
/// free, and a bad one is never premature.
pub(super) async fn find(
    cluster: &Cluster,
    key: &NodeKey,
    good: impl Fn(&Node) -> bool,
) -> Result<(Arc<State>, Option<Arc<Node>>), Unavailable> {
    let here = cluster.view();
    if let Some(node) = here.node_by_key(key).filter(|node| good(node)).cloned() {
        return Ok((here, Some(node)));
    }
    let everywhere = cluster.linearizable().await?;
    let node = everywhere.node_by_key(key).cloned();
    Ok((everywhere, node))
}

/// Whether the node's key is valid for this machine now.
pub(super) fn is_valid(node: &Node, machine: &MachineKey) -> bool {
    node.machine_key == *machine && !is_expired(node)
}

/// Whether the node has to log in again.
pub(super) fn is_expired(node: &Node) -> bool {
    node.expired || node.expiry.is_some_and(|expiry| expiry <= Time::now())
}
