//! Reads routes that an administrator approves.

use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A text is no route; where Go has words for it, they are Go's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("netip.ParsePrefix({0:?}): no '/'")]
    NoSlash(String),
    #[error("netip.ParsePrefix({0:?}): ParseAddr({1:?}): unable to parse IP")]
    Address(String, String),
    #[error("netip.ParsePrefix({0:?}): bad bits after slash: {1:?}")]
    Bits(String, String),
    #[error("netip.ParsePrefix({0:?}): prefix length out of range")]
    Range(String),
    /// Clients refuse to announce such a route, so approving it would never do anything.
    #[error("{0} has non-address bits set: did you mean {1}?")]
    HostBits(String, IpNet),
}

/// The routes as a set; `0.0.0.0/0` and `::/0` come together, since clients
/// take a node as an exit node only with both.
pub fn parse(texts: &[String]) -> Result<BTreeSet<IpNet>, RouteError> {
    let mut routes = BTreeSet::new();
    for text in texts {
        let route = parse_one(text)?;
        if route.prefix_len() == 0 {
            routes.extend([IpAddr::V4([0; 4].into()), IpAddr::V6([0; 16].into())].map(all_of));
        } else {
            routes.insert(route);
        }
    }
    Ok(routes)
}

fn all_of(zero: IpAddr) -> IpNet {
    IpNet::new_assert(zero, 0)
}

fn parse_one(text: &str) -> Result<IpNet, RouteError> {
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| RouteError::NoSlash(text.into()))?;
    let ip: IpAddr = address.parse().map_err(|_| RouteError::Address(text.into(), address.into()))?;
    let well_formed =
        !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    if !well_formed {
        return Err(RouteError::Bits(text.into(), bits.into()));
    }
    let length = bits.parse().map_err(|_| RouteError::Range(text.into()))?;
    let route = IpNet::new(ip, length).map_err(|_| RouteError::Range(text.into()))?;
    if route.trunc() != route {
        return Err(RouteError::HostBits(text.into(), route.trunc()));
    }
    Ok(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(routes: &[&str]) -> Vec<String> {
        routes.iter().map(|route| route.to_string()).collect()
    }

    #[test]
    fn one_exit_route_stands_for_both_families() {
        let routes = parse(&texts(&["::/0", "10.0.0.0/8"])).unwrap();
        let shown: Vec<String> = routes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["0.0.0.0/0", "10.0.0.0/8", "::/0"]);
    }

    #[test]
    fn faults_are_told_in_gos_words() {
        let fault = |text: &str| parse(&texts(&[text])).unwrap_err().to_string();
        assert_eq!(fault("bogus"), "netip.ParsePrefix(\"bogus\"): no '/'");
        assert_eq!(fault("10.0.0.0/33"), "netip.ParsePrefix(\"10.0.0.0/33\"): prefix length out of range");
        assert_eq!(fault("10.0.0.0/08"), "netip.ParsePrefix(\"10.0.0.0/08\"): bad bits after slash: \"08\"");
        assert_eq!(fault("10.0.0.1/8"), "10.0.0.1/8 has non-address bits set: did you mean 10.0.0.0/8?");
        assert!(fault("x/8").contains("unable to parse IP"));
    }
}
