//! Whether the records on disk are those in memory, and those in memory what was applied;
//! and what is written to disk when they are not.

use super::disk::{Disk, Family, Pair};
use super::{machine, verdict};
use crate::cluster::feed::Feed;
use crate::state::{Row, Tally};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Compares the two while the state machine goes on. It does not keep the database open.
#[derive(Clone)]
pub struct Auditor {
    disk: Weak<Disk>,
    feed: Arc<Feed>,
    /// Held while a step is on disk and not shown yet.
    step: Arc<Mutex<()>>,
}

/// The kinds of records with which something is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// On disk they are not what is in memory.
    pub disk: BTreeSet<&'static str>,
    /// In memory they are not what the log's commands made of them.
    pub memory: BTreeSet<&'static str>,
    /// What is wrong with the record of what is applied, beside them on disk.
    pub applied: Option<String>,
}

impl Auditor {
    pub fn new(disk: &Arc<Disk>, feed: &Arc<Feed>) -> Self {
        Self { disk: Arc::downgrade(disk), feed: feed.clone(), step: Arc::default() }
    }

    /// Does something after which disk and view have moved on together.
    pub fn in_step<T>(&self, step: impl FnOnce() -> T) -> T {
        let _guard = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        step()
    }

    /// Reads everything, and blocks. `go_on` is told the bytes of each record, may take its
    /// time, and ends it with `false`.
    pub fn audit(&self, mut go_on: impl FnMut(usize) -> bool) -> io::Result<Audit> {
        let disk = self.disk()?;
        let (frozen, view, index) = self.in_step(|| (disk.freeze(), self.feed.view(), *self.feed.applied().borrow()));
        let mut stored = frozen.scan(Family::State);
        let mut memory = view.rows();
        let mut tally = Tally::default();
        let mut audit = Audit::default();
        let (mut left, mut right) = (stored.next().transpose()?, memory.next());
        while left.is_some() || right.is_some() {
            let order = order(left.as_ref(), right.as_ref());
            let mut bytes = 0;
            if let Some((key, value)) = left.as_ref().filter(|_| order.is_le()) {
                bytes += key.len() + value.len();
                let same = order.is_eq() && right.as_ref().is_some_and(|row| row.value.as_deref() == Some(&**value));
                if !same {
                    audit.disk.insert(Row::kind(key));
                }
                left = stored.next().transpose()?;
            }
            if let Some(row) = right.take_if(|_| order.is_ge()) {
                let value = row.value.unwrap_or_default();
                bytes += row.key.len() + value.len();
                tally.add(&row.key, &value);
                if order.is_gt() {
                    audit.disk.insert(Row::kind(&row.key));
                }
                right = memory.next();
            }
            if !go_on(bytes) {
                return Err(stopping());
            }
        }
        audit.memory = tally.differences(view.tally());
        audit.applied = machine::check_applied(&frozen, index, view.tally())?;
        Ok(audit)
    }

    /// Notes on disk, durably, that this replica must not be used any more, and why: the next
    /// start refuses.
    pub fn condemn(&self, reason: &str) -> io::Result<()> {
        verdict::condemn(&*self.disk()?, reason);
        Ok(())
    }

    /// Notes on disk, durably, that nothing may be written, and why; or that it may.
    pub fn halt(&self, reason: Option<&str>) -> io::Result<()> {
        verdict::halt(&*self.disk()?, reason);
        Ok(())
    }

    /// Why nothing may be written, as it was noted before this replica started.
    pub fn halted(&self) -> io::Result<Option<String>> {
        verdict::halted(&*self.disk()?)
    }

    /// Changes one byte of a user on disk, as a bad disk might.
    #[cfg(test)]
    pub fn spoil_a_user(&self) {
        let disk = self.disk().unwrap();
        let is_user = |(key, _): &Pair| Row::kind(key) == "users";
        let (key, value) = disk.scan(Family::State, &[], None).map(Result::unwrap).find(is_user).unwrap();
        let spoiled = String::from_utf8(value.into_vec()).unwrap().replacen("alice", "alicf", 1);
        let mut batch = disk.batch();
        batch.put(Family::State, &key, spoiled.as_bytes());
        batch.write();
    }

    /// Changes the record of what is applied on disk, as a bad disk might.
    #[cfg(test)]
    pub fn spoil_applied(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let disk = self.disk().unwrap();
        let mut record = disk.get(Family::StateMeta, machine::APPLIED).unwrap().unwrap();
        change(&mut record);
        let mut batch = disk.batch();
        batch.put(Family::StateMeta, machine::APPLIED, &record);
        batch.write();
    }

    fn disk(&self) -> io::Result<Arc<Disk>> {
        self.disk.upgrade().ok_or_else(stopping)
    }
}

/// Which of the two comes first: both are in the order of their keys.
fn order(left: Option<&Pair>, right: Option<&Row>) -> Ordering {
    match (left, right) {
        (Some((key, _)), Some(row)) => (**key).cmp(&row.key),
        (Some(_), None) => Ordering::Less,
        (None, _) => Ordering::Greater,
    }
}

fn stopping() -> io::Error {
    io::Error::other("this replica is stopping")
}
