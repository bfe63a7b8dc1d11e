//! RocksDB: its column families, options and identity. A failed write ends the process.
//!
//! Simulated replicas have a disk that can be made to fail in its place.

use super::StoreError;
use super::mark::Mark;
use crate::cluster::fatal::die;
#[cfg(test)]
use crate::cluster::sim::disk::{Op, SimDisk, Tables};
use crate::state::ReplicaId;
use rocksdb::{
    BlockBasedOptions, ColumnFamilyDescriptor, ColumnFamilyRef, DB, DBCompressionType, DBIterator, DBRecoveryMode,
    Options, ReadOptions, WriteBatch,
};
use std::io;
use std::path::Path;

/// Bytes of write-ahead log after which the column families that hold it back are
/// flushed: rarely written ones would keep it for ever.
const WAL_LIMIT: u64 = 128 << 20;

/// Bytes of each memory table; two of them for each of the four families are a bound. Some
/// seconds of the busiest log: what is larger is only more memory.
const MEMORY_TABLE: usize = 4 << 20;

/// Files that the database keeps open.
const OPEN_FILES: i32 = 256;

const REMEDY: &str = "free space on the disk, or repair or replace it";

/// A key and its value.
pub type Pair = (Box<[u8]>, Box<[u8]>);

/// A column family.
#[derive(Clone, Copy, Debug)]
pub enum Family {
    /// Log entries; the key is the index, 8 bytes big-endian.
    Log,
    /// Vote, purged and committed log ids, and whose data it is.
    LogMeta,
    /// The state's records.
    State,
    /// The applied log id, the membership, a snapshot that is being installed.
    StateMeta,
}

impl Family {
    const ALL: [Family; 4] = [Family::Log, Family::LogMeta, Family::State, Family::StateMeta];

    fn name(self) -> &'static str {
        match self {
            Family::Log => "raft_log",
            Family::LogMeta => "raft_meta",
            Family::State => "state",
            Family::StateMeta => "state_meta",
        }
    }

    fn options(self) -> Options {
        let mut options = Options::default();
        options.set_write_buffer_size(MEMORY_TABLE);
        options.set_max_write_buffer_number(2);
        options.set_compression_type(match self {
            Family::Log => DBCompressionType::Lz4,
            _ => DBCompressionType::Zstd,
        });
        if let Family::State | Family::StateMeta = self {
            // It is read at the start, and when disk and memory are compared: what is on disk is
            // wanted then, not a copy of it.
            let mut blocks = BlockBasedOptions::default();
            blocks.disable_cache();
            options.set_block_based_table_factory(&blocks);
        }
        options
    }
}

/// The open database.
pub struct Disk {
    engine: Engine,
    /// How much is synced; nothing notes it of a simulated disk.
    mark: Option<Mark>,
}

enum Engine {
    RocksDb(DB),
    #[cfg(test)]
    Simulated(SimDisk),
}

impl Disk {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let error = |reason: String| StoreError::Open { path: path.to_owned(), reason };
        std::fs::create_dir_all(path).map_err(|e| error(e.to_string()))?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_total_wal_size(WAL_LIMIT);
        options.set_max_open_files(OPEN_FILES);
        options.set_keep_log_file_num(2);
        // What was being written when the process ended may be cut off; damage before that ends
        // the start. (The default would drop everything after it, and say nothing.)
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        let (mark, synced) = Mark::open(path).map_err(|e| error(e.to_string()))?;
        let families = Family::ALL.map(|f| ColumnFamilyDescriptor::new(f.name(), f.options()));
        let db = DB::open_cf_descriptors(&options, path, families).map_err(|e| error(e.to_string()))?;
        match synced.and_then(|synced| synced.checked_sub(db.latest_sequence_number())) {
            Some(lost) if lost > 0 => Err(StoreError::Lost { path: path.to_owned(), lost }),
            _ => Ok(Self { engine: Engine::RocksDb(db), mark: Some(mark) }),
        }
    }

    /// A disk that loses what was not synced, when it is told to.
    #[cfg(test)]
    pub fn simulated(disk: SimDisk) -> Self {
        Self { engine: Engine::Simulated(disk), mark: None }
    }

    /// The simulated one, if it is.
    #[cfg(test)]
    pub fn as_simulated(&self) -> Option<&SimDisk> {
        match &self.engine {
            Engine::RocksDb(_) => None,
            Engine::Simulated(disk) => Some(disk),
        }
    }

    /// Checks, or writes at first, the data's format and whose it is.
    pub fn check_identity(&self, data_dir: &Path, id: ReplicaId, format: u32) -> Result<(), StoreError> {
        let path = data_dir.to_owned();
        let damaged = |reason: String| StoreError::Damaged { path: path.clone(), reason };
        let read = |key: &str| -> Result<Option<u64>, StoreError> {
            let value = self.get(Family::LogMeta, key.as_bytes()).map_err(|e| damaged(e.to_string()))?;
            let number = value.map(|v| <[u8; 8]>::try_from(v.as_slice()).map(u64::from_be_bytes));
            number.transpose().map_err(|_| damaged(format!("{key} is not a number")))
        };
        match (read("format")?, read("replica")?) {
            (Some(found), _) if found > u64::from(format) => {
                Err(StoreError::TooNew { path, found: u32::try_from(found).unwrap_or(u32::MAX), known: format })
            }
            (Some(_), Some(found)) if found != id.0 => Err(StoreError::OtherReplica { path, found, configured: id.0 }),
            (Some(_), Some(_)) => Ok(()),
            _ => {
                let mut batch = self.batch();
                batch.put(Family::LogMeta, b"format", &u64::from(format).to_be_bytes());
                batch.put(Family::LogMeta, b"replica", &id.0.to_be_bytes());
                batch.write();
                self.sync();
                Ok(())
            }
        }
    }

    pub fn get(&self, family: Family, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match &self.engine {
            Engine::RocksDb(db) => db.get_cf(&handle(db, family), key).map_err(io::Error::other),
            #[cfg(test)]
            Engine::Simulated(disk) => Ok(disk.tables().get(family, key)),
        }
    }

    /// An empty batch.
    pub fn batch(&self) -> Batch<'_> {
        match &self.engine {
            Engine::RocksDb(db) => Batch::RocksDb(db, WriteBatch::default()),
            #[cfg(test)]
            Engine::Simulated(disk) => Batch::Simulated(disk, Vec::new()),
        }
    }

    /// Makes everything that was written so far survive a power failure.
    pub fn sync(&self) {
        let (sequence, synced) = match &self.engine {
            // What is written meanwhile may be synced too, or not.
            Engine::RocksDb(db) => (db.latest_sequence_number(), db.flush_wal(true)),
            #[cfg(test)]
            Engine::Simulated(disk) => return disk.sync(),
        };
        if let Err(error) = synced {
            die("the store's log cannot be synced to disk", error, REMEDY);
        }
        if let Some(mark) = &self.mark {
            mark.set(sequence);
        }
    }

    /// All rows of a family with `from <= key < to` (`None`: to the end), in order.
    pub fn scan(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> Rows<'_> {
        match &self.engine {
            Engine::RocksDb(db) => {
                let mut options = ReadOptions::default();
                if let Some(to) = to {
                    options.set_iterate_upper_bound(to);
                }
                let mode = rocksdb::IteratorMode::From(from, rocksdb::Direction::Forward);
                Rows::RocksDb(db.iterator_cf_opt(&handle(db, family), options, mode))
            }
            #[cfg(test)]
            Engine::Simulated(disk) => Rows::Simulated(disk.tables().rows(family, from, to)),
        }
    }

    /// All that is written now, whatever is written later.
    pub fn freeze(&self) -> Frozen<'_> {
        match &self.engine {
            Engine::RocksDb(db) => Frozen::RocksDb(db, db.snapshot()),
            #[cfg(test)]
            Engine::Simulated(disk) => Frozen::Simulated(disk.tables()),
        }
    }

    /// The last row of a family.
    pub fn last(&self, family: Family) -> io::Result<Option<Pair>> {
        match &self.engine {
            Engine::RocksDb(db) => {
                let mut rows = db.iterator_cf(&handle(db, family), rocksdb::IteratorMode::End);
                rows.next().transpose().map_err(io::Error::other)
            }
            #[cfg(test)]
            Engine::Simulated(disk) => Ok(disk.tables().last(family)),
        }
    }
}

fn handle(db: &DB, family: Family) -> ColumnFamilyRef<'_> {
    db.cf_handle(family.name()).expect("every family was opened")
}

/// Rows on their way from the disk.
pub enum Rows<'a> {
    RocksDb(DBIterator<'a>),
    #[cfg(test)]
    Simulated(std::vec::IntoIter<Pair>),
}

impl Iterator for Rows<'_> {
    type Item = io::Result<Pair>;
    fn next(&mut self) -> Option<io::Result<Pair>> {
        match self {
            Self::RocksDb(rows) => rows.next().map(|row| row.map_err(io::Error::other)),
            #[cfg(test)]
            Self::Simulated(rows) => rows.next().map(Ok),
        }
    }
}

/// The database as it was at one moment.
pub enum Frozen<'a> {
    RocksDb(&'a DB, rocksdb::SnapshotWithThreadMode<'a, DB>),
    #[cfg(test)]
    Simulated(Tables),
}

impl Frozen<'_> {
    pub fn get(&self, family: Family, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::RocksDb(db, snapshot) => snapshot.get_cf(&handle(db, family), key).map_err(io::Error::other),
            #[cfg(test)]
            Self::Simulated(tables) => Ok(tables.get(family, key)),
        }
    }

    /// All rows of a family, in order.
    pub fn scan(&self, family: Family) -> Rows<'_> {
        match self {
            Self::RocksDb(db, snapshot) => {
                Rows::RocksDb(snapshot.iterator_cf(&handle(db, family), rocksdb::IteratorMode::Start))
            }
            #[cfg(test)]
            Self::Simulated(tables) => Rows::Simulated(tables.rows(family, &[], None)),
        }
    }
}

/// Changes that are written together or not at all.
pub enum Batch<'a> {
    RocksDb(&'a DB, WriteBatch),
    #[cfg(test)]
    Simulated(&'a SimDisk, Vec<Op>),
}

impl Batch<'_> {
    pub fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        match self {
            Self::RocksDb(db, batch) => batch.put_cf(&handle(db, family), key, value),
            #[cfg(test)]
            Self::Simulated(_, ops) => ops.push(Op::Put(family, key.into(), value.into())),
        }
    }

    pub fn delete(&mut self, family: Family, key: &[u8]) {
        match self {
            Self::RocksDb(db, batch) => batch.delete_cf(&handle(db, family), key),
            #[cfg(test)]
            Self::Simulated(_, ops) => ops.push(Op::Delete(family, key.into())),
        }
    }

    /// Deletes `from <= key < to`.
    pub fn delete_range(&mut self, family: Family, from: &[u8], to: &[u8]) {
        match self {
            Self::RocksDb(db, batch) => batch.delete_range_cf(&handle(db, family), from, to),
            #[cfg(test)]
            Self::Simulated(_, ops) => ops.push(Op::DeleteRange(family, from.into(), to.into())),
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::RocksDb(_, batch) => batch.size_in_bytes(),
            #[cfg(test)]
            Self::Simulated(_, ops) => ops.iter().map(Op::bytes).sum(),
        }
    }

    /// Writes, so that it can be read; it survives a power failure after [`Disk::sync`].
    pub fn write(self) {
        let written = match self {
            Self::RocksDb(db, batch) => db.write(batch),
            #[cfg(test)]
            Self::Simulated(disk, ops) => return disk.write(ops),
        };
        if let Err(error) = written {
            die("the store cannot be written", error, REMEDY);
        }
    }
}
