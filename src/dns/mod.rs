//! The DNS configuration that clients get (protocol section 6.6).
//!
//! [`config()`] makes it, [`watch_extra_records`] follows the file with records
//! that clients answer by themselves.

mod config;
mod extra_records;
mod nameserver;
mod reverse;

pub use config::{DnsConfig, Resolver, config};
pub use extra_records::{ExtraRecord, RecordError, parse_extra_records, watch_extra_records};
pub use nameserver::{NextDns, is_nameserver};

/// The `dns:` section of the configuration, with the extra records read from their file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSettings {
    pub magic_dns: bool,
    pub override_local_dns: bool,
    /// IP addresses or DoH URLs: what [`is_nameserver`] accepts.
    pub nameservers: Vec<String>,
    /// Domain and its name servers, in the order of the file.
    pub split: Vec<(String, Vec<String>)>,
    /// Without the base domain, which always comes first.
    pub search_domains: Vec<String>,
    pub extra_records: Vec<ExtraRecord>,
}

impl DnsSettings {
    /// Whether nodes get different configurations: NextDNS is told which node asks.
    pub fn differs_by_node(&self) -> bool {
        let split = self.split.iter().flat_map(|(_, servers)| servers);
        self.nameservers.iter().chain(split).any(|server| nameserver::is_next_dns(server))
    }
}
