//! The Raft log.

use super::disk::{Disk, Family};
use super::flusher::Queue;
use super::seal;
use crate::cluster::meters::METERS;
use crate::cluster::types::{Entry, LogId, TypeConfig, Vote};
use crate::cluster::wire;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use prost::Message;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// Bytes of entries that one message to a follower carries; one entry may be larger.
const READ_LIMIT: usize = 1 << 20;

const VOTE: &[u8] = b"vote";
const PURGED: &[u8] = b"purged";
const COMMITTED: &[u8] = b"committed";

/// The log, and what Raft keeps beside it.
pub struct Log {
    reader: LogReader,
    flushes: Queue,
}

/// Reads the log while it is written.
#[derive(Clone)]
pub struct LogReader {
    disk: Arc<Disk>,
}

impl Log {
    pub fn new(disk: Arc<Disk>, flushes: Queue) -> Self {
        Self { reader: LogReader { disk }, flushes }
    }

    fn disk(&self) -> &Disk {
        &self.reader.disk
    }

    fn put(&self, key: &[u8], message: &impl Message) {
        let mut batch = self.disk().batch();
        batch.put(Family::LogMeta, key, &seal::seal(message.encode_to_vec()));
        batch.write();
    }

    /// The index of the first entry that may be there.
    fn first(&self) -> io::Result<u64> {
        Ok(self.reader.log_id(PURGED)?.map_or(0, |id| id.index + 1))
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let last_purged_log_id = self.reader.log_id(PURGED)?;
        let last = self.disk().last(Family::Log)?.map(|(key, value)| decode(&key, &value)).transpose()?;
        let last_log_id = last.map(|entry| entry.log_id).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.put(VOTE, &wire::Vote::from(vote));
        self.flushes.synced().await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(id) => self.put(COMMITTED, &wire::LogId::from(&id)),
            None => {
                let mut batch = self.disk().batch();
                batch.delete(Family::LogMeta, COMMITTED);
                batch.write();
            }
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        self.reader.log_id(COMMITTED)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = self.disk().batch();
        let mut count = 0;
        for entry in entries {
            count += 1;
            let record = seal::seal(wire::Entry::from(&entry).encode_to_vec());
            batch.put(Family::Log, &entry.log_id.index.to_be_bytes(), &record);
        }
        batch.write();
        METERS.append_entries.record(f64::from(count));
        self.flushes.append(callback);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index + 1).max(self.first()?);
        let mut batch = self.disk().batch();
        batch.delete_range(Family::Log, &from.to_be_bytes(), &u64::MAX.to_be_bytes());
        batch.write();
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        // From where the last one ended: ranges from 0 would pile up.
        let from = self.first()?;
        if upto.index < from {
            return Ok(());
        }
        let mut batch = self.disk().batch();
        batch.put(Family::LogMeta, PURGED, &seal::seal(wire::LogId::from(&upto).encode_to_vec()));
        batch.delete_range(Family::Log, &from.to_be_bytes(), &(upto.index + 1).to_be_bytes());
        batch.write();
        Ok(())
    }
}

impl LogReader {
    fn log_id(&self, key: &[u8]) -> io::Result<Option<LogId>> {
        let Some(bytes) = self.disk.get(Family::LogMeta, key)? else { return Ok(None) };
        let what = format!("the log id \"{}\"", String::from_utf8_lossy(key));
        let id = wire::LogId::decode(seal::open(&what, &bytes)?).map_err(wire::WireError::from)?;
        Ok(Some((&id).into()))
    }

    /// The entries with `from <= index < to`, until `limit` bytes are passed.
    fn read(&self, from: u64, to: u64, limit: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        if from >= to {
            return Ok(entries);
        }
        for row in self.disk.scan(Family::Log, &from.to_be_bytes(), Some(&to.to_be_bytes())) {
            let (key, value) = row?;
            bytes += value.len();
            if bytes > limit && !entries.is_empty() {
                break;
            }
            entries.push(decode(&key, &value)?);
        }
        Ok(entries)
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_LIMIT)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let Some(bytes) = self.disk.get(Family::LogMeta, VOTE)? else { return Ok(None) };
        let vote = wire::Vote::decode(seal::open("the vote", &bytes)?).map_err(wire::WireError::from)?;
        Ok(Some((&vote).into()))
    }
}

/// Reads all of the log, the vote and the log ids: what is damaged is found when a replica
/// starts, not when another one asks for it.
pub fn check(disk: &Arc<Disk>) -> io::Result<()> {
    let reader = LogReader { disk: disk.clone() };
    if let Some(bytes) = disk.get(Family::LogMeta, VOTE)? {
        seal::open("the vote", &bytes)?;
    }
    reader.log_id(COMMITTED)?;
    let mut next = reader.log_id(PURGED)?.map(|id| id.index + 1);
    for row in disk.scan(Family::Log, &next.unwrap_or(0).to_be_bytes(), None) {
        let (key, value) = row?;
        let index = decode(&key, &value)?.log_id.index;
        if next.is_some_and(|next| next != index) {
            return Err(damaged(format!("log entry {} is missing", next.unwrap_or(0))));
        }
        next = Some(index + 1);
    }
    Ok(())
}

fn decode(key: &[u8], record: &[u8]) -> io::Result<Entry> {
    let index = key.try_into().map(u64::from_be_bytes).map_err(|_| damaged("a log entry's key is no number".into()))?;
    let record = seal::open(&format!("log entry {index}"), record)?;
    let entry = wire::Entry::decode(record).map_err(wire::WireError::from)?.decode_entry()?;
    if entry.log_id.index != index {
        return Err(damaged(format!("log entry {} is in the place of {index}", entry.log_id.index)));
    }
    Ok(entry)
}

fn damaged(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
