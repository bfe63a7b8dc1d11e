//! From one application of a policy to the next: whose view of the others changed.

use super::bits::Bits;
use super::classes::ClassId;
use super::view::PolicyView;
use crate::state::NodeId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// What is different in one view from another. The work follows the differences and
/// the number of classes.
pub struct Step {
    old: Arc<PolicyView>,
    new: Arc<PolicyView>,
    /// Whether both have the same rules, and so the same classes.
    alike: bool,
    /// Nodes of whom something changed, by their class before and after.
    groups: BTreeMap<Moved, Vec<NodeId>>,
    moved: HashMap<NodeId, Moved>,
    /// Nodes of whom something changed that their viewers are told.
    changed: BTreeSet<NodeId>,
    plans: Mutex<HashMap<Moved, Arc<Plan>>>,
}

/// A node's class before and after; `None`: it was not, or is not, there.
type Moved = (Option<ClassId>, Option<ClassId>);

/// What the viewers of one class are to be told.
#[derive(Debug, Default)]
pub struct Plan {
    /// Changed nodes that they see as before.
    pub seen: Vec<NodeId>,
    /// Nodes that came into sight, or are out of it.
    pub flipped: Vec<NodeId>,
    /// Whether their packet filter, SSH rules or attributes may read differently.
    pub rules: bool,
}

impl Step {
    /// From `old` to `new`; `changed` are nodes of whom something else changed.
    pub fn new(old: Arc<PolicyView>, new: Arc<PolicyView>, changed: impl Iterator<Item = NodeId>) -> Self {
        let alike = old.classes.is_like(&new.classes);
        let mut moved: HashMap<NodeId, Moved> = HashMap::new();
        if alike {
            moved.extend(old.classes.moved(&new.classes).map(|(id, before, after)| (id, (before, after))));
        } else {
            moved.extend(old.classes.nodes().map(|(id, class)| (id, (Some(class), None))));
            for (id, class) in new.classes.nodes() {
                moved.entry(id).or_default().1 = Some(class);
            }
        }
        let changed: BTreeSet<NodeId> = changed.collect();
        for &id in &changed {
            moved.entry(id).or_insert_with(|| (old.class_of(id), new.class_of(id)));
        }
        let mut groups: BTreeMap<Moved, Vec<NodeId>> = BTreeMap::new();
        for (id, classes) in &moved {
            groups.entry(*classes).or_default().push(*id);
        }
        Self { old, new, alike, groups, moved, changed, plans: Mutex::default() }
    }

    /// Whether the rules themselves are others.
    pub fn is_other_policy(&self) -> bool {
        !self.alike
    }

    /// Everybody who may have to be told something, if these are fewer than `enough`.
    pub fn audience(&self, enough: usize) -> Option<BTreeSet<NodeId>> {
        if !self.alike {
            return None;
        }
        let mut classes: Bits = self.old.classes.retold(&self.new.classes).collect();
        for (before, after) in self.groups.keys() {
            before.iter().for_each(|class| classes.add(&self.old.classes.seen_by(*class)));
            after.iter().for_each(|class| classes.add(&self.new.classes.seen_by(*class)));
        }
        let there: Bits = classes.iter().filter(|class| self.new.classes.has_class(*class)).collect();
        let count: usize = there.iter().map(|class| self.new.classes.class(class).nodes.len()).sum();
        if count + self.moved.len() >= enough {
            return None;
        }
        Some(self.new.classes.nodes_of(&there).chain(self.moved.keys().copied()).collect())
    }

    /// What one viewer is to be told: made once for all of its class.
    pub fn plan(&self, viewer: NodeId) -> Arc<Plan> {
        let here = || (self.old.class_of(viewer), self.new.class_of(viewer));
        let classes = self.moved.get(&viewer).copied().unwrap_or_else(here);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.entry(classes).or_insert_with(|| Arc::new(self.make_plan(classes))).clone()
    }

    fn make_plan(&self, viewer: Moved) -> Plan {
        let mut plan = Plan { rules: self.rules_changed(viewer), ..Plan::default() };
        let before = viewer.0.map(|class| self.old.classes.seen_by(class)).unwrap_or_default();
        let after = viewer.1.map(|class| self.new.classes.seen_by(class)).unwrap_or_default();
        let sees = |classes: &Bits, peer: Option<ClassId>| peer.is_some_and(|class| classes.has(class));
        for (group, nodes) in &self.groups {
            match (sees(&before, group.0), sees(&after, group.1)) {
                (true, true) => plan.seen.extend(nodes.iter().filter(|node| self.changed.contains(node))),
                (false, false) => {}
                _ => plan.flipped.extend(nodes),
            }
        }
        if self.alike && viewer.0 != viewer.1 {
            // Everybody else stayed what they were, and is another to this viewer.
            for (class, members) in self.new.classes.classes() {
                if before.has(class) != after.has(class) {
                    plan.flipped.extend(members.nodes.iter().filter(|node| !self.moved.contains_key(node)));
                }
            }
        }
        plan
    }

    fn rules_changed(&self, viewer: Moved) -> bool {
        match viewer {
            (Some(before), Some(after)) if self.alike && before == after => {
                self.old.classes.class(before) != self.new.classes.class(after)
            }
            _ => true,
        }
    }
}
