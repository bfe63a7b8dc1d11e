//! Sets of addresses: prefixes, put together and taken away from each other.

use super::ranges::Range;
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many ranges one set may have: each is one or several entries in the filters of
/// the nodes that it concerns.
pub(super) const MAX_RANGES: usize = 1000;

/// Addresses, as ranges that are in order and do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AddressSet {
    /// Of both families, which a flag tells apart.
    ranges: Vec<(bool, u128, u128)>,
}

impl AddressSet {
    /// Adds all addresses of another set.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, |here, there| here || there);
    }

    /// Takes all addresses of another set away.
    pub fn remove(&mut self, other: &Self) {
        self.combine(other, |here, there| here && !there);
    }

    /// Keeps the addresses for which `keep` says so, told whether they are here and
    /// whether they are in the other set. One pass over both.
    fn combine(&mut self, other: &Self, keep: fn(bool, bool) -> bool) {
        let mut ranges = Vec::new();
        for v6 in [false, true] {
            // Where something begins (the address) or is over (the one after it; `None`: never).
            let of = |set: &Self, which: u8| -> Vec<(Option<u128>, u8, bool)> {
                let family = set.ranges.iter().filter(|range| range.0 == v6);
                let ends = family.flat_map(|&(_, first, last)| [(Some(first), true), (last.checked_add(1), false)]);
                ends.map(|(at, begins)| (at, which, begins)).collect()
            };
            let mut points = of(self, 0);
            points.extend(of(other, 1));
            points.sort_by_key(|(at, ..)| at.map_or((1, 0), |at| (0, at)));
            let (mut inside, mut open) = ([false; 2], None);
            for (number, &(at, which, begins)) in points.iter().enumerate() {
                inside[usize::from(which)] = begins;
                if points.get(number + 1).is_some_and(|next| next.0 == at) {
                    continue;
                }
                match (keep(inside[0], inside[1]), open) {
                    (true, None) => open = at,
                    (false, Some(first)) => {
                        ranges.push((v6, first, at.map_or(u128::MAX, |after| after - 1)));
                        open = None;
                    }
                    _ => {}
                }
            }
        }
        self.ranges = ranges;
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + '_ {
        self.ranges.iter().map(|&(v6, first, last)| Range { first: address(v6, first), last: address(v6, last) })
    }

    /// How many ranges it has.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The same addresses as prefixes.
    pub fn prefixes(&self) -> Vec<IpNet> {
        let of_range = |range: Range| -> Vec<IpNet> {
            match (range.first, range.last) {
                (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect(),
                (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect(),
                // Both ends are made of the same family.
                _ => Vec::new(),
            }
        };
        self.ranges().flat_map(of_range).collect()
    }
}

impl FromIterator<Range> for AddressSet {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        let mut all = Self::default();
        for range in ranges {
            all.add(&Self { ranges: vec![bounds(range)] });
        }
        all
    }
}

fn bounds(range: Range) -> (bool, u128, u128) {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    (range.first.is_ipv6(), bits(range.first), bits(range.last))
}

fn address(v6: bool, bits: u128) -> IpAddr {
    match v6 {
        true => Ipv6Addr::from_bits(bits).into(),
        // The cast keeps everything: IPv4 ranges are made of 32-bit numbers.
        false => Ipv4Addr::from_bits(bits as u32).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> AddressSet {
        [Range::from(text.parse::<IpNet>().expect("a prefix"))].into_iter().collect()
    }

    fn shown(set: &AddressSet) -> Vec<String> {
        set.prefixes().iter().map(IpNet::to_string).collect()
    }

    #[test]
    fn what_is_taken_away_is_not_in_the_set() {
        let mut set = net("10.0.0.0/24");
        set.remove(&net("10.0.0.64/26"));
        assert_eq!(shown(&set), ["10.0.0.0/26", "10.0.0.128/25"]);
        set.add(&net("10.0.0.64/26"));
        assert_eq!(shown(&set), ["10.0.0.0/24"]);
        set.remove(&net("0.0.0.0/0"));
        assert!(shown(&set).is_empty());
    }

    #[test]
    fn ranges_that_touch_become_one_and_families_stay_apart() {
        let mut set = AddressSet::default();
        for part in ["10.0.1.0/24", "::/0", "10.0.0.0/24", "255.255.255.255/32", "0.0.0.0/32", "10.0.0.7/32"] {
            set.add(&net(part));
        }
        assert_eq!(shown(&set), ["0.0.0.0/32", "10.0.0.0/23", "255.255.255.255/32", "::/0"]);
        set.remove(&net("::1/128"));
        assert_eq!(set.len(), 5);
        assert_eq!(shown(&set)[3], "::/128");
        set.remove(&net("::/0"));
        assert_eq!(set.len(), 3);
    }
}
