//! What a policy means, node by node: slow, and plain to see that it is right. Classes
//! have to give the same.

mod compile;
mod filter;
mod random;

use super::Policy;
use super::attrs::Attributes;
use super::ssh::{self, SshEntry};
use super::tailnet::Tailnet;
use compile::Entry;
use std::sync::Arc;

/// A policy applied to each device of a tailnet by itself. Devices are by their place.
struct Reference {
    policy: Arc<Policy>,
    tailnet: Tailnet,
    entries: Vec<Entry>,
    ssh: Vec<SshEntry>,
}

impl Reference {
    fn new(policy: Arc<Policy>, tailnet: Tailnet) -> Self {
        let rules = policy.rules.as_deref();
        let entries = if policy.closed { Vec::new() } else { compile::entries(rules, &policy.names, &tailnet) };
        let ssh = ssh::entries(&policy.ssh, &policy.names, &tailnet);
        Self { policy, tailnet, entries, ssh }
    }

    /// Whether one may reach the other.
    fn see_each_other(&self, a: usize, b: usize) -> bool {
        let reaches = |from: usize, to: usize| {
            let device = &self.tailnet.devices[to];
            let lets = |entry: &Entry| {
                entry.sources.devices[from] && entry.grant.targets().iter().any(|target| target.is_at(device, to))
            };
            self.entries.iter().any(lets)
        };
        reaches(a, b) || reaches(b, a)
    }

    fn filter(&self, place: usize) -> String {
        filter::packet_filter(&self.entries, &self.tailnet.devices[place], place)
    }

    fn ssh(&self, place: usize) -> String {
        ssh::policy(&self.ssh, place)
    }

    fn attributes(&self, place: usize) -> Attributes {
        self.policy.attributes(&self.tailnet, &self.tailnet.devices[place])
    }
}
