//! One node as JSON: for its peers, and for itself (protocol section 6.1).

use super::profile::owner;
use super::{Json, to_json};
use crate::policy::{Attributes, Told};
use crate::state::{Node, Owner, Settings, State, Tag, Time};
use crate::tailcfg::{self, CapVer};
use ipnet::IpNet;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest DNS name, with its trailing dot.
const NAME_LIMIT: usize = 254;

/// Everything that a node's JSON is made of. Two that are equal give the same JSON.
#[derive(Clone, Debug)]
pub struct Shown {
    pub node: Arc<Node>,
    settings: Option<Arc<Settings>>,
    pub online: bool,
}

impl Shown {
    /// The node as it is in `state`.
    pub fn new(state: &State, node: &Arc<Node>) -> Self {
        Self { node: node.clone(), settings: state.settings().cloned(), online: state.is_online(node.id) }
    }

    /// Whether the node shows the same in `state`, where this is its record: that has a
    /// new version with everything that others see of it.
    pub fn is_of(&self, state: &State, node: &Node) -> bool {
        let same_settings = match (&self.settings, state.settings()) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        self.node.version == node.version && same_settings
    }

    /// The full name, with a trailing dot.
    fn name(&self) -> String {
        let base_domain = self.settings.as_ref().map_or("", |s| s.base_domain.as_str());
        if base_domain.is_empty() {
            return format!("{}.", self.node.given_name);
        }
        format!("{}.{base_domain}.", self.node.given_name)
    }

    /// The addresses with full-length masks, IPv4 first.
    fn addresses(&self) -> Vec<IpNet> {
        let v4 = self.node.ipv4.map(|ip| IpNet::from(std::net::IpAddr::from(ip)));
        let v6 = self.node.ipv6.map(|ip| IpNet::from(std::net::IpAddr::from(ip)));
        v4.into_iter().chain(v6).collect()
    }
}

/// What every client is told that it may do itself.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    pub taildrop: bool,
    pub auto_update: bool,
}

/// The node for its peers. `None`: it has no name that clients take, and would
/// break the maps that it is in.
pub fn peer(shown: &Shown, told: &Told) -> Option<Json> {
    let name = valid_name(shown)?;
    let mut node = whole(shown, told, &name);
    // Whoever may use it as an exit node is offered it as one, as Tailscale does.
    if !told.exits.is_empty() {
        node.cap_map.insert("suggest-exit-node", Vec::new());
    }
    Some(to_json(&node))
}

/// The node for itself.
pub struct Own {
    pub json: Json,
    /// The JSON of what a client has to be told about itself. The rest it said
    /// itself, and an echo of that would make it rebuild its map for nothing.
    pub essence: String,
}

/// The node for itself, with the attributes that the policy gives it; `None` as with [`peer`].
pub fn own(shown: &Shown, told: &Told, features: Features, attributes: &Attributes) -> Option<Own> {
    let name = valid_name(shown)?;
    let mut node = whole(shown, told, &name);
    node.cap_map = own_capabilities(features);
    node.cap_map.extend(attributes.iter().map(|(name, values)| (name.as_str(), values.clone())));
    let json = to_json(&node);
    let essence = tailcfg::Node {
        disco_key: None,
        endpoints: Vec::new(),
        home_derp: 0,
        hostinfo: None,
        cap: CapVer(0),
        last_seen: None,
        online: None,
        ..node
    };
    Some(Own { json, essence: to_json(&essence).get().to_owned() })
}

/// What a client is told whose node was deleted: its key is no longer valid, so
/// that it shows that it needs a login instead of keeping a dead map.
pub fn farewell(last: &Shown, features: Features) -> Option<Json> {
    /// More than the minute of clock skew that clients do not correct.
    const PAST: std::time::Duration = std::time::Duration::from_secs(120);
    let mut node = Node::clone(&last.node);
    node.expiry = Some(Time::now() - PAST);
    node.expired = true;
    let shown = Shown { node: Arc::new(node), online: false, ..last.clone() };
    Some(own(&shown, &Told::default(), features, &Attributes::new())?.json)
}

fn valid_name(shown: &Shown) -> Option<String> {
    let name = shown.name();
    if shown.node.given_name.is_empty() || name.len() > NAME_LIMIT {
        tracing::warn!(node = %shown.node.id, name, "not shown to anyone: its name is empty or too long; rename it");
        return None;
    }
    Some(name)
}

fn whole<'a>(shown: &'a Shown, told: &Told, name: &'a str) -> tailcfg::Node<'a> {
    let node = &*shown.node;
    let mut addresses = shown.addresses();
    addresses.retain(|address| !(told.no_ipv4 && address.addr().is_ipv4()));
    let allowed_ips = addresses.iter().chain(&told.routes).chain(&told.exits).copied().collect();
    // Nobody should try to reach a node whose key is no longer valid.
    let reachable = !node.expired;
    tailcfg::Node {
        id: node.id.0,
        stable_id: node.id.to_string(),
        name,
        user: owner(node).0,
        key: node.node_key,
        key_expiry: node.expiry.map(Time::to_jiff),
        machine: node.machine_key,
        disco_key: node.disco_key,
        addresses,
        allowed_ips,
        endpoints: if reachable { node.endpoints.iter().map(|e| e.addr).collect() } else { Vec::new() },
        home_derp: if reachable { home_derp(node) } else { 0 },
        hostinfo: hostinfo(node),
        created: node.created.to_jiff(),
        cap: node.cap_ver,
        tags: tags(node),
        primary_routes: told.routes.clone(),
        last_seen: if shown.online { None } else { node.last_seen.map(Time::to_jiff) },
        online: Some(shown.online),
        machine_authorized: !node.expired,
        cap_map: BTreeMap::new(),
        expired: node.expired,
    }
}

/// The region of the home relay, 0 if unknown.
pub fn home_derp(node: &Node) -> u32 {
    node.hostinfo.preferred_derp.and_then(|region| u32::try_from(region).ok()).unwrap_or(0)
}

/// What the node said about its machine, without `NetInfo`: peers need of that
/// only the home relay, and its latencies change all the time.
fn hostinfo(node: &Node) -> Option<&RawValue> {
    serde_json::from_str(&node.hostinfo.json).ok()
}

fn tags(node: &Node) -> Vec<&str> {
    match &node.owner {
        Owner::User(_) => Vec::new(),
        Owner::Tags(tags) => tags.iter().map(Tag::as_str).collect(),
    }
}

fn own_capabilities(features: Features) -> BTreeMap<&'static str, Vec<serde_json::Value>> {
    let mut capabilities = BTreeMap::from([
        ("https://tailscale.com/cap/is-admin", vec![]),
        ("https://tailscale.com/cap/ssh", vec![]),
        ("default-auto-update", vec![features.auto_update.into()]),
    ]);
    if features.taildrop {
        capabilities.insert("https://tailscale.com/cap/file-sharing", vec![]);
    }
    capabilities
}
