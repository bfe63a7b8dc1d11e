//! What one stream has yet to tell its client: what changed, not messages.
//!
//! A mailbox coalesces. However long a client does not read, its mailbox holds
//! one mark for each node, and the client gets the newest state when it can.

use super::lock;
use super::meters::METERS;
use super::round::Round;
use crate::state::{NodeChange, NodeId, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// Marks for nodes that are gone stay until the client is told, and ids are never
/// used again: beyond this many marks more than there are nodes, one mark for
/// everything is smaller.
const MARKS_BEYOND_NODES: usize = 1024;

/// What changed since the last message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Nodes, the client's own too, and how they differ. A node that came or went
    /// differs in its record.
    pub nodes: BTreeMap<NodeId, NodeChange>,
    pub users: BTreeSet<UserId>,
    /// Other rules are in force.
    pub policy: bool,
    /// The rules are the same, and may read differently for this client: addresses
    /// in them changed, or it is of another class.
    pub rules: bool,
    pub dns: bool,
    pub derp_map: bool,
    /// Replicas came, went or moved.
    pub replicas: bool,
    /// Nobody knows what changed: everything has to be sent again.
    pub everything: bool,
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A newer stream of the same node has its first frame.
    Replaced,
    /// The node is gone, or its key is another one.
    NodeGone,
    /// This replica lost its quorum, or stops.
    Stopping,
}

impl Marks {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a change of one node.
    pub fn add_node(&mut self, node: NodeId, what: NodeChange) {
        let known = self.nodes.entry(node).or_default();
        *known = union(*known, what);
    }
}

/// How a node differs after both changes.
pub(super) fn union(a: NodeChange, b: NodeChange) -> NodeChange {
    NodeChange {
        online: a.online | b.online,
        endpoints: a.endpoints | b.endpoints,
        home_derp: a.home_derp | b.home_derp,
        disco_key: a.disco_key | b.disco_key,
        key: a.key | b.key,
        record: a.record | b.record,
    }
}

/// The mailbox of one stream. Many may mark; the stream alone takes.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    content: Mutex<Content>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Content {
    marks: Marks,
    end: Option<End>,
    /// The log index up to which a complete map told everything.
    told: u64,
    /// The oldest change that is marked.
    round: Option<Arc<Round>>,
}

impl Mailbox {
    /// Adds marks for what the log has at `index`, unless that was told already.
    pub fn mark_at(&self, index: u64, round: &Arc<Round>, nodes: usize, add: impl FnOnce(&mut Marks)) {
        let content = lock(&self.content);
        if index > content.told {
            self.add(content, Some(round), nodes, add);
        }
    }

    /// Adds marks and wakes the stream, if `add` left any. `nodes` is how many
    /// nodes there are, which bounds the mailbox.
    pub fn mark(&self, nodes: usize, add: impl FnOnce(&mut Marks)) {
        self.add(lock(&self.content), None, nodes, add);
    }

    fn add(
        &self,
        mut content: MutexGuard<'_, Content>,
        round: Option<&Arc<Round>>,
        nodes: usize,
        add: impl FnOnce(&mut Marks),
    ) {
        let Content { marks, round: oldest, .. } = &mut *content;
        let was_empty = marks.is_empty();
        if !marks.everything {
            add(marks);
        }
        if marks.everything || marks.nodes.len() > nodes + MARKS_BEYOND_NODES {
            // Whatever else is marked is part of everything.
            *marks = Marks { everything: true, ..Marks::default() };
        }
        let wake = !marks.is_empty();
        if wake && oldest.is_none() {
            *oldest = round.cloned();
        }
        drop(content);
        if wake {
            METERS.marked.increment(1);
            METERS.coalesced.increment(u64::from(!was_empty));
            self.news.notify_one();
        }
    }

    /// Ends the stream; the first reason counts.
    pub fn end(&self, why: End) {
        lock(&self.content).end.get_or_insert(why);
        self.news.notify_one();
    }

    /// Whether the stream was ended.
    pub fn ended(&self) -> Option<End> {
        lock(&self.content).end
    }

    /// Waits until there is something to take, or the stream was ended.
    pub async fn news(&self) {
        loop {
            {
                let content = lock(&self.content);
                if content.end.is_some() || !content.marks.is_empty() {
                    return;
                }
            }
            self.news.notified().await;
        }
    }

    /// A complete map was made from a view at `index`, read after the last
    /// [`Mailbox::take`]: news of older changes, which may still come, are none.
    pub fn told_everything(&self, index: u64) {
        lock(&self.content).told = index;
    }

    /// All marks, which are the taker's from now on. A view that is read after this
    /// has everything that they stand for.
    pub fn take(&self) -> Marks {
        self.take_round().0
    }

    /// As [`Mailbox::take`], with the oldest change that was marked.
    pub fn take_round(&self) -> (Marks, Option<Arc<Round>>) {
        let mut content = lock(&self.content);
        (std::mem::take(&mut content.marks), content.round.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONLINE: NodeChange =
        NodeChange { online: true, endpoints: false, home_derp: false, disco_key: false, key: false, record: false };
    const ENDPOINTS: NodeChange = NodeChange { online: false, endpoints: true, ..ONLINE };

    #[test]
    fn marks_of_one_node_become_one() {
        let mailbox = Mailbox::default();
        for _ in 0..1000 {
            mailbox.mark(10, |marks| marks.add_node(NodeId(7), ONLINE));
            mailbox.mark(10, |marks| marks.add_node(NodeId(7), ENDPOINTS));
        }
        let marks = mailbox.take();
        assert_eq!(marks.nodes, BTreeMap::from([(NodeId(7), union(ONLINE, ENDPOINTS))]));
        assert!(mailbox.take().is_empty());
    }

    #[test]
    fn a_mailbox_that_nobody_empties_stays_small() {
        let mailbox = Mailbox::default();
        for id in 0..1_000_000 {
            mailbox.mark(100, |marks| marks.add_node(NodeId(id), ONLINE));
            assert!(lock(&mailbox.content).marks.nodes.len() <= 100 + MARKS_BEYOND_NODES);
        }
        let marks = mailbox.take();
        assert!(marks.everything);
        assert!(marks.nodes.is_empty());
    }

    #[test]
    fn what_a_complete_map_told_is_not_marked_again() {
        let mailbox = Mailbox::default();
        mailbox.told_everything(8);
        mailbox.mark_at(8, &Round::begin(), 10, |marks| marks.add_node(NodeId(7), ONLINE));
        assert!(mailbox.take().is_empty());
        mailbox.mark_at(9, &Round::begin(), 10, |marks| marks.add_node(NodeId(7), ONLINE));
        assert_eq!(mailbox.take().nodes.len(), 1);
    }

    #[tokio::test]
    async fn an_end_is_news_and_its_first_reason_counts() {
        let mailbox = Mailbox::default();
        mailbox.end(End::NodeGone);
        mailbox.end(End::Replaced);
        mailbox.news().await;
        assert_eq!(mailbox.ended(), Some(End::NodeGone));
    }
}
