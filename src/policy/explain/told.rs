//! What a node is told, read as its client reads it (protocol sections 6.5 and 6.8).

use super::super::ranges::Range;
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What rules without a protocol let through: TCP, UDP and ICMP.
const USUAL: [u8; 4] = [6, 17, 1, 58];
/// ICMP has no ports, so clients do not look at them.
const WITHOUT_PORTS: [u8; 2] = [1, 58];

/// A packet, as far as filters look at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub from: IpAddr,
    pub to: IpAddr,
    pub protocol: u8,
    pub port: u16,
}

/// One rule of a packet filter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FilterRule {
    #[serde(default, rename = "SrcIPs")]
    sources: Vec<String>,
    #[serde(default)]
    dst_ports: Vec<DstPort>,
    #[serde(default, rename = "IPProto")]
    protocols: Vec<u8>,
}

#[derive(Debug, Deserialize)]
struct DstPort {
    #[serde(rename = "IP")]
    ip: String,
    #[serde(rename = "Ports")]
    ports: PortRange,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PortRange {
    first: u16,
    last: u16,
}

/// The rules of a packet filter, from its JSON.
pub(super) fn filter(json: &str) -> Vec<FilterRule> {
    serde_json::from_str(json).unwrap_or_default()
}

impl FilterRule {
    pub fn lets_through(&self, packet: &Packet) -> bool {
        self.is_from(packet.from) && self.has_protocol(packet.protocol) && self.has_port(packet)
    }

    pub fn is_from(&self, ip: IpAddr) -> bool {
        self.sources.iter().any(|text| contains(text, ip))
    }

    pub fn has_protocol(&self, protocol: u8) -> bool {
        let known: &[u8] = if self.protocols.is_empty() { &USUAL } else { &self.protocols };
        known.contains(&protocol)
    }

    fn has_port(&self, packet: &Packet) -> bool {
        let any = WITHOUT_PORTS.contains(&packet.protocol);
        let there = self.dst_ports.iter().filter(|dst| contains(&dst.ip, packet.to));
        there.into_iter().any(|dst| any || (dst.ports.first..=dst.ports.last).contains(&packet.port))
    }

    pub fn is_to(&self, ip: IpAddr) -> bool {
        self.dst_ports.iter().any(|dst| contains(&dst.ip, ip))
    }

    /// The ports at an address, in words.
    pub fn ports_at(&self, ip: IpAddr) -> Vec<String> {
        let there = self.dst_ports.iter().filter(|dst| contains(&dst.ip, ip));
        there.map(|dst| ports(dst.ports)).collect()
    }

    /// The ports in a prefix, in words; empty: none of it is a destination.
    pub fn ports_in(&self, net: IpNet) -> Vec<String> {
        let range = Range::from(net);
        let is_there = |dst: &&DstPort| dst.ip == "*" || read(&dst.ip).is_some_and(|there| there.overlaps(&range));
        self.dst_ports.iter().filter(is_there).map(|dst| ports(dst.ports)).collect()
    }

    /// The protocols, in words.
    pub fn protocols(&self) -> String {
        if self.protocols.is_empty() {
            return "TCP, UDP and ICMP".into();
        }
        self.protocols.iter().map(|number| protocol_name(*number)).collect::<Vec<_>>().join(", ")
    }
}

/// A protocol's name, or its number.
pub(super) fn protocol_name(number: u8) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "ipv6-icmp".into(),
        132 => "sctp".into(),
        other => format!("protocol {other}"),
    }
}

fn ports(range: PortRange) -> String {
    match (range.first, range.last) {
        (0, u16::MAX) => "*".into(),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

fn contains(text: &str, ip: IpAddr) -> bool {
    text == "*" || read(text).is_some_and(|range| range.contains(ip))
}

/// An address, a prefix, or `first-last`.
fn read(text: &str) -> Option<Range> {
    if let Some((first, last)) = text.split_once('-') {
        return Some(Range { first: first.parse().ok()?, last: last.parse().ok()? });
    }
    match text.parse::<IpNet>() {
        Ok(net) => Some(Range::from(net)),
        Err(_) => text.parse::<IpAddr>().ok().map(Range::from),
    }
}

/// One SSH rule.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SshTold {
    principals: Vec<Principal>,
    ssh_users: BTreeMap<String, String>,
    action: serde_json::Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Principal {
    #[serde(rename = "nodeIP")]
    node_ip: IpAddr,
}

#[derive(Deserialize)]
struct SshRules {
    rules: Vec<SshTold>,
}

/// The rules of an `SSHPolicy`, from its JSON.
pub(super) fn ssh(json: &str) -> Vec<SshTold> {
    serde_json::from_str::<SshRules>(json).map(|told| told.rules).unwrap_or_default()
}

impl SshTold {
    pub fn is_from(&self, ips: &[IpAddr]) -> bool {
        self.principals.iter().any(|principal| ips.contains(&principal.node_ip))
    }

    /// Whom a session for `user` becomes; `None`: it is not let in.
    pub fn becomes(&self, user: &str) -> Option<String> {
        match self.ssh_users.get(user).or_else(|| self.ssh_users.get("*")).map(String::as_str) {
            None | Some("") => None,
            Some("=") => Some(user.into()),
            Some(other) => Some(other.into()),
        }
    }

    /// Whether somebody has to let the session through first.
    pub fn asks(&self) -> bool {
        self.action.get("holdAndDelegate").is_some()
    }
}
