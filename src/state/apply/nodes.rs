//! Nodes that are there: names, tags, expiry, addresses, and their end.

use super::super::table::{Nodes, Sessions};
use super::super::*;
use super::step::Step;
use crate::tailcfg::{MachineKey, NodeKey};
use ipnet::{Ipv4Net, Ipv6Net};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub(super) fn logout(step: &mut Step, node_key: &NodeKey, machine_key: &MachineKey) -> Outcome {
    let node = own_node(step, node_key, machine_key)?;
    if node.ephemeral {
        remove(step, node.id);
        return Ok(Done::NodeGone);
    }
    if !node.expired {
        set_expiry(step, node.id, Expiry::Now)?;
    }
    Ok(Done::Node(node.id))
}

pub(super) fn shorten_expiry(step: &mut Step, node_key: &NodeKey, machine_key: &MachineKey, expiry: Time) -> Outcome {
    let node = own_node(step, node_key, machine_key)?;
    if node.expired || node.expiry.is_some_and(|current| expiry > current) {
        return Err(Refused::ExtendingKey);
    }
    set_expiry(step, node.id, Expiry::At(expiry))
}

pub(super) fn set_expiry(step: &mut Step, id: NodeId, expiry: Expiry) -> Outcome {
    let now = step.now();
    let expiry = match expiry {
        Expiry::Never => None,
        Expiry::Now => Some(now),
        Expiry::At(time) => Some(time.max(now)),
    };
    step.edit_node(id, |node| {
        node.expiry = expiry;
        node.expired = expiry.is_some_and(|expiry| expiry <= now);
    })?;
    Ok(Done::Node(id))
}

pub(super) fn rename(step: &mut Step, id: NodeId, given_name: &str) -> Outcome {
    if step.node(id).is_none() {
        return Err(Refused::NodeNotFound);
    }
    let base_domain = step.settings().map_or("", |settings| &settings.base_domain);
    names::validate(given_name, base_domain).map_err(Refused::InvalidName)?;
    if step.node_by_name(given_name).is_some_and(|other| other.id != id) {
        return Err(Refused::NameTaken(given_name.into()));
    }
    step.edit_node(id, |node| {
        node.given_name = given_name.into();
        node.renamed = true;
    })?;
    Ok(Done::Node(id))
}

/// Tagged nodes belong to their tags, and never expire.
pub(super) fn set_tags(step: &mut Step, id: NodeId, tags: &BTreeSet<Tag>, policy_version: u64) -> Outcome {
    if step.node(id).is_none() {
        return Err(Refused::NodeNotFound);
    }
    if tags.is_empty() {
        return Err(Refused::NoTags);
    }
    if policy_version != step.policy_version() {
        return Err(Refused::Stale);
    }
    step.edit_node(id, |node| {
        // Headscale's administrators may set an expiry on a tagged node; it stays
        // when only the tags change.
        if matches!(node.owner, Owner::User(_)) {
            node.expiry = None;
            node.expired = false;
        }
        node.owner = Owner::Tags(tags.clone());
    })?;
    Ok(Done::Node(id))
}

pub(super) fn delete(step: &mut Step, id: NodeId) -> Outcome {
    if step.node(id).is_none() {
        return Err(Refused::NodeNotFound);
    }
    remove(step, id);
    Ok(Done::Nothing)
}

/// The end of a node, and of its sessions.
pub(super) fn remove(step: &mut Step, id: NodeId) {
    let sessions: Vec<_> = step.sessions_of(id).collect();
    for session in sessions {
        step.delete::<Sessions>(&session);
    }
    step.delete::<Nodes>(&id);
}

pub(super) fn backfill_ips(step: &mut Step, seed: u64) -> Outcome {
    let mut changes = Vec::new();
    let nodes: Vec<Arc<Node>> = step.nodes().cloned().collect();
    for node in nodes {
        let seed = seed.wrapping_add(node.id.0);
        let (v4, v6) = prefixes(step);
        let words = |family: &str, old: Option<String>, new: Option<String>| {
            let whom = format!("Node({}) {:?}", node.id, node.hostinfo.hostname);
            match (old, new) {
                (None, Some(new)) => Some(format!("assigned {family} {new:?} to {whom}")),
                (Some(old), None) => Some(format!("removing {family} {old:?} from {whom}")),
                _ => None,
            }
        };
        let ipv4 = match (node.ipv4, v4) {
            (Some(address), Some(_)) => Some(address),
            (_, _) => allocate_v4(step, seed, &[])?,
        };
        let ipv6 = match (node.ipv6, v6) {
            (Some(address), Some(_)) => Some(address),
            (_, _) => allocate_v6(step, seed)?,
        };
        changes.extend(words("IPv4", node.ipv4.map(|a| a.to_string()), ipv4.map(|a| a.to_string())));
        changes.extend(words("IPv6", node.ipv6.map(|a| a.to_string()), ipv6.map(|a| a.to_string())));
        step.edit_node(node.id, |node| (node.ipv4, node.ipv6) = (ipv4, ipv6))?;
    }
    Ok(Done::Changes(changes))
}

/// A free IPv4 address, out of `pools` if there are any; `None`: the tailnet has no IPv4.
pub(super) fn allocate_v4(step: &mut Step, seed: u64, pools: &[Ipv4Net]) -> Result<Option<Ipv4Addr>, Refused> {
    let Some(settings) = step.settings().cloned() else { return Err(Refused::NotBootstrapped) };
    let Some(prefix) = settings.prefix_v4 else { return Ok(None) };
    if !pools.is_empty() {
        let mut free = pools.iter().filter_map(|pool| addresses::free_v4(*pool, &settings, &step.indexes, None, seed));
        let all = || pools.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        return free.next().map(Some).ok_or_else(|| Refused::AddressesExhausted(all()));
    }
    let last = step.tables.counters.get(&()).and_then(|c| c.last_v4);
    let free = addresses::free_v4(prefix, &settings, &step.indexes, last, seed);
    let address = free.ok_or_else(|| Refused::AddressesExhausted(prefix.to_string()))?;
    step.count(|c| c.last_v4 = Some(address));
    Ok(Some(address))
}

/// A free IPv6 address; `None`: the tailnet has no IPv6.
pub(super) fn allocate_v6(step: &mut Step, seed: u64) -> Result<Option<Ipv6Addr>, Refused> {
    let Some(settings) = step.settings().cloned() else { return Err(Refused::NotBootstrapped) };
    let Some(prefix) = settings.prefix_v6 else { return Ok(None) };
    let last = step.tables.counters.get(&()).and_then(|c| c.last_v6);
    let free = addresses::free_v6(prefix, &settings, &step.indexes, last, seed);
    let address = free.ok_or_else(|| Refused::AddressesExhausted(prefix.to_string()))?;
    step.count(|c| c.last_v6 = Some(address));
    Ok(Some(address))
}

fn prefixes(step: &Step) -> (Option<Ipv4Net>, Option<Ipv6Net>) {
    step.settings().map_or((None, None), |settings| (settings.prefix_v4, settings.prefix_v6))
}

/// The node that a client speaks of as its own.
fn own_node(step: &Step, node_key: &NodeKey, machine_key: &MachineKey) -> Result<Arc<Node>, Refused> {
    let node = step.node_by_key(node_key).ok_or(Refused::NodeKeyUnknown)?;
    if node.machine_key != *machine_key {
        return Err(Refused::MachineMismatch);
    }
    Ok(node.clone())
}
