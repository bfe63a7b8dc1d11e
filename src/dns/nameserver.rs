//! Name servers as configuration and clients write them.

use crate::state::Node;
use std::net::{IpAddr, SocketAddr};

/// Where NextDNS answers.
const NEXT_DNS: &str = "https://dns.nextdns.io";

/// Whether a text is a name server that clients understand: an IP address, one
/// with a port, or the `https:` URL of a DoH server. (A strict client drops a whole map
/// for one that it does not understand.)
pub fn is_nameserver(text: &str) -> bool {
    let is_url = text.strip_prefix("https://").is_some_and(|rest| {
        let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
        rest.bytes().all(plain) && rest.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'[')
    });
    is_url || text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok()
}

/// Whether it is one of NextDNS.
pub(super) fn is_next_dns(server: &str) -> bool {
    server.strip_prefix(NEXT_DNS).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

/// What node attributes say about NextDNS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextDns {
    /// `nextdns:PROFILE`: the node's own profile.
    profile: Option<String>,
    /// `nextdns:no-device-info`: NextDNS is not told which node asks.
    anonymous: bool,
}

impl NextDns {
    /// Reads a node's attributes, in order. Of several profiles the first holds.
    pub fn of<'a>(attributes: impl Iterator<Item = &'a str>) -> Self {
        let mut next_dns = Self::default();
        for name in attributes.filter_map(|attribute| attribute.strip_prefix("nextdns:")) {
            match name {
                "no-device-info" => next_dns.anonymous = true,
                profile => drop(next_dns.profile.get_or_insert_with(|| profile.into())),
            }
        }
        next_dns
    }
}

/// The name server for one node: NextDNS is told which one, as Headscale does it,
/// so that its logs and rules can name machines.
pub(super) fn for_node(server: &str, node: &Node, next_dns: &NextDns) -> String {
    if !is_next_dns(server) {
        return server.into();
    }
    let own = next_dns.profile.as_ref().map(|profile| format!("{NEXT_DNS}/{profile}"));
    let server = own.as_deref().unwrap_or(server);
    if next_dns.anonymous {
        return server.into();
    }
    let ip = node.ipv4.map(IpAddr::V4).or(node.ipv6.map(IpAddr::V6));
    let ip = ip.map(|ip| format!("device_ip={}&", escape(&ip.to_string()))).unwrap_or_default();
    let (os, name) = (escape(&node.hostinfo.os), escape(&node.hostinfo.hostname));
    let separator = if server.contains('?') { '&' } else { '?' };
    format!("{server}{separator}{ip}device_model={os}&device_name={name}")
}

/// As a value in a URL's query.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => escaped.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_an_address_or_an_https_url() {
        for good in ["1.1.1.1", "2606:4700:4700::1111", "10.0.0.1:5353", "[fd00::1]:53", "https://dns.nextdns.io/abc"] {
            assert!(is_nameserver(good), "{good}");
        }
        for bad in ["", "one.one.one.one", "https://", "https:///x", "http://1.1.1.1", "https://a b", "https://a\"b"] {
            assert!(!is_nameserver(bad), "{bad}");
        }
    }

    #[test]
    fn only_next_dns_is_next_dns() {
        assert!(is_next_dns("https://dns.nextdns.io") && is_next_dns("https://dns.nextdns.io/abc"));
        assert!(!is_next_dns("https://dns.nextdns.io.example.com/abc") && !is_next_dns("1.1.1.1"));
    }

    #[test]
    fn what_goes_into_a_url_is_escaped() {
        assert_eq!(escape("Bob's PC ü&x=1"), "Bob%27s+PC+%C3%BC%26x%3D1");
    }
}
