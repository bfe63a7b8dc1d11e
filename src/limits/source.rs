//! What counts as one address.

use crate::state::login_source;
use std::net::IpAddr;

/// An IPv4 address, or the /64 of an IPv6 address: what one household or machine gets,
/// and can take any address of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The source that an address belongs to. IPv4 in IPv6 clothes is IPv4.
    pub fn of(address: IpAddr) -> Self {
        Self(login_source(address.to_canonical()))
    }

    /// The address that stands for all of it.
    pub fn address(self) -> IpAddr {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_addresses_is_one_source() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.2"), source("192.0.2.1"));
    }
}
