//! What one node is told about DNS.

use super::nameserver::{NextDns, for_node};
use super::reverse::{zones_v4, zones_v6};
use super::{DnsSettings, ExtraRecord};
use crate::state::{Node, State};
use serde::Serialize;
use std::collections::BTreeMap;

/// `tailcfg.DNSConfig`. What is empty is left out: strict clients take no `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DnsConfig {
    /// Name servers in place of the node's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<Resolver>,
    /// Name servers by domain; an empty list: the client answers by itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<String, Vec<Resolver>>,
    /// Name servers for a node that has none of its own that it could use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fallback_resolvers: Vec<Resolver>,
    /// Search domains, the base domain first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// MagicDNS.
    pub proxied: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_records: Vec<ExtraRecord>,
}

/// `dnstype.Resolver`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Resolver {
    pub addr: String,
}

/// The DNS configuration of `node`: the same for all nodes unless
/// [`DnsSettings::differs_by_node`].
pub fn config(settings: &DnsSettings, state: &State, node: &Node, next_dns: &NextDns) -> DnsConfig {
    let resolvers = |servers: &[String]| -> Vec<Resolver> {
        servers.iter().map(|server| Resolver { addr: for_node(server, node, next_dns) }).collect()
    };
    let global = resolvers(&settings.nameservers);
    let (resolvers_in_place, fallback) =
        if settings.override_local_dns { (global, Vec::new()) } else { (Vec::new(), global) };
    let mut routes = if settings.magic_dns { own_zones(state) } else { BTreeMap::new() };
    routes.extend(settings.split.iter().map(|(domain, servers)| (domain.clone(), resolvers(servers))));
    DnsConfig {
        resolvers: resolvers_in_place,
        routes,
        fallback_resolvers: fallback,
        domains: domains(settings, state),
        proxied: settings.magic_dns,
        extra_records: settings.extra_records.clone(),
    }
}

/// The reverse zones of the tailnet's addresses, which MagicDNS answers.
fn own_zones(state: &State) -> BTreeMap<String, Vec<Resolver>> {
    let (v4, v6) = state.settings().map_or((None, None), |settings| (settings.prefix_v4, settings.prefix_v6));
    let zones = v4.map(zones_v4).into_iter().flatten().chain(v6.map(zones_v6).into_iter().flatten());
    zones.map(|zone| (zone, Vec::new())).collect()
}

fn domains(settings: &DnsSettings, state: &State) -> Vec<String> {
    let base = state.settings().map(|settings| settings.base_domain.clone());
    let mut domains: Vec<String> = Vec::new();
    for domain in base.into_iter().chain(settings.search_domains.iter().cloned()) {
        let domain = domain.trim_end_matches('.').to_owned();
        if !domain.is_empty() && !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::*;
    use crate::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};
    use std::time::Duration;

    fn state() -> State {
        let settings = Settings {
            prefix_v4: Some("100.64.0.0/10".parse().expect("a prefix")),
            prefix_v6: Some("fd7a:115c:a1e0::/48".parse().expect("a prefix")),
            allocation: Allocation::Sequential,
            base_domain: "example.net".into(),
            node_expiry: Duration::ZERO,
            ephemeral_timeout: Duration::ZERO,
        };
        let keys = ServerKeys {
            cluster_id: String::new(),
            noise_public: MachineKey([1; 32]),
            legacy_public: MachineKey([2; 32]),
            sealed: String::new(),
            wrapped_data_key: String::new(),
            previous_cluster_ids: Vec::new(),
        };
        let hash = SecretHash::of("k");
        let commands = [
            Command::Bootstrap { settings, keys },
            Command::CreatePreAuthKey {
                prefix: "k".into(),
                hash,
                owner: Owner::Tags(["tag:a".parse().expect("a tag")].into()),
                reusable: false,
                ephemeral: false,
                expiration: None,
            },
            Command::RegisterWithKey {
                prefix: "k".into(),
                hash,
                registration: Registration {
                    machine_key: MachineKey([1; 32]),
                    node_key: NodeKey([1; 32]),
                    hostinfo: Hostinfo { hostname: "my box".into(), os: "linux".into(), ..Default::default() },
                    cap_ver: CapVer(142),
                    expiry: None,
                    seed: 0,
                    v4_pools: Vec::new(),
                },
            },
        ];
        let mut state = State::default();
        for (sequence, command) in (1..).zip(commands) {
            let request = RequestId { incarnation: 1, sequence, acknowledged: 0 };
            let (deadline, time) = (Time(9), Time(1));
            let proposal =
                Proposal { format: 1, request, deadline, time, idempotency_key: None, origin: None, command };
            state.apply(sequence, &proposal).outcome.expect("a good command");
        }
        state
    }

    fn of(settings: &DnsSettings) -> DnsConfig {
        let state = state();
        let node = state.nodes().next().expect("a node");
        config(settings, &state, node, &NextDns::default())
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).into()).collect()
    }

    #[test]
    fn magic_dns_answers_names_and_the_reverse_zones() {
        let search_domains = texts(&["corp.example", "example.net."]);
        let config = of(&DnsSettings { magic_dns: true, search_domains, ..Default::default() });
        assert_eq!(config.domains, ["example.net", "corp.example"]);
        assert_eq!(config.routes.len(), 65);
        assert_eq!(config.routes.get("100.100.in-addr.arpa"), Some(&Vec::new()));
        let json = serde_json::to_string(&config).expect("JSON");
        assert!(json.contains(r#""Proxied":true"#) && json.contains(r#""0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa":[]"#));
        assert!(!json.contains("null") && !json.contains("Resolvers"), "{json}");
    }

    #[test]
    fn without_magic_dns_nothing_is_answered_by_the_client() {
        let config = of(&DnsSettings::default());
        let json = serde_json::to_string(&config).expect("JSON");
        assert_eq!(json, r#"{"Domains":["example.net"],"Proxied":false}"#);
    }

    #[test]
    fn name_servers_replace_the_nodes_own_or_stand_in_for_them() {
        let settings = DnsSettings { nameservers: texts(&["1.1.1.1"]), ..Default::default() };
        let server = vec![Resolver { addr: "1.1.1.1".into() }];
        let fallback = of(&settings);
        assert_eq!((&fallback.resolvers, &fallback.fallback_resolvers), (&Vec::new(), &server));
        let in_place = of(&DnsSettings { override_local_dns: true, ..settings });
        assert_eq!((in_place.resolvers, in_place.fallback_resolvers), (server, Vec::new()));
    }

    #[test]
    fn split_domains_and_extra_records_are_passed_on() {
        let record = ExtraRecord { name: "grafana.example.net".into(), kind: "A".into(), value: "100.64.0.3".into() };
        let settings = DnsSettings {
            split: vec![("corp.example".into(), texts(&["10.0.0.53"]))],
            extra_records: vec![record],
            ..Default::default()
        };
        let json = serde_json::to_value(of(&settings)).expect("JSON");
        assert_eq!(json["Routes"], serde_json::json!({"corp.example": [{"Addr": "10.0.0.53"}]}));
        let expected = serde_json::json!([{"Name": "grafana.example.net", "Type": "A", "Value": "100.64.0.3"}]);
        assert_eq!(json["ExtraRecords"], expected);
    }

    #[test]
    fn next_dns_is_told_which_node_asks() {
        let settings = DnsSettings {
            override_local_dns: true,
            nameservers: texts(&["https://dns.nextdns.io/abc123", "9.9.9.9"]),
            ..Default::default()
        };
        assert!(settings.differs_by_node() && !DnsSettings::default().differs_by_node());
        let addresses: Vec<_> = of(&settings).resolvers.into_iter().map(|resolver| resolver.addr).collect();
        let expected =
            "https://dns.nextdns.io/abc123?device_ip=100.64.0.1&device_model=linux&device_name=my+box".to_owned();
        assert_eq!(addresses, [expected, "9.9.9.9".into()]);
    }
}
