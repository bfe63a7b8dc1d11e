//! Node attributes.

use super::Policy;
use super::alias::Alias;
use super::ranges::Range;
use super::tailnet::{Device, Tailnet};
use std::collections::BTreeSet;

impl Policy {
    /// Whether any device may get an attribute.
    pub(super) fn gives_attributes(&self) -> bool {
        !self.attrs.is_empty() || self.randomize_client_port
    }

    /// The attributes that the policy gives to a device.
    pub(super) fn attributes(&self, tailnet: &Tailnet, device: &Device) -> BTreeSet<String> {
        let mut attributes = BTreeSet::new();
        for entry in &self.attrs {
            let is_target = |alias: &Alias| match alias {
                Alias::Any => true,
                Alias::Host(_, net) | Alias::Net(net) | Alias::Beyond(net) => device.is_in(&Range::from(*net)),
                _ => alias.owns(alias.users(&self.names, tailnet).as_ref(), device),
            };
            if entry.targets.iter().any(is_target) {
                attributes.extend(entry.attributes.iter().cloned());
            }
        }
        if attributes.contains("funnel") {
            attributes.insert("https://tailscale.com/cap/funnel-ports?ports=443,8443,10000".into());
        }
        if self.randomize_client_port {
            attributes.insert("randomize-client-port".into());
        }
        attributes
    }
}
