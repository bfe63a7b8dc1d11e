//! The DNS configuration as a part of messages.

use super::{Json, Renderer, to_json};
use crate::state::{Node, State};

impl Renderer {
    /// `DNSConfig` for one node.
    pub fn dns_config(&self, state: &State, _viewer: &Node) -> Json {
        let settings = self.dns.borrow().clone();
        let base = state.settings().map_or("", |s| s.base_domain.as_str());
        let domains: Vec<&str> = [base]
            .into_iter()
            .chain(settings.search_domains.iter().map(String::as_str))
            .filter(|d| !d.is_empty())
            .collect();
        to_json(&serde_json::json!({ "Domains": domains, "Proxied": settings.magic_dns }))
    }
}
