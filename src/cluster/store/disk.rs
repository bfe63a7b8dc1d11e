//! RocksDB: its column families, options and identity. A failed write ends the process.

use super::StoreError;
use super::mark::Mark;
use crate::cluster::fatal::die;
use crate::state::ReplicaId;
use rocksdb::{
    BlockBasedOptions, ColumnFamilyDescriptor, ColumnFamilyRef, DB, DBCompressionType, DBRecoveryMode, Options,
    ReadOptions, WriteBatch,
};
use std::io;
use std::path::Path;

/// Bytes of write-ahead log after which the column families that hold it back are
/// flushed: rarely written ones would keep it for ever.
const WAL_LIMIT: u64 = 128 << 20;

/// Bytes of each memory table; two of them for each of the four families are a bound.
const MEMORY_TABLE: usize = 16 << 20;

/// Files that the database keeps open.
const OPEN_FILES: i32 = 256;

const REMEDY: &str = "free space on the disk, or repair or replace it";

/// A key and its value.
pub type Pair = (Box<[u8]>, Box<[u8]>);

/// A column family.
#[derive(Clone, Copy)]
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

/// Changes that are written together or not at all.
pub struct Batch<'a> {
    disk: &'a Disk,
    inner: WriteBatch,
}

/// The open database.
pub struct Disk {
    db: DB,
    mark: Mark,
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
            _ => Ok(Self { db, mark }),
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
        self.db.get_cf(&self.family(family), key).map_err(io::Error::other)
    }

    /// An empty batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch { disk: self, inner: WriteBatch::default() }
    }

    /// Makes everything that was written so far survive a power failure.
    pub fn sync(&self) {
        let sequence = self.db.latest_sequence_number();
        if let Err(error) = self.db.flush_wal(true) {
            die("the store's log cannot be synced to disk", error, REMEDY);
        }
        self.mark.set(sequence);
    }

    /// All rows of a family with `from <= key < to` (`None`: to the end), in order.
    pub fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl Iterator<Item = io::Result<Pair>> + use<'_> {
        let mut options = ReadOptions::default();
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let mode = rocksdb::IteratorMode::From(from, rocksdb::Direction::Forward);
        self.db.iterator_cf_opt(&self.family(family), options, mode).map(|row| row.map_err(io::Error::other))
    }

    /// All that is written now, whatever is written later.
    pub fn freeze(&self) -> Frozen<'_> {
        Frozen { disk: self, snapshot: self.db.snapshot() }
    }

    /// The last row of a family.
    pub fn last(&self, family: Family) -> io::Result<Option<Pair>> {
        let mut rows = self.db.iterator_cf(&self.family(family), rocksdb::IteratorMode::End);
        rows.next().transpose().map_err(io::Error::other)
    }

    fn family(&self, family: Family) -> ColumnFamilyRef<'_> {
        self.db.cf_handle(family.name()).expect("every family was opened")
    }
}

/// The database as it was at one moment.
pub struct Frozen<'a> {
    disk: &'a Disk,
    snapshot: rocksdb::SnapshotWithThreadMode<'a, DB>,
}

impl Frozen<'_> {
    /// All rows of a family, in order.
    pub fn scan(&self, family: Family) -> impl Iterator<Item = io::Result<Pair>> + use<'_> {
        let rows = self.snapshot.iterator_cf(&self.disk.family(family), rocksdb::IteratorMode::Start);
        rows.map(|row| row.map_err(io::Error::other))
    }
}

impl Batch<'_> {
    pub fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.inner.put_cf(&self.disk.family(family), key, value);
    }

    pub fn delete(&mut self, family: Family, key: &[u8]) {
        self.inner.delete_cf(&self.disk.family(family), key);
    }

    /// Deletes `from <= key < to`.
    pub fn delete_range(&mut self, family: Family, from: &[u8], to: &[u8]) {
        self.inner.delete_range_cf(&self.disk.family(family), from, to);
    }

    pub fn bytes(&self) -> usize {
        self.inner.size_in_bytes()
    }

    /// Writes, so that it can be read; it survives a power failure after [`Disk::sync`].
    pub fn write(self) {
        if let Err(error) = self.disk.db.write(self.inner) {
            die("the store cannot be written", error, REMEDY);
        }
    }
}
