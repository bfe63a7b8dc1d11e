//! Routes that the policy approves by itself (`autoApprovers`): the leader does it for all.
//!
//! It looks at a node when it announces other routes or has another owner, and at all
//! nodes when the policy changes or it becomes the leader. What an administrator takes
//! back stays taken back until then.

use crate::cluster::{Cluster, WriteError};
use crate::policy::Policies;
use crate::state::{Batch, Change, Command, Node, NodeId, Refused, State};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// How often a decision is made anew when what it relied on changed under way.
const ATTEMPTS: usize = 5;

/// Approves routes whenever this replica is the leader, until `stop`.
pub async fn run(cluster: Cluster, policies: Arc<Policies>, stop: CancellationToken) {
    let mut leadership = cluster.leadership();
    let mut batches = cluster.subscribe();
    let mut before = cluster.view();
    if cluster.is_leader() {
        look_at(&cluster, &policies, all(&before)).await;
    }
    loop {
        let nodes = tokio::select! {
            batch = batches.recv() => match batch {
                Ok(batch) => {
                    let nodes = touched(&before, &batch);
                    before = batch.view.clone();
                    nodes
                }
                Err(RecvError::Lagged(_)) => {
                    before = cluster.view();
                    all(&before)
                }
                Err(RecvError::Closed) => return,
            },
            changed = leadership.changed() => match changed {
                Ok(()) => all(&cluster.view()),
                Err(_) => return,
            },
            () = stop.cancelled() => return,
        };
        if cluster.is_leader() {
            look_at(&cluster, &policies, nodes).await;
        }
    }
}

fn all(view: &State) -> Vec<NodeId> {
    view.nodes().map(|node| node.id).collect()
}

/// Nodes for which the policy may say something else now.
fn touched(before: &State, batch: &Batch) -> Vec<NodeId> {
    if batch.changes.contains(&Change::PolicyChanged) {
        return all(&batch.view);
    }
    let differs = |id: &NodeId| match (before.node(*id), batch.view.node(*id)) {
        (Some(old), Some(new)) => old.owner != new.owner || old.hostinfo.routable_ips != new.hostinfo.routable_ips,
        (None, new) => new.is_some(),
        (Some(_), None) => false,
    };
    let changed = batch.changes.iter().filter_map(|change| match change {
        Change::NodeAdded(node) => Some(*node),
        Change::NodeChanged { node, what } if what.record => Some(*node),
        _ => None,
    });
    changed.filter(differs).collect()
}

async fn look_at(cluster: &Cluster, policies: &Policies, nodes: Vec<NodeId>) {
    for id in nodes {
        for _ in 0..ATTEMPTS {
            let view = cluster.view();
            let Some(node) = view.node(id) else { break };
            let routes = missing(policies, &view, node);
            if routes.is_empty() {
                break;
            }
            let (owner, policy_version) = (node.owner.clone(), view.policy_version());
            match cluster.write(Command::ApproveRoutes { id, owner, routes, policy_version }).await {
                Ok(_) => break,
                Err(WriteError::Refused(Refused::Stale)) => {}
                Err(error) => {
                    // Whoever leads next looks at all nodes.
                    tracing::warn!(node = %id, %error, "the routes that the policy approves were not approved");
                    break;
                }
            }
        }
    }
}

/// What the node announces, is not approved yet, and the policy approves.
fn missing(policies: &Policies, view: &State, node: &Node) -> BTreeSet<IpNet> {
    if node.hostinfo.routable_ips.is_empty() {
        return BTreeSet::new();
    }
    let policy = policies.in_force(view);
    let announced = node.hostinfo.routable_ips.iter().map(IpNet::trunc);
    let new = announced.filter(|route| !node.approved_routes.contains(route));
    new.filter(|route| policy.approves(&node.owner, *route)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Allocation, Owner, Registration, SecretHash, Settings, Tag};
    use crate::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};

    const POLICY: &str = r#"{"tagOwners": {"tag:r": []},
        "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:r"]}, "exitNode": ["tag:r"]}}"#;

    async fn register(cluster: &Cluster) {
        let hash = SecretHash::of("k");
        let owner = Owner::Tags(["tag:r".parse::<Tag>().expect("a tag")].into());
        let (prefix, reusable, ephemeral, expiration) = ("k".to_owned(), false, false, None);
        let key = Command::CreatePreAuthKey { prefix: prefix.clone(), hash, owner, reusable, ephemeral, expiration };
        cluster.write(key).await.expect("a key");
        let hostinfo = Hostinfo {
            routable_ips: ["10.1.0.0/16", "192.168.0.0/16", "0.0.0.0/0"].map(|r| r.parse().expect("a route")).into(),
            ..Hostinfo::default()
        };
        let registration = Registration {
            machine_key: MachineKey([1; 32]),
            node_key: NodeKey([1; 32]),
            hostinfo,
            cap_ver: CapVer(142),
            expiry: None,
            seed: 0,
            v4_pools: Vec::new(),
        };
        cluster.write(Command::RegisterWithKey { prefix, hash, registration }).await.expect("a node");
    }

    async fn set_policy(cluster: &Cluster) {
        let set = Command::SetPolicy { text: POLICY.into(), author: String::new(), expected_version: None };
        cluster.write(set).await.expect("a policy");
    }

    async fn approved(cluster: &Cluster) -> Vec<String> {
        let mut batches = cluster.subscribe();
        loop {
            let view = cluster.view();
            let routes = view.nodes().next().map(|node| node.approved_routes.clone()).unwrap_or_default();
            if !routes.is_empty() {
                return routes.iter().map(IpNet::to_string).collect();
            }
            let _ = batches.recv().await;
        }
    }

    #[tokio::test]
    async fn what_the_policy_approves_is_approved_when_it_is_announced_and_when_the_policy_comes() {
        for policy_first in [true, false] {
            let cluster = Cluster::in_memory(Settings {
                prefix_v4: None,
                prefix_v6: None,
                allocation: Allocation::Sequential,
                base_domain: String::new(),
                node_expiry: std::time::Duration::ZERO,
                ephemeral_timeout: std::time::Duration::ZERO,
            });
            let stop = CancellationToken::new();
            tokio::spawn(run(cluster.clone(), Arc::default(), stop.clone()));
            if policy_first {
                set_policy(&cluster).await;
                register(&cluster).await;
            } else {
                register(&cluster).await;
                set_policy(&cluster).await;
            }
            assert_eq!(approved(&cluster).await, ["0.0.0.0/0", "10.1.0.0/16", "::/0"]);
            stop.cancel();
        }
    }
}
