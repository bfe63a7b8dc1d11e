//! The streams that this replica holds, and their sessions.

use super::lock;
use super::mailbox::{End, Mailbox};
use super::meters::METERS;
use crate::cluster::{Cluster, Unavailable};
use crate::state::{NodeId, NodeUpdate, Report, SessionId, State};
use crate::tailcfg::{CapVer, NodeKey};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// All streams, by node. A stream is held from before its session is proposed,
/// so that nothing that is applied afterwards passes it by, until it is released.
pub(super) struct Registry {
    cluster: Cluster,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    slots: HashMap<NodeId, Slot>,
    streams: usize,
    /// Numbers streams and sessions alike; counts from 1.
    last_number: u64,
    /// No new streams any more.
    closed: bool,
}

/// One node's streams. There is a slot while one is held, or one's session is
/// still to be closed.
struct Slot {
    streams: Vec<Row>,
    /// The latest session that is open in state: older ones may be closed.
    opened: watch::Sender<u64>,
    /// Sessions of released streams that are still to be closed.
    retiring: usize,
}

struct Row {
    stream: StreamId,
    /// The stream's current session: another one after the cluster closed the first.
    session: SessionId,
    /// Whether the session was seen open in state.
    opened: bool,
    mailbox: Arc<Mailbox>,
    node_key: NodeKey,
    cap_ver: CapVer,
}

/// One stream on this replica. A newer stream has a larger number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamId {
    pub node: NodeId,
    number: u64,
}

/// A session whose stream is gone.
pub(super) struct Retiring {
    pub session: SessionId,
    /// The latest session of its node that is open on this replica.
    pub opened: watch::Receiver<u64>,
}

/// A stream that is registered.
pub(super) struct Registered {
    pub stream: StreamId,
    pub session: SessionId,
    pub mailbox: Arc<Mailbox>,
}

impl Registry {
    /// No streams.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, table: Mutex::default() }
    }

    /// Holds a new stream of a node, with a session that is yet to be opened.
    pub fn register(&self, update: &NodeUpdate) -> Result<Registered, Unavailable> {
        let mut table = lock(&self.table);
        if table.closed {
            return Err(Unavailable::Stopping);
        }
        let session = table.new_session(&self.cluster, update.node);
        let stream = StreamId { node: update.node, number: session.number };
        let mailbox = Arc::<Mailbox>::default();
        let row = Row {
            stream,
            session,
            opened: false,
            mailbox: mailbox.clone(),
            node_key: update.node_key,
            cap_ver: update.cap_ver,
        };
        table.slots.entry(update.node).or_insert_with(Slot::new).streams.push(row);
        table.streams += 1;
        self.count_streams(&table);
        Ok(Registered { stream, session, mailbox })
    }

    /// A session is open in state. `false`: its stream is not held any more.
    pub fn opened(&self, session: SessionId) -> bool {
        let mut table = lock(&self.table);
        let Some(slot) = table.slots.get_mut(&session.node) else { return false };
        slot.opened.send_if_modified(|latest| {
            let is_later = session.number > *latest;
            *latest = session.number.max(*latest);
            is_later
        });
        let row = slot.streams.iter_mut().find(|row| row.session == session);
        row.map(|row| row.opened = true).is_some()
    }

    /// Holds a stream no longer; what is left to do is to close its session.
    /// `None`: it was released before.
    pub fn release(&self, stream: StreamId) -> Option<Retiring> {
        let mut table = lock(&self.table);
        let Row { session, mailbox, .. } = self.remove(&mut table, stream)?;
        METERS.ended(mailbox.ended());
        let slot = table.slots.get_mut(&stream.node)?;
        slot.retiring += 1;
        Some(Retiring { session, opened: slot.opened.subscribe() })
    }

    /// Holds a stream no longer whose session was never opened.
    pub fn forget(&self, stream: StreamId) {
        let mut table = lock(&self.table);
        self.remove(&mut table, stream);
        table.sweep(stream.node);
    }

    /// A released stream's session needs nothing any more.
    pub fn retired(&self, session: SessionId) {
        let mut table = lock(&self.table);
        if let Some(slot) = table.slots.get_mut(&session.node) {
            slot.retiring -= 1;
        }
        table.sweep(session.node);
    }

    fn remove(&self, table: &mut Table, stream: StreamId) -> Option<Row> {
        let slot = table.slots.get_mut(&stream.node)?;
        let at = slot.streams.iter().position(|row| row.stream == stream)?;
        let row = slot.streams.remove(at);
        table.streams -= 1;
        self.count_streams(table);
        Some(row)
    }

    /// The cluster closed `closed`. If its stream is held here and was not ended,
    /// the stream gets a session anew, which this report opens.
    pub fn reopen(&self, closed: SessionId) -> Option<(StreamId, SessionId, Report)> {
        let mut table = lock(&self.table);
        let session = table.new_session(&self.cluster, closed.node);
        let slot = table.slots.get_mut(&closed.node)?;
        let row = slot.streams.iter_mut().find(|row| row.session == closed)?;
        if row.mailbox.ended().is_some() {
            return None;
        }
        (row.session, row.opened) = (session, false);
        let update = NodeUpdate {
            node: closed.node,
            node_key: row.node_key,
            cap_ver: row.cap_ver,
            disco_key: None,
            endpoints: None,
            hostinfo: None,
        };
        Some((row.stream, session, Report::Open { session, update }))
    }

    /// Whether a session is that of a stream that is held.
    pub fn holds(&self, session: SessionId) -> bool {
        let table = lock(&self.table);
        table.slots.get(&session.node).is_some_and(|slot| slot.streams.iter().any(|row| row.session == session))
    }

    /// Sessions that were opened, but of which `view` knows nothing. `view` is called
    /// when the sessions are known, so it is at least as new as they are.
    pub fn missing_in(&self, view: impl FnOnce() -> Arc<State>) -> Vec<SessionId> {
        let rows =
            |slot: &Slot| slot.streams.iter().filter(|row| row.opened).map(|row| row.session).collect::<Vec<_>>();
        let sessions: Vec<SessionId> = lock(&self.table).slots.values().flat_map(rows).collect();
        let view = view();
        sessions.into_iter().filter(|session| !view.sessions_of(session.node).any(|open| open == *session)).collect()
    }

    /// The streams of a node that are older than `stream`.
    pub fn older_than(&self, stream: StreamId) -> Vec<StreamId> {
        let mut streams = self.of(stream.node);
        streams.retain(|other| other.number < stream.number);
        streams
    }

    /// The streams of a node.
    pub fn of(&self, node: NodeId) -> Vec<StreamId> {
        let table = lock(&self.table);
        table.slots.get(&node).map(|slot| slot.streams.iter().map(|row| row.stream).collect()).unwrap_or_default()
    }

    /// Tells a stream to end. Its body ends when it is next asked for more.
    pub fn end(&self, stream: StreamId, why: End) {
        let table = lock(&self.table);
        let row = table.slots.get(&stream.node).and_then(|slot| slot.streams.iter().find(|row| row.stream == stream));
        if let Some(row) = row {
            row.mailbox.end(why);
        }
    }

    /// All streams, with their mailboxes.
    pub fn all(&self) -> Vec<(StreamId, Arc<Mailbox>)> {
        let table = lock(&self.table);
        let rows = table.slots.values().flat_map(|slot| &slot.streams);
        rows.map(|row| (row.stream, row.mailbox.clone())).collect()
    }

    /// The streams of some nodes, with their mailboxes.
    pub fn streams_of(&self, nodes: impl IntoIterator<Item = NodeId>) -> Vec<(StreamId, Arc<Mailbox>)> {
        let table = lock(&self.table);
        let slots = nodes.into_iter().filter_map(|node| table.slots.get(&node));
        slots.flat_map(|slot| &slot.streams).map(|row| (row.stream, row.mailbox.clone())).collect()
    }

    fn count_streams(&self, table: &Table) {
        self.cluster.set_clients(table.streams as u64);
        METERS.streams.set(table.streams as f64);
    }

    /// How many streams are held.
    pub fn count(&self) -> usize {
        lock(&self.table).streams
    }

    /// Takes no new streams from now on.
    pub fn close(&self) {
        lock(&self.table).closed = true;
    }
}

impl Table {
    /// Drops a slot that nobody needs.
    fn sweep(&mut self, node: NodeId) {
        if self.slots.get(&node).is_some_and(|slot| slot.retiring == 0 && slot.streams.is_empty()) {
            self.slots.remove(&node);
        }
    }

    fn new_session(&mut self, cluster: &Cluster, node: NodeId) -> SessionId {
        self.last_number += 1;
        SessionId { node, replica: cluster.id(), incarnation: cluster.incarnation(), number: self.last_number }
    }
}

impl Slot {
    fn new() -> Self {
        Self { streams: Vec::new(), opened: watch::Sender::new(0), retiring: 0 }
    }
}
