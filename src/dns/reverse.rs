//! Reverse zones of the tailnet's prefixes, which clients answer by themselves.

use ipnet::{Ipv4Net, Ipv6Net};

/// The zones that together cover a prefix: one, or, where it ends within an octet,
/// one for each value of that octet (`100.64.0.0/10`: 64 of them). None for a prefix
/// of length 0, whose zone would be everybody's.
pub(super) fn zones_v4(prefix: Ipv4Net) -> Vec<String> {
    let length = u32::from(prefix.prefix_len());
    let octets = length.div_ceil(8);
    if octets == 0 {
        return Vec::new();
    }
    let first = prefix.network().to_bits() >> (32 - 8 * octets);
    let count = 1u32 << (8 * octets - length);
    let zone = |bits: u32| {
        let labels: Vec<String> = (0..octets).map(|n| ((bits >> (8 * n)) & 0xff).to_string()).collect();
        format!("{}.in-addr.arpa", labels.join("."))
    };
    (first..=first + (count - 1)).map(zone).collect()
}

/// As [`zones_v4`], with the hexadecimal digits of IPv6.
pub(super) fn zones_v6(prefix: Ipv6Net) -> Vec<String> {
    let length = u32::from(prefix.prefix_len());
    let digits = length.div_ceil(4);
    if digits == 0 {
        return Vec::new();
    }
    let first = prefix.network().to_bits() >> (128 - 4 * digits);
    let count = 1u128 << (4 * digits - length);
    let zone = |bits: u128| {
        let labels: Vec<String> = (0..digits).map(|n| format!("{:x}", (bits >> (4 * n)) & 0xf)).collect();
        format!("{}.ip6.arpa", labels.join("."))
    };
    (first..=first + (count - 1)).map(zone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(prefix: &str) -> Vec<String> {
        zones_v4(prefix.parse().expect("a prefix"))
    }

    fn v6(prefix: &str) -> Vec<String> {
        zones_v6(prefix.parse().expect("a prefix"))
    }

    #[test]
    fn zones_cover_a_prefix_and_nothing_else() {
        let cgnat = v4("100.64.0.0/10");
        assert_eq!((cgnat.len(), &*cgnat[0], &*cgnat[63]), (64, "64.100.in-addr.arpa", "127.100.in-addr.arpa"));
        assert_eq!(v4("10.0.0.0/8"), ["10.in-addr.arpa"]);
        assert_eq!(v4("192.168.6.0/23"), ["6.168.192.in-addr.arpa", "7.168.192.in-addr.arpa"]);
        assert_eq!(v4("192.168.6.255/32"), ["255.6.168.192.in-addr.arpa"]);
        assert_eq!(v4("0.0.0.0/0"), [""; 0]);
        assert_eq!(v6("fd7a:115c:a1e0::/48"), ["0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa"]);
        assert_eq!(v6("fd7a::/15"), ["a.7.d.f.ip6.arpa", "b.7.d.f.ip6.arpa"]);
        assert_eq!(v6("::/0"), [""; 0]);
        assert_eq!(v6("::1/128").len(), 1);
    }
}
