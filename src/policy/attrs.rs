//! Node attributes.

use super::Policy;
use super::alias::Alias;
use super::posture::Facts;
use super::ranges::Range;
use super::tailnet::{Device, Tailnet};
use crate::state::{NodeId, Owner};
use ipnet::Ipv4Net;
use serde_json::Value;
use std::collections::BTreeMap;

/// Attributes of one node, with their values; most have none.
pub type Attributes = BTreeMap<String, Vec<Value>>;

/// No IPv4 address: for networks whose own addresses are those of the tailnet.
pub(super) const DISABLE_IPV4: &str = "disable-ipv4";

impl Policy {
    /// Whether any device may get an attribute.
    pub(super) fn gives_attributes(&self) -> bool {
        !self.attrs.is_empty() || self.randomize_client_port || self.disable_ipv4
    }

    /// Whether any device may get an attribute that shows in what others are told of it.
    pub(super) fn gives_traits(&self) -> bool {
        let mut given = self.attrs.iter().flat_map(|entry| &entry.attributes);
        self.disable_ipv4 || given.any(|name| name == DISABLE_IPV4)
    }

    /// Where a new node of this owner gets its IPv4 address, in order; empty: anywhere.
    pub(super) fn ip_pools(&self, tailnet: &Tailnet, owner: &Owner) -> Vec<Ipv4Net> {
        // It has no address yet, so no target that is one fits it.
        let (ips, routes, facts) = (Vec::new(), Vec::new(), Facts::default());
        let device = Device { id: NodeId(0), owner: owner.clone(), ips, routes, exit: false, facts };
        let is_target = |alias: &Alias| match alias {
            Alias::Any => true,
            _ => alias.owns(alias.users(&self.names, tailnet).as_ref(), &device),
        };
        let entries = self.attrs.iter().filter(|entry| !entry.pools.is_empty());
        entries.filter(|entry| entry.targets.iter().any(is_target)).flat_map(|entry| entry.pools.clone()).collect()
    }

    /// The attributes that the policy gives to a device.
    pub(super) fn attributes(&self, tailnet: &Tailnet, device: &Device) -> Attributes {
        let mut attributes = Attributes::new();
        for entry in &self.attrs {
            let is_target = |alias: &Alias| match alias {
                Alias::Any => true,
                Alias::Host(_, net) | Alias::Net(net) | Alias::Beyond(net) => device.is_in(&Range::from(*net)),
                _ => alias.owns(alias.users(&self.names, tailnet).as_ref(), device),
            };
            if entry.targets.iter().any(is_target) {
                for name in &entry.attributes {
                    attributes.entry(name.clone()).or_default();
                }
                for (name, values) in &entry.app {
                    attributes.entry(name.clone()).or_default().extend(values.iter().cloned());
                }
            }
        }
        let mut add = |name: &str| {
            attributes.entry(name.to_owned()).or_default();
        };
        if self.randomize_client_port {
            add("randomize-client-port");
        }
        if self.disable_ipv4 {
            add(DISABLE_IPV4);
        }
        if attributes.contains_key("funnel") {
            let ports = "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000";
            attributes.entry(ports.into()).or_default();
        }
        attributes
    }
}
