//! One command on its way through state: everything is read and written through it.

use super::super::bookkeeping::{Clock, Counters};
use super::super::table::{ClockTable, CountersTable, Nodes, Table, stored_key, stored_value};
use super::super::touched::Touched;
use super::super::*;
use super::routes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// A command that is being applied. Reads go to the [`State`] behind it.
pub(super) struct Step<'a> {
    state: &'a mut State,
    /// The state before this command.
    before: State,
    index: u64,
    now: Time,
    /// By stored key.
    written: BTreeMap<Vec<u8>, Written>,
    touched: Touched,
}

/// A record that a command wrote: before the command, and now; `None`: it was not
/// there, it is deleted.
#[derive(Clone)]
struct Written {
    before: Option<Arc<dyn Stored>>,
    now: Option<Arc<dyn Stored>>,
}

/// A record of any kind, for storing it.
trait Stored {
    fn value(&self) -> Vec<u8>;
}

impl<R: Serialize> Stored for R {
    fn value(&self) -> Vec<u8> {
        stored_value(self)
    }
}

impl Deref for Step<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        self.state
    }
}

impl<'a> Step<'a> {
    /// Starts a command; the clock moves, and never back.
    pub fn begin(state: &'a mut State, index: u64, time: Time, format: u32) -> Self {
        let before = state.clone();
        let clock = state.tables.clock.get(&()).map_or(Clock::default(), |clock| **clock).next(index, time, format);
        let now = clock.time;
        let mut step = Self { state, before, index, now, written: BTreeMap::new(), touched: Touched::default() };
        step.put::<ClockTable>((), clock);
        step
    }

    /// The cluster's clock at this command.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The same by the clock that stands still while there is no leader.
    pub fn led(&self) -> Time {
        self.tables.clock.get(&()).map_or(self.now, |clock| clock.led())
    }

    /// Runs a change that is made whole or, if it is refused, not at all.
    pub fn attempt(&mut self, change: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        let (state, written, touched) = (self.state.clone(), self.written.clone(), self.touched.clone());
        let outcome = change(self);
        if outcome.is_err() {
            *self.state = state;
            self.written = written;
            self.touched = touched;
        }
        outcome
    }

    /// Writes a record, if it differs from what is there.
    pub fn put<T: Table>(&mut self, key: T::Key, record: T::Record) {
        let old = T::map(&self.state.tables).get(&key).cloned();
        if old.as_deref() == Some(&record) {
            return;
        }
        T::reindex(&mut self.state.indexes, &key, old.as_deref(), Some(&record));
        T::touch(&mut self.touched, &key);
        let record = Arc::new(record);
        self.note(stored_key::<T>(&key), old.map(|old| old as Arc<dyn Stored>), Some(record.clone()));
        T::map_mut(&mut self.state.tables).insert(key, record);
    }

    /// Deletes a record, if it is there.
    pub fn delete<T: Table>(&mut self, key: &T::Key) {
        let Some(old) = T::map_mut(&mut self.state.tables).remove(key) else { return };
        T::reindex(&mut self.state.indexes, key, Some(&old), None);
        T::touch(&mut self.touched, key);
        self.note(stored_key::<T>(key), Some(old), None);
    }

    fn note(&mut self, key: Vec<u8>, before: Option<Arc<dyn Stored>>, now: Option<Arc<dyn Stored>>) {
        // What was there before the command is what was there before the first write.
        self.written.entry(key).and_modify(|written| written.now = now.clone()).or_insert(Written { before, now });
    }

    /// Changes a node that exists.
    pub fn edit_node(&mut self, id: NodeId, edit: impl FnOnce(&mut Node)) -> Result<(), Refused> {
        let mut node = Node::clone(self.node(id).ok_or(Refused::NodeNotFound)?);
        edit(&mut node);
        self.put::<Nodes>(id, node);
        Ok(())
    }

    /// Changes the counters.
    pub fn count<R>(&mut self, change: impl FnOnce(&mut Counters) -> R) -> R {
        let mut counters = self.tables.counters.get(&()).map_or(Counters::default(), |c| **c);
        let result = change(&mut counters);
        self.put::<CountersTable>((), counters);
        result
    }

    /// The label for a host name, unique among nodes.
    pub fn choose_name(&mut self, base: &str) -> String {
        let indexes = &mut self.state.indexes;
        indexes.names.choose(base, |name| indexes.node_by_name.contains_key(name))
    }

    /// The nodes whose records or sessions this command wrote.
    pub fn touched_nodes(&self) -> Vec<NodeId> {
        self.touched.nodes.iter().copied().collect()
    }

    /// The state before this command.
    pub fn before(&self) -> &State {
        &self.before
    }

    /// Notes that others see a node differently.
    pub fn touch_node(&mut self, id: NodeId) {
        self.touched.nodes.insert(id);
    }

    /// Ends the command: settles what follows from what was written, and tells it.
    pub fn finish(mut self, outcome: Outcome) -> Applied {
        routes::elect(&mut self);
        let changes = self.changes();
        let mut rows = Vec::with_capacity(self.written.len());
        for (key, Written { before, now }) in self.written {
            let value = now.map(|record| record.value());
            if let Some(before) = before {
                self.state.tally.remove(&key, &before.value());
            }
            if let Some(value) = &value {
                self.state.tally.add(&key, value);
            }
            rows.push(Row { key, value });
        }
        Applied { outcome, changes, rows }
    }

    fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let touched = std::mem::take(&mut self.touched);
        changes.extend(touched.settings.then_some(Change::SettingsChanged));
        changes.extend(touched.policy.then_some(Change::PolicyChanged));
        changes.extend(touched.replicas.iter().copied().map(Change::ReplicasChanged));
        changes.extend(touched.users.iter().copied().map(Change::UserChanged));
        let (added, rest) = self.node_changes(&touched);
        changes.extend(added);
        changes.extend(rest);
        for session in touched.sessions {
            let (was, is) = (&self.before.tables.sessions, &self.tables.sessions);
            if was.contains_key(&session) && !is.contains_key(&session) {
                changes.push(Change::SessionClosed(session));
            }
        }
        for id in touched.logins {
            let verdict = self.login(&id).map(|login| login.verdict);
            if verdict != Some(Verdict::Waiting) {
                changes.push(Change::LoginDecided(id));
            }
        }
        for id in touched.ssh_checks {
            if self.ssh_check(&id).is_none_or(|check| check.verdict != SshVerdict::Waiting) {
                changes.push(Change::LoginDecided(id));
            }
        }
        changes
    }

    /// The nodes that were added, and what else became of nodes. A node that others
    /// see differently gets this command's version.
    fn node_changes(&mut self, touched: &Touched) -> (Vec<Change>, Vec<Change>) {
        let (mut added, mut rest) = (Vec::new(), Vec::new());
        for &id in &touched.nodes {
            let (old, new) = (self.before.node(id).cloned(), self.node(id).cloned());
            match (old, new) {
                (None, None) => {}
                (Some(_), None) => rest.push(Change::NodeRemoved(id)),
                (None, Some(new)) => {
                    added.push(Change::NodeAdded(id));
                    self.stamp(&new);
                }
                (Some(old), Some(new)) => {
                    let what = self.difference(&old, &new);
                    if !what.is_empty() {
                        rest.push(Change::NodeChanged { node: id, what });
                        self.stamp(&new);
                    }
                }
            }
        }
        (added, rest)
    }

    fn stamp(&mut self, node: &Node) {
        self.put::<Nodes>(node.id, Node { version: self.index, ..node.clone() });
    }

    fn difference(&self, old: &Node, new: &Node) -> NodeChange {
        let id = new.id;
        let online = self.is_online(id);
        NodeChange {
            online: self.before.is_online(id) != online || (!online && old.last_seen != new.last_seen),
            endpoints: old.endpoints != new.endpoints,
            home_derp: old.hostinfo.preferred_derp.unwrap_or(0) != new.hostinfo.preferred_derp.unwrap_or(0),
            disco_key: old.disco_key != new.disco_key,
            key: (old.node_key, old.expiry, old.expired) != (new.node_key, new.expiry, new.expired),
            record: !same_record(old, new)
                || routes::effective_routes(old) != routes::effective_routes(new)
                || self.before.primary_routes(id) != self.primary_routes(id),
        }
    }
}

/// Whether two states of a node are the same to others, as far as there is no
/// smaller message than the whole record.
fn same_record(old: &Node, new: &Node) -> bool {
    let shown = |node: &Node| (node.ipv4, node.ipv6, node.cap_ver, node.machine_key, node.created);
    let (a, b) = (&old.hostinfo, &new.hostinfo);
    shown(old) == shown(new)
        && old.owner == new.owner
        && old.given_name == new.given_name
        && (&a.json, &a.hostname, &a.os, &a.ipn_version) == (&b.json, &b.hostname, &b.os, &b.ipn_version)
        && (&a.routable_ips, &a.request_tags) == (&b.routable_ips, &b.request_tags)
}
