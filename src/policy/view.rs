//! A policy, applied to the users and nodes of one state: what streams are told.

use super::Policy;
use super::attrs::Attributes;
use super::classes::{ClassId, Classes, Placed};
use super::program::Program;
use super::ssh::{self, SshAnswer};
use super::tailnet::{Device, Person, Tailnet};
use super::told::ReachedByClass;
use super::wire_filter::ClassFilter;
use super::wire_ssh;
use crate::state::{Node, NodeId, Owner, State, Tag, UserId};
use ipnet::IpNet;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

/// Stands for the rules that something was made by.
#[derive(Clone, Debug)]
pub struct RulesId(Arc<Program>);

impl PartialEq for RulesId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Viewers who see the same nodes, by one policy's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewerClass(Option<ClassId>);

/// Answers for one version of the policy and of what it is about.
#[derive(Debug)]
pub struct PolicyView {
    pub(super) policy: Arc<Policy>,
    pub(super) classes: Classes,
    /// Users only, as a list.
    people: OnceLock<Tailnet>,
    /// Which of a router's routes the viewers of a class reach.
    pub(super) reached: Mutex<ReachedByClass>,
    /// Devices of which not everybody may be told the same.
    pub(super) special: OnceLock<Vec<NodeId>>,
}

impl PolicyView {
    pub(super) fn new(policy: Arc<Policy>, tailnet: Tailnet) -> Self {
        let classes = Classes::of(&policy, tailnet);
        Self { policy, classes, people: OnceLock::new(), reached: Mutex::default(), special: OnceLock::new() }
    }

    /// The same policy, where some users and devices became others. `None`: it says
    /// the same of all.
    pub(super) fn updated(
        &self,
        people: impl Iterator<Item = (UserId, Option<Person>)>,
        devices: impl Iterator<Item = (NodeId, Option<Device>)>,
    ) -> Option<Self> {
        let mut classes = self.classes.clone();
        let changed = classes.update(people, devices);
        changed.then(|| Self {
            policy: self.policy.clone(),
            classes,
            people: OnceLock::new(),
            reached: Mutex::default(),
            special: OnceLock::new(),
        })
    }

    /// Whether `tagOwners` has the tag at all.
    pub fn defines_tag(&self, tag: &Tag) -> bool {
        self.policy.defines_tag(tag)
    }

    /// Whether `tagOwners` lets this user give the tag to a node.
    pub fn may_own(&self, state: &State, user: UserId, tag: &Tag) -> bool {
        self.policy.may_own(state, user, tag)
    }

    /// How many classes of nodes the policy tells apart.
    pub fn class_count(&self) -> usize {
        self.classes.classes().filter(|(_, class)| !class.nodes.is_empty()).count()
    }

    /// One node of each class whose rules may read differently than they did in `before`.
    pub fn examples(&self, before: Option<&Self>) -> Vec<NodeId> {
        let alike = before.filter(|before| before.classes.is_like(&self.classes));
        let classes: Vec<ClassId> = match alike {
            Some(before) => before.classes.retold(&self.classes).collect(),
            None => self.classes.classes().map(|(id, _)| id).collect(),
        };
        classes.into_iter().filter_map(|class| self.classes.class(class).nodes.get_min().copied()).collect()
    }

    /// What tells this policy's rules from those of another one, or of another version.
    pub fn rules(&self) -> RulesId {
        RulesId(self.classes.program.clone())
    }

    /// Whether everybody may reach everything.
    pub(super) fn is_open(&self) -> bool {
        self.policy.rules.is_none() && !self.policy.closed
    }

    /// Whether `viewer` gets `peer` in its netmap: where one may reach the other, both do.
    pub fn sees(&self, viewer: &Node, peer: &Node) -> bool {
        self.is_open() || self.reach_each_other(viewer.id, peer.id)
    }

    /// Whose view of the others this viewer shares. `None`: it sees nobody.
    pub fn viewer_class(&self, viewer: NodeId) -> Option<ViewerClass> {
        if self.is_open() {
            return Some(ViewerClass(None));
        }
        self.class_of(viewer).map(|class| ViewerClass(Some(class)))
    }

    /// Nodes whom others may see than in `other`, which is by the same rules. The work
    /// follows the differences.
    pub fn moved_nodes<'v>(&'v self, other: &'v Self) -> impl Iterator<Item = NodeId> + 'v {
        self.classes.moved(&other.classes).map(|(id, ..)| id)
    }

    /// Whether one of these devices may reach the other.
    pub(super) fn reach_each_other(&self, a: NodeId, b: NodeId) -> bool {
        match (self.class_of(a), self.class_of(b)) {
            (Some(a), Some(b)) => self.classes.see_each_other(a, b),
            _ => false,
        }
    }

    /// The rules of `PacketFilters["base"]` for this node, as JSON (protocol section 6.5).
    pub fn packet_filter(&self, node: &Node) -> Arc<str> {
        self.filter_of(node.id)
    }

    /// As [`PolicyView::packet_filter`].
    pub(super) fn filter_of(&self, node: NodeId) -> Arc<str> {
        static NOTHING: LazyLock<Arc<str>> = LazyLock::new(|| "[]".into());
        match self.classes.placed(node) {
            Some(placed) => self.class_filter(placed.class).of(&placed.device),
            None => NOTHING.clone(),
        }
    }

    /// A number that differs where a node's packet filter does.
    pub fn filter_fingerprint(&self, node: &Node) -> u64 {
        self.classes.placed(node.id).map_or(0, |placed| self.class_filter(placed.class).fingerprint(&placed.device))
    }

    fn class_filter(&self, class: ClassId) -> &Arc<ClassFilter> {
        self.classes.class(class).filter.get_or_init(|| Arc::new(ClassFilter::new(&self.classes, class)))
    }

    /// `SSHPolicy` for this node, as JSON (protocol section 6.8).
    pub fn ssh_policy(&self, node: &Node) -> Arc<str> {
        self.ssh_of(node.id)
    }

    /// As [`PolicyView::ssh_policy`].
    pub(super) fn ssh_of(&self, node: NodeId) -> Arc<str> {
        static NOTHING: LazyLock<Arc<str>> = LazyLock::new(|| r#"{"rules":[]}"#.into());
        match self.class_of(node) {
            Some(class) if !self.policy.ssh.is_empty() => {
                self.classes.class(class).ssh.get_or_init(|| wire_ssh::policy(&self.classes, class).into()).clone()
            }
            _ => NOTHING.clone(),
        }
    }

    /// The node attributes that the policy gives to this node.
    pub fn attributes(&self, node: &Node) -> Attributes {
        self.attributes_of(node.id)
    }

    /// As [`PolicyView::attributes`].
    pub(super) fn attributes_of(&self, node: NodeId) -> Attributes {
        match self.classes.placed(node) {
            Some(placed) if self.policy.gives_attributes() => {
                let class = self.classes.class(placed.class);
                let make = || Arc::new(self.policy.attributes(self.people(), &placed.device));
                Attributes::clone(class.attributes.get_or_init(make))
            }
            _ => Attributes::new(),
        }
    }

    /// Where a new node with this owner gets its IPv4 address (`ipPool`), in order of
    /// preference; empty: anywhere in the tailnet's prefix.
    pub fn ip_pools(&self, owner: &Owner) -> Vec<ipnet::Ipv4Net> {
        self.policy.ip_pools(self.people(), owner)
    }

    /// Whether `autoApprovers` approves this route of a node with this owner.
    pub fn approves(&self, owner: &Owner, route: IpNet) -> bool {
        self.policy.approves(self.people(), owner, route)
    }

    /// What it says about an SSH session from one node to another that becomes `local_user` there.
    pub fn ssh_answer(&self, source: NodeId, destination: NodeId, local_user: &str) -> SshAnswer {
        match (self.classes.placed(source), self.class_of(destination)) {
            (Some(from), Some(to)) => ssh::answer(&wire_ssh::entries(&self.classes, to), &from.device, local_user),
            _ => SshAnswer::Denied,
        }
    }

    fn people(&self) -> &Tailnet {
        self.people.get_or_init(|| Tailnet {
            people: self.classes.people.iter().map(|person| Person::clone(person)).collect(),
            devices: Vec::new(),
        })
    }

    pub(super) fn class_of(&self, node: NodeId) -> Option<ClassId> {
        self.classes.placed(node).map(|placed: &Arc<Placed>| placed.class)
    }
}
