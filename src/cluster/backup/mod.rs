//! Backups: everything that the cluster replicates, in one encrypted file.
//!
//! A replica streams an `archive` of its view to whoever may ask (`serve`); the
//! one who asked encrypts it (`envelope`) into a file, and reads that back before
//! it gets its name (`file`). `restore` makes a new cluster's data directory out
//! of it. The data key is inside, so a backup opens with its own passphrase or key
//! file, whatever became of the cluster's secret.

mod archive;
mod envelope;
mod file;
mod restore;
mod serve;
#[cfg(test)]
mod tests;

pub use envelope::Lock;
pub use file::{Saving, inspect};
pub use restore::{Restoring, Target};
pub(super) use serve::stream;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A backup cannot be written, read or restored. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{0} is no backup: \"cluster snapshot save\" makes them")]
    NotOne(PathBuf),
    /// It would be overwritten.
    #[error("{0} is there already and is no backup: name another file")]
    InTheWay(PathBuf),
    #[error("{path} has format {found}, and this release knows up to {known}: use a newer release")]
    TooNew { path: PathBuf, found: u32, known: u32 },
    #[error(
        "{0} does not open with this passphrase: it was saved with another one, or its first bytes are damaged; try \
         the right passphrase or another copy"
    )]
    WrongPassphrase(PathBuf),
    #[error(
        "{0} does not open with this key file: it was saved with another one, or its first bytes are damaged; try the \
         right key file or another copy"
    )]
    WrongKeyFile(PathBuf),
    #[error("{0} was saved with a passphrase, not with a key file: give --passphrase-file")]
    WantsPassphrase(PathBuf),
    #[error("{0} was saved with a key file, not with a passphrase: give --key-file")]
    WantsKeyFile(PathBuf),
    #[error("{path} is damaged or cut short ({reason}): take another copy")]
    Damaged { path: PathBuf, reason: String },
    /// The records in it cannot be read by this release.
    #[error("the records in {path} cannot be read: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    /// The data directory is in use, or has a replica's data.
    #[error("{path} has a replica's data already: a restore needs an empty data_dir; move {path} away, or set another")]
    NotEmpty { path: PathBuf },
    #[error(transparent)]
    Secret(#[from] super::SecretError),
    #[error(transparent)]
    Keys(#[from] super::KeysError),
    #[error(transparent)]
    Store(#[from] super::StoreError),
}

/// What a backup holds, read to its end and found whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Contents {
    /// The release that saved it.
    pub release: String,
    pub cluster_id: String,
    /// The replica that it was saved from.
    pub replica: u64,
    /// The log index of the last command in it.
    pub index: u64,
    pub term: u64,
    /// When it was saved, by that replica's clock (RFC 3339).
    pub time: String,
    pub records: u64,
    /// BLAKE2s-256 over all records, hex.
    pub hash: String,
    pub kinds: Vec<Kind>,
    /// Bytes of the file.
    pub size: u64,
}

/// The records of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Kind {
    pub name: String,
    pub records: u64,
    /// BLAKE2s-256 over them, hex.
    pub hash: String,
}

impl Contents {
    /// How many records of a kind there are.
    pub fn count(&self, name: &str) -> u64 {
        self.kinds.iter().find(|kind| kind.name == name).map_or(0, |kind| kind.records)
    }
}
