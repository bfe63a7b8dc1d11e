//! A policy, applied to the users and nodes of one state: what streams are told.

use super::compile::{self, Entry};
use super::ssh::{self, SshAnswer, SshEntry};
use super::tailnet::Tailnet;
use super::{Policy, filter};
use crate::state::{Node, NodeId, Owner, State, Tag, UserId};
use ipnet::IpNet;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

/// Answers for one version of the policy and of what it is about.
#[derive(Debug)]
pub struct PolicyView {
    pub(super) policy: Arc<Policy>,
    pub(super) tailnet: Tailnet,
    entries: Vec<Entry>,
    ssh: Vec<SshEntry>,
    /// Where a node is in the tailnet.
    places: HashMap<NodeId, usize>,
    /// For each device the entries that it is a source, and a destination, of.
    from: Vec<Bits>,
    to: Vec<Bits>,
}

impl PolicyView {
    pub(super) fn new(policy: Arc<Policy>, tailnet: Tailnet) -> Self {
        let entries =
            if policy.closed { Vec::new() } else { compile::entries(policy.rules.as_deref(), &policy.names, &tailnet) };
        let ssh = ssh::entries(&policy.ssh, &policy.names, &tailnet);
        let places = tailnet.devices.iter().enumerate().map(|(place, device)| (device.id, place)).collect();
        let empty = vec![Bits::new(entries.len()); tailnet.devices.len()];
        let (mut from, mut to) = (empty.clone(), empty);
        for (number, entry) in entries.iter().enumerate() {
            for (place, device) in tailnet.devices.iter().enumerate() {
                if entry.sources.devices[place] {
                    from[place].set(number);
                }
                if entry.grant.targets().iter().any(|target| target.is_at(device, place)) {
                    to[place].set(number);
                }
            }
        }
        Self { policy, tailnet, entries, ssh, places, from, to }
    }

    /// Whether `tagOwners` has the tag at all.
    pub fn defines_tag(&self, tag: &Tag) -> bool {
        self.policy.defines_tag(tag)
    }

    /// Whether `tagOwners` lets this user give the tag to a node.
    pub fn may_own(&self, state: &State, user: UserId, tag: &Tag) -> bool {
        self.policy.may_own(state, user, tag)
    }

    /// Whether it says the same of all users and nodes, whoever there is.
    pub fn is_plain(&self) -> bool {
        self.is_open() && self.ssh.is_empty() && !self.policy.gives_attributes()
    }

    /// Whether everybody may reach everything.
    fn is_open(&self) -> bool {
        self.policy.rules.is_none() && !self.policy.closed
    }

    /// Whether `viewer` gets `peer` in its netmap: where one may reach the other, both do.
    pub fn sees(&self, viewer: &Node, peer: &Node) -> bool {
        if self.is_open() {
            return true;
        }
        let (Some(&a), Some(&b)) = (self.places.get(&viewer.id), self.places.get(&peer.id)) else { return false };
        self.reach_each_other(a, b)
    }

    /// Whether one of the devices at these places may reach the other.
    pub(super) fn reach_each_other(&self, a: usize, b: usize) -> bool {
        self.from[a].meets(&self.to[b]) || self.from[b].meets(&self.to[a])
    }

    /// The rules of `PacketFilters["base"]` for this node, as JSON (protocol section 6.5).
    pub fn packet_filter(&self, node: &Node) -> Arc<str> {
        static NOTHING: LazyLock<Arc<str>> = LazyLock::new(|| "[]".into());
        match self.places.get(&node.id) {
            Some(place) => self.filter_at(*place).into(),
            None => NOTHING.clone(),
        }
    }

    /// As [`PolicyView::packet_filter`].
    pub(super) fn filter_at(&self, place: usize) -> String {
        filter::packet_filter(&self.entries, &self.tailnet.devices[place], place)
    }

    /// `SSHPolicy` for this node, as JSON (protocol section 6.8).
    pub fn ssh_policy(&self, node: &Node) -> Arc<str> {
        static NOTHING: LazyLock<Arc<str>> = LazyLock::new(|| r#"{"rules":[]}"#.into());
        match self.places.get(&node.id) {
            Some(place) if !self.ssh.is_empty() => self.ssh_at(*place).into(),
            _ => NOTHING.clone(),
        }
    }

    /// The node attributes that the policy gives to this node.
    pub fn attributes(&self, node: &Node) -> BTreeSet<String> {
        match self.places.get(&node.id) {
            Some(place) if self.policy.gives_attributes() => {
                self.policy.attributes(&self.tailnet, &self.tailnet.devices[*place])
            }
            _ => BTreeSet::new(),
        }
    }

    /// Whether `autoApprovers` approves this route of a node with this owner.
    pub fn approves(&self, owner: &Owner, route: IpNet) -> bool {
        self.policy.approves(&self.tailnet, owner, route)
    }

    /// What it says about an SSH session from one node to another that becomes `local_user` there.
    pub fn ssh_answer(&self, source: NodeId, destination: NodeId, local_user: &str) -> SshAnswer {
        match (self.places.get(&source), self.places.get(&destination)) {
            (Some(from), Some(to)) => ssh::answer(&self.ssh, *from, *to, local_user),
            _ => SshAnswer::Denied,
        }
    }

    /// As [`PolicyView::ssh_policy`].
    pub(super) fn ssh_at(&self, place: usize) -> String {
        ssh::policy(&self.ssh, place)
    }
}

/// A set of numbers below a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(bound: usize) -> Self {
        Self(vec![0; bound.div_ceil(64)])
    }

    fn set(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }
}
