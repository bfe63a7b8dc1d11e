//! Ranges of addresses, as packet filters name them.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All addresses from `first` to `last`, both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Range {
    pub first: IpAddr,
    pub last: IpAddr,
}

const fn v4(first: [u8; 4], last: [u8; 4]) -> Range {
    let [a, b, c, d] = first;
    let [e, f, g, h] = last;
    Range { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), last: IpAddr::V4(Ipv4Addr::new(e, f, g, h)) }
}

/// Where a client's address may come from: the shared address space of RFC 6598
/// without 100.115.92.0/23, which belongs to ChromeOS, and Tailscale's ULA.
pub(super) const TAILNET: [Range; 3] = [
    v4([100, 64, 0, 0], [100, 115, 91, 255]),
    v4([100, 115, 94, 0], [100, 127, 255, 255]),
    Range {
        first: IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0)),
        last: IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff)),
    },
];

/// What `autogroup:internet` means: all addresses but private, link-local and tailnet ones.
pub(super) const INTERNET: [Range; 7] = [
    v4([0, 0, 0, 0], [9, 255, 255, 255]),
    v4([11, 0, 0, 0], [100, 63, 255, 255]),
    v4([100, 128, 0, 0], [169, 253, 255, 255]),
    v4([169, 255, 0, 0], [172, 15, 255, 255]),
    v4([172, 32, 0, 0], [192, 167, 255, 255]),
    v4([192, 169, 0, 0], [255, 255, 255, 255]),
    Range {
        first: IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)),
        last: IpAddr::V6(Ipv6Addr::new(0x3fff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff)),
    },
];

impl Range {
    /// Whether the address is in it. Addresses of the other family are not.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.first.is_ipv4() && self.first <= ip && ip <= self.last
    }

    /// Whether they have an address in common.
    pub fn overlaps(&self, other: &Range) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4() && self.first <= other.last && other.first <= self.last
    }
}

impl From<IpNet> for Range {
    fn from(net: IpNet) -> Self {
        let first = net.network();
        let last = match net {
            IpNet::V4(net) => IpAddr::V4(net.broadcast()),
            IpNet::V6(net) => IpAddr::V6(net.broadcast()),
        };
        Self { first, last }
    }
}

impl From<IpAddr> for Range {
    fn from(ip: IpAddr) -> Self {
        Self { first: ip, last: ip }
    }
}

/// An address, a prefix where the range is one, or `first-last`.
impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        let (host_bits, width) = match (self.first, self.last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits() ^ b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits(), 128),
            _ => (0, 0),
        };
        let first = match self.first {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        // A prefix: the ends differ in their last bits only, 0 in one and 1 in the other.
        if host_bits & host_bits.wrapping_add(1) == 0 && first & host_bits == 0 {
            return write!(f, "{}/{}", self.first, width - host_bits.count_ones());
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}
