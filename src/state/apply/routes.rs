//! Routes: what is approved, what is in effect, and which router has it.

use super::super::table::Primaries;
use super::super::view::members;
use super::super::*;
use super::register::is_expired;
use super::step::Step;
use ipnet::IpNet;
use std::collections::BTreeSet;

/// The two exit routes are always approved together (Headscale's rule).
pub(super) fn set_approved(step: &mut Step, id: NodeId, routes: &BTreeSet<IpNet>) -> Outcome {
    let mut approved: BTreeSet<IpNet> = routes.iter().map(IpNet::trunc).collect();
    if approved.iter().any(is_exit) {
        approved.insert(IpNet::V4(Default::default()));
        approved.insert(IpNet::V6(Default::default()));
    }
    step.edit_node(id, |node| node.approved_routes = approved)?;
    Ok(Done::Node(id))
}

/// Adds what a policy approved; see [`Command::ApproveRoutes`].
pub(super) fn approve(
    step: &mut Step,
    id: NodeId,
    owner: &Owner,
    routes: &BTreeSet<IpNet>,
    policy_version: u64,
) -> Outcome {
    let node = step.node(id).ok_or(Refused::NodeNotFound)?;
    if policy_version != step.policy_version() || node.owner != *owner {
        return Err(Refused::Stale);
    }
    let all: BTreeSet<IpNet> = node.approved_routes.union(routes).copied().collect();
    set_approved(step, id, &all)
}

/// What a node announces and is approved, exit routes included; sorted.
pub(in crate::state) fn effective_routes(node: &Node) -> Vec<IpNet> {
    let announced: BTreeSet<IpNet> = node.hostinfo.routable_ips.iter().map(IpNet::trunc).collect();
    announced.intersection(&node.approved_routes).copied().collect()
}

/// As [`effective_routes`], without exit routes.
pub(in crate::state) fn subnet_routes(node: &Node) -> Vec<IpNet> {
    let mut routes = effective_routes(node);
    routes.retain(|route| !is_exit(route));
    routes
}

fn is_exit(route: &IpNet) -> bool {
    route.prefix_len() == 0
}

/// Decides anew who has the routes of the nodes that this command wrote to.
///
/// The router that has a route keeps it while it can serve it, so that nothing
/// flaps; else it goes to the online router with the lowest id. A router whose
/// replica has not been heard of for some time is the last choice. When none is
/// online it stays where it was, if that one is still a router for it.
pub(super) fn elect(step: &mut Step) {
    let mut routes = BTreeSet::new();
    for node in step.touched_nodes() {
        for state in [step.before(), step] {
            routes.extend(state.node(node).map(|node| subnet_routes(node)).unwrap_or_default());
            routes.extend(state.primary_routes(node));
        }
    }
    for route in routes {
        let old = step.tables.primaries.get(&route).map(|node| **node);
        let new = choose(step, route, old);
        if new == old {
            continue;
        }
        match new {
            Some(node) => step.put::<Primaries>(route, node),
            None => step.delete::<Primaries>(&route),
        }
        [old, new].into_iter().flatten().for_each(|node| step.touch_node(node));
    }
}

fn choose(step: &Step, route: IpNet, old: Option<NodeId>) -> Option<NodeId> {
    let routers: Vec<NodeId> = members(&step.indexes.router, route).collect();
    let old = old.filter(|old| routers.contains(old));
    let is_valid = |id: &NodeId| step.node(*id).is_some_and(|node| !is_expired(node, step.now()));
    let serves = |id: &NodeId| step.is_reached(*id) && is_valid(id);
    let may_serve = |id: &NodeId| step.is_online(*id) && is_valid(id);
    let first = |able: &dyn Fn(&NodeId) -> bool| routers.iter().copied().find(able);
    let old_may_serve = old.filter(may_serve);
    old.filter(serves).or_else(|| first(&serves)).or(old_may_serve).or_else(|| first(&may_serve)).or(old)
}
