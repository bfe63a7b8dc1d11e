//! Nodes come in: with a pre-authenticated key, or by a login that was approved.

use super::super::table::{Nodes, PreAuthKeys};
use super::super::*;
use super::step::Step;
use super::{nodes, session};
use crate::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};
use ipnet::Ipv4Net;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A machine polls within seconds of its registration, but may have to wait for a
/// server that it reaches: an ephemeral node is not taken for inactive between the two,
/// unless it has not come for so long that it never will.
const FIRST_POLL_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// A registration with a pre-authenticated key (protocol section 3.6).
///
/// A machine that comes back as it was (a container that runs `up --authkey` at
/// each start) is let in even if the key is spent by now, as long as it exists:
/// it then gains nothing that it did not have, and its expiry stays.
pub(super) fn with_key(step: &mut Step, prefix: &str, hash: &SecretHash, registration: &Registration) -> Outcome {
    let key = step.pre_auth_key_by_prefix(prefix).filter(|key| key.hash.is(hash));
    let key = key.cloned().ok_or(Refused::AuthKeyInvalid)?;
    let existing = node_for_key(step, &registration.machine_key, &registration.node_key, &key.owner)?;
    check_node_key(step, registration.node_key, registration.machine_key, existing.as_deref())?;
    check_request_tags(&registration.hostinfo, existing.as_deref())?;

    let arrival = Arrival {
        node_key: registration.node_key,
        hostinfo: &registration.hostinfo,
        cap_ver: registration.cap_ver,
        expiry: registration.expiry,
    };
    let unchanged = existing.as_ref().is_some_and(|node| is_unchanged(step, node, registration, &key));
    if let (true, Some(node)) = (unchanged, &existing) {
        return come_back(step, node.id, &arrival);
    }
    check_key(step, &key)?;
    if !key.reusable {
        step.put::<PreAuthKeys>(key.id, PreAuthKey { used: true, ..PreAuthKey::clone(&key) });
    }
    let terms = Terms {
        // A node that is tagged keeps its tags, whatever the key says.
        owner: match &existing {
            Some(node) if matches!(node.owner, Owner::Tags(_)) => node.owner.clone(),
            _ => key.owner.clone(),
        },
        method: RegisterMethod::AuthKey,
        auth_key: Some(key.id),
        ephemeral: key.ephemeral,
    };
    let id = match existing {
        Some(node) => renew(step, node.id, &arrival, terms)?,
        None => create(
            step,
            registration.machine_key,
            &arrival,
            terms,
            Lot { seed: registration.seed, v4_pools: &registration.v4_pools },
        )?,
    };
    Ok(Done::Node(id))
}

/// What a machine brings.
pub(super) struct Arrival<'a> {
    pub node_key: NodeKey,
    pub hostinfo: &'a Hostinfo,
    pub cap_ver: CapVer,
    /// What it asked for.
    pub expiry: Option<Time>,
}

/// On what terms a node is let in.
pub(super) struct Terms {
    pub owner: Owner,
    pub method: RegisterMethod,
    pub auth_key: Option<AuthKeyId>,
    pub ephemeral: bool,
}

/// What decides about a new node's addresses.
pub(super) struct Lot<'a> {
    pub seed: u64,
    /// As [`Registration::v4_pools`].
    pub v4_pools: &'a [Ipv4Net],
}

/// A new node.
pub(super) fn create(
    step: &mut Step,
    machine_key: MachineKey,
    arrival: &Arrival,
    terms: Terms,
    lot: Lot,
) -> Result<NodeId, Refused> {
    let id = NodeId(step.count(|c| {
        c.nodes += 1;
        c.nodes
    }));
    let now = step.now();
    let expiry = expiry(step, &terms.owner, arrival.expiry);
    let node = Node {
        id,
        machine_key,
        node_key: arrival.node_key,
        disco_key: None,
        owner: terms.owner,
        given_name: step.choose_name(&names::sanitize(&arrival.hostinfo.hostname)),
        renamed: false,
        ipv4: nodes::allocate_v4(step, lot.seed, lot.v4_pools)?,
        ipv6: nodes::allocate_v6(step, lot.seed)?,
        hostinfo: arrival.hostinfo.clone(),
        endpoints: Vec::new(),
        cap_ver: arrival.cap_ver,
        created: now,
        expiry,
        expired: false,
        last_seen: Some(now),
        register_method: terms.method,
        auth_key: terms.auth_key,
        ephemeral: terms.ephemeral,
        idle_since: terms.ephemeral.then(|| first_poll_due(step)),
        approved_routes: BTreeSet::new(),
        version: 0,
    };
    step.put::<Nodes>(id, node);
    Ok(id)
}

/// A node of this machine and owner logs in again: it keeps its id, addresses,
/// name, routes and endpoints, and what it does not send anew.
pub(super) fn renew(step: &mut Step, id: NodeId, arrival: &Arrival, terms: Terms) -> Result<NodeId, Refused> {
    let expiry = expiry(step, &terms.owner, arrival.expiry);
    let idle_since = (terms.ephemeral && !step.is_online(id)).then(|| first_poll_due(step));
    session::merge_hostinfo(step, id, arrival.hostinfo)?;
    step.edit_node(id, |node| {
        node.node_key = arrival.node_key;
        node.cap_ver = arrival.cap_ver;
        node.owner = terms.owner;
        node.expiry = expiry;
        node.expired = false;
        node.register_method = terms.method;
        node.auth_key = terms.auth_key;
        node.ephemeral = terms.ephemeral;
        node.idle_since = idle_since;
    })?;
    Ok(id)
}

/// Refuses a node key that is another node's: node keys are public, so anyone
/// could take a node's place with one.
pub(super) fn check_node_key(
    step: &Step,
    node_key: NodeKey,
    machine_key: MachineKey,
    existing: Option<&Node>,
) -> Result<(), Refused> {
    match step.node_by_key(&node_key) {
        Some(holder) if holder.machine_key != machine_key => Err(Refused::NodeKeyInUse),
        Some(holder) if existing.is_none_or(|node| node.id != holder.id) => Err(Refused::NodeKeyOfOtherOwner),
        _ => Ok(()),
    }
}

/// Whether the key of a node is past its expiry, applied or not.
pub(super) fn is_expired(node: &Node, now: Time) -> bool {
    node.expired || node.expiry.is_some_and(|expiry| expiry <= now)
}

/// The node that a machine's registration for `owner` is about.
fn node_for_key(
    step: &Step,
    machine: &MachineKey,
    node_key: &NodeKey,
    owner: &Owner,
) -> Result<Option<Arc<Node>>, Refused> {
    let nodes: Vec<_> = step.nodes_of_machine(machine).cloned().collect();
    let tagged = tagged_node(&nodes, node_key);
    match owner {
        Owner::User(_) => Ok(nodes.iter().find(|node| node.owner == *owner).cloned().or(tagged)),
        Owner::Tags(_) if tagged.is_some() => Ok(tagged),
        Owner::Tags(_) if nodes.len() > 1 => Err(Refused::AmbiguousOwnership),
        Owner::Tags(_) => Ok(nodes.into_iter().next()),
    }
}

/// A machine's tagged node: with several, the one whose key it is, else the oldest.
pub(super) fn tagged_node(nodes: &[Arc<Node>], node_key: &NodeKey) -> Option<Arc<Node>> {
    let tagged = || nodes.iter().filter(|node| matches!(node.owner, Owner::Tags(_)));
    tagged().find(|node| node.node_key == *node_key).or_else(|| tagged().next()).cloned()
}

/// Tags of a node that registers with a key come from the key alone. A node that
/// has the tags already may go on asking for them.
fn check_request_tags(hostinfo: &Hostinfo, existing: Option<&Node>) -> Result<(), Refused> {
    let has = |tag: &String| match existing.map(|node| &node.owner) {
        Some(Owner::Tags(tags)) => tags.iter().any(|own| own.as_str() == tag),
        _ => false,
    };
    if hostinfo.request_tags.iter().all(has) {
        return Ok(());
    }
    Err(Refused::TagsNotPermitted(format!("[{}]", hostinfo.request_tags.join(" "))))
}

fn is_unchanged(step: &Step, node: &Node, registration: &Registration, key: &PreAuthKey) -> bool {
    let converts = matches!((&node.owner, &key.owner), (Owner::User(_), Owner::Tags(_)));
    node.node_key == registration.node_key && !is_expired(node, step.now()) && !converts
}

fn come_back(step: &mut Step, id: NodeId, arrival: &Arrival) -> Outcome {
    session::merge_hostinfo(step, id, arrival.hostinfo)?;
    let first_poll_due = first_poll_due(step);
    step.edit_node(id, |node| {
        node.cap_ver = arrival.cap_ver;
        node.idle_since = node.idle_since.map(|since| since.max(first_poll_due));
    })?;
    Ok(Done::Node(id))
}

/// From when on the inactivity of an ephemeral node counts that registers now and has
/// not polled yet.
pub(super) fn first_poll_due(step: &Step) -> Time {
    step.led() + FIRST_POLL_PATIENCE
}

fn check_key(step: &Step, key: &PreAuthKey) -> Result<(), Refused> {
    if key.expiration.is_some_and(|expiration| expiration <= step.now()) {
        return Err(Refused::AuthKeyExpired);
    }
    if key.used && !key.reusable {
        return Err(Refused::AuthKeyUsed);
    }
    Ok(())
}

/// Tagged nodes never expire; personal ones when they asked to, else by default.
fn expiry(step: &Step, owner: &Owner, asked: Option<Time>) -> Option<Time> {
    let now = step.now();
    let default = step.settings().map(|settings| settings.node_expiry).filter(|expiry| !expiry.is_zero());
    match owner {
        Owner::Tags(_) => None,
        Owner::User(_) => asked.filter(|time| *time > now).or(default.map(|expiry| now + expiry)),
    }
}
