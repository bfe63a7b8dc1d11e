//! Which address a new node gets (Headscale's rules, and freed addresses come back).

use super::index::Indexes;
use super::{Allocation, Settings};
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// What Google's ChromeOS uses in its virtual machines.
const CHROME_OS: (u128, u128) = (0x6473_5c00, 0x6473_5dff); // 100.115.92.0/23
/// MagicDNS answers here.
const MAGIC_DNS_V4: u128 = 0x6464_6464; // 100.100.100.100
const MAGIC_DNS_V6: u128 = 0xfd7a_115c_a1e0_0000_0000_0000_0000_0053; // fd7a:115c:a1e0::53

/// A free IPv4 address. Sequential: the first after `last`, starting again at the
/// bottom; random: the first from a place that `seed` gives.
/// `None`: the prefix has no free address.
pub(super) fn free_v4(
    prefix: Ipv4Net,
    settings: &Settings,
    indexes: &Indexes,
    last: Option<Ipv4Addr>,
    seed: u64,
) -> Option<Ipv4Addr> {
    let range = Range::new(prefix.network().to_bits().into(), prefix.broadcast().to_bits().into())?;
    let start = range.start(settings.allocation, last.map(|a| a.to_bits().into()), seed);
    // The cast keeps everything: the range is one of 32-bit numbers.
    let address = |bits: u128| Ipv4Addr::from_bits(bits as u32);
    range.walk(start, |bits| !is_reserved(bits) && !indexes.node_by_v4.contains_key(&address(bits))).map(address)
}

/// As [`free_v4`], for IPv6.
pub(super) fn free_v6(
    prefix: Ipv6Net,
    settings: &Settings,
    indexes: &Indexes,
    last: Option<Ipv6Addr>,
    seed: u64,
) -> Option<Ipv6Addr> {
    let range = Range::new(prefix.network().to_bits(), prefix.broadcast().to_bits())?;
    let start = range.start(settings.allocation, last.map(Ipv6Addr::to_bits), seed ^ 0x6666);
    let free = |bits: u128| !is_reserved(bits) && !indexes.node_by_v6.contains_key(&Ipv6Addr::from_bits(bits));
    range.walk(start, free).map(Ipv6Addr::from_bits)
}

fn is_reserved(bits: u128) -> bool {
    (CHROME_OS.0..=CHROME_OS.1).contains(&bits) || bits == MAGIC_DNS_V4 || bits == MAGIC_DNS_V6
}

/// The addresses of a prefix that nodes may have: neither its first nor its last.
struct Range {
    first: u128,
    last: u128,
}

impl Range {
    /// `None`: nothing is between the first and the last address.
    fn new(network: u128, end: u128) -> Option<Self> {
        (end - network >= 2).then(|| Self { first: network + 1, last: end - 1 })
    }

    fn start(&self, allocation: Allocation, last: Option<u128>, seed: u64) -> u128 {
        match allocation {
            Allocation::Sequential => match last {
                Some(last) if last >= self.first && last < self.last => last + 1,
                _ => self.first,
            },
            Allocation::Random => {
                let random = u128::from(mix(seed)) << 64 | u128::from(mix(!seed));
                self.first + random % (self.last - self.first + 1)
            }
        }
    }

    /// The first address that is `free`, from `start` upwards and round. It passes
    /// at most all that are taken or reserved, and in the normal case none.
    fn walk(&self, start: u128, free: impl Fn(u128) -> bool) -> Option<u128> {
        (start..=self.last).chain(self.first..start).find(|bits| free(*bits))
    }
}

/// A seed's bits, spread (splitmix64).
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NodeId;
    use std::time::Duration;

    fn settings(allocation: Allocation) -> Settings {
        Settings {
            prefix_v4: None,
            prefix_v6: None,
            allocation,
            base_domain: String::new(),
            node_expiry: Duration::ZERO,
            ephemeral_timeout: Duration::ZERO,
        }
    }

    /// Takes `count` addresses of a prefix, one after the other.
    fn take(prefix: &str, allocation: Allocation, seeds: impl Iterator<Item = u64>) -> Vec<String> {
        let (prefix, settings) = (prefix.parse().expect("a prefix"), settings(allocation));
        let (mut indexes, mut last, mut taken) = (Indexes::default(), None, Vec::new());
        for seed in seeds {
            let Some(address) = free_v4(prefix, &settings, &indexes, last, seed) else { break };
            indexes.node_by_v4.insert(address, NodeId(seed));
            last = Some(address);
            taken.push(address.to_string());
        }
        taken
    }

    #[test]
    fn sequential_addresses_leave_out_the_network_and_the_last_address() {
        assert_eq!(
            take("10.0.0.0/29", Allocation::Sequential, 0..100),
            ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
        );
    }

    #[test]
    fn random_addresses_use_the_whole_prefix_too() {
        let mut taken = take("10.0.0.0/29", Allocation::Random, 0..100);
        taken.sort();
        assert_eq!(taken, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    }

    #[test]
    fn reserved_addresses_are_left_out() {
        assert_eq!(take("100.100.100.96/29", Allocation::Sequential, 0..9).len(), 5);
        assert!(take("100.115.92.0/23", Allocation::Sequential, 0..9).is_empty());
        let v6 = |last: &str| {
            let prefix = "fd7a:115c:a1e0::/48".parse().expect("a prefix");
            let last = Some(last.parse().expect("an address"));
            free_v6(prefix, &settings(Allocation::Sequential), &Indexes::default(), last, 0)
        };
        assert_eq!(v6("fd7a:115c:a1e0::52"), Some("fd7a:115c:a1e0::54".parse().expect("an address")));
        assert_eq!(v6("fd00::1"), Some("fd7a:115c:a1e0::1".parse().expect("an address")));
    }

    #[test]
    fn a_prefix_without_room_gives_nothing() {
        for prefix in ["10.0.0.0/31", "10.0.0.0/32"] {
            assert!(take(prefix, Allocation::Sequential, 0..9).is_empty());
            assert!(take(prefix, Allocation::Random, 0..9).is_empty());
        }
    }
}
