//! Devices in classes that the policy cannot tell apart, kept up as they change.
//!
//! Who sees whom, and which rules a device gets, hangs on its class only. A device
//! that joins a class which is there adds its addresses to the lists of the sources
//! that the class is one of, and nothing is compiled.

use super::Policy;
use super::attrs::Attributes;
use super::bits::Bits;
use super::people::People;
use super::program::{Program, Shape};
use super::ranges::{Range, TAILNET};
use super::source::{self, Source, SourceList};
use super::tailnet::{Device, Person, Tailnet};
use super::wire_filter::ClassFilter;
use crate::state::{NodeId, UserId};
use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet, Vector};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Empty classes that are kept beside as many as are in use: someone may come back.
pub(super) const SPARE_CLASSES: usize = 256;

/// The number of a class: the same in all [`Classes`] of one [`Program`].
pub(super) type ClassId = usize;

/// Stamps of classes are never used again.
static LAST_STAMP: AtomicU64 = AtomicU64::new(0);

/// All devices, by class. Cloning is cheap.
#[derive(Clone, Debug)]
pub(super) struct Classes {
    pub program: Arc<Program>,
    pub people: People,
    /// What holds for the devices of each user.
    user_bits: OrdMap<UserId, Bits>,
    nodes: OrdMap<NodeId, Arc<Placed>>,
    of_user: OrdSet<(UserId, NodeId)>,
    classes: OrdMap<ClassId, Arc<Class>>,
    sources: Vector<Arc<Source>>,
    /// What `*` means as a source beside [`TAILNET`], and how many devices make it so.
    beyond: OrdMap<Range, u32>,
    /// The classes of one user's devices, where rules tell them from those of others.
    own_classes: OrdMap<UserId, Vec<ClassId>>,
    empty: usize,
}

/// A device in its class.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub device: Device,
    pub class: ClassId,
}

/// Devices that the policy cannot tell apart.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub shape: Arc<Shape>,
    pub nodes: OrdSet<NodeId>,
    /// Another one when the class's rules may read differently.
    pub stamp: u64,
    /// Made when first asked for.
    pub filter: OnceLock<Arc<ClassFilter>>,
    pub ssh: OnceLock<Arc<str>>,
    pub attributes: OnceLock<Arc<Attributes>>,
}

/// Whether their devices are told the same rules.
impl PartialEq for Class {
    fn eq(&self, other: &Self) -> bool {
        self.stamp == other.stamp
    }
}

impl Shape {
    /// Whether its devices are among these sources.
    pub fn is_from(&self, source: usize) -> bool {
        self.from.has(source)
    }
}

/// What has to be made anew.
#[derive(Default)]
struct Dirty {
    sources: BTreeMap<usize, BTreeSet<u64>>,
    classes: Bits,
    beyond: bool,
    changed: bool,
}

impl Classes {
    /// No devices.
    fn new(policy: &Policy) -> Self {
        let program = Program::new(policy);
        let sources = program.sources.iter().map(|_| Arc::default()).collect();
        Self {
            program: Arc::new(program),
            people: People::default(),
            user_bits: OrdMap::new(),
            nodes: OrdMap::new(),
            of_user: OrdSet::new(),
            classes: OrdMap::new(),
            sources,
            beyond: OrdMap::new(),
            own_classes: OrdMap::new(),
            empty: 0,
        }
    }

    /// The users and devices of a tailnet.
    pub fn of(policy: &Policy, tailnet: Tailnet) -> Self {
        let mut classes = Self::new(policy);
        let people = tailnet.people.into_iter().map(|person| (person.id, Some(person)));
        let devices = tailnet.devices.into_iter().map(|device| (device.id, Some(device)));
        classes.update(people, devices);
        classes
    }

    /// Takes over what became of some users and devices. `false`: the policy says
    /// the same of all.
    pub fn update(
        &mut self,
        people: impl Iterator<Item = (UserId, Option<Person>)>,
        devices: impl Iterator<Item = (NodeId, Option<Device>)>,
    ) -> bool {
        let mut dirty = Dirty::default();
        let mut affected = BTreeSet::new();
        for (id, person) in people {
            affected.extend(self.people.set(id, person));
        }
        dirty.changed |= !affected.is_empty();
        if dirty.changed && self.program.names_people() {
            dirty.classes = self.classes.keys().copied().collect();
        }
        // A node that is taken away has to be known before its user is.
        for (id, device) in devices {
            self.place(id, device, &mut dirty);
        }
        for user in affected {
            self.name(user, &mut dirty);
        }
        self.settle(&dirty);
        dirty.changed
    }

    /// Whether so many classes are empty that it is better to start again.
    pub fn is_sparse(&self) -> bool {
        self.empty > SPARE_CLASSES + (self.classes.len() - self.empty)
    }

    pub fn placed(&self, node: NodeId) -> Option<&Arc<Placed>> {
        self.nodes.get(&node)
    }

    pub fn class(&self, class: ClassId) -> &Arc<Class> {
        &self.classes[&class]
    }

    /// Whether there ever was a device of this class.
    pub fn has_class(&self, class: ClassId) -> bool {
        self.classes.contains_key(&class)
    }

    /// Whether class numbers mean the same in both.
    pub fn is_like(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.program, &other.program)
    }

    /// Nodes that are not the same, with their classes in this and in the other one.
    /// The work follows the differences.
    pub fn moved<'c>(
        &'c self,
        other: &'c Self,
    ) -> impl Iterator<Item = (NodeId, Option<ClassId>, Option<ClassId>)> + 'c {
        self.nodes.diff(&other.nodes).map(|item| match item {
            DiffItem::Add(id, new) => (*id, None, Some(new.class)),
            DiffItem::Update { old, new } => (*old.0, Some(old.1.class), Some(new.1.class)),
            DiffItem::Remove(id, old) => (*id, Some(old.class), None),
        })
    }

    /// Classes of the other one whose rules may read differently than in this one.
    pub fn retold<'c>(&'c self, other: &'c Self) -> impl Iterator<Item = ClassId> + 'c {
        self.classes.diff(&other.classes).filter_map(|item| match item {
            DiffItem::Add(id, _) => Some(*id),
            DiffItem::Update { new, .. } => Some(*new.0),
            DiffItem::Remove(..) => None,
        })
    }

    /// All classes, some of them without devices.
    pub fn classes(&self) -> impl Iterator<Item = (ClassId, &Arc<Class>)> {
        self.classes.iter().map(|(id, class)| (*id, class))
    }

    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, ClassId)> {
        self.nodes.iter().map(|(id, placed)| (*id, placed.class))
    }

    /// What `*` means as a source beside [`TAILNET`].
    pub fn beyond(&self) -> impl Iterator<Item = &Range> {
        self.beyond.keys()
    }

    pub fn source(&self, source: usize) -> &Arc<Source> {
        &self.sources[source]
    }

    /// The devices of a user.
    pub fn devices_of(&self, user: UserId) -> impl Iterator<Item = &Device> {
        let all = self.of_user.range((user, NodeId(0))..=(user, NodeId(u64::MAX)));
        all.filter_map(|(_, id)| self.nodes.get(id)).map(|placed| &placed.device)
    }

    /// Whether devices of one class may reach those of the other, or the other way round.
    pub fn see_each_other(&self, a: ClassId, b: ClassId) -> bool {
        let (a, b) = (&self.classes[&a].shape, &self.classes[&b].shape);
        let own = || a.own.is_some() && a.own == b.own && !(a.own_lines.is_empty() && b.own_lines.is_empty());
        a.from.meets(&b.to) || b.from.meets(&a.to) || own()
    }

    /// All classes with devices that see, and are seen by, those of this one.
    pub fn seen_by(&self, class: ClassId) -> Bits {
        let shape = &self.classes[&class].shape;
        let mut all = Bits::default();
        shape.from.iter().for_each(|source| all.add(&self.sources[source].to));
        shape.to.iter().for_each(|source| all.add(&self.sources[source].from));
        if let Some(own) = shape.own.filter(|_| !shape.own_lines.is_empty()) {
            self.own_classes.get(&own).into_iter().flatten().for_each(|class| all.set(*class));
        }
        all
    }

    /// The addresses of a set of sources.
    pub fn list(&self, source: usize) -> &Arc<SourceList> {
        let state = &self.sources[source];
        state.list.get_or_init(|| {
            let mut list = self.fixed_list(source);
            let blocks: BTreeSet<u64> = self.nodes_of(&state.fed_by).map(source::block).collect();
            blocks.into_iter().for_each(|block| list.set_block(block, self.addresses(&state.fed_by, block)));
            Arc::new(list)
        })
    }

    /// The devices of some classes, class by class.
    pub fn nodes_of<'c>(&'c self, classes: &'c Bits) -> impl Iterator<Item = NodeId> + 'c {
        classes.iter().flat_map(|class| self.classes[&class].nodes.iter().copied())
    }

    fn fixed_list(&self, source: usize) -> SourceList {
        let spec = &self.program.sources[source];
        let mut fixed = spec.ranges.clone();
        if spec.any {
            fixed.extend(TAILNET);
            fixed.extend(self.beyond.keys());
        }
        SourceList::new(spec.everywhere, fixed)
    }

    fn addresses<'c>(&'c self, classes: &'c Bits, block: u64) -> impl Iterator<Item = Range> + 'c {
        let nodes = self.nodes.range(source::ids(block)).map(|(_, placed)| placed);
        nodes
            .filter(|placed| classes.has(placed.class))
            .flat_map(|placed| &placed.device.ips)
            .map(|ip| Range::from(*ip))
    }

    /// A user is named otherwise: their devices may be others to the policy.
    fn name(&mut self, user: UserId, dirty: &mut Dirty) {
        let bits = self.people.bits(user, &self.program.selectors);
        if self.user_bits.get(&user) == bits.as_ref() {
            return;
        }
        match bits {
            Some(bits) => drop(self.user_bits.insert(user, bits)),
            None => drop(self.user_bits.remove(&user)),
        }
        let devices: Vec<Device> = self.devices_of(user).cloned().collect();
        devices.into_iter().for_each(|device| self.place(device.id, Some(device), dirty));
    }

    fn place(&mut self, id: NodeId, device: Option<Device>, dirty: &mut Dirty) {
        let old = self.nodes.get(&id).cloned();
        let new = device.map(|device| Arc::new(Placed { class: self.class_for(&device), device }));
        match (&old, &new) {
            (None, None) => return,
            (Some(old), Some(new)) if old.class == new.class && old.device == new.device => return,
            _ => dirty.changed = true,
        }
        match &new {
            Some(new) => drop(self.nodes.insert(id, new.clone())),
            None => drop(self.nodes.remove(&id)),
        }
        self.count_beyond(old.as_deref(), new.as_deref(), dirty);
        let same = |a: &Placed, b: &Placed| {
            a.class == b.class && a.device.ips == b.device.ips && a.device.owner == b.device.owner
        };
        if let (Some(old), Some(new)) = (&old, &new)
            && same(old, new)
        {
            return;
        }
        for (placed, is_new) in [(&old, false), (&new, true)] {
            let Some(placed) = placed else { continue };
            let class = Arc::make_mut(self.classes.get_mut(&placed.class).expect("a class with devices is there"));
            if is_new {
                self.empty -= usize::from(class.nodes.is_empty());
                class.nodes.insert(id);
                self.of_user.extend(placed.device.user().map(|user| (user, id)));
            } else {
                class.nodes.remove(&id);
                self.empty += usize::from(class.nodes.is_empty());
                placed.device.user().and_then(|user| self.of_user.remove(&(user, id)));
            }
            for source in class.shape.feeds.iter() {
                dirty.sources.entry(source).or_default().insert(source::block(id));
            }
            let own = class.shape.own.and_then(|user| self.own_classes.get(&user));
            own.into_iter().flatten().for_each(|class| dirty.classes.set(*class));
        }
    }

    /// Keeps what `*` means as a source: all subnets behind routers, and addresses of
    /// devices outside the usual ranges.
    fn count_beyond(&mut self, old: Option<&Placed>, new: Option<&Placed>, dirty: &mut Dirty) {
        let of = |placed: Option<&Placed>| placed.map(|placed| beyond(&placed.device)).unwrap_or_default();
        let (old, new) = (of(old), of(new));
        for range in old.difference(&new) {
            let count = self.beyond.get(range).copied().unwrap_or_default();
            if count > 1 {
                self.beyond.insert(*range, count - 1);
            } else {
                self.beyond.remove(range);
                dirty.beyond = true;
            }
        }
        for range in new.difference(&old) {
            let count = self.beyond.get(range).copied().unwrap_or_default();
            self.beyond.insert(*range, count + 1);
            dirty.beyond |= count == 0;
        }
    }

    fn class_for(&mut self, device: &Device) -> ClassId {
        let mut bits = device.user().and_then(|user| self.user_bits.get(&user)).cloned().unwrap_or_default();
        self.program.selectors.of_device(device, &mut bits);
        let (id, shape) = self.program.class(bits, device.user());
        if !self.classes.contains_key(&id) {
            self.enlist(id, &shape);
            self.empty += 1;
            let class = Class {
                shape,
                nodes: OrdSet::new(),
                stamp: stamp(),
                filter: OnceLock::new(),
                ssh: OnceLock::new(),
                attributes: OnceLock::new(),
            };
            self.classes.insert(id, Arc::new(class));
        }
        id
    }

    /// Tells the sources of a new class.
    fn enlist(&mut self, id: ClassId, shape: &Shape) {
        for (sources, set) in [
            (&shape.from, (|source| &mut source.from) as fn(&mut Source) -> &mut Bits),
            (&shape.feeds, |source| &mut source.fed_by),
            (&shape.to, |source| &mut source.to),
            (&shape.to, |source| &mut source.used_by),
            (&shape.ssh, |source| &mut source.used_by),
        ] {
            for source in sources.iter() {
                set(Arc::make_mut(&mut self.sources[source])).set(id);
            }
        }
        if let Some(own) = shape.own {
            let mut classes = self.own_classes.get(&own).cloned().unwrap_or_default();
            classes.push(id);
            self.own_classes.insert(own, classes);
        }
    }

    /// Makes lists anew where they were made, and forgets what was made of them.
    fn settle(&mut self, dirty: &Dirty) {
        let mut classes = dirty.classes.clone();
        if dirty.beyond {
            for (number, _) in self.program.sources.iter().enumerate().filter(|(_, spec)| spec.any) {
                let source = Arc::make_mut(&mut self.sources[number]);
                source.list = OnceLock::new();
                classes.add(&source.used_by);
            }
        }
        for (&number, blocks) in &dirty.sources {
            let state = self.sources[number].clone();
            classes.add(&state.used_by);
            let list = state.list.get().map(|list| {
                let mut list = SourceList::clone(list);
                blocks.iter().for_each(|block| list.set_block(*block, self.addresses(&state.fed_by, *block)));
                Arc::new(list)
            });
            let source = Arc::make_mut(&mut self.sources[number]);
            source.list = list.map(OnceLock::from).unwrap_or_default();
            source.principals = OnceLock::new();
        }
        for number in classes.iter() {
            let Some(class) = self.classes.get_mut(&number) else { continue };
            let class = Arc::make_mut(class);
            class.stamp = stamp();
            (class.filter, class.ssh) = (OnceLock::new(), OnceLock::new());
        }
    }
}

fn stamp() -> u64 {
    LAST_STAMP.fetch_add(1, Ordering::Relaxed)
}

fn beyond(device: &Device) -> BTreeSet<Range> {
    let outside = device.ips.iter().filter(|ip| !TAILNET.iter().any(|range| range.contains(**ip)));
    device.routes.iter().map(|route| Range::from(*route)).chain(outside.map(|ip| Range::from(*ip))).collect()
}
