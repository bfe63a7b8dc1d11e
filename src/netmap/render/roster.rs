//! Everybody whom the viewers of a class see, made once for all of them.

use super::blocks::{Block, Blocks, IDS};
use super::cache::Cache;
use super::profile::owner;
use crate::policy::{PolicyView, Told, ViewerClass};
use crate::state::{Node, NodeId, State};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rosters that are kept: more classes than this that come at the same time are made anew
/// for each map.
const KEPT: usize = 16;
/// How long one is kept that nobody asks for: it holds on to the state that it was made of.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// The peers of one class of viewers, in one state, by their ids.
#[derive(Debug)]
pub struct Roster {
    state: State,
    policy: Arc<PolicyView>,
    /// By number, ascending; none is empty.
    pub segments: Vec<Arc<Segment>>,
}

/// Peers whose ids divided by [`IDS`] are the same number. The viewer may be one of them.
#[derive(Debug)]
pub struct Segment {
    pub number: u64,
    /// A bit for each peer, by the rest of its id.
    pub ids: u64,
    /// Those of them that are expired.
    pub expired: u64,
    /// Their owners, ascending.
    pub users: Vec<u64>,
    pub block: Arc<Block>,
    /// Whether all viewers of the class are told the same of all of them.
    pub is_common: bool,
}

/// What rosters are made with.
pub struct Making<'a> {
    pub state: &'a State,
    pub policy: &'a Arc<PolicyView>,
    pub cache: &'a mut Cache,
    pub blocks: &'a mut Blocks,
}

/// The rosters of late, the one that was used last first.
#[derive(Debug, Default)]
pub struct Rosters {
    kept: VecDeque<(ViewerClass, Instant, Arc<Roster>)>,
}

impl Rosters {
    /// The roster for `viewer`, of whose class `class` is. Where there is an earlier one, the
    /// work follows what changed since.
    pub fn get(&mut self, viewer: &Node, class: ViewerClass, mut making: Making) -> Arc<Roster> {
        let now = Instant::now();
        self.kept.retain(|(_, used, _)| now - *used < KEPT_FOR);
        let at =
            self.kept.iter().position(|(known, _, roster)| *known == class && roster.is_by_rules_of(making.policy));
        let known = at.and_then(|at| self.kept.remove(at)).map(|(_, _, roster)| roster);
        let roster = match &known {
            Some(known) if known.state.index() == making.state.index() => known.clone(),
            Some(known) => Arc::new(known.updated(viewer, &mut making)),
            None => Arc::new(Roster::new(viewer, &mut making)),
        };
        // Whoever reads an older state must not take the newer one from the others.
        let newest = known.filter(|known| known.state.index() > roster.state.index()).unwrap_or_else(|| roster.clone());
        self.kept.truncate(KEPT - 1);
        self.kept.push_front((class, now, newest));
        roster
    }
}

impl Roster {
    fn new(viewer: &Node, making: &mut Making) -> Self {
        let numbers: BTreeSet<u64> = making.state.nodes().map(|node| node.id.0 / IDS).collect();
        let segments = numbers.into_iter().filter_map(|number| making.segment(viewer, number)).collect();
        Self { state: making.state.clone(), policy: making.policy.clone(), segments }
    }

    fn updated(&self, viewer: &Node, making: &mut Making) -> Self {
        let same_settings = match (self.state.settings(), making.state.settings()) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        if !same_settings {
            return Self::new(viewer, making);
        }
        let changed = self.state.differing_nodes(making.state).filter_map(|(old, new)| Some(old.or(new)?.id));
        let moved = self.policy.moved_nodes(making.policy);
        let numbers: BTreeSet<u64> = changed.chain(moved).map(|id| id.0 / IDS).collect();
        let mut segments = self.segments.clone();
        for number in numbers {
            let at = segments.binary_search_by_key(&number, |segment| segment.number);
            match (at, making.segment(viewer, number)) {
                (Ok(at), Some(segment)) => segments[at] = segment,
                (Ok(at), None) => drop(segments.remove(at)),
                (Err(at), Some(segment)) => segments.insert(at, segment),
                (Err(_), None) => {}
            }
        }
        Self { state: making.state.clone(), policy: making.policy.clone(), segments }
    }

    fn is_by_rules_of(&self, policy: &PolicyView) -> bool {
        self.policy.rules() == policy.rules()
    }
}

impl Making<'_> {
    /// `None`: the viewers see nobody there.
    fn segment(&mut self, viewer: &Node, number: u64) -> Option<Arc<Segment>> {
        let (mut ids, mut expired, mut is_common) = (0, 0, true);
        let (mut users, mut peers) = (BTreeSet::new(), Vec::new());
        for rest in 0..IDS {
            let Some(peer) = self.state.node(NodeId(number * IDS + rest)) else { continue };
            if !self.policy.sees(viewer, peer) {
                continue;
            }
            // Where viewers are told of it in ways of their own, this is not used.
            let Some(json) = self.cache.peer(self.state, peer, Told::default()) else { continue };
            is_common &= self.policy.tells_all_the_same(peer);
            ids |= 1 << rest;
            expired |= u64::from(peer.expired) << rest;
            users.insert(owner(peer).0);
            peers.push(json);
        }
        if peers.is_empty() {
            return None;
        }
        let block = self.blocks.get(number, peers);
        let users = users.into_iter().collect();
        Some(Arc::new(Segment { number, ids, expired, users, block, is_common }))
    }
}
