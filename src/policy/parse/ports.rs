//! Ports and protocols.

use super::super::rule::Ports;

/// Names of IP protocols, and their numbers.
const PROTOCOLS: [(&str, u8); 15] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipv4", 4),
    ("ip-in-ip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("igp", 9),
    ("udp", 17),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
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
        _ => Err(format!("unknown protocol {text:?}: give a name such as \"tcp\", or a number from 1 to 255")),
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
    text.split(',').map(|part| one(part.trim()).map_err(|fault| format!("port range {part:?}: {fault}"))).collect()
}

fn one(text: &str) -> Result<Ports, String> {
    if text == "*" {
        return Ok(Ports::ALL);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| match text.parse::<u16>() {
        Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => Some(number),
        _ => None,
    };
    let first = number(first).ok_or("invalid first integer")?;
    let last = number(last).ok_or("invalid last integer")?;
    if first == 0 {
        return Err("first port must be >0, or use '*' for wildcard".into());
    }
    if last < first {
        return Err("the last port is lower than the first".into());
    }
    Ok(Ports { first, last })
}
