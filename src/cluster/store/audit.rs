//! Whether the records on disk are those in memory.

use super::disk::{Disk, Family};
use crate::cluster::feed::Feed;
use crate::state::Row;
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

impl Auditor {
    pub fn new(disk: &Arc<Disk>, feed: &Arc<Feed>) -> Self {
        Self { disk: Arc::downgrade(disk), feed: feed.clone(), step: Arc::default() }
    }

    /// Does something after which disk and view have moved on together.
    pub fn in_step<T>(&self, step: impl FnOnce() -> T) -> T {
        let _guard = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        step()
    }

    /// The kinds of records that differ. Blocks: it reads everything.
    pub fn differences(&self) -> io::Result<BTreeSet<&'static str>> {
        let stopping = || io::Error::other("this replica is stopping");
        let disk = self.disk.upgrade().ok_or_else(stopping)?;
        let (frozen, view) = self.in_step(|| (disk.freeze(), self.feed.view()));
        let mut stored = frozen.scan(Family::State);
        let mut memory = view.rows();
        let mut different = BTreeSet::new();
        let (mut left, mut right) = (stored.next().transpose()?, memory.next());
        loop {
            // Both are in the order of their keys.
            let order = match (&left, &right) {
                (None, None) => return Ok(different),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((key, _)), Some(row)) => (**key).cmp(&row.key),
            };
            if let Some((key, value)) = left.as_ref().filter(|_| order.is_le()) {
                let same = order.is_eq() && right.as_ref().is_some_and(|row| row.value.as_deref() == Some(&**value));
                if !same {
                    different.insert(Row::kind(key));
                }
            } else if let Some(row) = &right {
                different.insert(Row::kind(&row.key));
            }
            if order.is_le() {
                left = stored.next().transpose()?;
            }
            if order.is_ge() {
                right = memory.next();
            }
        }
    }
}
