//! What the cluster has committed, and what must be true of every replica at every
//! step. The log that replicas apply is applied here, too, to a state of its own.

use super::disk::News;
use super::machine::Machine;
use super::net::MachineId;
use crate::cluster::wire;
use crate::state::{Outcome, Proposal, State};
use openraft::ServerState;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One in so many published states is hashed and compared; hashing reads everything.
const HASHED: u64 = 16;

/// A promise that was broken.
pub type Violation = String;

/// A command in the log, and what became of it.
pub struct Logged {
    pub index: u64,
    pub proposal: Proposal,
    pub outcome: Outcome,
}

/// The committed log, and the states that it leads to.
#[derive(Default)]
pub struct Reference {
    entries: BTreeMap<u64, Arc<[u8]>>,
    pub commands: Vec<Logged>,
    states: BTreeMap<u64, State>,
    hashes: BTreeMap<u64, [u8; 32]>,
    /// What each machine has written to its log and not applied yet.
    mirrors: BTreeMap<MachineId, BTreeMap<u64, Arc<[u8]>>>,
    seen: BTreeMap<MachineId, Seen>,
    looks: u64,
}

/// What a process showed last.
#[derive(Clone, Copy, Default)]
struct Seen {
    start: u64,
    committed: u64,
    term: u64,
    leads: Option<u64>,
}

impl Reference {
    /// The last committed index that anybody has applied.
    pub fn applied(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(0)
    }

    /// The state at an index.
    pub fn state(&self, index: u64) -> State {
        self.states.range(..=index).next_back().map(|(_, state)| state.clone()).unwrap_or_default()
    }

    /// The hash of the state at an index.
    pub fn hash(&mut self, index: u64) -> [u8; 32] {
        let Some((&at, state)) = self.states.range(..=index).next_back() else { return State::default().hash() };
        *self.hashes.entry(at).or_insert_with(|| state.hash())
    }

    /// Looks at a machine after it ran.
    pub fn look(&mut self, machine: &mut Machine) -> Result<(), Violation> {
        let mirror = self.mirrors.entry(machine.id).or_default();
        for news in machine.disk.take_news() {
            match news {
                News::Entry(index, bytes) => drop(mirror.insert(index, bytes)),
                // What was not applied by then never will be.
                News::Installed(applied) => *mirror = mirror.split_off(&(installed(&applied)? + 1)),
            }
        }
        let Some(replica) = machine.up().replica else { return Ok(()) };
        let applied = *replica.feed.applied().borrow();
        let before = machine.process.as_mut().and_then(|process| process.applied.replace(applied));
        if before.is_some_and(|before| applied < before) {
            return Err(format!("replica {} went back from {before:?} to {applied}", machine.id));
        }
        self.check_raft(machine, &replica.metrics())?;
        if before == Some(applied) {
            return Ok(());
        }
        self.take(machine.id, before.unwrap_or(applied), applied)?;
        self.looks += 1;
        if before.is_none() || self.looks.is_multiple_of(HASHED) {
            let hash = replica.feed.view().hash();
            if hash != self.hash(applied) {
                let differs = self.differences(&replica.feed.view(), applied);
                return Err(format!(
                    "replica {} has another state at {applied} than what was committed leads to: {differs}",
                    machine.id
                ));
            }
        }
        Ok(())
    }

    fn differences(&self, view: &State, applied: u64) -> String {
        let rows = |state: &State| state.rows().map(|row| (row.key, row.value)).collect::<BTreeMap<_, _>>();
        let (theirs, ours) = (rows(view), rows(&self.state(applied)));
        let keys = theirs.keys().chain(ours.keys()).filter(|key| theirs.get(*key) != ours.get(*key));
        let kinds: std::collections::BTreeSet<_> = keys.map(|key| crate::state::Row::kind(key)).collect();
        format!("{kinds:?}")
    }

    /// A machine has applied its log from one index to another.
    fn take(&mut self, machine: MachineId, from: u64, to: u64) -> Result<(), Violation> {
        let mirror = self.mirrors.entry(machine).or_default();
        let later = mirror.split_off(&(to + 1));
        let entries = std::mem::replace(mirror, later);
        for (index, bytes) in entries.into_iter().filter(|(index, _)| *index > from) {
            match self.entries.get(&index) {
                Some(known) if *known == bytes => {}
                Some(_) => {
                    return Err(format!("replica {machine} applied another entry {index} than was committed before"));
                }
                None if index == self.applied() + 1 => self.commit(index, bytes)?,
                None => return Err(format!("replica {machine} applied {index} after {} was applied", self.applied())),
            }
        }
        if to > self.applied() {
            return Err(format!("replica {machine} has applied {to}, of which only {} was seen", self.applied()));
        }
        Ok(())
    }

    fn commit(&mut self, index: u64, bytes: Arc<[u8]>) -> Result<(), Violation> {
        let entry = wire::Entry::decode(&*bytes).map_err(|e| format!("entry {index}: {e}"))?;
        self.entries.insert(index, bytes);
        if entry.kind != i32::from(wire::entry::Kind::Command) {
            return Ok(());
        }
        let proposal: Proposal = serde_json::from_slice(&entry.payload).map_err(|e| format!("entry {index}: {e}"))?;
        drop(self.log(index, proposal));
        Ok(())
    }

    /// Applies a committed command; gives its outcome.
    pub fn log(&mut self, index: u64, proposal: Proposal) -> Outcome {
        let mut state = self.state(index);
        let outcome = state.apply(index, &proposal).outcome;
        self.states.insert(index, state);
        self.commands.push(Logged { index, proposal, outcome: outcome.clone() });
        outcome
    }

    fn check_raft(&mut self, machine: &Machine, metrics: &crate::cluster::replica::Metrics) -> Result<(), Violation> {
        let id = machine.id;
        let index = |log_id: Option<crate::cluster::types::LogId>| log_id.map_or(0, |log_id| log_id.index);
        let (applied, committed) = (index(metrics.last_applied), index(metrics.local_committed));
        // A snapshot is applied before it counts as committed here.
        if applied > committed.max(index(metrics.snapshot)) {
            return Err(format!("replica {id} has applied {applied}, and committed only {committed}"));
        }
        let seen = self.seen.entry(id).or_default();
        if seen.start != machine.starts {
            *seen = Seen { start: machine.starts, ..Seen::default() };
        }
        if metrics.current_term < seen.term || committed < seen.committed {
            return Err(format!(
                "replica {id} went back: term {} after {}, committed {committed} after {}",
                metrics.current_term, seen.term, seen.committed
            ));
        }
        (seen.term, seen.committed) = (metrics.current_term, committed);
        let leads = (metrics.state == ServerState::Leader).then_some(metrics.current_term);
        let begins = leads.is_some() && leads != seen.leads;
        seen.leads = leads;
        let last = metrics.last_log_index.unwrap_or(0);
        // A leader that was replaced in the meantime may be elected by votes that are old.
        let newest =
            self.seen.iter().filter(|(other, _)| **other != id).all(|(_, seen)| seen.term <= metrics.current_term);
        if begins && newest && last < self.applied() {
            return Err(format!("replica {id} leads with a log that ends at {last}; {} is committed", self.applied()));
        }
        Ok(())
    }
}

fn installed(applied: &[u8]) -> Result<u64, Violation> {
    let applied = wire::Applied::decode(applied).map_err(|e| format!("a record of what is applied: {e}"))?;
    Ok(applied.last.map_or(0, |last| last.index))
}
