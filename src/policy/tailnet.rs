//! What a policy is applied to: people and devices, with only what a policy can tell apart.

use super::Policy;
use super::posture::{Facts, Posture};
use super::ranges::Range;
use crate::state::{Node, NodeId, Owner, State, Tag, User, UserId};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Users and nodes, as a policy sees them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tailnet {
    pub people: Vec<Person>,
    pub devices: Vec<Device>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub id: UserId,
    pub name: String,
    pub email: String,
    pub provider_id: String,
    /// As autogroups name them. This server's users have none.
    pub roles: Vec<String>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub id: NodeId,
    pub owner: Owner,
    pub ips: Vec<IpAddr>,
    /// Announced and approved, without exit routes.
    pub routes: Vec<IpNet>,
    /// Whether it is an approved exit node.
    pub exit: bool,
    /// What its client reported, where the policy asks for it.
    pub facts: Facts,
}

impl Tailnet {
    /// Those of a state, with what the policy asks for.
    pub fn of(state: &State, policy: &Policy) -> Self {
        Self {
            people: state.users().map(|user| Person::of(user)).collect(),
            devices: state.nodes().map(|node| Device::of(state, node, policy)).collect(),
        }
    }
}

impl Tailnet {
    /// With one more device for each user and each of `tags`, so that what a policy
    /// says of them can be asked when they have no device at the moment. Their
    /// addresses are the highest that nobody has.
    pub fn with_stand_ins<'t>(&self, tags: impl Iterator<Item = &'t Tag>) -> Self {
        let used: BTreeSet<IpAddr> = self.devices.iter().flat_map(|device| device.ips.clone()).collect();
        let last = [Ipv4Addr::new(100, 127, 255, 254).to_bits(), Ipv4Addr::new(100, 115, 94, 0).to_bits()];
        let free_v4 = (last[1]..last[0]).rev().map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
        let mut free_v4 = free_v4.filter(|ip| !used.contains(ip));
        let free_v6 =
            (1..u16::MAX).rev().map(|n| Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0xffff, 0xffff, 0xffff, 0xffff, n));
        let mut free_v6 = free_v6.map(IpAddr::V6).filter(|ip| !used.contains(ip));
        let owners = self.people.iter().map(|person| Owner::User(person.id));
        let owners: Vec<Owner> = owners.chain(tags.map(|tag| Owner::Tags([tag.clone()].into()))).collect();
        let mut all = self.clone();
        // No node has these ids: they count from 1.
        for (number, owner) in (0..).zip(owners) {
            let ips = free_v4.next().into_iter().chain(free_v6.next()).collect();
            let (routes, facts) = (Vec::new(), Facts::default());
            all.devices.push(Device { id: NodeId(u64::MAX - number), owner, ips, routes, exit: false, facts });
        }
        all
    }
}

impl Tailnet {
    /// The same, with these machines.
    pub fn with_facts(&self, facts: &Facts) -> Self {
        let mut all = self.clone();
        all.devices.iter_mut().for_each(|device| device.facts = facts.clone());
        all
    }
}

impl Person {
    pub fn of(user: &User) -> Self {
        Self {
            id: user.id,
            name: user.name.clone(),
            email: user.email.clone(),
            provider_id: user.provider_id.clone(),
            roles: Vec::new(),
        }
    }
}

impl Device {
    /// A node, with what the policy asks for.
    pub fn of(state: &State, node: &Node, policy: &Policy) -> Self {
        let (exits, routes): (Vec<_>, Vec<_>) =
            state.effective_routes(node).into_iter().partition(|route| route.prefix_len() == 0);
        let ips = node.ipv4.map(IpAddr::V4).into_iter().chain(node.ipv6.map(IpAddr::V6)).collect();
        let facts = if policy.asks_postures() { Facts::of(node) } else { Facts::default() };
        Self { id: node.id, owner: node.owner.clone(), ips, routes, exit: !exits.is_empty(), facts }
    }

    /// Whether its machine has one of these postures.
    pub fn has_posture(&self, postures: &[Arc<Posture>]) -> bool {
        postures.iter().any(|posture| self.facts.meet(posture))
    }

    /// Its user, if it is a personal one.
    pub fn user(&self) -> Option<UserId> {
        match &self.owner {
            Owner::User(user) => Some(*user),
            Owner::Tags(_) => None,
        }
    }

    pub fn has_tag(&self, tag: &Tag) -> bool {
        matches!(&self.owner, Owner::Tags(tags) if tags.contains(tag))
    }

    /// Whether one of its own addresses is in the range.
    pub fn is_in(&self, range: &Range) -> bool {
        self.ips.iter().any(|ip| range.contains(*ip))
    }

    /// Whether it routes to a part of the range.
    pub fn routes_to(&self, range: &Range) -> bool {
        self.routes.iter().any(|route| Range::from(*route).overlaps(range))
    }
}
