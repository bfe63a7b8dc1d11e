//! A disk that a crash can make forget what was not synced.
//!
//! It behaves as RocksDB with one write-ahead log does: batches are whole or not
//! there, and after a power failure a prefix of what was written since the last
//! sync is left. Its two faults exist to show that the simulation finds such things.

use crate::cluster::store::{Family, Pair};
use imbl::OrdMap;
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Every so often a sync stalls.
const STALL_EVERY: u32 = 200;

/// One change of a batch.
#[derive(Clone, Debug)]
pub enum Op {
    Put(Family, Box<[u8]>, Arc<[u8]>),
    Delete(Family, Box<[u8]>),
    DeleteRange(Family, Box<[u8]>, Box<[u8]>),
}

impl Op {
    /// What it adds to a batch's size.
    pub fn bytes(&self) -> usize {
        match self {
            Op::Put(_, key, value) => key.len() + value.len(),
            Op::Delete(_, key) => key.len(),
            Op::DeleteRange(_, from, to) => from.len() + to.len(),
        }
    }
}

/// What is wrong with a disk, on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// It says that it has synced, and has not.
    NoSync,
    /// The applied index is written for itself, before the records that belong to it.
    AppliedApart,
}

/// The rows of all families. A copy is cheap.
#[derive(Clone, Debug, Default)]
pub struct Tables([Table; 4]);

type Table = OrdMap<Box<[u8]>, Arc<[u8]>>;

impl Tables {
    pub fn get(&self, family: Family, key: &[u8]) -> Option<Vec<u8>> {
        self.0[family as usize].get(key).map(|value| value.to_vec())
    }

    /// Rows with `from <= key < to`, in order.
    pub fn rows(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> std::vec::IntoIter<Pair> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.0[family as usize].range::<_, [u8]>((Bound::Included(from), to));
        rows.map(|(key, value)| (key.clone(), Box::from(&**value))).collect::<Vec<_>>().into_iter()
    }

    pub fn last(&self, family: Family) -> Option<Pair> {
        self.0[family as usize].get_max().map(|(key, value)| (key.clone(), Box::from(&**value)))
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Put(family, key, value) => drop(self.0[family as usize].insert(key, value)),
            Op::Delete(family, key) => drop(self.0[family as usize].remove(&key)),
            Op::DeleteRange(family, from, to) => {
                let doomed: Vec<_> = self.rows(family, &from, Some(&to)).map(|(key, _)| key).collect();
                for key in doomed {
                    self.0[family as usize].remove(&key);
                }
            }
        }
    }
}

/// One machine's disk. It outlives the replica that runs on it.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    fault: Fault,
    written: Tables,
    durable: Tables,
    /// Batches that were written since the last sync, and how many there were before.
    log: VecDeque<Vec<Op>>,
    forgotten: usize,
    /// How long a sync takes: usually, and now and then.
    usual: Duration,
    stall: Duration,
    syncs: u32,
    /// What happened to the log since somebody asked.
    news: Vec<News>,
}

/// What happened to the log.
pub enum News {
    Entry(u64, Arc<[u8]>),
    /// A snapshot took the place of what was there: the record of what is applied now.
    Installed(Arc<[u8]>),
}

/// A sync that is under way: what it covers.
pub struct Sync {
    covers: Tables,
    batches: usize,
}

impl SimDisk {
    pub fn new(fault: Fault) -> Self {
        Self(Arc::new(Mutex::new(Inner { fault, ..Inner::default() })))
    }

    /// What can be read now.
    pub fn tables(&self) -> Tables {
        self.lock().written.clone()
    }

    pub fn write(&self, mut ops: Vec<Op>) {
        let mut inner = self.lock();
        if inner.fault == Fault::AppliedApart
            && let Some(at) = ops.iter().position(is_applied)
        {
            let applied = ops.remove(at);
            inner.append(vec![applied]);
        }
        inner.append(ops);
    }

    pub fn sync(&self) {
        let begun = self.begin_sync();
        self.finish_sync(begun);
    }

    /// Begins to sync what is written by now.
    pub fn begin_sync(&self) -> Sync {
        let inner = self.lock();
        Sync { covers: inner.written.clone(), batches: inner.forgotten + inner.log.len() }
    }

    /// From now on a power failure spares what the sync covers.
    pub fn finish_sync(&self, sync: Sync) {
        let mut inner = self.lock();
        // A later one may have been quicker.
        if inner.fault == Fault::NoSync || sync.batches < inner.forgotten {
            return;
        }
        let covered = sync.batches - inner.forgotten;
        inner.log.drain(..covered);
        inner.forgotten = sync.batches;
        inner.durable = sync.covers;
    }

    /// How long the next sync takes.
    pub fn sync_takes(&self) -> Duration {
        let mut inner = self.lock();
        inner.syncs += 1;
        if inner.syncs.is_multiple_of(STALL_EVERY) { inner.stall } else { inner.usual }
    }

    /// Sets how long syncs take: usually, and every so often.
    pub fn set_speed(&self, usual: Duration, stall: Duration) {
        let mut inner = self.lock();
        (inner.usual, inner.stall) = (usual, stall);
    }

    /// What happened to the log since the last call.
    pub fn take_news(&self) -> Vec<News> {
        std::mem::take(&mut self.lock().news)
    }

    /// How many batches a power failure may take.
    pub fn unsynced(&self) -> usize {
        self.lock().log.len()
    }

    /// The power fails: the first `kept` of the batches that were not synced are left.
    pub fn lose_power(&self, kept: usize) {
        let mut inner = self.lock();
        let log = std::mem::take(&mut inner.log);
        for op in log.into_iter().take(kept).flatten() {
            inner.durable.apply(op);
        }
        inner.written = inner.durable.clone();
        inner.forgotten = 0;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn append(&mut self, batch: Vec<Op>) {
        for op in &batch {
            self.written.apply(op.clone());
            if let Op::Put(Family::Log, key, value) = op
                && let Ok(index) = <[u8; 8]>::try_from(&**key)
            {
                self.news.push(News::Entry(u64::from_be_bytes(index), value.clone()));
            }
        }
        let ends_installation = |op: &Op| matches!(op, Op::Delete(Family::StateMeta, key) if **key == *b"installing");
        if batch.iter().any(ends_installation) {
            let applied = self.written.0[Family::StateMeta as usize].get(b"applied".as_slice());
            self.news.extend(applied.cloned().map(News::Installed));
        }
        self.log.push_back(batch);
    }
}

fn is_applied(op: &Op) -> bool {
    matches!(op, Op::Put(Family::StateMeta, key, _) if **key == *b"applied")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str) -> Vec<Op> {
        vec![Op::Put(Family::Log, key.as_bytes().into(), b"v".as_slice().into())]
    }

    #[test]
    fn a_power_failure_leaves_what_was_synced_and_a_prefix_of_the_rest() {
        let disk = SimDisk::default();
        disk.write(put("a"));
        disk.sync();
        disk.write(put("b"));
        disk.write(put("c"));
        assert_eq!(disk.unsynced(), 2);
        disk.lose_power(1);
        let has = |key: &str| disk.tables().get(Family::Log, key.as_bytes()).is_some();
        assert!(has("a") && has("b") && !has("c"));
        disk.write(vec![Op::DeleteRange(Family::Log, Box::from(&b"a"[..]), Box::from(&b"b"[..]))]);
        assert!(!has("a") && has("b"));
    }

    #[test]
    fn its_faults_lose_what_a_right_disk_keeps() {
        let disk = SimDisk::new(Fault::NoSync);
        disk.write(put("a"));
        disk.sync();
        disk.lose_power(0);
        assert!(disk.tables().get(Family::Log, b"a").is_none());

        let disk = SimDisk::new(Fault::AppliedApart);
        let applied = Op::Put(Family::StateMeta, b"applied".as_slice().into(), b"9".as_slice().into());
        disk.write([put("a"), vec![applied]].concat());
        disk.lose_power(1);
        assert!(disk.tables().get(Family::Log, b"a").is_none());
        assert!(disk.tables().get(Family::StateMeta, b"applied").is_some());
    }
}
