//! Ports and protocols, and what is wrong with them in the words of Tailscale's parser
//! (`tailcfg.ParseHostPortRange`, `ipproto`).

use super::super::rule::Ports;

/// Names of IP protocols, and their numbers.
const PROTOCOLS: [(&str, u8); 18] = [
    ("icmp", 1),
    ("icmpv4", 1),
    ("igmp", 2),
    ("ipv4", 4),
    ("ip-in-ip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("igp", 9),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("tsmp", 99),
    ("sctp", 132),
    ("fc", 133),
];

/// TCP, UDP and SCTP: those that have ports.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// A protocol's name or number; the empty text is none in particular.
pub(super) fn protocol(text: &str) -> Result<Option<u8>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Some((_, number)) = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Ok(Some(*number));
    }
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    match text.parse::<u8>() {
        Ok(number) if plain => Ok(Some(number)),
        _ => Err(format!(
            "proto name {text:?} not known; use protocol number 0-255, without zeros before it, or a name such as \"tcp\""
        )),
    }
}

/// Refuses ports other than `*` for a protocol that has none.
pub(super) fn check(protocol: Option<u8>, name: &str, ports: &[Ports]) -> Result<(), String> {
    match protocol {
        Some(number) if !WITH_PORTS.contains(&number) && ports.iter().any(|ports| *ports != Ports::ALL) => {
            Err(format!("protocol does not support specific ports: {name:?}, only \"*\" is allowed"))
        }
        _ => Ok(()),
    }
}

/// `*`, or ports and ranges of them, separated by commas.
pub(super) fn ports(text: &str) -> Result<Vec<Ports>, String> {
    text.split(',').map(|part| range(part.trim())).collect()
}

/// `*`, a port, or a range of ports.
pub(super) fn range(text: &str) -> Result<Ports, String> {
    let text = &text.to_ascii_lowercase();
    match text.as_str() {
        "*" => return Ok(Ports::ALL),
        "" => return Err("invalid port list: \"\"; write a port, a range such as 80-90, or *".into()),
        _ => {}
    }
    let fault = |what: &str| format!("port range {text:?}: {what}");
    if text.matches('-').count() > 1 {
        return Err(fault("too many dashes(-)"));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| match text.parse::<u16>() {
        Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => Some(number),
        _ => None,
    };
    let first = number(first).ok_or_else(|| fault("invalid first integer"))?;
    let last = number(last).ok_or_else(|| fault("invalid last integer"))?;
    if first == 0 {
        return Err(fault("first port must be >0, or use '*' for wildcard"));
    }
    if last < first {
        // So says the service, and means the opposite.
        return Err(fault("first port must be >= last port; write the lower one first"));
    }
    Ok(Ports { first, last })
}
