//! Follows what is applied, and marks it in the mailboxes of those who see it.

use super::Inner;
use super::mailbox::{End, Mailbox, Marks, union};
use super::meters::METERS;
use super::registry::StreamId;
use super::round::Round;
use crate::policy::{PolicyView, Step};
use crate::state::{Batch, Change, NodeChange, NodeId, SessionId, State, UserId};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};

/// Mailboxes that are marked before other tasks get their turn.
const MARKED_IN_ONE_GO: usize = 256;

/// Runs until the cluster stops.
pub(super) async fn follow(inner: Arc<Inner>, mut batches: broadcast::Receiver<Arc<Batch>>) {
    // What the batch before this one had in force.
    let mut policy = inner.policies.in_force(&inner.cluster.view());
    loop {
        match batches.recv().await {
            Ok(batch) => policy = distribute(&inner, &batch, policy).await,
            Err(RecvError::Lagged(_)) => {
                METERS.changes_lost.increment(1);
                policy = look_again(&inner).await;
            }
            Err(RecvError::Closed) => return inner.end_all(End::Stopping),
        }
    }
}

/// Nobody knows what changed: every client gets everything.
async fn look_again(inner: &Arc<Inner>) -> Arc<PolicyView> {
    let view = inner.cluster.view();
    mark_all(inner, &view, |_, mailbox| mailbox.mark(0, |marks| marks.everything = true)).await;
    for session in inner.registry.missing_in(|| inner.cluster.view()) {
        inner.runtime.spawn(inner.clone().reopen(session));
    }
    inner.policies.in_force(&view)
}

async fn distribute(inner: &Arc<Inner>, batch: &Batch, before: Arc<PolicyView>) -> Arc<PolicyView> {
    let round = Round::begin();
    METERS.changes.increment(batch.changes.len() as u64);
    let news = News::of(inner, batch);
    let policy = inner.policies.in_force(&batch.view);
    let unchanged = Arc::ptr_eq(&before, &policy);
    if news.is_for_clients() || !unchanged {
        let step = Step::new(before, policy.clone(), news.nodes.keys().copied());
        let nodes = batch.view.node_count();
        let mark = |viewer: NodeId, mailbox: &Mailbox| {
            mailbox.mark_at(batch.index, &round, nodes, |marks| news.add_to(marks, &step, viewer));
        };
        let audience = if news.is_for_all() { None } else { step.audience(inner.registry.count()) };
        match audience {
            None => mark_all(inner, &batch.view, mark).await,
            Some(viewers) => mark_each(inner.registry.streams_of(viewers), mark).await,
        }
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
    policy
}

/// Calls `mark` for every stream whose node is there.
async fn mark_all(inner: &Inner, view: &State, mark: impl Fn(NodeId, &Mailbox)) {
    let mut streams = inner.registry.all();
    streams.retain(|(stream, _)| view.node(stream.node).is_some());
    mark_each(streams, mark).await;
}

async fn mark_each(streams: Vec<(StreamId, Arc<Mailbox>)>, mark: impl Fn(NodeId, &Mailbox)) {
    for (n, (stream, mailbox)) in streams.into_iter().enumerate() {
        if n % MARKED_IN_ONE_GO == MARKED_IN_ONE_GO - 1 {
            tokio::task::yield_now().await;
        }
        mark(stream.node, &mailbox);
    }
}

/// One batch, sorted by what it means to streams.
#[derive(Default)]
struct News {
    nodes: BTreeMap<NodeId, NodeChange>,
    users: Vec<UserId>,
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
                Change::NodeAdded(node) => news.add(*node, whole),
                Change::NodeChanged { node, what } => news.add(*node, *what),
                Change::NodeRemoved(node) => {
                    news.add(*node, whole);
                    news.gone.push(*node);
                }
                Change::UserChanged(user) => news.users.push(*user),
                // What became of the policy shows in who sees whom.
                Change::PolicyChanged => {}
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

    fn add(&mut self, node: NodeId, what: NodeChange) {
        let known = self.nodes.entry(node).or_default();
        *known = union(*known, what);
    }

    /// Whether there may be a client that has to be told.
    fn is_for_clients(&self) -> bool {
        !self.nodes.is_empty() || self.is_for_all()
    }

    /// Whether anybody may have to be told.
    fn is_for_all(&self) -> bool {
        !self.users.is_empty() || self.replicas || self.everything
    }

    /// What of it concerns one viewer.
    fn add_to(&self, marks: &mut Marks, step: &Step, viewer: NodeId) {
        const WHOLE: NodeChange = NodeChange {
            record: true,
            online: false,
            endpoints: false,
            home_derp: false,
            disco_key: false,
            key: false,
        };
        let plan = step.plan(viewer);
        for &id in &plan.seen {
            if let Some(what) = self.nodes.get(&id) {
                marks.add_node(id, *what);
            }
        }
        plan.flipped.iter().filter(|id| **id != viewer).for_each(|id| marks.add_node(*id, WHOLE));
        if let Some(what) = self.nodes.get(&viewer) {
            marks.add_node(viewer, *what);
        }
        marks.users.extend(&self.users);
        marks.rules |= plan.rules;
        marks.policy |= step.is_other_policy();
        marks.replicas |= self.replicas;
        marks.everything |= self.everything;
    }
}
