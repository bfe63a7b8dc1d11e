//! The DNS configuration as a part of messages.

use super::{Json, to_json};
use crate::dns::{self, DnsSettings, NextDns};
use crate::netmap::lock;
use crate::policy::Attributes;
use crate::state::{Node, Settings, State};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Makes `DNSConfig`s, and keeps the last one as long as it is everybody's.
pub struct DnsConfigs {
    configured: watch::Receiver<Arc<DnsSettings>>,
    last: Mutex<Option<Made>>,
}

struct Made {
    configured: Arc<DnsSettings>,
    /// Base domain and prefixes.
    settings: Arc<Settings>,
    json: Json,
}

impl DnsConfigs {
    /// `configured` is the `dns:` section.
    pub fn new(configured: watch::Receiver<Arc<DnsSettings>>) -> Self {
        Self { configured, last: Mutex::default() }
    }

    /// The configuration of one node.
    pub fn get(&self, state: &State, node: &Node, attributes: &Attributes) -> Json {
        let configured = self.configured.borrow().clone();
        let next_dns = NextDns::of(attributes.keys().map(String::as_str));
        let make = || to_json(&dns::config(&configured, state, node, &next_dns));
        let is_everybodys = !configured.differs_by_node();
        let Some(settings) = state.settings().filter(|_| is_everybodys) else { return make() };
        let mut last = lock(&self.last);
        if let Some(made) = &*last
            && Arc::ptr_eq(&made.configured, &configured)
            && Arc::ptr_eq(&made.settings, settings)
        {
            return made.json.clone();
        }
        let json = make();
        *last = Some(Made { configured: configured.clone(), settings: settings.clone(), json: json.clone() });
        json
    }
}
