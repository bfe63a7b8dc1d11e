//! Each node's JSON, made once for all streams of this replica.

use super::Json;
use super::node::{self, Shown};
use super::patch::{Patch, patch};
use crate::policy::Told;
use crate::state::{Node, NodeChange, NodeId, State};
use std::collections::HashMap;
use std::sync::Arc;

/// Entries beyond twice the nodes that there are: streams that render an older view
/// put deleted nodes in again, so now and then these are swept out.
const SPARE: usize = 64;
/// How many forms of one node are kept: most are told of in one, routers in one for each
/// kind of viewer.
const FORMS: usize = 16;

/// What was rendered of each node, as long as it shows the same.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<NodeId, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// The index of the state that this was last compared with.
    index: u64,
    shown: Shown,
    /// By what viewers are told of it, the oldest first.
    peer: Vec<(Told, Option<Json>)>,
    /// One for each kind of change that was asked for: a handful.
    patches: Vec<(NodeChange, Patch)>,
}

impl Cache {
    /// The node for its peers; `None`: it cannot be shown.
    pub fn peer(&mut self, state: &State, node: &Arc<Node>, told: Told) -> Option<Json> {
        let entry = self.entry(state, node);
        if let Some((_, json)) = entry.peer.iter().find(|(known, _)| *known == told) {
            return json.clone();
        }
        let json = node::peer(&entry.shown, &told);
        if entry.peer.len() == FORMS {
            entry.peer.remove(0);
        }
        entry.peer.push((told, json.clone()));
        json
    }

    /// A change of the node for peers that know it.
    pub fn patch(&mut self, state: &State, node: &Arc<Node>, what: NodeChange) -> Patch {
        let entry = self.entry(state, node);
        if let Some((_, patch)) = entry.patches.iter().find(|(kind, _)| *kind == what) {
            return patch.clone();
        }
        let patch = patch(&entry.shown, what);
        entry.patches.push((what, patch.clone()));
        patch
    }

    fn entry(&mut self, state: &State, node: &Arc<Node>) -> &mut Entry {
        if self.entries.len() > 2 * state.node_count() + SPARE {
            self.entries.retain(|id, _| state.node(*id).is_some());
        }
        let fresh =
            || Entry { index: state.index(), shown: Shown::new(state, node), peer: Vec::new(), patches: Vec::new() };
        let entry = self.entries.entry(node.id).or_insert_with(fresh);
        if entry.index != state.index() {
            if entry.shown.is_of(state, node) {
                entry.index = state.index();
            } else {
                *entry = fresh();
            }
        }
        entry
    }
}
