//! What a replica has on disk: the Raft log and the state machine, in one RocksDB,
//! so that one write-ahead log orders vote, log entries and applied records.
//!
//! What is acknowledged is synced first: [`flusher`] syncs for all that wait at
//! once. What is applied is not synced for itself: after a power failure a prefix
//! of the write-ahead log is there, so the applied index goes back together with its
//! records, and the entries, which a quorum has synced, are applied again.

mod audit;
mod disk;
mod flusher;
mod log;
mod machine;
mod mark;
mod offline;
mod seal;
mod snapshot;
#[cfg(test)]
mod tests;
mod verdict;

pub use audit::{Audit, Auditor};
pub use disk::Disk;
#[cfg(test)]
pub use disk::{Family, Pair};
pub use machine::Machine;
pub use offline::{Held, Offline, Seed};
#[cfg(test)]
pub use snapshot::Rows as SnapshotRows;
pub use snapshot::{SnapshotFile, Snapshots};

use super::disk_latency::Syncs;
use super::feed::Feed;
use crate::state::ReplicaId;
use flusher::Flusher;
use log::Log;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The version of all that is on disk. A release reads its own and older ones.
const DATA_FORMAT: u32 = 1;

/// How long closing waits for others to let go of the database.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// What to do with data that cannot be trusted.
pub const REPLACE: &str = "replace this replica: run \"cluster remove ID\" with its number on another one, move this \
     directory away, and start it with an empty one and a cluster.id that was never used, then \"cluster add\" it (a \
     cluster of one needs a snapshot that was saved before)";

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB did not open: another process has it, or it is damaged.
    #[error(
        "cannot open the store in {path}: {reason}; if another process has it, stop that one; if it is damaged, {REPLACE}"
    )]
    Open { path: PathBuf, reason: String },
    /// A newer release wrote it.
    #[error("the data in {path} has format {found}, and this release knows up to {known}: start a newer release")]
    TooNew { path: PathBuf, found: u32, known: u32 },
    /// It is another replica's.
    #[error("the data in {path} is replica {found}'s, but cluster.id is {configured}: correct one of the two")]
    OtherReplica { path: PathBuf, found: u64, configured: u64 },
    /// What is in it cannot be read.
    #[error("the data in {path} is damaged: {reason}; {REPLACE}")]
    Damaged { path: PathBuf, reason: String },
    /// The write-ahead log ends before what was synced, and perhaps acknowledged to others.
    #[error(
        "the store in {path} lost the last {lost} records that were on disk: its write-ahead log was cut; {REPLACE}"
    )]
    Lost { path: PathBuf, lost: u64 },
    /// It was found to differ from the other replicas'.
    #[error("the data in {path} must not be used any more: {reason}; {REPLACE}")]
    Condemned { path: PathBuf, reason: String },
}

/// A replica's open store.
pub struct Store {
    disk: Arc<Disk>,
    flusher: Flusher,
    snapshots: Snapshots,
    syncs: Arc<Syncs>,
}

impl Store {
    /// Opens or creates the store in `data_dir` for replica `id`, and reads its state.
    /// An installation of a snapshot that was cut short is finished first.
    pub fn open(data_dir: &Path, id: ReplicaId) -> Result<(Self, Machine, Arc<Feed>), StoreError> {
        Self::open_watched(data_dir, id, Syncs::new(Duration::ZERO))
    }

    /// As [`Store::open`]; how long the disk needs for syncs is noted.
    pub fn open_watched(
        data_dir: &Path,
        id: ReplicaId,
        syncs: Syncs,
    ) -> Result<(Self, Machine, Arc<Feed>), StoreError> {
        // The keys in it are sealed, but who is in the tailnet is nobody else's business.
        let create = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
        create.map_err(|e| StoreError::Open { path: data_dir.to_owned(), reason: e.to_string() })?;
        Self::with(Disk::open(&data_dir.join("store"))?, data_dir, id, syncs)
    }

    /// As [`Store::open`], on a disk that is open; snapshots are files in `data_dir`.
    #[cfg(test)]
    pub fn on(disk: Disk, data_dir: &Path, id: ReplicaId) -> Result<(Self, Machine, Arc<Feed>), StoreError> {
        Self::with(disk, data_dir, id, Syncs::new(Duration::ZERO))
    }

    fn with(
        disk: Disk,
        data_dir: &Path,
        id: ReplicaId,
        syncs: Syncs,
    ) -> Result<(Self, Machine, Arc<Feed>), StoreError> {
        let damaged = |reason: String| StoreError::Damaged { path: data_dir.to_owned(), reason };
        let disk = Arc::new(disk);
        disk.check_identity(data_dir, id, DATA_FORMAT)?;
        if let Some(reason) = verdict::condemned(&disk).map_err(|e| damaged(e.to_string()))? {
            return Err(StoreError::Condemned { path: data_dir.to_owned(), reason });
        }
        log::check(&disk).map_err(|e| damaged(e.to_string()))?;
        let snapshots = Snapshots::open(&data_dir.join("snapshots")).map_err(|e| damaged(e.to_string()))?;
        let (machine, feed) = Machine::open(disk.clone(), snapshots.clone()).map_err(|e| damaged(e.to_string()))?;
        let syncs = Arc::new(syncs);
        let flusher = Flusher::start(disk.clone(), syncs.clone()).map_err(|e| damaged(e.to_string()))?;
        Ok((Self { disk, flusher, snapshots, syncs }, machine, feed))
    }

    /// How long the disk needs for syncs.
    pub fn syncs(&self) -> &Arc<Syncs> {
        &self.syncs
    }

    /// The Raft log.
    pub fn log(&self) -> Log {
        Log::new(self.disk.clone(), self.flusher.queue())
    }

    /// The files of snapshots.
    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// Syncs and closes. Everything else that uses the store must be stopped: a
    /// database that is still open when the process ends crashes it.
    pub fn close(self) {
        drop(self.flusher);
        let begun = Instant::now();
        let mut disk = self.disk;
        while let Err(shared) = Arc::try_unwrap(disk) {
            if begun.elapsed() > CLOSE_PATIENCE {
                tracing::warn!("the store is still in use while this replica stops");
                return;
            }
            disk = shared;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
