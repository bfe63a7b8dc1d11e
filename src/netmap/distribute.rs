//! Follows what is applied, and marks it in the mailboxes of those who see it.

use super::Inner;
use super::mailbox::{End, Mailbox, Marks, union};
use crate::policy::PolicyView;
use crate::state::{Batch, Change, Node, NodeChange, NodeId, SessionId, State, UserId};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};

/// Mailboxes that are marked before other tasks get their turn.
const MARKED_IN_ONE_GO: usize = 256;

/// Runs until the cluster stops.
pub(super) async fn follow(inner: Arc<Inner>, mut batches: broadcast::Receiver<Arc<Batch>>) {
    loop {
        match batches.recv().await {
            Ok(batch) => distribute(&inner, &batch).await,
            Err(RecvError::Lagged(_)) => look_again(&inner).await,
            Err(RecvError::Closed) => return inner.end_all(End::Stopping),
        }
    }
}

/// Nobody knows what changed: every client gets everything.
async fn look_again(inner: &Arc<Inner>) {
    mark_all(inner, &inner.cluster.view(), |_, mailbox| mailbox.mark(0, |marks| marks.everything = true)).await;
    for session in inner.registry.missing_in(|| inner.cluster.view()) {
        inner.runtime.spawn(inner.clone().reopen(session));
    }
}

async fn distribute(inner: &Arc<Inner>, batch: &Batch) {
    let news = News::of(inner, batch);
    if news.is_for_clients() {
        let policy = inner.policies.in_force(&batch.view);
        let nodes = batch.view.node_count();
        let mark = |viewer: &Arc<Node>, mailbox: &Mailbox| {
            mailbox.mark_at(batch.index, nodes, |marks| news.add_to(marks, &policy, viewer));
        };
        mark_all(inner, &batch.view, mark).await;
    }
    // After the others were told.
    for node in news.gone {
        for stream in inner.registry.of(node) {
            inner.end(stream, End::NodeGone);
        }
    }
    for session in news.closed {
        inner.runtime.spawn(inner.clone().reopen(session));
    }
}

/// Calls `mark` for every stream whose node is there.
async fn mark_all(inner: &Inner, view: &State, mark: impl Fn(&Arc<Node>, &Mailbox)) {
    for (n, (stream, mailbox)) in inner.registry.all().into_iter().enumerate() {
        if n % MARKED_IN_ONE_GO == MARKED_IN_ONE_GO - 1 {
            tokio::task::yield_now().await;
        }
        if let Some(viewer) = view.node(stream.node) {
            mark(viewer, &mailbox);
        }
    }
}

/// One batch, sorted by what it means to streams.
#[derive(Default)]
struct News {
    /// With the record as it is now; `None`: it is gone.
    nodes: BTreeMap<NodeId, (NodeChange, Option<Arc<Node>>)>,
    users: Vec<UserId>,
    policy: bool,
    replicas: bool,
    everything: bool,
    gone: Vec<NodeId>,
    /// Sessions of this replica.
    closed: Vec<SessionId>,
}

impl News {
    fn of(inner: &Inner, batch: &Batch) -> Self {
        let whole = NodeChange { record: true, ..NodeChange::default() };
        let mut news = Self::default();
        for change in &batch.changes {
            match change {
                Change::NodeAdded(node) => news.add(batch, *node, whole),
                Change::NodeChanged { node, what } => news.add(batch, *node, *what),
                Change::NodeRemoved(node) => {
                    news.add(batch, *node, whole);
                    news.gone.push(*node);
                }
                Change::UserChanged(user) => news.users.push(*user),
                Change::PolicyChanged => news.policy = true,
                // Names and addresses of all nodes hang on the settings.
                Change::SettingsChanged => news.everything = true,
                Change::ReplicasChanged(_) => news.replicas = true,
                Change::SessionClosed(session) => {
                    if session.replica == inner.cluster.id() && session.incarnation == inner.cluster.incarnation() {
                        news.closed.push(*session);
                    }
                }
                Change::LoginDecided(_) => {}
            }
        }
        news
    }

    fn add(&mut self, batch: &Batch, node: NodeId, what: NodeChange) {
        let (known, _) = self.nodes.entry(node).or_insert_with(|| (what, batch.view.node(node).cloned()));
        *known = union(*known, what);
    }

    /// Whether there may be a client that has to be told.
    fn is_for_clients(&self) -> bool {
        !self.nodes.is_empty() || !self.users.is_empty() || self.policy || self.replicas || self.everything
    }

    /// What of it concerns one viewer.
    fn add_to(&self, marks: &mut Marks, policy: &PolicyView, viewer: &Node) {
        for (&id, (what, node)) in &self.nodes {
            // Who may no longer see a node has to be told too, so only what says
            // nothing about who sees it is kept from others.
            let concerns =
                what.record || id == viewer.id || node.as_deref().is_some_and(|node| policy.sees(viewer, node));
            if concerns {
                marks.add_node(id, *what);
            }
        }
        marks.users.extend(&self.users);
        // Rules name users, and who is meant follows their names and addresses.
        marks.policy |= self.policy || !self.users.is_empty() && !policy.is_plain();
        marks.replicas |= self.replicas;
        marks.everything |= self.everything;
    }
}
